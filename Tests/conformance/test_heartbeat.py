# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The heartbeat in plain form."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

import capi
from conftest import EtcdFactory, HostFactory
from etcd_server import Etcd
from hosts import Host
from leases import RESTORE_PAUSE, granted_ttl, one_lease
from memcheck import scaled

LANGUAGES = ("cpp", "python")
TTL = 5


def alive(
    host: Host, etcd: Etcd, namespace: bytes, labels: int = 3, name: bytes = b"alpha"
) -> list[bytes]:
    """An agent with a heartbeat; the keys it has."""
    host.open(etcd.endpoint, namespace, agent=name)
    host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
    for number in range(labels):
        host.succeed("publish", label=b"l%d" % number, blob=b"b%d" % number)
    keys = etcd.gateway.keys(namespace + b"/" + name + b"/")
    assert len(keys) == labels + 1
    return keys


def wait_for_keys(etcd: Etcd, namespace: bytes, wanted: list[bytes], seconds: float) -> float:
    """When the keys were as wanted (monotonic)."""
    deadline = time.monotonic() + scaled(seconds)
    while True:
        found = etcd.gateway.keys(namespace)
        if found == wanted:
            return time.monotonic()
        assert time.monotonic() < deadline, f"after {seconds} s there is {found}"
        time.sleep(0.01)


SAMPLES = 1200
PERIOD = 0.05
# On a busy machine a look may begin late by so much, and so many may begin later than that: what is
# between them is in etcd's history.
LATE = PERIOD
LATE_SAMPLES = SAMPLES // 2
LOOKERS = 4


def look_all_the_time(etcd: Etcd, namespace: bytes) -> tuple[list[float], list[Counter[bytes]]]:
    """One look at its keys every 50 ms for 60 s: how late each began, and what it found. Several
    take turns, so that an answer that comes late does not hold up the next look."""
    begin = time.monotonic() + PERIOD
    late = [0.0] * SAMPLES
    seen: list[Counter[bytes]] = [Counter()] * SAMPLES

    def look(first: int) -> None:
        for number in range(first, SAMPLES, LOOKERS):
            due = begin + number * PERIOD
            time.sleep(max(0.0, due - time.monotonic()))
            late[number] = time.monotonic() - due
            seen[number] = Counter(etcd.gateway.keys(namespace))

    with ThreadPoolExecutor(LOOKERS) as lookers:
        list(lookers.map(look, range(LOOKERS)))
    return late, seen


def test_every_key_present_at_every_sample_for_60_s(
    hosts: HostFactory, etcd: Etcd, namespace: bytes
) -> None:
    """Hosts in C++ and Python tick every 100 ms; TTL 5 s; a look every 50 ms. Between them:
    etcd's own history has no change of any key in all that time."""
    agents = {b"alpha": hosts("cpp"), b"beta": hosts("python")}
    for name, host in agents.items():
        host.do("drive", mode="period", period=100)
        alive(host, etcd, namespace, name=name)
    keys = etcd.gateway.keys(namespace)
    assert len(keys) == 8
    leases = [host.stats()["lease_id"] for host in agents.values()]
    first = etcd.gateway.revision() + 1
    late, seen = look_all_the_time(etcd, namespace)
    found = sum(seen, Counter())
    missed = {key: SAMPLES - found[key] for key in keys}
    slow = [seconds for seconds in late if seconds > LATE]
    print(f"{SAMPLES} looks, the latest by {max(late) * 1000:.0f} ms, {len(slow)} later than 50 ms")
    assert missed == dict.fromkeys(keys, 0), "looks that did not find the key"
    assert set(found) == set(keys)
    assert len(slow) <= LATE_SAMPLES, sorted(slow)
    assert etcd.gateway.history(namespace, first, etcd.gateway.revision()) == []
    assert [host.stats()["lease_id"] for host in agents.values()] == leases
    for host in agents.values():
        stats = host.stats()
        assert stats["leases_lost"] == 0
        # Each second, less up to 20 % of jitter; a busy machine makes fewer, or repeats one.
        assert 40 <= stats["renewals"] <= 80 + stats["renewals_unanswered"]
        assert host.events() == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_host_that_stops_ticking(
    hosts: HostFactory, etcd: Etcd, namespace: bytes, language: str
) -> None:
    """It loses its keys within TTL + 2 s and has them back 1 s after it ticks again; it gets LOST
    and RESTORED in this order, the peer GONE and RETURNED."""
    host, peer = hosts(language), hosts()
    host.do("drive", mode="period", period=100)
    keys = alive(host, etcd, namespace)
    first = host.stats()["lease_id"]
    peer.open(etcd.endpoint, namespace)
    watch = peer.start("watch", agent=b"alpha")
    peer.event("SYNCED", watch=watch)
    host.do("stall")
    stalled = time.monotonic()
    gone = wait_for_keys(etcd, namespace, [], TTL + 2)
    assert gone - stalled > 1, "it was lost long before its TTL"
    peer.event("GONE", watch=watch, within=1)
    mark = peer.mark()
    host.do("resume")
    resumed = time.monotonic()
    assert wait_for_keys(etcd, namespace, keys, 1) - resumed < scaled(1)
    host.event("RESTORED", within=1)
    assert host.names() == ["LOST", "RESTORED"]
    stats = host.stats()
    assert (stats["leases_lost"], stats["restores"]) == (1, 1)
    assert stats["lease_id"] != first
    assert stats["lease_id"] >> 16 == first >> 16, "another incarnation"
    values = {kv.key: (kv.value, kv.lease) for kv in etcd.gateway.range(namespace)}
    assert values == {
        key: (b"b" + key[-1:] if key[-2:-1] == b"l" else b"", stats["lease_id"]) for key in keys
    }
    for number in range(3):
        peer.event("PUT", watch=watch, label=b"l%d" % number, since=mark)
    returned = peer.event("RETURNED", watch=watch, since=mark)
    assert returned["incarnation"] == first >> 16
    assert "RESTARTED" not in peer.names()


