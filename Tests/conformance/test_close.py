# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Close never waits and shutdown ends in its time, wherever a handle is stuck: connecting, in a TLS
handshake, before the first answer, resolving a name, with a stalled server; in a forked child."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import capi
import memcheck
import silent_names
from certificates import Authority
from conftest import EtcdFactory, HostFactory
from etcd_server import Etcd
from hosts import Host, Line
from machine import Delay
from memcheck import scaled
from procfs import descriptors, tcp_connections, thread_count
from proxy import Proxy

LANGUAGES = ("cpp", "python")
SITUATIONS = ("connecting", "handshake", "unanswered", "resolving", "stalled")
NS = b"/ns/"
TTL = 5
# A few milliseconds; what a busy test machine takes away does not count.
CLOSE_SECONDS = scaled(0.05)
RESOLVER_SECONDS = 2
DRAIN_MS = 1000
# An operation that waits only for the time must not be later than this, nor one that waits for
# nothing, apart from the time for which a busy machine withholds a processor (see Delay).
LATE_SECONDS = scaled(0.1)
AT_ONCE_SECONDS = scaled(0.05)


def wait_for(is_reached: Callable[[], bool], what: str, seconds: float = 3.0) -> None:
    deadline = time.monotonic() + scaled(seconds)
    while not is_reached():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


@dataclass
class Stuck:
    """Where a handle hangs, and for good."""

    name: str
    endpoint: str
    values: dict[str, Any] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    listener: socket.socket | None = None
    etcd: Etcd | None = None
    accepted: socket.socket | None = None
    # The operations that only read.
    reads: list[int] = field(default_factory=list)

    def begin(self, host: Host) -> tuple[list[int], list[int]]:
        """Opens the handle, starts operations of each kind, waits until it is stuck with them. The
        operations, and the watches."""
        host.open(self.endpoint, NS, agent=b"alpha", **self.values)
        if self.etcd is not None:
            host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
            host.succeed("publish", label=b"l0", blob=b"b")
            host.event("SYNCED", watch=host.start("watch"))
            self.etcd.freeze()
            last = "invalidate"
        else:
            last = "start_heartbeat"
        ops: list[int] = host.do("publish", label=b"l", blob=b"b", repeat=10)["ops"]
        ops.append(host.start("publish", label=b"large", size=1 << 20))
        self.reads = host.do("fetch", agent=b"nobody", timeout=capi.NEVER, repeat=10)["ops"]
        self.reads.append(host.start("list", timeout=capi.NEVER))
        ops += self.reads
        watches: list[int] = host.do("watch", agent=b"peer", repeat=10)["ops"]
        if last == "start_heartbeat":
            ops.append(host.start(last, interval=1000, ttl=TTL * 1000))
        self._arrive(host)
        return ops, watches

    def _arrive(self, host: Host) -> None:
        if self.name == "resolving":
            wait_for(lambda: thread_count(host.pid) == 2, "there is no resolver's thread")
        elif self.name == "connecting":
            wait_for(lambda: bool(tcp_connections(host.pid)), "it does not connect")
        elif self.listener is not None:
            self.accepted, _ = self.listener.accept()
            self.accepted.settimeout(3)
            assert self.accepted.recv(1 << 16), "nothing has come"
        else:
            time.sleep(0.2)

    def check_given_back(self, host: Host, before: dict[int, str]) -> None:
        """No descriptor, no connection, and no thread but one that getaddrinfo() holds up."""
        if self.name == "resolving":
            wait_for(lambda: thread_count(host.pid) == 1, "the thread stays", RESOLVER_SECONDS + 1)
        assert thread_count(host.pid) == 1
        assert descriptors(host.pid) == before
        assert tcp_connections(host.pid) == set()


