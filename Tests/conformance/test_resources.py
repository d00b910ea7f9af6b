# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The library's cost to its host: no thread, one connection, next to nothing when idle."""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import select
import shutil
import statistics
import subprocess
import time
from pathlib import Path

import pytest

import capi
from conftest import TREE, HostFactory
from etcd_server import Etcd
from hosts import Host
from inprocess import Local
from memcheck import CPU_FACTOR, scaled
from procfs import Sampler, descriptors, tcp_connections, thread_count

LANGUAGES = ("cpp", "python")
NUL = capi.NUL_TERMINATED


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_thread_and_one_connection(
    hosts: HostFactory, etcd: Etcd, namespace: bytes, language: str
) -> None:
    """Handle, heartbeat, 1,000 watches and 150 fetches in flight; sampled all the time."""
    host = hosts(language)
    before = thread_count(host.pid)
    assert tcp_connections(host.pid) == set()
    for number in range(150):
        etcd.gateway.put(namespace + b"/there%d/l" % number, b"b")
    with Sampler(host.pid) as sampler:
        host.open(etcd.endpoint, namespace, agent=b"alpha")
        host.succeed("start_heartbeat", interval=300, ttl=5000)
        watches = host.do("watch", agent=b"peer", repeat=1000)["ops"]
        waiting = host.do("fetch", agent=b"later", label=b"l", timeout=60_000, repeat=150)["ops"]
        there = host.do("fetch", agent=b"there", label=b"l", repeat=150)["ops"]
        found = host.completions(there, within=20)
        assert {line["status"] for line in found.values()} == {0}
        host.event("SYNCED", count=1000, within=20)
        assert {line["watch"] for line in host.events(event="SYNCED")} == set(watches)
        for number in range(0, 1000, 50):
            etcd.gateway.put(namespace + b"/peer%d/l" % number, b"b")
            host.event("PUT", watch=watches[number], label=b"l")
        host.succeed("publish", label=b"l", size=1 << 20)
        time.sleep(1)  # some renewals
        assert host.stats()["operations_open"] == 1150
        for number in range(150):
            etcd.gateway.put(namespace + b"/later%d/l" % number, b"b")
        host.completions(waiting, within=20)
    seen = sampler.samples
    assert seen.count > 100
    assert seen.threads == {before}, "a thread was started"
    assert seen.connections_max == 1, seen.connections
    assert len(seen.connections) == 1, "the connection was replaced"
    stats = host.stats()
    assert (stats["connects"], stats["connects_failed"]) == (1, 0)
    assert stats["resolver_threads"] == 0