def test_lease_revoked_by_an_operator(hosts: HostFactory, etcd: Etcd, namespace: bytes) -> None:
    """Lost while the process lives and ticks: back at once, and the second time after a pause."""
    host = hosts()
    keys = alive(host, etcd, namespace, labels=250)
    for pause in (0, RESTORE_PAUSE):
        mark = host.mark()
        etcd.gateway.revoke(host.stats()["lease_id"])
        lost = host.event("LOST", since=mark, within=3)
        restored = host.event("RESTORED", since=mark, within=pause + 1)
        assert (restored["t"] - lost["t"]) / 1e9 >= pause
        assert etcd.gateway.keys(namespace) == keys
        assert {kv.lease for kv in etcd.gateway.range(namespace)} == {host.stats()["lease_id"]}
    assert host.names() == ["LOST", "RESTORED"] * 2


def test_start_reports_the_granted_ttl(hosts: HostFactory, etcd: Etcd, namespace: bytes) -> None:
    host = hosts()
    host.open(etcd.endpoint, namespace, agent=b"alpha")
    done = host.succeed("start_heartbeat", interval=200, ttl=1000)
    granted = etcd.gateway.call("/v3/lease/timetolive", {"ID": str(host.stats()["lease_id"])})[
        "grantedTTL"
    ]
    assert done["ttl_ms"] == int(granted) * 1000
    assert host.stats()["lease_ttl_ms"] == done["ttl_ms"]
    assert done["ttl_ms"] >= 2000


@pytest.mark.parametrize(
    ("interval", "ttl", "granted"),
    [(0, 0, 15_000), (0, 9000, 9000), (3000, 0, 9000), (1000, 5001, 6000), (4999, 5000, 5000)],
)
def test_start_without_times_takes_the_defaults(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes, interval: int, ttl: int, granted: int
) -> None:
    host = hosts()
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    done = host.succeed("start_heartbeat", interval=interval, ttl=ttl)
    assert done["ttl_ms"] == granted


def watching(host: Host, etcd: Etcd, namespace: bytes) -> tuple[int, int]:
    """A watch of agent alpha that tells labels, and one that tells only its presence."""
    host.open(etcd.endpoint, namespace)
    labels = host.start("watch", agent=b"alpha")
    presence = host.start("watch", agent=b"alpha", flags=capi.WATCH_PRESENCE_ONLY)
    for watch in (labels, presence):
        host.event("SYNCED", watch=watch)
    return labels, presence


def check_nothing_told(
    host: Host, etcd: Etcd, namespace: bytes, watches: tuple[int, int], mark: int
) -> None:
    """The agent moves to another lease: each of its labels is reported by PUT with its blob."""
    revision = etcd.gateway.put(namespace + b"/alpha/end", b"end")
    host.event("PUT", watch=watches[0], label=b"end", revision=revision, since=mark)
    etcd.gateway.delete(namespace + b"/alpha/end")
    told = [line for line in host.events(mark) if line["label"] != b"end".hex()]
    assert {(line["event"], line["watch"]) for line in told} <= {("PUT", watches[0])}
    counts = Counter(line["label"] for line in told)
    assert set(counts.values()) <= {1}, counts
    before = {line["label"]: line["blob"] for line in host.log.lines[:mark] if line.get("blob")}
    assert all(line["blob"] == before[line["label"]] for line in told)


