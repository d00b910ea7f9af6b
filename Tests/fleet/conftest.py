# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the program with many agents, certificates, and a table of what was measured."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest

from certificates import Authority
from figures import Figure, figure, machine, print_figures
from fixtures import library, soname_directory
from fleets import build

__all__ = ["Figure", "figure", "library", "machine", "soname_directory"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    print_figures(terminalreporter)


@pytest.fixture(scope="session")
def binary(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(library, tmp_path_factory.mktemp("fleet") / "members")


@dataclass(frozen=True)
class Transport:
    """How agents and etcd speak."""

    flags: tuple[str, ...] = ()
    context: ssl.SSLContext | None = None
    ca_file: Path | None = None


@pytest.fixture
def transport(request: pytest.FixtureRequest, tmp_path: Path) -> Transport:
    if request.param == "http":
        return Transport()
    authority = Authority(tmp_path, "ca")
    certificate, key = authority.issue("etcd", "DNS:localhost", "IP:127.0.0.1")
    return Transport(
        ("--cert-file", str(certificate), "--key-file", str(key)),
        ssl.create_default_context(cafile=str(authority.certificate)),
        authority.certificate,
    )
