# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""nixl_md_open: what it refuses, with what text, and that it refuses before it writes anything."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import pytest

import capi
from procfs import descriptors

GOOD: dict[str, Any] = {"endpoints": b"127.0.0.1:1", "name_space": b"/ns/"}
MANY = b",".join(b"127.0.0.1:%d" % port for port in range(1, 65))


def attempt(library: Path, **fields: Any) -> tuple[int, str]:
    """Status and last-error text of an open that must fail and leave the handle alone."""
    api = capi.load()
    handle = ctypes.c_void_p(0x5A5A)
    config = capi.config(**{**GOOD, **fields})
    rc = int(api.nixl_md_open(ctypes.byref(config), ctypes.byref(handle)))
    if rc == capi.SUCCESS:
        api.nixl_md_close(handle)
    else:
        assert handle.value == 0x5A5A, "a failed open wrote its output"
    return rc, api.nixl_md_last_error(None).decode("latin-1")


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("size 0", {"size": 0}, "0"),
    ("size of an older world", {"size": 7}, "7"),
    ("size too large", {"size": 60000}, "60000"),
    ("unknown flag", {"flags": 1 << 30}, "40000000"),
    ("reserved", {"reserved": 77}, "77"),
    ("log level", {"log_level": 99}, "99"),
    ("negative log level", {"log_level": -3}, "-3"),
    ("no endpoint", {"endpoints": b""}, "endpoint"),
    ("only separators", {"endpoints": b" , ; "}, "endpoint"),
    ("port of letters", {"endpoints": b"127.0.0.1:http"}, "127.0.0.1:http"),
    ("port 0", {"endpoints": b"127.0.0.1:0"}, "127.0.0.1:0"),
    ("port too large", {"endpoints": b"127.0.0.1:65536"}, "127.0.0.1:65536"),
    ("scheme", {"endpoints": b"ftp://127.0.0.1:1"}, "ftp://127.0.0.1:1"),
    ("path", {"endpoints": b"http://127.0.0.1:1/v3"}, "http://127.0.0.1:1/..."),
    ("bracket", {"endpoints": b"http://[::1:2379"}, "[::1:2379"),
    ("no host", {"endpoints": b"http://:2379"}, "http://:2379"),
    ("mixed schemes", {"endpoints": b"http://127.0.0.1:1,https://127.0.0.1:2"}, "https"),
    ("65 endpoints", {"endpoints": MANY + b",127.0.0.1:65"}, "64"),
    ("namespace too long", {"name_space": b"n" * 1025}, "1025"),
    ("agent empty", {"agent": b"", "agent_len": 0}, "agent"),
    ("agent with slash", {"agent": b"al/pha", "agent_len": 6}, "al/pha"),
    ("agent with NUL", {"agent": b"al\0pha", "agent_len": 6}, "al"),
    ("agent too long", {"agent": b"a" * 1025, "agent_len": 1025}, "1025"),
    ("certificate alone", {"endpoints": b"https://127.0.0.1:1", "cert_file": b"/c.pem"}, "key"),
    ("key alone", {"endpoints": b"https://127.0.0.1:1", "key_file": b"/k.pem"}, "cert"),
    ("user alone", {"user": b"alice"}, "password"),
    ("password alone", {"password": b"pass-word-1"}, "user"),
]