def test_close_releases_everything(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    host = hosts()
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    host.succeed("publish", label=b"l", blob=b"b")
    host.close()
    before = descriptors(host.pid)
    for _ in range(20):
        host.open(etcd34.endpoint, namespace, agent=b"alpha")
        host.succeed("start_heartbeat", interval=1000, ttl=5000)
        host.event("SYNCED", watch=host.start("watch"))
        host.close()
    assert descriptors(host.pid) == before
    assert tcp_connections(host.pid) == set()


def test_name_is_resolved_by_a_thread_that_ends(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    """The one documented exception; it is over when the connection stands."""
    host = hosts()
    before = thread_count(host.pid)
    host.open(f"http://localhost:{etcd34.port}", namespace, agent=b"alpha")
    host.succeed("publish", label=b"l", blob=b"b")
    assert host.stats()["resolver_threads"] >= 1
    deadline = time.monotonic() + scaled(2)
    while thread_count(host.pid) != before:
        assert time.monotonic() < deadline, "the resolver's thread is still there"
        time.sleep(0.01)


def test_name_resolved_in_open_needs_no_thread(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    host = hosts()
    host.open(
        f"http://localhost:{etcd34.port}",
        namespace,
        agent=b"alpha",
        flags=capi.CONFIG_RESOLVE_IN_OPEN,
    )
    host.succeed("publish", label=b"l", blob=b"b")
    assert host.stats()["resolver_threads"] == 0


def settle(host: Host, namespace: bytes, etcd: Etcd) -> None:
    """A handle that has used everything and now has nothing to do."""
    host.open(etcd.endpoint, namespace, agent=b"alpha")
    host.succeed("publish", label=b"l", blob=b"b")
    host.event("SYNCED", watch=host.start("watch"))
    host.start("fetch", agent=b"nobody", timeout=capi.NEVER)
    time.sleep(1)


@pytest.mark.native("memcheck makes system calls of its own")
@pytest.mark.parametrize("with_heartbeat", [False, True])
def test_idle_tick_makes_at_most_one_system_call(
    hosts: HostFactory, etcd: Etcd, namespace: bytes, tmp_path: Path, with_heartbeat: bool
) -> None:
    assert shutil.which("strace"), "strace is missing: apt-get install strace"
    trace = tmp_path / "trace"
    host = hosts(prefix=("strace", "-f", "-qq", "-o", str(trace)))
    settle(host, namespace, etcd)
    if with_heartbeat:
        host.succeed("start_heartbeat", interval=20_000, ttl=60_000)
        time.sleep(1)
    host.do("drive", mode="hand")
    count = 2000
    before = host.stats()
    assert host.do("spin", count=count)["not_idle"] == 0
    after = host.stats()
    host.quit()
    calls = _between_marks(trace.read_text(errors="replace"))
    assert len(calls) <= count, calls[:50]
    assert after["ticks_idle"] - before["ticks_idle"] == count


def _between_marks(trace: str) -> list[str]:
    """The system calls between the host's two marks, the marks themselves excluded."""
    _, _, rest = trace.partition("spin_begins")
    found, _, _ = rest.partition("spin_ended")
    lines = found.splitlines()[1:-1]
    return [line for line in lines if re.search(r"\w+\(", line)]


@pytest.mark.parametrize("with_heartbeat", [False, True])
def test_idle_tick_costs_less_than_a_microsecond(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes, with_heartbeat: bool
) -> None:
    """On average of a million ticks, in CPU time of the thread that ticks: what else runs is not
    the library's. And in the median, so that no part that is fast hides one that is slow."""
    host = hosts()
    settle(host, namespace, etcd34)
    if with_heartbeat:
        host.succeed("start_heartbeat", interval=20_000, ttl=60_000)
        time.sleep(1)
    host.do("drive", mode="hand")
    count, rounds = 40_000, 25
    averages = [host.do("spin", count=count)["cpu_ns"] / count for _ in range(rounds)]
    mean, median = statistics.mean(averages), statistics.median(averages)
    print(f"an idle tick: {mean:.0f} ns on average, {median:.0f} ns in the median of its parts")
    assert mean < 1000 * CPU_FACTOR, averages
    assert median < 1000 * CPU_FACTOR, averages


@pytest.mark.native("memcheck replaces the allocator")
def test_idle_tick_allocates_nothing(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes, tmp_path: Path
) -> None:
    counter = tmp_path / "allocations.so"
    source = TREE / "Tests" / "support" / "allocations.c"
    build = ["cc", "-shared", "-fPIC", "-O1", "-fno-builtin", str(source), "-o", str(counter)]
    subprocess.run(build, check=True)
    host = hosts(environment={"LD_PRELOAD": str(counter)})
    settle(host, namespace, etcd34)
    host.succeed("start_heartbeat", interval=20_000, ttl=60_000)
    time.sleep(1)
    host.do("drive", mode="hand")
    spun = host.do("spin", count=2000)
    assert (spun["not_idle"], spun["allocated"]) == (0, 0)
    host.do("publish", label=b"l", blob=b"c")
    assert host.do("spin", count=1)["allocated"] > 0, "nothing is counted"


def wakes_between(host: Host, begin: float, end: float) -> list[float]:
    """When the efd woke the host, in seconds."""
    times = [nanoseconds / 1e9 for nanoseconds in host.do("wakes")["times"]]
    return [time for time in times if begin <= time < end]


@pytest.mark.parametrize("language", LANGUAGES)
def test_sleeping_process_wakes_only_for_its_renewals(
    hosts: HostFactory, etcd: Etcd, namespace: bytes, language: str
) -> None:
    """Once to send each, then for its answer and what comes with it, and for nothing else."""
    host = hosts(language)
    settle(host, namespace, etcd)
    host.succeed("start_heartbeat", interval=2000, ttl=6000)
    time.sleep(1)
    begin, before = time.monotonic(), host.stats()
    time.sleep(20)
    end, after = time.monotonic(), host.stats()
    renewals = after["renewals"] - before["renewals"]
    wakes = wakes_between(host, begin, end)
    pauses = [b - a for a, b in itertools.pairwise(wakes)]
    bursts = 1 + sum(1 for pause in pauses if pause > 0.5)
    assert 9 <= renewals <= 13
    # An answer of a busy etcd that takes longer than the pause is a burst of its own.
    assert bursts <= renewals * 3 // 2, f"{bursts} bursts of wakes for {renewals} renewals"
    assert len(wakes) <= 5 * renewals, f"{len(wakes)} wakes for {renewals} renewals"
    assert after["ticks"] - before["ticks"] == len(wakes)


def test_process_with_nothing_to_do_does_not_wake(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    """With a handle that was never used, not at all; with watches, to ask after silence only."""
    host = hosts()
    host.open(etcd34.endpoint, namespace)
    time.sleep(3)
    assert len(wakes_between(host, 0, time.monotonic())) <= 1
    host.event("SYNCED", watch=host.start("watch"))
    time.sleep(1)
    begin = time.monotonic()
    time.sleep(12)
    wakes = wakes_between(host, begin, time.monotonic())
    bursts = sum(1 for a, b in itertools.pairwise([0.0, *wakes]) if b - a > 0.5)
    # One question for each 5 s of silence.
    assert bursts <= 3
    assert len(wakes) <= 5 * bursts


def test_efd_is_readable_exactly_when_work_is_due(
    library: Path, etcd34: Etcd, namespace: bytes
) -> None:
    local = Local(endpoints=etcd34.endpoint.encode(), name_space=namespace)
    efd = local.call("efd")
    poller = select.poll()
    poller.register(efd, select.POLLIN)

    def settle_down() -> None:
        deadline = time.monotonic() + scaled(5)
        while poller.poll(300):
            assert local.call("tick") >= 0
            assert time.monotonic() < deadline, "the efd stays readable"

    settle_down()
    assert local.call("watch", b"beta", 4, local.on_event, None, None) == 0
    assert poller.poll(0), "a new call did not make the efd readable"
    local.tick_until(lambda: any(event[0] == capi.SYNCED for event in local.events))
    settle_down()
    assert not poller.poll(500)
    etcd34.gateway.put(namespace + b"/beta/l", b"b")
    assert poller.poll(1000), "an event did not make the efd readable"
    settle_down()
    begun, wakes = time.monotonic(), 0
    assert local.call("fetch", b"no", 2, None, 0, local.opts(timeout_ms=3000), None) == 0
    local.call("tick")
    settle_down()
    assert local.done == []
    while not local.done:
        assert poller.poll(10_000), "a passed deadline did not make the efd readable"
        wakes += 1
        local.call("tick")
    # The clock of the library counts whole milliseconds.
    assert time.monotonic() - begun >= 2.999, "it was told before its time"
    assert wakes <= 3
    local.close()


@pytest.mark.parametrize("reachable", [True, False])
def test_memory_does_not_grow(
    library: Path, etcd34: Etcd, namespace: bytes, reachable: bool
) -> None:
    """Every operation that ends, at once, late or canceled, returns its memory and descriptors."""
    endpoint = etcd34.endpoint.encode() if reachable else b"127.0.0.1:1"
    local = Local(endpoints=endpoint, name_space=namespace, agent=b"alpha", agent_len=5)
    op = ctypes.c_uint64()

    # Where nothing is answered only its time-out ends it.
    timeout = 0 if reachable else 1

    def live(number: int) -> None:
        name = b"peer-%d" % number
        given = (b"l%d" % (number % 50), NUL, bytes(1000), 1000)
        opts = capi.opts(timeout_ms=timeout)
        assert local.call("publish", *given, ctypes.byref(opts), ctypes.byref(op)) == 0
        if number % 2:
            local.call("cancel", op.value)
        no_wait = capi.opts(flags=capi.FETCH_NO_WAIT, timeout_ms=timeout)
        for opts in (capi.opts(timeout_ms=1), no_wait, capi.opts()):
            arguments = (name, NUL, None, 0, ctypes.byref(opts), ctypes.byref(op))
            assert local.call("fetch", *arguments) == 0
        local.call("cancel", op.value)
        assert local.call("watch", name, NUL, local.on_event, None, ctypes.byref(op)) == 0
        if number % 3 == 0:
            local.call("tick")
        local.call("cancel", op.value)

    sizes = []
    for part in range(7):
        for number in range(1000):
            live(1000 * part + number)
        local.tick_until(lambda: local.stats()["operations_open"] == 0, 60)
        local.events.clear()
        sizes.append(resident_bytes())
    local.close()
    print(f"resident bytes: {sizes}")
    assert max(sizes[3:]) - sizes[2] < 1 << 20, sizes


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")
