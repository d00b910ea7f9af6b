# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""etcd killed, frozen, wiped, compacted or not there at all."""

from __future__ import annotations

import time

import pytest

import capi
from conftest import EtcdFactory, HostFactory
from hosts import TICK_WALL_LIMIT_NS, Host
from leases import one_lease
from memcheck import scaled
from proxy import Proxy
from writer import Writer

LANGUAGES = ("cpp", "python")
NS = b"/ns/"
TTL = 5


def live(host: Host, endpoints: str, agent: bytes = b"alpha", **values: object) -> None:
    host.open(endpoints, NS, agent=agent, **values)
    host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
    host.succeed("publish", label=b"metadata", blob=b"1")


def synced(host: Host, endpoints: str, **values: object) -> int:
    if not host.open_handles:
        host.open(endpoints, NS)
    watch = host.start("watch", **values)
    host.event("SYNCED", watch=watch)
    return watch


@pytest.mark.parametrize("language", LANGUAGES)
def test_killed_and_restarted_with_the_same_data(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str, language: str
) -> None:
    """Nothing lost, nothing twice, within 1 s of its being healthy; the lease survives."""
    etcd = own_etcd(version)
    peer, agent = hosts(language), hosts()
    live(agent, etcd.endpoint)
    lease = agent.stats()["lease_id"]
    watch = synced(peer, etcd.endpoint, agent=b"busy")
    first = etcd.gateway.revision() + 1
    with Writer([etcd], NS + b"/busy/l"):
        for _ in range(2):
            time.sleep(0.5)
            etcd.kill()
            time.sleep(0.3)
            healthy = etcd.start().wait_healthy()
            revision = etcd.gateway.put(NS + b"/busy/after", b"%f" % healthy)
            back = peer.event("PUT", watch=watch, label=b"after", revision=revision, within=2)
            assert back["t"] / 1e9 - healthy < scaled(1.0)
            time.sleep(0.5)
    last = etcd.gateway.put(NS + b"/busy/end", b"end")
    peer.event("PUT", watch=watch, label=b"end")
    expected = [
        (change.revision, change.kv.value) for change in etcd.gateway.history(NS, first, last)
    ]
    told = [
        (line["revision"], bytes.fromhex(line["blob"]))
        for line in peer.events(watch=watch, event="PUT")
    ]
    assert told == expected
    assert len(told) > 50
    assert not {"RESYNC", "GONE", "RESTARTED"} & set(peer.names())
    assert agent.stats()["lease_id"] == lease
    assert agent.events() == []
    agent.succeed("publish", label=b"metadata", blob=b"2")


def test_everything_works_after_a_restart_of_etcd(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str
) -> None:
    """Publish, fetch and list that were made while etcd was down."""
    etcd = own_etcd(version)
    host = hosts()
    live(host, etcd.endpoint)
    host.succeed("publish", label=b"old", blob=b"b")
    waiting = host.start("fetch", agent=b"later", timeout=30_000)
    etcd.kill()
    time.sleep(0.5)
    ops = [
        host.start("publish", label=b"down", blob=b"b", timeout=20_000),
        host.start("fetch", agent=b"alpha", timeout=20_000),
        host.start("list", timeout=20_000),
        host.start("unpublish", label=b"old", timeout=20_000),
    ]
    impatient = host.start("publish", label=b"impatient", blob=b"b", timeout=300)
    assert host.done(impatient)["status"] == capi.TIMED_OUT
    healthy = etcd.start().wait_healthy()
    for op in ops:
        done = host.done(op)
        assert done["status"] == capi.SUCCESS, done
        assert done["t"] / 1e9 - healthy < scaled(1.0)
    etcd.gateway.put(NS + b"/later/metadata", b"b")
    assert host.done(waiting)["status"] == capi.SUCCESS


def test_etcd_down_at_open_then_started(hosts: HostFactory, own_etcd: EtcdFactory) -> None:
    """Open succeeds; watches get CONTACT_LOST, and CONTACT_REGAINED when etcd is there."""
    etcd = own_etcd.unstarted()
    host = hosts()
    host.open(etcd.endpoint, NS, agent=b"alpha")
    heartbeat = host.start("start_heartbeat", interval=1000, ttl=5000, timeout=30_000)
    publish = host.start("publish", label=b"l", blob=b"b", timeout=30_000)
    watch = host.start("watch", agent=b"beta")
    lost = host.event("CONTACT_LOST", watch=watch, within=5)
    assert lost["text"]
    assert host.stats()["connected"] == 0
    healthy = etcd.start().wait_healthy()
    host.event("SYNCED", watch=watch, within=3)
    assert host.names(watch=watch) == ["CONTACT_LOST", "CONTACT_REGAINED", "SYNCED"]
    assert host.done(heartbeat)["status"] == capi.SUCCESS
    assert host.done(publish)["status"] == capi.SUCCESS
    assert host.done(publish)["t"] / 1e9 - healthy < scaled(1.0)
    assert host.stats()["connected"] == 1


