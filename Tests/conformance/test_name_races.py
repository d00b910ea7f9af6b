# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Two processes that want one name, seen from the outside: every change of the presence key."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

import capi
from conftest import EtcdFactory, HostFactory
from etcd_server import Etcd
from gateway import Change
from hosts import Host
from leases import ABSENCE, one_lease
from memcheck import scaled
from proxy import Proxy
from small_etcd import varint

LANGUAGES = ("cpp", "python")
NS = b"/ns/"
TTL = 5
RACES = 200
AT_ONCE = 20
LABELS = 3


@contextmanager
def delayed(etcd: Etcd, random_source: random.Random) -> Iterator[Proxy]:
    """A path to etcd on which everything takes up to 80 ms, mostly less than 10; each time is drawn
    again."""
    proxy = Proxy(etcd.port, lambda: random_source.random() ** 4 * 0.08)
    try:
        yield proxy
    finally:
        proxy.close()


@dataclass
class Racer:
    """One incarnation of a name: handle `h` of a host process, and what it has started."""

    host: Host
    h: int
    ops: list[int] = field(default_factory=list)

    @property
    def mark(self) -> bytes:
        """Marks its blobs, so that they differ from the other agent's."""
        return b"%d" % self.host.pid

    def prepare(self, endpoint: str, name: bytes) -> None:
        """Connected and with a lease; the name is claimed by the first publish."""
        self.host.open(endpoint, NS, agent=name, h=self.h)
        self.ops = [self.host.start("start_heartbeat", interval=1000, ttl=TTL * 1000, h=self.h)]

    def go(self) -> None:
        self.publish(LABELS)
        # A label of its own: what a loser leaves behind must not stand under the winner.
        own = {"label": self.mark, "blob": self.mark, "h": self.h}
        self.ops.append(self.host.start("publish", **own))

    def publish(self, count: int) -> None:
        values = {"label": b"l", "blob": self.mark, "repeat": count, "h": self.h}
        self.ops += self.host.do("publish", **values)["ops"]

    def statuses(self) -> set[int]:
        return {self.host.done(op, 15, self.h)["status"] for op in self.ops}

    def told(self) -> list[str]:
        return self.host.names(h=self.h)

    def lease(self) -> int:
        return int(self.host.stats(self.h)["lease_id"])


def holders(changes: list[Change], key: bytes) -> list[int]:
    """The incarnations that held a key, one after the other."""
    puts = [c.kv.lease >> 16 for c in changes if c.kv.key == key and not c.is_delete]
    return [incarnation for incarnation, _ in itertools.groupby(puts)]


class Race:
    """Two incarnations of one name; where one was there before, the second is the newcomer."""

    def __init__(self, etcd: Etcd, name: bytes, first: Racer, second: Racer) -> None:
        self.etcd = etcd
        self.name = name
        self.first = first
        self.second = second
        self.prefix = NS + b"/" + name + b"/"

    def check(self, begin: int, kind: str) -> None:
        """One owner remains, the newcomer. No key went back to an agent that had lost it; every
        label that is left is the owner's, and the other agent has been notified."""
        was_there = kind != "same moment"
        outcome = {racer.mark: racer.statuses() for racer in (self.first, self.second)}
        stored = self.etcd.gateway.range(self.prefix)
        winner, loser = self.first, self.second
        if was_there or stored[-1].lease == self.second.lease():
            winner, loser = self.second, self.first
        # An agent that never had the name is refused it after three conflicts.
        if capi.NOT_ALLOWED not in outcome[loser.mark]:
            loser.host.event("SUPERSEDED", h=loser.h, within=5)
        text = f"{self.name!r}: {outcome}, {self.first.told()}, {self.second.told()}"
        assert outcome[winner.mark] == {capi.SUCCESS}, text
        assert winner.told() == [], text
        assert loser.told()[-1:] in (["SUPERSEDED"], []), text
        stored = self.etcd.gateway.range(self.prefix)
        labels = [self.prefix + b"l%d" % number for number in range(LABELS)]
        assert [kv.key for kv in stored] == [self.prefix, self.prefix + winner.mark, *labels], text
        assert {kv.value for kv in stored[1:]} == {winner.mark}, text
        assert {kv.lease for kv in stored} == {winner.lease()}, text
        changes = self.etcd.gateway.history(self.prefix, begin, self.etcd.gateway.revision())
        for key in (self.prefix, *labels):
            held = holders(changes, key)
            assert held[-1] == winner.lease() >> 16, f"{key!r} was held by {held}; {text}"
            assert len(held) == len(set(held)) <= 2, f"{key!r} was held by {held}; {text}"
        # Only an agent that keeps publishing may claim again what looks withdrawn.
        puts = [c for c in changes if c.kv.key == self.prefix and not c.is_delete]
        assert kind == "busy" or len(puts) <= 2, f"put {len(puts)} times; {text}"


