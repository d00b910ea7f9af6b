# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""This suite uses all fixtures."""

from __future__ import annotations

import pytest

import memcheck
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


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "native(reason): not under memcheck")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if memcheck.IS_ON:
        items[:], rest = memcheck.chosen(items)
        config.hook.pytest_deselected(items=rest)