def test_contact_lost_and_regained(hosts: HostFactory, own_etcd: EtcdFactory, version: str) -> None:
    etcd = own_etcd(version)
    peer = hosts()
    watch = synced(peer, etcd.endpoint, agent=b"beta")
    whole = synced(peer, etcd.endpoint)
    etcd.kill()
    for each in (watch, whole):
        peer.event("CONTACT_LOST", watch=each, within=5)
    healthy = etcd.start().wait_healthy()
    for each in (watch, whole):
        regained = peer.event("CONTACT_REGAINED", watch=each, within=3)
        assert regained["t"] / 1e9 - healthy < scaled(1.0)
    etcd.gateway.put(NS + b"/beta/l", b"b")
    peer.event("PUT", watch=watch, label=b"l", within=2)
    peer.event("PRESENT", watch=whole, agent=b"beta", within=2)
    assert peer.names(watch=watch) == [
        "SYNCED",
        "CONTACT_LOST",
        "CONTACT_REGAINED",
        "PRESENT",
        "PUT",
    ]


def test_short_interruption_causes_no_event(hosts: HostFactory, own_etcd: EtcdFactory) -> None:
    etcd = own_etcd()
    proxy = Proxy(etcd.port)
    try:
        peer = hosts()
        watch = synced(peer, proxy.endpoint, agent=b"beta")
        for number in range(3):
            proxy.cut()
            proxy.heal()
            etcd.gateway.put(NS + b"/beta/l", b"%d" % number)
            peer.event("PUT", watch=watch, blob=b"%d" % number, within=2)
        assert peer.names(watch=watch) == ["SYNCED", "PRESENT", "PUT", "PUT", "PUT"]
    finally:
        proxy.close()


def test_agents_that_change_while_contact_is_lost(
    hosts: HostFactory, own_etcd: EtcdFactory
) -> None:
    """Every change is reported afterwards, in order."""
    etcd = own_etcd()
    proxy = Proxy(etcd.port)
    try:
        peer, first, second = hosts("python"), hosts(), hosts()
        live(first, etcd.endpoint)
        watch = synced(peer, proxy.endpoint, agent=b"alpha")
        proxy.silence()
        first.do("shutdown", drain=2000)
        first.line("shut_down")
        live(second, etcd.endpoint)
        peer.event("CONTACT_LOST", watch=watch, within=10)
        proxy.heal()
        peer.event("PUT", watch=watch, count=2, within=10)
        names = peer.names(watch=watch)
        after = names.index("CONTACT_LOST") + 1
        assert names[after:] == ["CONTACT_REGAINED", "GONE", "RESTARTED", "PUT"]
    finally:
        proxy.close()


def test_silent_server_is_noticed(hosts: HostFactory, own_etcd: EtcdFactory) -> None:
    """No RST, no FIN: open streams alone would never notice. No tick blocks."""
    etcd = own_etcd()
    proxy = Proxy(etcd.port)
    try:
        peer = hosts()
        watch = synced(peer, proxy.endpoint, agent=b"beta")
        proxy.silence()
        etcd.gateway.put(NS + b"/beta/l", b"b")
        peer.event("CONTACT_LOST", watch=watch, within=12)
        proxy.heal()
        peer.event("PUT", watch=watch, label=b"l", within=6)
        assert peer.stats()["tick_wall_max_ns"] < TICK_WALL_LIMIT_NS
    finally:
        proxy.close()


