# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""This suite uses all fixtures."""

from __future__ import annotations

from fixtures import (
    TREE,
    EtcdFactory,
    HostFactory,
    etcd,
    etcd34,
    host_binary,
    hosts,
    library,
    namespace,
    own_etcd,
    servers,
    soname_directory,
    version,
)

__all__ = [
    "TREE",
    "EtcdFactory",
    "HostFactory",
    "etcd",
    "etcd34",
    "host_binary",
    "hosts",
    "library",
    "namespace",
    "own_etcd",
    "servers",
    "soname_directory",
    "version",
]
