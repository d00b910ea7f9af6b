# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The binary interface is that of the baseline, and `make abi` sees a change."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from test_library import LIBRARY, TREE

NEEDED = ("include/nixl_md.h", "Sources/NixlMD/nixl_md.map", "tools/abi")
BASELINE = "packaging/abi/libnixl_md.so.0.abi"


def compare(tree: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(tree / "tools/abi"), str(LIBRARY)], capture_output=True, text=True)


def test_abi_equals_its_baseline() -> None:
    done = compare(TREE)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("NIXL_MD_ERR_NOT_SUPPORTED = -9,", "NIXL_MD_ERR_NOT_SUPPORTED = -19,", "-19"),
        ("    const char *server_name;", "    const char *more, *server_name;", "nixl_md_config"),
        ("*md, uint64_t *ms);", "*md, uint32_t *ms);", "nixl_md_deadline_ms"),
        ("nixl_md_efd(", "nixl_md_descriptor(", "nixl_md_descriptor"),
    ],
)
def test_abi_change_is_found(tmp_path: Path, before: str, after: str, named: str) -> None:
    for name in (*NEEDED, BASELINE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TREE / name, tmp_path / name)
    header = tmp_path / NEEDED[0]
    text = header.read_text()
    assert before in text
    header.write_text(text.replace(before, after))
    done = compare(tmp_path)
    assert done.returncode == 1
    assert named in done.stdout + done.stderr
