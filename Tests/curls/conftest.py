# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures for one libcurl: the system's, or the one that NIXL_MD_LIBCURL names (unpacked)."""

from __future__ import annotations

import libcurl
from fixtures import (
    TREE,
    EtcdFactory,
    HostFactory,
    etcd,
    host_binary,
    hosts,
    library,
    namespace,
    own_etcd,
    servers,
    soname_directory,
)

__all__ = [
    "TREE",
    "EtcdFactory",
    "HostFactory",
    "etcd",
    "host_binary",
    "hosts",
    "library",
    "namespace",
    "own_etcd",
    "servers",
    "soname_directory",
]


def pytest_report_header() -> str:
    return f"libcurl {libcurl.version()} in {libcurl.ROOT or 'the system'}"
