# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the host of the benchmarks, and an etcd."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fixtures import TREE, EtcdFactory, library, namespace, own_etcd, soname_directory

__all__ = ["EtcdFactory", "bench_host", "library", "namespace", "own_etcd", "soname_directory"]


@pytest.fixture(scope="session")
def bench_host(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("cost") / "nixl_md_bench"
    command = [
        *(os.environ.get("CC", "cc"), "-O2", "-Wall", "-Wextra", "-Werror"),
        *("-I", str(TREE / "include"), str(TREE / "Benchmarks/nixl_md_bench.c")),
        *("-o", str(binary), str(library)),
    ]
    subprocess.run(command, check=True)
    return binary
