# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The rules of calls and callbacks: where they may be made, and what happens where they may not."""

from __future__ import annotations

import ctypes
import os
import resource
import threading
from pathlib import Path

import pytest

import capi
from conftest import HostFactory
from etcd_server import Etcd
from inprocess import Local
from procfs import tcp_connections

LANGUAGES = ("cpp", "python")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("call", ["tick", "close"])
@pytest.mark.parametrize("where", ["completion", "event"])
def test_tick_and_close_inside_a_callback(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes, language: str, call: str, where: str
) -> None:
    host = hosts(language)
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    if where == "completion":
        host.succeed("publish", label=b"l", blob=b"b", inside=call)
    else:
        host.event("SYNCED", watch=host.start("watch", inside=call))
    refused = host.line("inside", call=call)
    assert refused["rc"] == capi.IN_CALLBACK
    assert "callback" in refused["error"]
    # The handle is as good as before.
    assert host.succeed("publish", label=b"l2", blob=b"b")["revision"] > 0


def test_two_ticks_at_once(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    host = hosts()
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    host.succeed("publish", label=b"l", blob=b"b", inside="other_thread")
    for call in ("other tick", "other close"):
        refused = host.line("inside", call=call)
        assert refused["rc"] == capi.BUSY, refused
        assert "thread" in refused["error"]
    host.succeed("publish", label=b"l", blob=b"c")


def test_callback_may_start_new_work(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    host = hosts()
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    host.succeed("publish", label=b"l", blob=b"b", inside="publish")
    host.line("inside", call="publish", rc=0)
    assert host.succeed("fetch", agent=b"alpha", label=b"inside")["blob"] == b"b".hex()


def test_callback_may_end_its_own_watch(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    host = hosts()
    for number in range(10):
        etcd34.gateway.put(namespace + b"/beta/l%d" % number, b"b")
    host.open(etcd34.endpoint, namespace)
    watch = host.start("watch", agent=b"beta", inside="cancel")
    host.line("inside", call="cancel", rc=0)
    host.event("ENDED", watch=watch, status=capi.CANCELED)
    names = host.names(watch=watch)
    assert len(names) == 2, f"events between cancel and ENDED: {names}"
    stats = host.stats()
    assert stats["watches_open"] == 0
    assert stats["events"] == len(names), "what was not told counts as told"


def test_shutdown_inside_a_callback(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    host = hosts()
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    host.succeed("publish", label=b"l", blob=b"b", inside="shutdown")
    host.line("inside", call="shutdown", rc=0)
    host.line("shut_down")
    assert etcd34.gateway.keys(namespace) == []


_CHILD_CALLS = [
    "publish",
    "unpublish",
    "start_heartbeat",
    "stop_heartbeat",
    "fetch",
    "watch",
    "invalidate",
    "list",
    "cancel",
    "shutdown",
    "tick",
    "efd",
    "deadline_ms",
    "get_stats",
]


def test_forked_child(hosts: HostFactory, etcd: Etcd, namespace: bytes) -> None:
    """Refused everything but close, which leaves the parent's connection alone."""
    host = hosts()
    host.open(etcd.endpoint, namespace, agent=b"alpha")
    host.succeed("start_heartbeat", interval=500, ttl=5000)
    host.succeed("publish", label=b"l", blob=b"b")
    watch = host.start("watch", agent=b"beta")
    host.event("SYNCED", watch=watch)
    connections = tcp_connections(host.pid)
    before = host.stats()
    answer = host.do("fork", endpoints=etcd.endpoint.encode())
    assert answer["child_status"] == 0
    for call in _CHILD_CALLS:
        told = host.line("child", call=call)
        assert told["rc"] == capi.FORKED, told
        assert "parent process" in told["error"], told
    for call in ("close", "open", "own list", "own close"):
        assert host.line("child", call=call)["rc"] == capi.SUCCESS
    # Watch, lease stream and calls of the parent go on over the same connection.
    etcd.gateway.put(namespace + b"/beta/l", b"later")
    host.event("PUT", watch=watch, label=b"l", blob=b"later", within=2)
    host.succeed("publish", label=b"l", blob=b"c")
    host.succeed("fetch", agent=b"alpha", label=b"l")
    assert tcp_connections(host.pid) == connections
    after = host.stats()
    assert after["connects"] == before["connects"]
    assert after["connects_failed"] == before["connects_failed"]


def test_close_completes_what_is_open(library: Path, etcd34: Etcd, namespace: bytes) -> None:
    """Each once, as CANCELED, on the calling thread; also for a server that is not there."""
    for endpoint in (etcd34.endpoint, "http://127.0.0.1:1"):
        local = Local(
            endpoints=endpoint.encode(), name_space=namespace, agent=b"alpha", agent_len=5
        )
        op = ctypes.c_uint64()
        ops = []
        for number in range(20):
            agent = b"nobody%d" % number
            told = (local.opts(), ctypes.byref(op))
            assert local.call("fetch", agent, len(agent), None, 0, *told) == 0
            ops.append(op.value)
            assert local.call("publish", agent, len(agent), b"b", 1, *told) == 0
            ops.append(op.value)
            assert local.call("watch", agent, len(agent), local.on_event, None, None) == 0
        assert local.call("close") == capi.SUCCESS
        assert sorted(done[0] for done in local.done) == ops
        assert {done[1] for done in local.done} == {capi.CANCELED}
        assert local.events == [(capi.ENDED, capi.CANCELED, b"")] * 20


def test_starting_calls_during_close_are_refused(
    library: Path, etcd34: Etcd, namespace: bytes
) -> None:
    local = Local(endpoints=etcd34.endpoint.encode(), name_space=namespace)
    refused = []

    def start_again(_result: object, _user: object) -> None:
        refused.append(local.call("fetch", b"a", 1, None, 0, None, None))
        refused.append(local.call("tick"))
        refused.append(local.call("close"))

    again = capi.DoneCallback(start_again)
    options = ctypes.byref(capi.opts(on_done=again))
    assert local.call("fetch", b"nobody", 6, None, 0, options, None) == 0
    assert local.call("close") == capi.SUCCESS
    assert refused == [capi.SHUT_DOWN, capi.IN_CALLBACK, capi.IN_CALLBACK]


def test_calls_from_many_threads(hosts: HostFactory, etcd: Etcd, namespace: bytes) -> None:
    host = hosts()
    host.open(etcd.endpoint, namespace, agent=b"alpha")
    answer = host.do("storm", threads=4, calls=250, seconds=60)
    assert answer["refused"] == 0
    assert answer["started"] == 3000
    assert answer["completed"] == 3000
    assert host.stats()["operations_open"] == 0
    keys = etcd.gateway.keys(namespace)
    assert len(keys) == 4 * 8 + 1


def test_operation_ids_are_never_used_twice(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    host = hosts()
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    ops: list[int] = []
    for _ in range(3):
        ops += host.do("publish", label=b"l", blob=b"b", repeat=100)["ops"]
        ops += host.do("watch", agent=b"peer", repeat=50)["ops"]
    assert 0 not in ops
    assert len(set(ops)) == len(ops)


def test_last_error_is_per_thread(library: Path, etcd34: Etcd) -> None:
    local = Local(endpoints=etcd34.endpoint.encode())
    texts: dict[str, str] = {}

    def look(name: str, bad: int) -> None:
        texts[name + " before"] = local.error()
        if bad:
            local.call("cancel", bad)
        texts[name] = local.error()

    assert local.call("cancel", 111) == capi.NOT_FOUND
    for name, bad in (("other", 222), ("quiet", 0)):
        thread = threading.Thread(target=look, args=(name, bad))
        thread.start()
        thread.join()
    assert "111" in local.error()
    assert "222" in texts["other"]
    assert texts["other before"] == texts["quiet"] == texts["quiet before"] == ""
    assert local.call("tick") >= 0
    assert "111" in local.error(), "a call that succeeded has changed the text"
    local.close()


def test_efd_closed_by_the_host_breaks_nothing(library: Path) -> None:
    """Against the rules; the tick says what is wrong, and the next one works when it is mended."""
    local = Local(endpoints=b"127.0.0.1:1")
    efd = local.call("efd")
    kept = os.dup(efd)
    os.close(efd)
    refused = local.call("tick")
    text = local.error()
    os.dup2(kept, efd, inheritable=False)
    os.close(kept)
    assert refused == capi.BACKEND
    assert "closed by somebody else" in text
    assert local.call("tick") >= 0
    local.close()


def test_open_without_descriptors(library: Path) -> None:
    """The status says so and nothing is left behind, however many of those it needs there are."""
    api = capi.load()
    config = capi.config(endpoints=b"127.0.0.1:1")
    handle = ctypes.c_void_p()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = os.listdir("/proc/self/fd")
    refused = 0
    while not handle:
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free() + refused, before[1]))
        rc = int(api.nixl_md_open(ctypes.byref(config), ctypes.byref(handle)))
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        if rc != capi.SUCCESS:
            refused += 1
            assert rc == capi.BACKEND
            assert b"too many open descriptors" in api.nixl_md_last_error(None)
            assert len(os.listdir("/proc/self/fd")) == len(opened)
    # A set, a timer and a signal.
    assert 1 <= refused <= 3
    assert api.nixl_md_close(handle) == capi.SUCCESS
    assert len(os.listdir("/proc/self/fd")) == len(opened)


def first_free() -> int:
    descriptor = os.dup(0)
    os.close(descriptor)
    return descriptor


def test_efd_and_deadline(library: Path) -> None:
    """Nothing asked for: no deadline, nothing to do, nothing sent."""
    local = Local(endpoints=b"127.0.0.1:1")
    ms = ctypes.c_uint64()
    for _ in range(10):
        local.call("tick")
    assert local.call("deadline_ms", ctypes.byref(ms)) == capi.SUCCESS
    assert ms.value == capi.NEVER
    assert local.call("fetch", b"a", 1, None, 0, None, None) == 0
    assert local.call("deadline_ms", ctypes.byref(ms)) == capi.SUCCESS
    assert ms.value == 0
    local.close()
