# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""One version everywhere."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

import pytest
from test_library import LIBRARY, TREE, version


def test_library_has_the_version_of_the_header() -> None:
    library = ctypes.CDLL(str(LIBRARY))
    library.nixl_md_version_string.restype = ctypes.c_char_p
    assert library.nixl_md_version_string().decode() == version()
    major, minor, patch = map(int, version().split("."))
    assert library.nixl_md_version() == major * 1_000_000 + minor * 1000 + patch


def test_tools_and_cmake_read_the_header(tmp_path: Path) -> None:
    assert subprocess.check_output([TREE / "tools/version"], text=True).strip() == version()
    command = ["cmake", "-S", str(TREE), "-B", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    assert f"Version: {version()}\n" in (tmp_path / "cmake/nixl_md.pc").read_text()


def test_python_package_has_the_version_of_the_header() -> None:
    text = (TREE / "python/pyproject.toml").read_text()
    found = re.search(r'^version = "(.+)"$', text, re.MULTILINE)
    assert found, "python/pyproject.toml states no version"
    assert found.group(1) == version()


def test_change_log_has_the_version_of_the_header() -> None:
    text = (TREE / "CHANGELOG.md").read_text()
    found = re.search(r"^## (\d+\.\d+\.\d+)", text, re.MULTILINE)
    assert found, "CHANGELOG.md has no version"
    assert found.group(1) == version()


@pytest.mark.parametrize("name", ["README.md", "docs/install.md"])
def test_file_names_in_the_docs_have_the_version(name: str) -> None:
    found = re.findall(r"nixl_md-(\d+\.\d+\.\d+)-", (TREE / name).read_text())
    assert set(found) == {version()}
