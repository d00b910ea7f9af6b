# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The header as C++ compiles it, the library, and this suite's own ctypes declarations agree."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import capi
from conftest import TREE, HostFactory

HEADER = (TREE / "include" / "nixl_md.h").read_text()


def constants() -> dict[str, int]:
    """Every enumerator of the header."""
    found = {}
    pattern = r"\b(NIXL_MD_\w+)\s*=\s*(1u << \d+|-?\d+)\b"
    for name, value in re.findall(pattern, HEADER):
        found[name] = 1 << int(value[6:]) if "<<" in value else int(value)
    return found


def test_constants_of_this_suite() -> None:
    prefixes = ("NIXL_MD_ERR_", "NIXL_MD_EVENT_", "NIXL_MD_")
    checked = 0
    for name, value in constants().items():
        for prefix in prefixes:
            ours = name.removeprefix(prefix)
            if prefix == "NIXL_MD_EVENT_" and ours == "SUPERSEDED":
                ours = "SUPERSEDED_EVENT"
            if name.startswith(prefix) and hasattr(capi, ours):
                assert getattr(capi, ours) == value, name
                checked += 1
                break
    assert checked > 50


def test_every_function_is_declared_here() -> None:
    declared = re.findall(r"^[a-z][\w ]*[ *](nixl_md_\w+)\(", HEADER, re.MULTILINE)
    assert sorted(declared) == capi.function_names()


def test_struct_sizes(hosts: HostFactory) -> None:
    told = hosts().do("sizes")
    ours = {
        "config": capi.Config,
        "opts": capi.Opts,
        "watch_opts": capi.WatchOpts,
        "result": capi.Result,
        "event": capi.Event,
        "agent": capi.Agent,
        "stats": capi.Stats,
    }
    for name, struct in ours.items():
        assert told[name] == ctypes.sizeof(struct), name
    assert told["version"] == told["header_version"]
    assert told["version_string"] == "{}.{}.{}".format(
        told["version"] // 1_000_000, told["version"] // 1000 % 1000, told["version"] % 1000
    )


def test_status_strings(library: Path) -> None:
    api = capi.load()
    statuses = {
        name: value
        for name, value in constants().items()
        if name.startswith("NIXL_MD_ERR_") or name in ("NIXL_MD_SUCCESS", "NIXL_MD_IN_PROG")
    }
    assert len(statuses) > 20
    for name, value in statuses.items():
        assert api.nixl_md_status_string(value) == name.encode()
    for value in (2, -1, -7, -12, -1000, -1013, 2**31 - 1, -(2**31)):
        assert api.nixl_md_status_string(value) == b"NIXL_MD_ERR_?"


def test_event_strings(library: Path) -> None:
    api = capi.load()
    types = {name: v for name, v in constants().items() if name.startswith("NIXL_MD_EVENT_")}
    assert len(types) == 15
    for name, value in types.items():
        assert api.nixl_md_event_string(value) == name.encode()
    for value in (0, 12, 100, 105, -1, 2**31 - 1, -(2**31)):
        assert api.nixl_md_event_string(value) == b"NIXL_MD_EVENT_?"


FOLDED = {
    capi.TIMED_OUT: -3,
    capi.NO_SPACE: -3,
    capi.LIMIT: -3,
    capi.BUSY: -3,
    capi.TOO_LARGE: -2,
    capi.IN_CALLBACK: -2,
    capi.REPLACED: -11,
    capi.SHUT_DOWN: -11,
    capi.SUPERSEDED: -6,
    capi.UNAUTHENTICATED: -6,
    capi.PERMISSION: -6,
    capi.FORKED: -6,
}


def test_status_fold(library: Path) -> None:
    api = capi.load()
    for status in range(-12, 2):
        assert api.nixl_md_status_fold(status) == status
    for status, folded in FOLDED.items():
        assert api.nixl_md_status_fold(status) == folded
    for status in (2, -13, -999, -1000, -1013, 2**31 - 1, -(2**31)):
        assert api.nixl_md_status_fold(status) == capi.UNKNOWN
