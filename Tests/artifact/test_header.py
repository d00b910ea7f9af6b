# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The headers compile alone, in every language and with every compiler that hosts use."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

INCLUDE = Path(__file__).resolve().parents[2] / "include"
STANDARDS = {"c99": "c", "c11": "c", "c++11": "c++", "c++17": "c++"}
# The wrapper is C++17; it is there or it is not, and what is there must compile.
CASES = [("nixl_md.h", standard) for standard in STANDARDS] + [
    (path.name, "c++17") for path in INCLUDE.glob("*.hpp")
]


def compiler(family: str, language: str) -> str:
    name = {
        ("gcc", "c"): "gcc",
        ("gcc", "c++"): "g++",
        ("clang", "c"): "clang",
        ("clang", "c++"): "clang++",
    }[family, language]
    path = shutil.which(name)
    if path is None and family == "clang":
        # Swift's toolchain brings one.
        swift = shutil.which("swift")
        beside = Path(swift).resolve().parent / name if swift else None
        path = str(beside) if beside and beside.is_file() else None
    assert path, f"{name} is missing"
    return path


@pytest.mark.parametrize("family", ["gcc", "clang"])
@pytest.mark.parametrize(("header", "standard"), CASES)
def test_compiles_without_a_warning(
    tmp_path: Path, header: str, standard: str, family: str
) -> None:
    language = STANDARDS[standard]
    source = tmp_path / ("source.c" if language == "c" else "source.cpp")
    source.write_text(f'#include "{header}"\n#include "{header}"\nint main(void) {{ return 0; }}\n')
    command = [
        compiler(family, language),
        f"-std={standard}",
        *("-Wall", "-Wextra", "-Wpedantic", "-Werror"),
        *("-I", str(INCLUDE), "-fsyntax-only", str(source)),
    ]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
