# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Bad input: each call gives its documented status and a text that names the offending value, and
nothing changes."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

import capi
from etcd_server import Etcd
from inprocess import Local

INVALID = capi.INVALID_PARAM
NUL = capi.NUL_TERMINATED
ENDED_EVENT = capi.EventCallback(lambda event, user: None)
OP = ctypes.c_uint64(0x5A5A)
TOLD = ctypes.byref(OP)


@pytest.fixture
def agent(library: Path, etcd34: Etcd, namespace: bytes) -> Iterator[Local]:
    local = Local(
        endpoints=etcd34.endpoint.encode(), name_space=namespace, agent=b"alpha", agent_len=5
    )
    yield local
    local.close()


@pytest.fixture
def observer(library: Path, etcd34: Etcd, namespace: bytes) -> Iterator[Local]:
    local = Local(endpoints=etcd34.endpoint.encode(), name_space=namespace)
    yield local
    local.close()


def options(**fields: Any) -> Any:
    return ctypes.byref(capi.opts(**fields))


def of_a_watch(**fields: Any) -> Any:
    return ctypes.byref(capi.watch_opts(**fields))


_BAD_OPTIONS: list[tuple[str, dict[str, int], str]] = [
    ("size", {"size": 3}, "3"),
    ("large size", {"size": 4096}, "4096"),
    ("flag", {"flags": 1 << 20}, "100000"),
    ("time-out", {"timeout_ms": capi.MAX_TIMEOUT_MS + 1}, str(capi.MAX_TIMEOUT_MS + 1)),
]

# The arguments of every starting call, before its options.
_STARTING: dict[str, tuple[Any, ...]] = {
    "publish": (b"l", 1, b"b", 1),
    "unpublish": (b"l", 1),
    "start_heartbeat": (1000, 5000),
    "stop_heartbeat": (capi.HEARTBEAT_KEEP,),
    "fetch": (b"beta", 4, b"l", 1),
    "watch": (b"beta", 4, ENDED_EVENT),
    "invalidate": (),
    "list": (),
}

BAD: list[tuple[str, tuple[Any, ...], int, str]] = [
    ("publish", (b"", 0, b"b", 1), INVALID, "label"),
    ("publish", (b"", NUL, b"b", 1), INVALID, "label"),
    ("publish", (b"a\0b", 3, b"b", 1), INVALID, "label"),
    ("publish", (b"l" * 1025, 1025, b"b", 1), capi.TOO_LARGE, "1025"),
    ("publish", (b"l" * 1025, NUL, b"b", 1), capi.TOO_LARGE, "1024"),
    ("publish", (b"l", 1, None, 5), INVALID, "blob"),
    ("publish", (b"l", 1, b"", 0), INVALID, "blob"),
    ("publish", (b"l", 1, b"x", capi.MAX_BLOB + 1), capi.TOO_LARGE, str(capi.MAX_BLOB + 1)),
    ("publish", (b"l", 1, b"x", 2**63), capi.TOO_LARGE, str(2**63)),
    ("unpublish", (b"", 0), INVALID, "label"),
    ("unpublish", (b"a\0b", 3), INVALID, "label"),
    ("unpublish", (b"l" * 2000, 2000), capi.TOO_LARGE, "2000"),
    ("start_heartbeat", (5000, 5000), INVALID, "5000"),
    ("start_heartbeat", (6000, 5000), INVALID, "6000"),
    ("start_heartbeat", (1000, capi.MAX_TIMEOUT_MS + 1), INVALID, str(capi.MAX_TIMEOUT_MS + 1)),
    ("start_heartbeat", (capi.MIN_INTERVAL_MS - 1, 5000), INVALID, str(capi.MIN_INTERVAL_MS)),
    ("start_heartbeat", (0, capi.MIN_INTERVAL_MS), INVALID, str(capi.MIN_INTERVAL_MS)),
    ("start_heartbeat", (capi.NEVER, 0), INVALID, str(capi.NEVER)),
    ("start_heartbeat", (0, capi.NEVER), INVALID, str(capi.NEVER)),
    ("stop_heartbeat", (0,), INVALID, "0"),
    ("stop_heartbeat", (3,), INVALID, "3"),
    ("fetch", (None, 0, b"l", 1), INVALID, "agent"),
    ("fetch", (b"", 0, b"l", 1), INVALID, "agent"),
    ("fetch", (b"be/ta", 5, b"l", 1), INVALID, "be/ta"),
    ("fetch", (b"be\0ta", 5, b"l", 1), INVALID, "be"),
    ("fetch", (b"a" * 1025, 1025, b"l", 1), capi.TOO_LARGE, "1025"),
    ("fetch", (b"beta", 4, b"", 0), INVALID, "label"),
    ("fetch", (b"beta", 4, b"a\0b", 3), INVALID, "label"),
    ("fetch", (b"beta", 4, b"l" * 1025, 1025), capi.TOO_LARGE, "1025"),
    ("watch", (b"", 0, ENDED_EVENT), INVALID, "agent"),
    ("watch", (b"be/ta", 5, ENDED_EVENT), INVALID, "be/ta"),
    ("watch", (b"be\0ta", 5, ENDED_EVENT), INVALID, "be"),
    ("watch", (b"a" * 1025, 1025, ENDED_EVENT), capi.TOO_LARGE, "1025"),
    ("watch", (b"beta", 4, capi.EventCallback()), INVALID, "on_event"),
]


