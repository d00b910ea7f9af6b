# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The library inside a process that also runs ordinary Swift."""

from __future__ import annotations

import subprocess
from pathlib import Path

from test_library import LIBRARY, TREE

HERE = Path(__file__).resolve().parent


def test_runs_beside_ordinary_swift(tmp_path: Path) -> None:
    host = tmp_path / "host"
    subprocess.run(["swiftc", "-O", str(HERE / "host.swift"), "-o", str(host)], check=True)
    measure = tmp_path / "size.c"
    measure.write_text(
        '#include "nixl_md.h"\n#include <stdio.h>\n'
        'int main(void) { printf("%zu %u", sizeof(nixl_md_config_t), NIXL_MD_VERSION); }\n'
    )
    include = str(TREE / "include")
    subprocess.run(["cc", "-I", include, str(measure), "-o", str(tmp_path / "size")], check=True)
    size, number = subprocess.check_output([tmp_path / "size"], text=True).split()
    process = subprocess.run(
        [str(host), str(LIBRARY), size], capture_output=True, text=True, check=False, timeout=60
    )
    assert process.returncode == 0, process.stderr
    # One object for each of the 51 times that the ordinary part ran.
    assert process.stdout == "released\n" * 51 + f"version {number} 2\n"
    assert process.stderr == ""
