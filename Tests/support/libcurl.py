# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The libcurl of C++ hosts: the system's, or the one that NIXL_MD_LIBCURL names, unpacked by
tools/unpack-libcurl with the C library that belongs to it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_GIVEN = os.environ.get("NIXL_MD_LIBCURL")
ROOT = Path(_GIVEN) if _GIVEN else None


def _one(pattern: str) -> Path:
    assert ROOT is not None
    found = sorted(ROOT.glob(pattern))
    assert found, f"{ROOT}/{pattern} is missing: run tools/unpack-libcurl"
    return found[0]


def include_directories() -> list[Path]:
    """The directory of its headers, where the compiler does not look by itself."""
    return [_one("usr/include/*/curl/curl.h").parents[1]] if ROOT else []


def version() -> str:
    """As its package has it."""
    if ROOT:
        return (ROOT / "version").read_text().strip()
    query = ["dpkg-query", "-W", "-f", "${Version}", "libcurl4"]
    return subprocess.run(query, check=True, capture_output=True, text=True).stdout


def check_loaded(pid: int) -> None:
    """That a process has loaded this one, and no other."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    found = {line.split()[-1] for line in maps if "/libcurl.so." in line}
    assert len(found) == 1, found
    assert ROOT is None or Path(found.pop()).is_relative_to(ROOT.resolve())


def prefix() -> list[str]:
    """The environment in which a program linked without `link_flags` starts."""
    if ROOT is None:
        return []
    return [str(_loader()), "--library-path", str(_libraries())]


def _libraries() -> Path:
    return _one("usr/lib/*/libcurl.so.4").parent


def _loader() -> Path:
    return _one("usr/lib*/ld-linux*.so.*")


def link_flags() -> list[str]:
    """For the linking of a host. DT_RPATH, unlike DT_RUNPATH, also serves the libraries' needs."""
    if ROOT is None:
        return []
    # It needs symbols of its own C library, which is newer than the one that the linker sees.
    return [
        "-Wl,--allow-shlib-undefined,--disable-new-dtags",
        f"-Wl,--dynamic-linker={_loader()},-rpath,{_libraries()}",
    ]
