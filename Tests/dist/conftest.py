# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The files of `make dist` on a machine that has no Swift."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from certificates import Authority
from etcd_server import Etcd


@dataclass
class Served:
    """An etcd, and the file of the authority that its certificate is from; None: cleartext."""

    etcd: Etcd
    authority: Path | None = None

    @property
    def endpoint(self) -> str:
        return self.etcd.endpoint


@pytest.fixture
def cleartext() -> Iterator[Served]:
    etcd = Etcd("3.4").start()
    try:
        etcd.wait_healthy()
        yield Served(etcd)
    finally:
        etcd.close()


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Served]:
    authority = Authority(tmp_path / "ca", "authority")
    certificate, key = authority.issue("server", "IP:127.0.0.1")
    context = ssl.create_default_context(cafile=str(authority.certificate))
    flags = ("--cert-file", str(certificate), "--key-file", str(key))
    etcd = Etcd("3.4", *flags, tls=context).start()
    try:
        etcd.wait_healthy()
        yield Served(etcd, authority.certificate)
    finally:
        etcd.close()