@contextmanager
def full_listener() -> Iterator[socket.socket]:
    """Its queue of connections is full: it takes no other, and refuses none."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        while True:
            client = stack.enter_context(socket.socket())
            client.settimeout(0.1)
            try:
                client.connect(listener.getsockname())
            except TimeoutError:
                break
        yield listener


@contextmanager
def stuck(name: str, own_etcd: EtcdFactory, directory: Path) -> Iterator[Stuck]:
    if name == "stalled":
        etcd = own_etcd("3.5")
        yield Stuck(name, etcd.endpoint, etcd=etcd)
    elif name == "resolving":
        prefix = silent_names.prefix(directory, RESOLVER_SECONDS)
        yield Stuck(name, "http://etcd.example.org:2379", prefix=prefix)
    elif name == "connecting":
        with full_listener() as listener:
            yield Stuck(name, f"http://127.0.0.1:{listener.getsockname()[1]}")
    else:
        authority = Authority(directory, "authority")
        values = {"ca_file": str(authority.certificate).encode()} if name == "handshake" else {}
        scheme = "https" if name == "handshake" else "http"
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(3)
            endpoint = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
            where = Stuck(name, endpoint, values, listener=listener)
            try:
                yield where
            finally:
                if where.accepted is not None:
                    where.accepted.close()


def check_canceled(host: Host, ops: list[int], watches: list[int]) -> list[Line]:
    """Each has ended once, as CANCELED. The ends."""
    ends = [line for line in host.lines("done") if line["op"] in ops]
    ends += [line for line in host.events(event="ENDED") if line["watch"] in watches]
    counts = Counter(line["op"] if line["kind"] == "done" else line["watch"] for line in ends)
    assert counts == Counter([*ops, *watches])
    assert {line["status"] for line in ends} == {capi.CANCELED}
    assert all(line["text"] for line in ends)
    return ends


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_close(
    hosts: HostFactory, own_etcd: EtcdFactory, tmp_path: Path, language: str, situation: str
) -> None:
    """Shutdown takes milliseconds, completes everything inside the call and nothing after it, and
    leaves nothing behind. The process continues, even if a resolver's thread ends later."""
    with stuck(situation, own_etcd, tmp_path) as where:
        host = hosts(language, prefix=where.prefix)
        before = descriptors(host.pid)
        ops, watches = where.begin(host)
        assert host.stats()["operations_open"] >= len(ops) + len(watches)
        closing = time.monotonic_ns()
        answer = host.close()
        assert answer["took_ns"] / 1e9 < CLOSE_SECONDS
        ends = check_canceled(host, ops, watches)
        assert all(closing <= line["t"] <= answer["t"] for line in ends)
        count = len(host.log.lines)
        where.check_given_back(host, before)
        assert len(host.log.lines) == count, host.tail()
        host.open("http://127.0.0.1:1", NS)
        host.close()
        assert descriptors(host.pid) == before


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_shutdown(
    hosts: HostFactory, own_etcd: EtcdFactory, tmp_path: Path, language: str, situation: str
) -> None:
    """Readers end at once, writers at the end of the drain, which comes in time."""
    with stuck(situation, own_etcd, tmp_path) as where:
        host = hosts(language, prefix=where.prefix)
        before = descriptors(host.pid)
        ops, watches = where.begin(host)
        delay = Delay(host.pid)
        begun = host.do("shutdown", drain=DRAIN_MS)["t"]
        ends = [host.event("ENDED", watch=watch) for watch in watches]
        ends += host.completions(where.reads, 5).values()
        assert max(line["t"] - begun for line in ends) / 1e9 <= AT_ONCE_SECONDS + delay.seconds
        done = host.line("shut_down", within=5)
        in_time = DRAIN_MS / 1000 + LATE_SECONDS + delay.seconds
        assert DRAIN_MS / 1000 - 0.01 <= (done["t"] - begun) / 1e9 <= in_time
        check_canceled(host, ops, watches)
        assert host.close()["took_ns"] / 1e9 < CLOSE_SECONDS
        where.check_given_back(host, before)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_forked_child(
    hosts: HostFactory, own_etcd: EtcdFactory, tmp_path: Path, situation: str
) -> None:
    """The child is refused everything but close, which is as quick and runs no callback; the
    connection, thread and operations of the parent stay, and end in the parent."""
    with stuck(situation, own_etcd, tmp_path) as where:
        host = hosts(prefix=where.prefix)
        before = descriptors(host.pid)
        ops, watches = where.begin(host)
        connections, threads = tcp_connections(host.pid), thread_count(host.pid)
        count = host.stats()["operations_open"]
        mark = host.mark()
        assert host.do("fork")["child_status"] == 0
        told = {line["call"]: line for line in host.lines("child")}
        assert told["close"]["rc"] == capi.SUCCESS
        assert told["close"]["took_ns"] / 1e9 < CLOSE_SECONDS
        assert {line["rc"] for call, line in told.items() if call != "close"} == {capi.FORKED}
        assert {line["kind"] for line in host.log.lines[mark:]} == {"child", "answer"}
        assert tcp_connections(host.pid) == connections
        assert thread_count(host.pid) == threads
        assert host.stats()["operations_open"] == count
        if where.accepted is not None:
            # Neither an end nor a farewell of TLS or HTTP/2 on the connection. (Memcheck makes the
            # handshake take longer than the second after which the parent itself gives it up.)
            where.accepted.setblocking(False)
            has_given_up = host.stats()["connects_failed"] > 0
            assert not has_given_up or memcheck.IS_ON
            if not has_given_up:
                with pytest.raises(BlockingIOError):
                    where.accepted.recv(1)
        if where.etcd is not None:
            where.etcd.thaw()
            assert host.done(ops[0])["status"] == capi.SUCCESS
            host.succeed("publish", label=b"after", blob=b"b")
            assert tcp_connections(host.pid) == connections
            assert host.close()["took_ns"] / 1e9 < CLOSE_SECONDS
        else:
            assert host.close()["took_ns"] / 1e9 < CLOSE_SECONDS
            check_canceled(host, ops, watches)
        where.check_given_back(host, before)


