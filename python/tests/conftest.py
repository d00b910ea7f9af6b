# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A private etcd for each test session."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "Tests" / "support"))

from etcd_server import Etcd


@pytest.fixture(scope="session")
def etcd() -> Iterator[Etcd]:
    """A private etcd 3.4; its tests use a namespace each."""
    server = Etcd("3.4").start()
    try:
        server.wait_healthy()
        yield server
    finally:
        server.close()


@pytest.fixture
def options(etcd: Etcd, request: pytest.FixtureRequest) -> dict[str, str]:
    """Where the agents of this test meet."""
    return {"endpoints": etcd.endpoint, "namespace": f"/python/{request.node.name}/"}