@pytest.mark.parametrize("language", LANGUAGES)
def test_frozen_etcd_blocks_no_tick(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str, language: str
) -> None:
    """SIGSTOP for longer than TTL: every call returns at once, all goes on afterwards."""
    etcd = own_etcd(version)
    host = hosts(language)
    host.do("drive", mode="period", period=50)
    live(host, etcd.endpoint)
    watch = synced(host, etcd.endpoint, agent=b"beta")
    etcd.freeze()
    frozen = time.monotonic()
    op = host.start("publish", label=b"l", blob=b"b", timeout=30_000)
    slowest = 0.0
    while time.monotonic() - frozen < TTL + 2:
        before = time.monotonic()
        host.do("stats")
        slowest = max(slowest, time.monotonic() - before)
        time.sleep(0.05)
    etcd.thaw()
    etcd.wait_healthy()
    assert host.done(op)["status"] == capi.SUCCESS
    etcd.gateway.put(NS + b"/beta/l", b"b")
    host.event("PUT", watch=watch, label=b"l", within=5)
    host.event("CONTACT_REGAINED", watch=watch)
    deadline = time.monotonic() + scaled(5)
    keys = [NS + b"/alpha/", NS + b"/alpha/l", NS + b"/alpha/metadata", NS + b"/beta/l"]
    while etcd.gateway.keys(NS) != keys:
        assert time.monotonic() < deadline, etcd.gateway.keys(NS)
        time.sleep(0.05)
    assert slowest < scaled(0.9)
    assert host.stats()["tick_wall_max_ns"] < TICK_WALL_LIMIT_NS


def test_compaction_while_away_resyncs(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str
) -> None:
    """The missed history is compacted away: RESYNC, the differences, SYNCED."""
    etcd = own_etcd(version)
    proxy = Proxy(etcd.port)
    put = etcd.gateway.put
    try:
        for name in (b"stays", b"changes", b"leaves"):
            put(NS + b"/" + name + b"/", b"")
            put(NS + b"/" + name + b"/l", b"1")
        peer = hosts()
        watch = synced(peer, proxy.endpoint, flags=capi.WATCH_BLOBS)
        proxy.cut()
        put(NS + b"/changes/l", b"2")
        put(NS + b"/changes/new", b"2")
        etcd.gateway.delete_prefix(NS + b"/leaves/")
        put(NS + b"/comes/l", b"1")
        etcd.gateway.compact(etcd.gateway.revision())
        mark = peer.mark()
        proxy.heal()
        peer.event("RESYNC", watch=watch, since=mark, within=10)
        peer.event("SYNCED", watch=watch, since=mark)
        told = [
            (line["event"], bytes.fromhex(line["agent"]), bytes.fromhex(line["label"] or ""))
            for line in peer.events(mark, watch=watch)
            if line["agent"]
        ]
        assert sorted(told) == sorted(
            [
                ("PUT", b"changes", b"l"),
                ("PUT", b"changes", b"new"),
                ("GONE", b"leaves", b""),
                ("PRESENT", b"comes", b""),
                ("PUT", b"comes", b"l"),
            ]
        )
        put(NS + b"/stays/l", b"3")
        peer.event("PUT", watch=watch, agent=b"stays", blob=b"3", within=2)
    finally:
        proxy.close()


@pytest.mark.parametrize("leased", [True, False])
def test_store_replaced_restores_and_resyncs(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str, leased: bool
) -> None:
    """etcd comes back empty, with the same cluster id: keys come back, watches resynchronise."""
    etcd = own_etcd(version)
    agent, peer = hosts(), hosts()
    agent.open(etcd.endpoint, NS, agent=b"alpha")
    if leased:
        agent.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
    for number in range(20):
        agent.succeed("publish", label=b"l%d" % number, blob=b"b")
    etcd.gateway.put(NS + b"/stock/", b"")
    etcd.gateway.put(NS + b"/stock/l", b"1")
    watch = synced(peer, etcd.endpoint, flags=capi.WATCH_BLOBS)
    keys = [key for key in etcd.gateway.keys(NS) if b"/alpha/" in key]
    etcd.kill()
    etcd.wipe()
    etcd.start().wait_healthy()
    agent.event("RESTORED", within=5)
    assert agent.names() == ["LOST", "RESTORED"]
    assert etcd.gateway.keys(NS) == keys
    lease = one_lease(etcd, NS, is_renewed=leased)
    assert not leased or lease == agent.stats()["lease_id"]
    peer.event("RESYNC", watch=watch, within=5)
    peer.event("SYNCED", watch=watch, count=2, within=5)
    peer.event("GONE", watch=watch, agent=b"stock")
    agent.succeed("publish", label=b"l0", blob=b"after")
    peer.event("PUT", watch=watch, label=b"l0", blob=b"after", within=2)
    etcd.gateway.put(NS + b"/stock/", b"")
    peer.event("RESTARTED", watch=watch, agent=b"stock", within=2)