def check_refused(local: Local, call: str, arguments: tuple[Any, ...], rc: int, text: str) -> None:
    OP.value = 0x5A5A
    before = local.stats()["operations_open"]
    assert local.call(call, *arguments) == rc, local.error()
    assert text in local.error(), f"'{local.error()}' does not name {text}"
    assert OP.value == 0x5A5A, "a refused call wrote an operation id"
    local.call("tick")
    assert local.stats()["operations_open"] == before


@pytest.mark.parametrize(
    ("call", "arguments", "rc", "text"),
    BAD,
    ids=[f"{b[0]}-{i}" for i, b in enumerate(BAD)],
)
def test_bad_argument_is_refused_with_its_name(
    agent: Local, call: str, arguments: tuple[Any, ...], rc: int, text: str
) -> None:
    check_refused(agent, call, (*arguments, None, TOLD), rc, text)


@pytest.mark.parametrize("call", sorted(_STARTING))
def test_bad_options_are_refused_with_their_name(agent: Local, call: str) -> None:
    for what, fields, text in _BAD_OPTIONS:
        if call == "watch" and what == "time-out":
            continue  # Its options have none.
        opts = (of_a_watch if call == "watch" else options)(**fields)
        check_refused(agent, call, (*_STARTING[call], opts, TOLD), INVALID, text)


def test_nothing_reached_the_store(agent: Local, etcd34: Etcd, namespace: bytes) -> None:
    before = etcd34.gateway.revision()
    for call, arguments, rc, text in BAD:
        check_refused(agent, call, (*arguments, None, TOLD), rc, text)
    for _ in range(50):
        assert agent.call("tick") >= 0
    assert etcd34.gateway.revision() == before
    assert not agent.done


def test_flags_of_other_calls_are_refused(agent: Local) -> None:
    no_wait = options(flags=capi.FETCH_NO_WAIT)
    for call in ("publish", "unpublish", "invalidate", "start_heartbeat"):
        check_refused(agent, call, (*_STARTING[call], no_wait, TOLD), INVALID, "flag")
    both = of_a_watch(flags=capi.WATCH_BLOBS | capi.WATCH_PRESENCE_ONLY)
    check_refused(agent, "watch", (*_STARTING["watch"], both, TOLD), INVALID, "flag")


