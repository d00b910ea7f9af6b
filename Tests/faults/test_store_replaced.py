# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""etcd's data do not survive: history compacted while out of contact, the store replaced."""

from __future__ import annotations

import time

import pytest

import capi
from conftest import Figure
from hosts import Host
from store import PATIENCE, wait_until
from world import NS, World, renewing


def told_of(host: Host, watch: int, since: int) -> list[tuple[str, bytes, bytes]]:
    return [
        (line["event"], bytes.fromhex(line["agent"]), bytes.fromhex(line["label"] or ""))
        for line in host.events(since, watch=watch)
        if line["agent"]
    ]


@pytest.mark.cuts
def test_compaction_while_disconnected(world: World, figure: Figure) -> None:
    """The missed history is compacted away: RESYNC, just the differences, SYNCED; then live."""
    gateway = world.cluster.leader().gateway
    for name in (b"stays", b"changes", b"leaves"):
        gateway.put(NS + b"/" + name + b"/", b"")
        gateway.put(NS + b"/" + name + b"/l", b"1")
    agent = world.agent(b"alpha", ttl=5, interval=1)
    lease = agent.stats()["lease_id"]
    peer, watch = world.observer("python", flags=capi.WATCH_BLOBS)
    used = world.in_use(peer)
    with world.observed(agent, peer):
        for member in world.cluster.members:
            world.network.part(world.place(peer), member.place)
        parted = time.monotonic()
        mark = peer.mark()
        gateway.put(NS + b"/changes/l", b"2")
        gateway.put(NS + b"/changes/new", b"2")
        gateway.delete_prefix(NS + b"/leaves/")
        gateway.put(NS + b"/comes/l", b"1")
        agent.succeed("publish", label=b"metadata", blob=b"2")
        gateway.compact(gateway.revision())
        lost = peer.event("CONTACT_LOST", watch=watch, within=PATIENCE)
        # It only watches: silence, its question's deadline, and a second without any member.
        figure("CONTACT_LOST told", parted, lost["t"] / 1e9, 5 + 2 + 1 + 0.5)
        # Its connection must not outlive the partition: TCP would deliver what etcd sent on it.
        used.kill()
        used.start()
        world.cluster.wait_healthy()
        gateway = world.cluster.leader().gateway
        world.network.heal()
        healed = time.monotonic()
        resync = peer.event("RESYNC", watch=watch, since=mark, within=PATIENCE)
        synced = peer.event("SYNCED", watch=watch, since=mark, within=PATIENCE)
        # An attempt to connect that is under way ends at its deadline of at most 4 s.
        figure("SYNCED told, since healed", healed, synced["t"] / 1e9, 5)
        assert resync["t"] <= synced["t"]
        assert sorted(told_of(peer, watch, mark)) == [
            ("GONE", b"leaves", b""),
            ("PRESENT", b"comes", b""),
            ("PUT", b"alpha", b"metadata"),
            ("PUT", b"changes", b"l"),
            ("PUT", b"changes", b"new"),
            ("PUT", b"comes", b"l"),
        ]
        gateway.put(NS + b"/stays/l", b"3")
        peer.event("PUT", watch=watch, agent=b"stays", blob=b"3", within=PATIENCE)
    with world.unless_late(parted, *renewing(5, 1)):
        assert agent.events() == []
        assert agent.stats()["lease_id"] == lease


def test_store_wiped_and_restarted(world: World, figure: Figure) -> None:
    """All members come back empty, with the same flags: the cluster's id is the same, the revision
    is lower. A resumed watch would be silent forever. Instead: RESYNC; GONE for agents that are
    gone; the agent gets LOST, puts its keys back, RESTORED."""
    agent = world.agent(b"alpha", ttl=5, interval=1)
    gateway = world.cluster.leader().gateway
    for number in range(50):
        gateway.put(NS + b"/stock/l", b"%d" % number)
    gateway.put(NS + b"/stock/", b"")
    peer, watch = world.observer("python", flags=capi.WATCH_BLOBS)
    cluster_id = world.cluster.leader().status()["header"]["cluster_id"]
    keys = [NS + b"/alpha/", NS + b"/alpha/metadata"]
    with world.observed(agent, peer):
        mark = peer.mark()
        for member in world.cluster.members:
            member.kill()
        for member in world.cluster.members:
            member.wipe()
            member.start()
        healthy = world.cluster.wait_healthy()
        restored = agent.event("RESTORED", within=PATIENCE)
        figure("agent: RESTORED, since healthy", healthy, restored["t"] / 1e9, 2)
        assert agent.names() == ["LOST", "RESTORED"]
        peer.event("RESYNC", watch=watch, since=mark, within=PATIENCE)
        gone = peer.event("GONE", watch=watch, agent=b"stock", since=mark, within=PATIENCE)
        figure("peer: GONE, since healthy", healthy, gone["t"] / 1e9, 2)
        assert world.cluster.leader().status()["header"]["cluster_id"] == cluster_id
        wait_until(lambda: world.keys() == keys, PATIENCE, "the agent's keys and no others")
        lease = agent.stats()["lease_id"]
        found = world.cluster.leader().gateway.range(NS)
        assert {kv.lease for kv in found} == {lease}
        # The watches are alive, at revisions far below those seen before.
        agent.succeed("publish", label=b"metadata", blob=b"after")
        peer.event(
            "PUT", watch=watch, label=b"metadata", blob=b"after", since=mark, within=PATIENCE
        )
        gateway = world.cluster.leader().gateway
        gateway.put(NS + b"/stock/", b"")
        peer.event("RESTARTED", watch=watch, agent=b"stock", since=mark, within=PATIENCE)
    assert "ENDED" not in peer.names()
    time.sleep(6)
    with world.unless_late(healthy, *renewing(5, 1)):
        assert world.keys() == [*keys, NS + b"/stock/"]
        assert agent.names() == ["LOST", "RESTORED"]