def test_store_replaced_with_a_higher_revision_is_noticed(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str
) -> None:
    """Its revision is past the known one already, but it lacks a lease that had time left."""
    etcd = own_etcd(version)
    host = hosts()
    etcd.gateway.put(NS + b"/stock/", b"")
    live(host, etcd.endpoint)
    watch = synced(host, etcd.endpoint)
    host.freeze()
    etcd.kill()
    etcd.wipe()
    etcd.start().wait_healthy()
    for number in range(30):
        etcd.gateway.put(b"/other", b"%d" % number)
    host.thaw()
    resync = host.event("RESYNC", watch=watch, within=5)
    assert "had" in resync["text"]
    host.event("GONE", watch=watch, agent=b"stock", within=5)
    host.event("RESTORED", within=5)
    assert etcd.gateway.keys(NS) == [NS + b"/alpha/", NS + b"/alpha/metadata"]


def test_drain_with_a_dead_etcd_runs_out_with_a_warning(
    hosts: HostFactory, own_etcd: EtcdFactory
) -> None:
    etcd = own_etcd()
    host = hosts()
    live(host, etcd.endpoint, log=1, log_level=4)
    etcd.kill()
    op = host.start("publish", label=b"l", blob=b"b")
    before = time.monotonic()
    host.do("shutdown", drain=1000)
    host.line("shut_down", within=5)
    assert 0.9 < time.monotonic() - before < 1 + scaled(2)
    assert host.done(op)["status"] == capi.CANCELED
    warnings = [line["line"] for line in host.lines("log")]
    assert sum("drain of the shutdown ran out" in text for text in warnings) == 1, warnings


def test_close_with_a_frozen_etcd_is_quick(hosts: HostFactory, own_etcd: EtcdFactory) -> None:
    etcd = own_etcd()
    host = hosts()
    live(host, etcd.endpoint)
    watch = synced(host, etcd.endpoint, agent=b"beta")
    etcd.freeze()
    op = host.start("publish", label=b"l", size=1 << 20)
    time.sleep(0.2)
    assert host.close()["took_ns"] / 1e9 < scaled(0.05)
    assert host.done(op)["status"] == capi.CANCELED
    host.event("ENDED", watch=watch, status=capi.CANCELED)


def test_a_thousand_watches_survive_a_restart(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str
) -> None:
    """All of them go on within a second of etcd's being healthy."""
    etcd = own_etcd(version)
    peer = hosts()
    peer.open(etcd.endpoint, NS)
    watches = peer.do("watch", agent=b"peer", repeat=1000)["ops"]
    peer.event("SYNCED", count=1000)
    etcd.kill()
    healthy = etcd.start().wait_healthy()
    for number in (0, 500, 999):
        etcd.gateway.put(NS + b"/peer%d/l" % number, b"b")
    for number in (0, 500, 999):
        told = peer.event("PUT", watch=watches[number], label=b"l", within=3)
        assert told["t"] / 1e9 - healthy < scaled(1.0)
    peer.do("cancel", op=watches[1])
    peer.close()
    ended = [line["watch"] for line in peer.events(event="ENDED")]
    assert sorted(ended) == sorted(watches)


def test_etcd_in_a_crash_loop_keeps_acknowledged_publishes(
    hosts: HostFactory, own_etcd: EtcdFactory
) -> None:
    """etcd dies again and again: whatever was acknowledged is there in the end, once."""
    etcd = own_etcd("3.5")
    host, peer = hosts(), hosts()
    live(host, etcd.endpoint)
    lease = host.stats()["lease_id"]
    watch = synced(peer, etcd.endpoint, agent=b"alpha")
    for number in range(6):
        op = host.start("publish", label=b"l%d" % number, blob=b"%d" % number, timeout=20_000)
        etcd.kill()
        etcd.start().wait_healthy()
        assert host.done(op)["status"] == capi.SUCCESS
    host.succeed("publish", label=b"end", blob=b"b")
    peer.event("PUT", watch=watch, label=b"end")
    assert host.stats()["lease_id"] == lease
    told = [(line["label"], line["revision"]) for line in peer.events(watch=watch, event="PUT")]
    assert len(told) == len(set(told))
    assert {bytes.fromhex(label or "") for label, _ in told} == {
        b"metadata",
        b"end",
        *(b"l%d" % number for number in range(6)),
    }
    assert "GONE" not in peer.names()
