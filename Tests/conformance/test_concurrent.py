# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Threads that call while another ticks or forks, and what a callback of the log may do."""

from __future__ import annotations

import ctypes
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

import capi
from conftest import HostFactory
from etcd_server import Etcd
from inprocess import Local
from memcheck import scaled
from procfs import tcp_connections

FORKS = 100


@pytest.mark.native("memcheck would tell of the page that takes no write")
def test_operation_id_is_written_before_its_completion_runs(hosts: HostFactory) -> None:
    """However slow the thread is that made the call: the one that ticks may be on another."""
    host = hosts()
    host.open("http://127.0.0.1:1", b"/ns/", agent=b"alpha")
    host.do("drive", mode="hand")
    answer = host.do("slow_id")
    assert answer["op"] == answer["told"] != 0
    assert answer["told_before"] == 0


@pytest.mark.native("what another thread was working with stays in the child, as the header says")
def test_fork_at_any_moment(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    """While one thread ticks and two make calls. The child's calls are refused, its close returns,
    and a handle of its own works; the parent goes on over its connection."""
    host = hosts()
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    host.succeed("publish", label=b"l", blob=b"b")
    connections = tcp_connections(host.pid)
    answer = host.do("fork_storm", count=FORKS, seconds=120)
    assert answer["statuses"] == [0] * FORKS
    assert answer["completed"] == answer["started"] > 0
    host.succeed("publish", label=b"l", blob=b"c")
    assert tcp_connections(host.pid) == connections
    assert host.stats()["connects"] == 1


def test_fork_inside_a_callback_of_the_log(library: Path) -> None:
    """The tick is at work there; the child does nothing more of it, least of all on the network."""
    parent = os.getpid()
    children: list[int] = []

    def fork(_level: int, line: bytes, _user: object) -> None:
        if b"connecting to" in line and not children and os.getpid() == parent:
            children.append(os.fork())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = b"127.0.0.1:%d" % listener.getsockname()[1]
        local = Local(endpoints=endpoint, on_log=capi.LogCallback(fork), log_level=2)
        assert local.call("fetch", b"nobody", 6, None, 0, None, None) == capi.SUCCESS
        deadline = time.monotonic() + scaled(5)
        while not children and time.monotonic() < deadline:
            rc = local.call("tick")
            if os.getpid() != parent:
                refused = rc == local.call("tick") == capi.FORKED
                os._exit(0 if refused and local.call("close") == capi.SUCCESS else 1)
        assert os.waitpid(children[0], 0)[1] == 0
        # A connection of the child's would be in the queue, too.
        while local.call("tick") >= 0 and (count := connections(listener)) == 0:
            assert time.monotonic() < deadline
        assert count == 1, "the child has connected as well"
        local.close()


def connections(listener: socket.socket) -> int:
    """The number of connections that wait to be accepted."""
    listener.setblocking(False)
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def test_calls_inside_a_callback_of_the_log(library: Path) -> None:
    """The rules of callbacks hold: no tick and no close, all else."""
    told: list[int] = []

    def call(_level: int, line: bytes, _user: object) -> None:
        if b"connecting to" not in line or told:
            return
        stats = capi.Stats(size=ctypes.sizeof(capi.Stats))
        number = ctypes.c_uint64()
        told.append(local.call("tick"))
        told.append(local.call("close"))
        told.append(local.call("fetch", b"other", 5, None, 0, local.opts(), ctypes.byref(number)))
        told.append(local.call("cancel", number.value))
        told.append(local.call("deadline_ms", ctypes.byref(number)))
        told.append(local.call("get_stats", ctypes.byref(stats)))
        told.append(local.call("shutdown", 0))

    on_log = capi.LogCallback(call)
    local = Local(endpoints=b"127.0.0.1:1", on_log=on_log, log_level=2)
    assert local.call("fetch", b"nobody", 6, None, 0, local.opts(), None) == capi.SUCCESS
    deadline = time.monotonic() + scaled(5)
    while local.call("tick") != capi.SHUT_DOWN:
        assert time.monotonic() < deadline
    assert told == [capi.IN_CALLBACK, capi.IN_CALLBACK] + 5 * [capi.SUCCESS]
    assert [status for _, status, _ in local.done] == [capi.CANCELED] * 2
    local.close()


def test_cancel_inside_a_callback(library: Path) -> None:
    """A running operation is canceled; a queued completion keeps its status. Each comes once."""
    local = Local(endpoints=b"127.0.0.1:1", agent=b"alpha", agent_len=5)
    ops = [ctypes.c_uint64() for _ in range(3)]
    told: list[int] = []
    done: list[tuple[int, int]] = []

    def cancel(pointer: Any, _user: object) -> None:
        done.append((pointer.contents.op, pointer.contents.status))
        told.extend(local.call("cancel", op.value) for op in ops)

    on_done = capi.DoneCallback(cancel)
    options = ctypes.byref(capi.opts(on_done=on_done))
    for op in ops[:2]:
        assert local.call("unpublish", b"nothing", 7, options, ctypes.byref(op)) == capi.SUCCESS
    told_later = (b"nobody", 6, None, 0, options, ctypes.byref(ops[2]))
    assert local.call("fetch", *told_later) == capi.SUCCESS
    deadline = time.monotonic() + scaled(5)
    while len(done) < 3:
        assert local.call("tick") >= 0
        assert time.monotonic() < deadline
    first, second, third = (op.value for op in ops)
    assert done == [(first, capi.NOT_FOUND), (second, capi.NOT_FOUND), (third, capi.CANCELED)]
    ended, canceled = capi.NOT_FOUND, capi.SUCCESS
    assert told == [ended, canceled, canceled, ended, ended, canceled, ended, ended, ended]
    local.close()
