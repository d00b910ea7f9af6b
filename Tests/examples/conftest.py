# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Examples and demonstration for a newcomer, and on a machine that lacks what they need. All are
started as README says, with nothing of the tests in their environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures import TREE, etcd, namespace, servers

__all__ = ["TREE", "Restricted", "clean_environment", "etcd", "namespace", "servers"]

Restricted = Callable[..., Path]


def clean_environment(**values: str) -> dict[str, str]:
    """The environment of a user of the library, with these values added."""
    ours = ("NIXL_", "ETCD_", "MAKE", "MFLAGS", "PYTHON", "PYTEST")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, **values}


@pytest.fixture
def restricted(tmp_path: Path) -> Restricted:
    """Makes a directory for PATH that has everything there is but what begins with these names."""

    def make(*missing: str) -> Path:
        directory = tmp_path / "bin"
        directory.mkdir()
        for place in reversed(os.environ["PATH"].split(":")):
            for program in Path(place).glob("*") if place else ():
                link = directory / program.name
                if program.name.startswith(missing):
                    continue
                link.unlink(missing_ok=True)
                link.symlink_to(program)
        return directory

    return make