def test_start_after_publish(hosts: HostFactory, etcd: Etcd, namespace: bytes) -> None:
    """The keys move onto the lease without a gap; peers get no event."""
    host, peer = hosts(), hosts()
    host.open(etcd.endpoint, namespace, agent=b"alpha")
    ops = host.do("publish", label=b"l", blob=b"b", repeat=250)["ops"]
    host.completions(ops, within=15)
    permanent = one_lease(etcd, namespace, is_renewed=False)
    watches = watching(peer, etcd, namespace)
    mark = peer.mark()
    host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
    assert len(etcd.gateway.range(namespace)) == 251
    assert one_lease(etcd, namespace, is_renewed=True) == host.stats()["lease_id"]
    assert host.stats()["lease_id"] >> 16 == permanent >> 16, "another incarnation"
    check_nothing_told(peer, etcd, namespace, watches, mark)
    wait_for_leases(etcd, permanent, "the lease that never ends is left behind")
    assert host.events() == []


def wait_for_leases(etcd: Etcd, gone: int, text: str) -> None:
    deadline = time.monotonic() + scaled(3)
    while gone in etcd.gateway.leases():
        assert time.monotonic() < deadline, text
        time.sleep(0.02)


def test_stop_and_keep(hosts: HostFactory, etcd: Etcd, namespace: bytes) -> None:
    """The keys move onto a lease that never ends, and outlive the process; peers get no event."""
    host, peer = hosts(), hosts()
    keys = alive(host, etcd, namespace)
    lease = host.stats()["lease_id"]
    watches = watching(peer, etcd, namespace)
    mark = peer.mark()
    host.succeed("stop_heartbeat", mode=capi.HEARTBEAT_KEEP)
    assert etcd.gateway.keys(namespace) == keys
    permanent = one_lease(etcd, namespace, is_renewed=False)
    assert permanent >> 16 == lease >> 16, "another incarnation"
    assert lease not in etcd.gateway.leases()
    assert host.stats()["lease_id"] == 0
    check_nothing_told(peer, etcd, namespace, watches, mark)
    host.succeed("publish", label=b"later", blob=b"b")
    assert one_lease(etcd, namespace, is_renewed=False) == permanent
    # And once more onto a lease that is renewed.
    mark = peer.mark()
    host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
    assert one_lease(etcd, namespace, is_renewed=True) == host.stats()["lease_id"]
    wait_for_leases(etcd, permanent, "the lease that never ends is left behind")
    check_nothing_told(peer, etcd, namespace, watches, mark)
    assert host.events() == []


def test_stop_and_withdraw(hosts: HostFactory, etcd: Etcd, namespace: bytes) -> None:
    host, peer = hosts("python"), hosts()
    alive(host, etcd, namespace)
    lease = host.stats()["lease_id"]
    peer.open(etcd.endpoint, namespace)
    watch = peer.start("watch", agent=b"alpha")
    peer.event("SYNCED", watch=watch)
    host.succeed("stop_heartbeat", mode=capi.HEARTBEAT_WITHDRAW)
    assert etcd.gateway.keys(namespace) == []
    assert lease not in etcd.gateway.leases()
    peer.event("GONE", watch=watch)
    assert host.events() == []