def test_list_without_a_completion_is_refused(agent: Local) -> None:
    check_refused(agent, "list", (None, TOLD), INVALID, "on_done")


def test_observer_may_not_write(observer: Local) -> None:
    for call in ("publish", "unpublish", "start_heartbeat", "stop_heartbeat", "invalidate"):
        arguments = (*_STARTING[call], None, TOLD)
        check_refused(observer, call, arguments, capi.NOT_ALLOWED, "observer")


def test_unknown_operation_id_is_not_found(agent: Local) -> None:
    assert agent.call("cancel", 0) == INVALID
    assert agent.call("cancel", 987654321) == capi.NOT_FOUND
    assert "987654321" in agent.error()


def test_other_bad_values_are_refused(agent: Local) -> None:
    too_long = capi.MAX_TIMEOUT_MS + 1
    assert agent.call("shutdown", too_long) == INVALID
    assert str(too_long) in agent.error()
    assert agent.call("deadline_ms", None) == INVALID
    assert "ms" in agent.error()
    assert agent.call("get_stats", None) == INVALID
    assert "stats" in agent.error()
    stats = capi.Stats(size=3)
    assert agent.call("get_stats", ctypes.byref(stats)) == INVALID
    assert "3" in agent.error()
    # None of it has begun a shutdown.
    assert agent.finish("publish", b"l", 1, b"b", 1)[0] == capi.SUCCESS


def test_null_handle(library: Path) -> None:
    api = capi.load()
    for call, arguments in _STARTING.items():
        rc = getattr(api, "nixl_md_" + call)(None, *arguments, None, TOLD)
        assert rc == INVALID, call
        assert b"md" in api.nixl_md_last_error(None), call
    number = ctypes.c_uint64()
    stats = capi.Stats(size=ctypes.sizeof(capi.Stats))
    others: dict[str, tuple[Any, ...]] = {
        "shutdown": (0,),
        "close": (),
        "cancel": (1,),
        "tick": (),
        "efd": (),
        "deadline_ms": (ctypes.byref(number),),
        "get_stats": (ctypes.byref(stats),),
    }
    for call, arguments in others.items():
        assert getattr(api, "nixl_md_" + call)(None, *arguments) == INVALID, call
        assert b"md" in api.nixl_md_last_error(None), call


def test_outputs_are_optional(agent: Local) -> None:
    assert agent.call("publish", b"l", NUL, b"b", 1, None, None) == capi.SUCCESS
    assert agent.call("fetch", b"alpha", NUL, None, 0, None, None) == capi.SUCCESS
    assert agent.call("watch", None, 0, agent.on_event, None, None) == capi.SUCCESS
    agent.tick_until(lambda: any(event[0] == capi.SYNCED for event in agent.events))


def test_struct_of_a_newer_header(agent: Local) -> None:
    """A caller with a longer stats struct learns how much of it was filled."""

    class Newer(capi.Stats):
        _fields_: ClassVar = [("more", ctypes.c_uint64 * 8)]

    known = ctypes.sizeof(capi.Stats)
    stats = Newer(size=known + 64)
    stats.more[0] = 0x5A5A
    agent.call("tick")
    pointer = ctypes.cast(ctypes.byref(stats), ctypes.POINTER(capi.Stats))
    assert agent.call("get_stats", pointer) == capi.SUCCESS
    assert stats.size == known
    assert stats.ticks >= 1
    assert stats.more[0] == 0x5A5A


def longer(struct: ctypes.Structure, more: bytes) -> Any:
    """The same struct as a newer header would have it: `more` behind what is known. No byte behind
    that can be read."""
    data = bytes(struct) + more
    pages = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    assert libc.mprotect(start + mmap.PAGESIZE, mmap.PAGESIZE, 0) == 0
    address = start + mmap.PAGESIZE - len(data)
    ctypes.memmove(address, data, len(data))
    pointer = ctypes.cast(address, ctypes.POINTER(type(struct)))
    pointer.contents.size = len(data)
    _MAPPED.append(pages)
    return pointer