def test_many_threads_that_resolve_outlive_their_handles(
    hosts: HostFactory, own_etcd: EtcdFactory, tmp_path: Path
) -> None:
    with stuck("resolving", own_etcd, tmp_path) as where:
        host = hosts(prefix=where.prefix)
        before = descriptors(host.pid)
        for number in range(20):
            host.open(where.endpoint, NS)
            host.start("list")
            wait_for(lambda n=number: thread_count(host.pid) >= n + 2, "no thread")  # type: ignore[misc]
            assert host.close()["took_ns"] / 1e9 < CLOSE_SECONDS
        where.check_given_back(host, before)


@pytest.mark.parametrize("language", LANGUAGES)
def test_drain_that_ends_during_its_work_completes_everything(
    hosts: HostFactory, etcd: Etcd, namespace: bytes, language: str
) -> None:
    """More to write than the drain has time for: it ends in its last quarter, everything completes
    once, and what was written is withdrawn."""
    proxy = Proxy(etcd.port, lambda: 0.1)
    try:
        host = hosts(language)
        host.open(proxy.endpoint, namespace, agent=b"alpha")
        host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
        ops = host.do("publish", label=b"l", blob=b"b", repeat=1000)["ops"]
        delay = Delay(host.pid, os.getpid())
        begun = host.do("shutdown", drain=1200)["t"]
        done = host.line("shut_down", within=4)
        assert 0.9 <= (done["t"] - begun) / 1e9 <= 1.2 + LATE_SECONDS + delay.seconds
        ends = host.completions(ops, 0.5)
        assert len(host.lines("done")) == 1001
        assert {line["status"] for line in ends.values()} == {capi.SUCCESS, capi.CANCELED}
        written = [end for end in ends.values() if end["status"] == capi.SUCCESS]
        assert written and all(end["revision"] > 0 for end in written)
        assert etcd.gateway.keys(namespace) == []
        assert host.close()["took_ns"] / 1e9 < CLOSE_SECONDS
    finally:
        proxy.close()
    wait_for(lambda: etcd.gateway.keys(namespace) == [], "its keys stay", TTL + 2)


@pytest.mark.parametrize("leased", [True, False])
def test_server_that_comes_back_within_the_drain(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str, leased: bool
) -> None:
    """Queued publishes are written, then all of them are withdrawn."""
    etcd = own_etcd(version)
    host = hosts()
    host.open(etcd.endpoint, NS, agent=b"alpha")
    if leased:
        host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
    host.succeed("publish", label=b"l", blob=b"b")
    etcd.freeze()
    ops = host.do("publish", label=b"l", blob=b"c", repeat=50)["ops"]
    begun = host.do("shutdown", drain=6000)["t"]
    time.sleep(0.5)
    etcd.thaw()
    done = host.line("shut_down", within=7)
    assert (done["t"] - begun) / 1e6 < 6000
    assert {line["status"] for line in host.completions(ops, 0.5).values()} == {capi.SUCCESS}
    assert etcd.gateway.keys(NS) == []
    assert etcd.gateway.leases() == []
