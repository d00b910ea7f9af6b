# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""nixl_md.hpp: callbacks that throw, handles that were moved or destroyed in a callback."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from conftest import TREE


def test_cpp_wrapper(library: Path, soname_directory: Path, tmp_path: Path) -> None:
    program = tmp_path / "wrapper"
    build = subprocess.run(
        [
            os.environ.get("CXX", "c++"),
            *("-std=c++17", "-O1", "-g", "-Wall", "-Wextra", "-Werror"),
            "-fsanitize=address,undefined",
            *("-I", str(TREE / "include"), str(Path(__file__).with_name("wrapper.cpp"))),
            *("-o", str(program), str(library)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr
    # A handle that is destroyed in its callback leaks a little.
    environment = {"LD_LIBRARY_PATH": str(soname_directory), "ASAN_OPTIONS": "detect_leaks=0"}
    run = subprocess.run(
        [program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (run.returncode, run.stdout) == (0, ""), run.stdout + run.stderr