def race(
    kind: str, etcd: Etcd, endpoint: str, olds: list[Racer], news: list[Racer], names: list[bytes]
) -> None:
    """Runs as many races at once as there are names."""
    begin = etcd.gateway.revision() + 1
    old_host, new_host = olds[0].host, news[0].host
    for racers in (olds, news):
        for racer, name in zip(racers, names, strict=True):
            racer.prepare(endpoint, name)
        assert all(racer.statuses() == {capi.SUCCESS} for racer in racers)
    new_host.do("drive", mode="hand")
    if kind == "same moment":
        old_host.do("drive", mode="hand")
    for old in olds:
        old.go()
    if kind != "same moment":
        assert all(old.statuses() == {capi.SUCCESS} for old in olds)
    for new in news:
        new.go()
    if kind == "stalled":
        old_host.do("stall")
    new_host.do("drive", mode="efd")
    if kind == "same moment":
        old_host.do("drive", mode="efd")
    elif kind == "busy":
        for _ in range(25):
            for old in olds:
                old.publish(1)
    elif kind == "stalled":
        for new in news:
            new.statuses()
        old_host.do("resume")
    for name, old, new in zip(names, olds, news, strict=True):
        Race(etcd, name, old, new).check(begin, kind)


def test_200_takeovers_leave_one_owner_each(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str
) -> None:
    """Both start at the same moment, or one is there and idle, publishing, or stalled."""
    etcd = own_etcd(version)
    random_source = random.Random(version)
    kinds = ["same moment", "busy", "same moment", "idle", "stalled"]
    with delayed(etcd, random_source) as proxy:
        for number in range(RACES // AT_ONCE):
            pair = [hosts(), hosts("python")]
            random_source.shuffle(pair)
            olds, news = ([Racer(host, h) for h in range(AT_ONCE)] for host in pair)
            names = [b"race%d-%d" % (number, h) for h in range(AT_ONCE)]
            race(kinds[number % len(kinds)], etcd, proxy.endpoint, olds, news, names)
            for host in pair:
                host.quit()


def test_rolling_restart_of_ten_processes_leaves_the_last(
    hosts: HostFactory, etcd: Etcd, namespace: bytes
) -> None:
    """A rolling restart of ten processes, each started while the one before lives."""
    peer = hosts()
    peer.open(etcd.endpoint, namespace)
    watch = peer.start("watch", agent=b"alpha")
    begin = etcd.gateway.revision() + 1
    agents: list[Host] = []
    for number in range(10):
        agent = hosts()
        agent.open(etcd.endpoint, namespace, agent=b"alpha")
        agent.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
        agent.succeed("publish", label=b"l", blob=b"%d" % number)
        if agents:
            # The old one goes the ordinary way, as soon as the new one is there.
            agents[-1].do("shutdown", drain=2000)
            agents[-1].line("shut_down", within=3)
        agents.append(agent)
    stored = etcd.gateway.range(namespace)
    assert [kv.value for kv in stored] == [b"", b"9"]
    changes = etcd.gateway.history(namespace, begin, stored[-1].mod_revision)
    assert len(holders(changes, namespace + b"/alpha/")) == 10
    peer.event("PUT", watch=watch, blob=b"9")
    assert peer.names(watch=watch).count("RESTARTED") == 9


def live(host: Host, endpoint: str, blob: bytes, leased: bool) -> None:
    host.open(endpoint, NS, agent=b"alpha")
    if leased:
        host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
    host.succeed("publish", label=b"l", blob=blob)


def wait_for(is_reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + scaled(3)
    while not is_reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("leased", [True, False])
@pytest.mark.parametrize("call", ["shutdown", "invalidate", "publish", "unpublish"])
def test_write_of_a_replaced_process_changes_nothing(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str, language: str, leased: bool, call: str
) -> None:
    """Requests that the old agent sent, unaware, arrive when the new one has the name: no change. A
    write completes with SUPERSEDED; a withdrawal, which revokes the old agent's own lease,
    succeeds."""
    etcd = own_etcd(version)
    proxy = Proxy(etcd.port)
    try:
        old, new = hosts(language), hosts()
        live(old, proxy.endpoint, b"old", leased)
        lease = one_lease(etcd, NS, is_renewed=leased)
        proxy.hold(requests=True)
        values = {"drain": 3000} if call == "shutdown" else {"label": b"l", "blob": b"late"}
        answer = old.do(call, **values)
        is_withdrawal = call in ("shutdown", "invalidate")
        # A transaction names the presence key, in its guard, a revocation the lease.
        sign = varint(lease) if is_withdrawal else NS + b"/alpha/"
        wait_for(lambda: sign in proxy.held())
        live(new, etcd.endpoint, b"new", leased)
        mine = etcd.gateway.range(NS)
        method = "LeaseRevoke" if is_withdrawal else "Txn"
        arrived = etcd.gateway.answered(method)
        proxy.release()
        wait_for(lambda: etcd.gateway.answered(method) > arrived)
        assert etcd.gateway.range(NS) == mine
        assert [kv.value for kv in mine] == [b"", b"new"]
        if call == "shutdown":
            old.line("shut_down", within=4)
        else:
            wanted = capi.SUCCESS if is_withdrawal else capi.SUPERSEDED
            assert old.done(answer["ops"][0])["status"] == wanted
        if not is_withdrawal:
            old.event("SUPERSEDED", within=3)
        time.sleep(0.3)
        assert etcd.gateway.range(NS) == mine
        assert new.events() == []
    finally:
        proxy.close()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("leased", [True, False])
def test_self_watch_notices_takeover_and_removal(
    hosts: HostFactory, etcd: Etcd, namespace: bytes, language: str, leased: bool
) -> None:
    """An agent without a call, whose next renewal is far away, still learns within 1 s that it was
    taken over, or within 1 s after the second in which another's key may follow that it was
    withdrawn."""
    host, other = hosts(language), hosts()
    for agent in (host, other):
        agent.open(etcd.endpoint, namespace, agent=b"alpha")
    if leased:
        host.succeed("start_heartbeat", interval=60_000, ttl=180_000)
    host.succeed("publish", label=b"l", blob=b"1")
    time.sleep(0.3)
    before = host.stats()
    time.sleep(0.5)
    assert host.stats()["requests"] == before["requests"], "it is not idle"
    removed = time.monotonic()
    assert etcd.gateway.delete_prefix(namespace) == 2
    withdrawn = host.event("WITHDRAWN", within=ABSENCE + 1)["t"] / 1e9 - removed
    assert ABSENCE <= withdrawn < ABSENCE + scaled(1)
    host.succeed("publish", label=b"l", blob=b"2")
    other.succeed("publish", label=b"l", blob=b"3")
    taken = time.monotonic()
    assert host.event("SUPERSEDED", within=1)["t"] / 1e9 - taken < scaled(1)
    assert host.stats()["renewals"] == before["renewals"]
    assert other.events() == []
