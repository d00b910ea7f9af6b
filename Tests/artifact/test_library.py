# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The shipped file: its size, what it needs and exports, how it is linked."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
LIBRARY = Path(os.environ.get("NIXL_MD_LIBRARY", TREE / "build/lib/libnixl_md.so"))
HEADER = (TREE / "include/nixl_md.h").read_text()
MAXIMUM_SIZE = 420_000
# arc4random_buf came with 2.36.
FIRST_REFUSED_GLIBC = (2, 36)


def output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def dynamic() -> str:
    return output("readelf", "--wide", "--dynamic", LIBRARY)


@pytest.fixture(scope="module")
def segments() -> str:
    return output("readelf", "--wide", "--program-headers", LIBRARY)


def version() -> str:
    names = ("MAJOR", "MINOR", "PATCH")
    parts = [re.search(rf"#define NIXL_MD_VERSION_{name} (\d+)", HEADER) for name in names]
    return ".".join(part.group(1) for part in parts if part)


def test_size_is_below_the_bound() -> None:
    size = LIBRARY.stat().st_size
    print(f"{LIBRARY.name}: {size} bytes")
    assert size <= MAXIMUM_SIZE


def test_is_stripped() -> None:
    sections = output("readelf", "--wide", "--sections", LIBRARY)
    assert ".symtab" not in sections
    assert ".debug_" not in sections


def test_needs_only_libcurl_nghttp2_and_the_c_library(dynamic: str) -> None:
    needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic))
    allowed = re.compile(
        r"(libcurl\.so\.4|libnghttp2\.so\.14|libc\.so\.6|libm\.so\.6|libpthread\.so\.0|ld-linux.*)"
    )
    assert {name for name in needed if not allowed.fullmatch(name)} == set()
    assert {"libcurl.so.4", "libnghttp2.so.14"} <= needed


def test_soname_has_its_links(dynamic: str) -> None:
    assert "Library soname: [libnixl_md.so.0]" in dynamic
    assert os.readlink(LIBRARY) == "libnixl_md.so.0"
    assert os.readlink(LIBRARY.parent / "libnixl_md.so.0") == f"libnixl_md.so.{version()}"


def test_has_no_run_path(dynamic: str) -> None:
    assert "RPATH" not in dynamic
    assert "RUNPATH" not in dynamic


def test_exports_the_functions_of_the_header_and_nothing_else() -> None:
    lines = output("nm", "--dynamic", "--defined-only", LIBRARY).splitlines()
    # The version node itself is an absolute symbol.
    kinds = {line.split()[-1].partition("@")[0]: line.split()[-2] for line in lines}
    exported = {name for name, kind in kinds.items() if kind != "A"}
    declared = set(re.findall(r"\b(nixl_md_\w+)\s*\([^)]*\)\s*;", HEADER))
    assert len(declared) > 15
    assert exported == declared


def test_runs_on_an_older_glibc() -> None:
    wanted = output("nm", "--dynamic", "--undefined-only", LIBRARY)
    assert "arc4random" not in wanted
    versions = {
        (int(major), int(minor)) for major, minor in re.findall(r"GLIBC_(\d+)\.(\d+)", wanted)
    }
    newest = max(versions)
    print(f"newest glibc symbol version: {newest[0]}.{newest[1]}")
    assert newest < FIRST_REFUSED_GLIBC


def test_every_symbol_is_bound_at_load(dynamic: str, segments: str) -> None:
    assert "BIND_NOW" in dynamic
    assert "GNU_RELRO" in segments


def test_stack_is_not_executable(segments: str) -> None:
    (stack,) = [line for line in segments.splitlines() if "GNU_STACK" in line]
    assert stack.split()[-2] == "RW"
    assert not re.search(r"LOAD.*\bRWE\b", segments)
    assert "TEXTREL" not in output("readelf", "--wide", "--dynamic", LIBRARY)


def test_holds_no_path_of_the_build() -> None:
    assert str(TREE).encode() not in LIBRARY.read_bytes()
