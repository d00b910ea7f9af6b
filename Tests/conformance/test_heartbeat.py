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
    """It loses its keys within TTL + 2 s, has them back 1 s after it ticks again, is told LOST and
    RESTORED in order; the peer is told GONE and RETURNED."""
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


def test_lease_revoked_by_somebody(hosts: HostFactory, etcd: Etcd, namespace: bytes) -> None:
    """Lost while the process lives and ticks: back at once."""
    host = hosts()
    keys = alive(host, etcd, namespace, labels=250)
    for _ in range(2):
        mark = host.mark()
        etcd.gateway.revoke(host.stats()["lease_id"])
        host.event("LOST", since=mark, within=3)
        host.event("RESTORED", since=mark, within=1)
        assert etcd.gateway.keys(namespace) == keys
        assert {kv.lease for kv in etcd.gateway.range(namespace)} == {host.stats()["lease_id"]}
    assert host.names() == ["LOST", "RESTORED"] * 2


def test_ttl_as_granted(hosts: HostFactory, etcd: Etcd, namespace: bytes) -> None:
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
def test_defaults(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes, interval: int, ttl: int, granted: int
) -> None:
    host = hosts()
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    done = host.succeed("start_heartbeat", interval=interval, ttl=ttl)
    assert done["ttl_ms"] == granted


def test_start_after_publish(hosts: HostFactory, etcd: Etcd, namespace: bytes) -> None:
    """Permanent keys move onto the lease; peers see RESTARTED, keys are there all the time."""
    host, peer = hosts(), hosts()
    host.open(etcd.endpoint, namespace, agent=b"alpha")
    ops = host.do("publish", label=b"l", blob=b"b", repeat=250)["ops"]
    host.completions(ops, within=15)
    peer.open(etcd.endpoint, namespace)
    watch = peer.start("watch", agent=b"alpha")
    peer.event("SYNCED", watch=watch)
    host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
    found = etcd.gateway.range(namespace)
    assert len(found) == 251
    assert {kv.lease for kv in found} == {host.stats()["lease_id"]}
    peer.event("RESTARTED", watch=watch)
    assert "GONE" not in peer.names()
    assert "DELETE" not in peer.names()


def test_stop_and_keep(hosts: HostFactory, etcd: Etcd, namespace: bytes) -> None:
    host, peer = hosts(), hosts()
    keys = alive(host, etcd, namespace)
    lease = host.stats()["lease_id"]
    peer.open(etcd.endpoint, namespace)
    watch = peer.start("watch", agent=b"alpha")
    peer.event("SYNCED", watch=watch)
    host.succeed("stop_heartbeat", mode=capi.HEARTBEAT_KEEP)
    assert {kv.key: kv.lease for kv in etcd.gateway.range(namespace)} == dict.fromkeys(keys, 0)
    assert lease not in etcd.gateway.leases()
    assert host.stats()["lease_id"] == 0
    peer.event("RESTARTED", watch=watch)
    assert "GONE" not in peer.names()
    host.succeed("publish", label=b"later", blob=b"b")
    assert {kv.lease for kv in etcd.gateway.range(namespace)} == {0}
    # And once more onto a lease.
    host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
    assert {kv.lease for kv in etcd.gateway.range(namespace)} == {host.stats()["lease_id"]}
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


def test_only_one_runs(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    host = hosts()
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    none = host.finish("stop_heartbeat", mode=capi.HEARTBEAT_KEEP)
    assert none["status"] == capi.NOT_FOUND
    host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
    lease = host.stats()["lease_id"]
    second = host.finish("start_heartbeat", interval=1000, ttl=TTL * 1000)
    assert second["status"] == capi.NOT_ALLOWED
    assert second["text"]
    assert host.stats()["lease_id"] == lease
    assert etcd34.gateway.time_to_live(lease) > 0


def test_start_that_times_out_leaves_none(hosts: HostFactory, own_etcd: EtcdFactory) -> None:
    etcd = own_etcd()
    host = hosts()
    host.open(etcd.endpoint, b"/ns/", agent=b"alpha")
    host.succeed("publish", label=b"l", blob=b"b")
    etcd.freeze()
    done = host.finish("start_heartbeat", interval=1000, ttl=TTL * 1000, timeout=300)
    assert done["status"] == capi.TIMED_OUT
    etcd.thaw()
    etcd.wait_healthy()
    host.succeed("publish", label=b"m", blob=b"b", within=10)
    deadline = time.monotonic() + scaled(5)
    while etcd.gateway.leases():
        assert time.monotonic() < deadline, "a lease was left behind"
        time.sleep(0.05)
    assert {kv.lease for kv in etcd.gateway.range(b"/ns/")} == {0}
    host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