def test_stop_without_a_heartbeat(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    """NOT_FOUND while the heartbeat is off; SUCCESS where nothing was published or its lease was
    never granted."""
    host = hosts()
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    for mode in (capi.HEARTBEAT_KEEP, capi.HEARTBEAT_WITHDRAW):
        assert host.finish("stop_heartbeat", mode=mode)["status"] == capi.NOT_FOUND
        host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
        lease = host.stats()["lease_id"]
        host.succeed("stop_heartbeat", mode=mode)
        assert lease not in etcd34.gateway.leases()
        host.do("drive", mode="hand")
        start = host.start("start_heartbeat", interval=1000, ttl=TTL * 1000)
        stop = host.start("stop_heartbeat", mode=mode)
        host.do("drive", mode="efd")
        assert host.done(stop)["status"] == capi.SUCCESS
        assert host.done(start)["status"] == capi.CANCELED
        assert host.stats()["lease_id"] == 0


def test_start_while_it_is_on(hosts: HostFactory, etcd: Etcd, namespace: bytes) -> None:
    """It waits with the first, or changes interval and TTL: another TTL is another lease, the
    process is the same."""
    host, peer = hosts(), hosts()
    host.open(etcd.endpoint, namespace, agent=b"alpha")
    host.do("drive", mode="hand")
    ops = [host.start("start_heartbeat", interval=1000, ttl=TTL * 1000) for _ in range(3)]
    host.do("drive", mode="efd")
    assert [host.done(op)["ttl_ms"] for op in ops] == [TTL * 1000] * 3
    lease = host.stats()["lease_id"]
    host.succeed("publish", label=b"l", blob=b"b")
    watches = watching(peer, etcd, namespace)
    # The interval alone.
    host.succeed("start_heartbeat", interval=100, ttl=TTL * 1000)
    before = host.stats()
    time.sleep(1)
    after = host.stats()
    assert after["lease_id"] == lease
    assert after["renewals"] - before["renewals"] >= 3, "one each second, as before"
    mark = peer.mark()
    assert host.succeed("start_heartbeat", interval=1000, ttl=9000)["ttl_ms"] == 9000
    other = one_lease(etcd, namespace, is_renewed=True)
    assert other == host.stats()["lease_id"] != lease
    assert granted_ttl(etcd.gateway, other) == 9
    assert other >> 16 == lease >> 16
    wait_for_leases(etcd, lease, "the lease before it is left behind")
    check_nothing_told(peer, etcd, namespace, watches, mark)
    assert host.events() == []


def test_start_while_a_stop_waits(hosts: HostFactory, own_etcd: EtcdFactory) -> None:
    etcd = own_etcd()
    host = hosts()
    alive(host, etcd, b"/ns/")
    etcd.freeze()
    stop = host.start("stop_heartbeat", mode=capi.HEARTBEAT_KEEP, timeout=30_000)
    time.sleep(0.2)  # a tick has taken it up
    start = host.start("start_heartbeat", interval=1000, ttl=TTL * 1000, timeout=30_000)
    done = host.done(stop)
    assert (done["status"], bool(done["text"])) == (capi.REPLACED, True)
    etcd.thaw()
    assert host.done(start)["status"] == capi.SUCCESS
    assert one_lease(etcd, b"/ns/", is_renewed=True) == host.stats()["lease_id"]
    assert len(etcd.gateway.keys(b"/ns/")) == 4
    assert "WITHDRAWN" not in host.names()


@pytest.mark.parametrize("how", ["time-out", "cancel"])
def test_start_that_ends_unfinished_leaves_the_heartbeat_on(
    hosts: HostFactory, own_etcd: EtcdFactory, how: str
) -> None:
    """It ends the waiting, not the mode: what was published moves onto the lease, what is published
    waits for it."""
    etcd = own_etcd()
    host = hosts()
    host.open(etcd.endpoint, b"/ns/", agent=b"alpha")
    host.succeed("publish", label=b"l", blob=b"b")
    permanent = one_lease(etcd, b"/ns/", is_renewed=False)
    etcd.freeze()
    timeout = 300 if how == "time-out" else 60_000
    op = host.start("start_heartbeat", interval=1000, ttl=TTL * 1000, timeout=timeout)
    if how == "cancel":
        time.sleep(0.2)
        host.do("cancel", op=op)
    wanted = {"time-out": capi.TIMED_OUT, "cancel": capi.CANCELED}[how]
    assert host.done(op)["status"] == wanted
    waiting = host.start("publish", label=b"m", blob=b"b", timeout=60_000)
    etcd.thaw()
    etcd.wait_healthy()
    assert host.done(waiting)["status"] == capi.SUCCESS
    first = etcd.gateway.history(b"/ns/", 1, etcd.gateway.revision())
    assert {c.kv.lease for c in first if c.kv.key.endswith(b"/m")} == {host.stats()["lease_id"]}
    wait_for_leases(etcd, permanent, "the lease that never ends is left behind")
    assert one_lease(etcd, b"/ns/", is_renewed=True) == host.stats()["lease_id"]
    # A start that comes late is granted what there is.
    assert host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)["ttl_ms"] == TTL * 1000
    host.kill()
    wait_for_keys(etcd, b"/ns/", [], TTL + 2)


def test_next_lease_comes_with_the_next_publish(
    hosts: HostFactory, etcd: Etcd, namespace: bytes
) -> None:
    """After an invalidate the heartbeat stays on, without a lease until something is to hang on
    it."""
    host = hosts()
    alive(host, etcd, namespace)
    lease = host.stats()["lease_id"]
    host.succeed("invalidate")
    assert lease not in etcd.gateway.leases()
    time.sleep(0.5)
    assert host.stats()["lease_id"] == 0
    host.succeed("publish", label=b"l", blob=b"b")
    assert one_lease(etcd, namespace, is_renewed=True) == host.stats()["lease_id"]
    assert host.stats()["lease_id"] >> 16 == lease >> 16
    host.succeed("invalidate")
    host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
    assert granted_ttl(etcd.gateway, host.stats()["lease_id"]) == TTL
    assert host.events() == []
