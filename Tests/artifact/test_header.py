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


# What the host loop at the top of the header takes for given.
GIVEN = """
#include <nixl_md.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static void drop_peer(const char *name, size_t len) { fwrite(name, 1, len, stderr); }
static void die(const char *text) { fputs(text, stderr); exit(1); }
static volatile int stopping;
static const char blob[] = "blob";
static const size_t blob_len = sizeof blob;
"""


@pytest.mark.parametrize("family", ["gcc", "clang"])
def test_host_loop_of_the_header_compiles(tmp_path: Path, family: str) -> None:
    """As it stands there."""
    text = (INCLUDE / "nixl_md.h").read_text()
    code = text[text.index("@code") + len("@code") : text.index("@endcode")]
    lines = [line.removeprefix(" *").removeprefix("     ") for line in code.splitlines()]
    begin = lines.index("nixl_md_config_t config;")
    functions, body = "\n".join(lines[:begin]), "\n".join(lines[begin:])
    source = tmp_path / "loop.c"
    source.write_text(f"{GIVEN}{functions}\nint main(void) {{\n{body}\nreturn 0;\n}}\n")
    command = [
        *(compiler(family, "c"), "-std=c99", "-D_POSIX_C_SOURCE=200809L", "-fsyntax-only"),
        *("-Wall", "-Wextra", "-Werror", "-I", str(INCLUDE), str(source)),
    ]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