# For as long as a callback may be called.
_MAPPED: list[mmap.mmap] = []
SURPLUS = (0, 8, 64, 512)


@pytest.mark.parametrize("call", sorted(_STARTING))
def test_longer_options_whose_surplus_is_zero(agent: Local, call: str) -> None:
    options = capi.WatchOpts if call == "watch" else capi.Opts
    for surplus in SURPLUS:
        made = options(size=0, user=7)
        if call != "watch":
            made.on_done = agent.on_done
        opts = longer(made, bytes(surplus))
        assert agent.call(call, *_STARTING[call], opts, TOLD) == capi.SUCCESS, agent.error()


@pytest.mark.parametrize("call", sorted(_STARTING))
def test_longer_options_with_something_in_the_surplus(agent: Local, call: str) -> None:
    options = capi.WatchOpts if call == "watch" else capi.Opts
    known = ctypes.sizeof(options)
    for offset in (0, 7, 63):
        opts = longer(options(), bytes(offset) + b"\1" + bytes(63 - offset))
        arguments = (*_STARTING[call], opts, TOLD)
        check_refused(agent, call, arguments, capi.NOT_SUPPORTED, f"offset {known + offset} ")
        assert f"opts.size is {known + 64}" in agent.error()
        assert f"knows {known}," in agent.error()


def test_longer_config(library: Path) -> None:
    api = capi.load()
    known = ctypes.sizeof(capi.Config)
    md = ctypes.c_void_p()
    for surplus in SURPLUS:
        config = longer(capi.config(endpoints=b"127.0.0.1:1"), bytes(surplus))
        assert api.nixl_md_open(config, ctypes.byref(md)) == capi.SUCCESS
        assert api.nixl_md_close(md) == capi.SUCCESS
    md = ctypes.c_void_p()
    config = longer(capi.config(endpoints=b"127.0.0.1:1"), bytes(8) + b"\0\0\1\0\0\0\0\0")
    assert api.nixl_md_open(config, ctypes.byref(md)) == capi.NOT_SUPPORTED
    assert f"offset {known + 10} ".encode() in api.nixl_md_last_error(None)
    assert md.value is None


@pytest.mark.parametrize("change", [-8, -4, 1, 4, 1024])
def test_struct_sizes_of_no_version_are_refused(agent: Local, library: Path, change: int) -> None:
    """Shorter than the first version, no multiple of a word, or too long to be believed: nothing
    behind the size is read."""
    size = ctypes.sizeof(capi.Opts) + change
    check_refused(agent, "invalidate", (options(size=size), TOLD), INVALID, str(size))
    size = ctypes.sizeof(capi.Config) + change
    config = capi.config(endpoints=b"127.0.0.1:1", size=size)
    md = ctypes.c_void_p()
    api = capi.load()
    assert api.nixl_md_open(ctypes.byref(config), ctypes.byref(md)) == INVALID
    assert str(size).encode() in api.nixl_md_last_error(None)


def test_too_many_operations(observer: Local) -> None:
    arguments = (b"nobody", NUL, None, 0, options(timeout_ms=capi.NEVER), None)
    for _ in range(capi.MAX_OPERATIONS):
        assert observer.call("fetch", *arguments) == capi.SUCCESS, observer.error()
    assert observer.call("fetch", *arguments) == capi.LIMIT
    assert str(capi.MAX_OPERATIONS) in observer.error()


def test_too_many_queued_bytes(agent: Local) -> None:
    blob = bytes(capi.MAX_BLOB)
    for number in range(25):
        label = b"l%d" % number
        assert agent.call("publish", label, NUL, blob, len(blob), None, None) == capi.SUCCESS
    assert agent.call("publish", b"last", NUL, blob, len(blob), None, None) == capi.LIMIT
    assert str(256 * 1024 * 1024) in agent.error()