@pytest.mark.parametrize(("fields", "named"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_wrong_config_is_refused(library: Path, fields: dict[str, Any], named: str) -> None:
    rc, text = attempt(library, **fields)
    assert rc == capi.INVALID_PARAM, text
    assert named in text, f"'{text}' does not name {named}"
    assert "pass-word-1" not in text


RIGHT: list[tuple[str, dict[str, Any]]] = [
    ("host and port", {"endpoints": b"127.0.0.1:1"}),
    ("no port", {"endpoints": b"127.0.0.1"}),
    ("slash", {"endpoints": b"http://127.0.0.1:1/"}),
    ("list", {"endpoints": b" 127.0.0.1:1 ; ; 127.0.0.1:2,, http://127.0.0.1:3/ "}),
    ("IPv6", {"endpoints": b"[::1]:2379"}),
    ("64 endpoints", {"endpoints": MANY}),
    ("longest agent", {"agent": b"a" * 1024, "agent_len": 1024}),
    ("agent that is no UTF-8", {"agent": b"\xff\xfe", "agent_len": 2}),
    ("longest namespace", {"name_space": b"n" * 1024}),
    ("empty namespace", {"name_space": b""}),
    ("NUL-terminated agent", {"agent": b"alpha", "agent_len": capi.NUL_TERMINATED}),
]


@pytest.mark.parametrize("fields", [r[1] for r in RIGHT], ids=[r[0] for r in RIGHT])
def test_right_config_is_accepted_while_nothing_listens(
    library: Path, fields: dict[str, Any]
) -> None:
    rc, text = attempt(library, **fields)
    assert rc == capi.SUCCESS, text


def test_null_pointers_are_refused(library: Path) -> None:
    api = capi.load()
    handle = ctypes.c_void_p()
    assert api.nixl_md_open(None, ctypes.byref(handle)) == capi.INVALID_PARAM
    assert b"config" in api.nixl_md_last_error(None)
    config = capi.config(**GOOD)
    assert api.nixl_md_open(ctypes.byref(config), None) == capi.INVALID_PARAM
    assert b"md" in api.nixl_md_last_error(None)


ENVIRONMENT: list[tuple[str, str, str]] = [
    ("NIXL_ETCD_ENDPOINTS", "127.0.0.1:nonsense", "127.0.0.1:nonsense"),
    ("NIXL_ETCD_ENDPOINTS", "", "NIXL_ETCD_ENDPOINTS"),
    ("NIXL_ETCD_NAMESPACE", "n" * 1025, "1025"),
    ("NIXL_LOG_LEVEL", "LOUD", "LOUD"),
    # Longer than any text may be, here as in the config.
    ("NIXL_ETCD_ENDPOINTS", " " * 65_525 + "127.0.0.1:1234", "65536"),
    ("NIXL_ETCD_NAMESPACE", "n" * 100_000, "65536"),
    ("NIXL_LOG_LEVEL", "TRACE" * 20_000, "65536"),
]


@pytest.mark.parametrize(
    ("name", "value", "named"), ENVIRONMENT, ids=[f"{e[0]}-{i}" for i, e in enumerate(ENVIRONMENT)]
)
def test_wrong_environment_is_refused_by_name(
    library: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, named: str
) -> None:
    monkeypatch.setenv("NIXL_ETCD_ENDPOINTS", "127.0.0.1:1")
    monkeypatch.setenv(name, value)
    rc, text = attempt(library, endpoints=None, name_space=None)
    assert rc == capi.INVALID_PARAM
    assert named in text
    assert name in text, f"'{text}' does not say that {name} is at fault"
    monkeypatch.setenv("NIXL_ETCD_ENDPOINTS", "127.0.0.1:1")
    rc, text = attempt(library, flags=capi.CONFIG_IGNORE_ENVIRONMENT)
    assert rc == capi.SUCCESS, text


def test_no_endpoints_anywhere_is_refused(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NIXL_ETCD_ENDPOINTS", raising=False)
    rc, text = attempt(library, endpoints=None)
    assert rc == capi.INVALID_PARAM
    assert "NIXL_ETCD_ENDPOINTS" in text


@pytest.mark.parametrize("level", ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"])
def test_log_levels_of_the_environment(
    library: Path, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    monkeypatch.setenv("NIXL_LOG_LEVEL", level)
    rc, text = attempt(library)
    assert rc == capi.SUCCESS, text


def test_name_that_does_not_resolve_in_open(library: Path) -> None:
    rc, text = attempt(
        library, endpoints=b"no-such-host.invalid:2379", flags=capi.CONFIG_RESOLVE_IN_OPEN
    )
    assert rc == capi.NOT_FOUND
    assert "no-such-host.invalid" in text


def test_open_and_close_leave_no_descriptor(library: Path) -> None:
    attempt(library)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        attempt(library)
        attempt(library, size=7)
        attempt(library, endpoints=b"127.0.0.1:nonsense")
    assert len(os.listdir("/proc/self/fd")) == before


def test_descriptors_are_close_on_exec(library: Path) -> None:
    api = capi.load()
    before = set(descriptors(os.getpid()))
    handle = ctypes.c_void_p()
    config = capi.config(**GOOD)
    assert api.nixl_md_open(ctypes.byref(config), ctypes.byref(handle)) == capi.SUCCESS
    for _ in range(20):
        api.nixl_md_tick(handle)
    opened = set(descriptors(os.getpid())) - before
    for descriptor in opened:
        assert not os.get_inheritable(descriptor), os.readlink(f"/proc/self/fd/{descriptor}")
    assert api.nixl_md_efd(handle) in opened
    assert api.nixl_md_close(handle) == capi.SUCCESS
