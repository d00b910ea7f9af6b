# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Servers that misbehave, each in one way. Hosts must neither crash nor spin nor grow, every
operation ends once, in its time, with a status that the header names; and when a real etcd answers
at the same place, all goes on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import capi
import hostile_http
import hostile_messages
from conftest import HostFactory
from etcd_server import Etcd
from hostile_server import Case, HostileServer
from hosts import Host
from memcheck import IS_ON

CASES = {**hostile_http.CASES, **hostile_messages.CASES}
TIMEOUT_MS = 800
# The statuses that header and documentation name for any of these operations.
STATUSES = {
    capi.SUCCESS,
    capi.BACKEND,
    capi.NOT_FOUND,
    capi.NOT_ALLOWED,
    capi.MISMATCH,  # The server contradicts itself about our keys, as if somebody had removed them.
    capi.CANCELED,
    capi.TIMED_OUT,
    capi.TOO_LARGE,
    capi.SUPERSEDED,
    capi.UNAUTHENTICATED,
    capi.PERMISSION,
    capi.LIMIT,
    capi.NO_SPACE,
}
# Beside some of 16 MiB: a message, in the transfer and in the core, and what it decodes to.
MEMORY_LIMIT = 96 << 20
# In each second, and once. The back-off makes two to three attempts a second, of some three ticks.
CONNECTS, TICKS, REQUESTS = 10, 150, 100
READ_BY_TICK = 16 << 10
CONNECTS_ONCE, TICKS_ONCE, REQUESTS_ONCE = 20, 400, 200


def resident(host: Host, what: str) -> int:
    """VmHWM or VmRSS of a host in bytes (proc(5))."""
    for line in Path(f"/proc/{host.pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) << 10
    raise ValueError(what)


@dataclass
class Subject:
    """A host that has to do with a hostile server."""

    host: Host
    agent: bytes
    started: float
    memory: int
    operations: list[int]
    watches: list[int]


def begin(host: Host, agent: bytes, server: HostileServer, namespace: bytes) -> Subject:
    memory = resident(host, "VmRSS")
    secrets = {"user": b"root", "password": b"secret"} if server.case.authenticates else {}
    host.open(server.endpoints, namespace, agent=agent, **secrets)
    limited = {"timeout": TIMEOUT_MS}
    subject = Subject(host, agent, time.monotonic(), memory, [], [])
    subject.watches += [
        host.start("watch"),
        host.start("watch", agent=b"nobody"),
        host.start("watch", agent=agent, flags=capi.WATCH_PRESENCE_ONLY),
    ]
    subject.operations += [
        host.start("start_heartbeat", interval=300, ttl=2000, **limited),
        host.start("publish", label=b"l", blob=b"1", **limited),
        host.start("fetch", agent=b"nobody", label=b"l", **limited),
        host.start("fetch", agent=agent, label=b"l", **limited),
        host.start("fetch", agent=agent, label=b"l", flags=capi.FETCH_NO_WAIT, **limited),
        host.start("list", **limited),
    ]
    return subject


def check_end(subject: Subject) -> None:
    """Each operation ended, in time. Where many tests run the host is slow; the number of its ticks
    must still be small."""
    for op in subject.operations:
        status = subject.host.done(op, within=20)["status"]
        assert status in STATUSES, f"operation {op} ended with {status}"


def check_work(subject: Subject, server: HostileServer, connects_of_all: int) -> None:
    """Counts, not CPU: machines differ."""
    seconds = time.monotonic() - subject.started
    stats = subject.host.stats()
    case = server.case
    unasked = server.unasked if case.floods else 0
    connects = (CONNECTS_ONCE + CONNECTS * seconds) * case.endpoints
    assert connects_of_all <= 2 * connects
    assert stats["requests"] <= REQUESTS_ONCE + (REQUESTS + case.more_requests) * seconds, stats
    ticks = TICKS_ONCE + (TICKS + case.more_requests) * seconds + unasked
    # A tick that ran a callback, or read much, was needed.
    ticks += 5 * connects if case.endpoints > 1 else 0
    ticks += stats["callbacks"] + stats["bytes_received"] / READ_BY_TICK
    assert stats["ticks"] - stats["ticks_idle"] <= ticks, (server.unasked, stats)
    grown = resident(subject.host, "VmHWM") - subject.memory
    assert grown <= MEMORY_LIMIT, f"grown by {grown >> 20} MiB"


def wait_well(subject: Subject, etcd: Etcd, namespace: bytes) -> None:
    """All goes on: calls, and the watch of the namespace (a new one, if that was ended)."""
    host = subject.host
    deadline = time.monotonic() + 30
    while (listed := host.finish("list", timeout=2000))["status"] != capi.SUCCESS:
        assert time.monotonic() < deadline, listed
    # Restoring what was published may be under way.
    while (published := host.finish("publish", label=b"after", blob=b"2", timeout=3000))[
        "status"
    ] not in (capi.SUCCESS, capi.SUPERSEDED):
        assert time.monotonic() < deadline, published
        time.sleep(0.05)
    if published["status"] == capi.SUCCESS:
        key = namespace + b"/" + subject.agent + b"/after"
        assert etcd.gateway.keys(key) == [key]
    watch = subject.watches[0]
    if host.events(event="ENDED", watch=watch):
        watch = host.start("watch")
    other = b"of-" + subject.agent
    etcd.gateway.put(namespace + b"/" + other + b"/", b"")
    host.event("PRESENT", watch=watch, agent=other, within=20)


def check_once(subject: Subject) -> None:
    lines = subject.host.log.lines
    for op in subject.operations:
        assert sum(line["kind"] == "done" and line["op"] == op for line in lines) == 1
    for watch in subject.watches:
        ended = subject.host.events(event="ENDED", watch=watch)
        assert len(ended) <= 1
        assert all(line["status"] in STATUSES for line in ended)


def seen(server: HostileServer, subjects: list[Subject]) -> str:
    """For whoever looks for a reason."""
    told = "; ".join(str(subject.host.stats()) for subject in subjects)
    return f"{server.hits} hits, {server.requests} requests, {server.unasked} unasked; {told}"


@pytest.mark.native("counts what a quick host does")
@pytest.mark.parametrize("name", CASES)
def test_misbehaving_server_then_a_good_one(
    name: str, hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    assert not IS_ON
    case: Case = CASES[name]
    with HostileServer(case, etcd34.port) as server:
        subjects = [
            begin(hosts(language), agent, server, namespace)
            for language, agent in (("cpp", b"alpha"), ("python", b"beta"))
        ]
        for subject in subjects:
            check_end(subject)
        time.sleep(max(0.0, case.seconds - (time.monotonic() - subjects[0].started)))
        print(seen(server, subjects))
        for subject in subjects:
            check_work(subject, server, server.accepted)
        assert server.hits >= case.least_hits, "the server never misbehaved"
        assert server.accepted >= case.least_connects
        server.behave()
        for subject in subjects:
            wait_well(subject, etcd34, namespace)
            check_once(subject)
        # While the server is there to talk to.
        for subject in subjects:
            subject.host.close()
