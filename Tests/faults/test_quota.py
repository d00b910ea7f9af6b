# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""etcd's database is full: the NOSPACE alarm, until an operator has made room and disarmed it."""

from __future__ import annotations

import time
from functools import partial

import pytest

import capi
from conftest import Figure
from etcd_server import Etcd
from gateway import GatewayError
from store import PATIENCE, KeySampler, wait_until
from world import NS, World, renewing

QUOTA = 8 << 20
FILL = b"/fill/"


def fill(world: World) -> None:
    """Others write until etcd has no space left, and no member takes anything any more."""
    gateway = world.cluster.leader().gateway
    with pytest.raises(GatewayError, match="database space exceeded"):
        for number in range(200):
            gateway.put(FILL + b"%d" % number, b"x" * 256 * 1024)
    for member in world.cluster.members:
        wait_until(partial(has_alarm, member), PATIENCE, "the alarm")


def has_alarm(member: Etcd) -> bool:
    return "NOSPACE" in member.ctl("alarm", "list")


def make_room(world: World) -> float:
    """As etcd's documentation says ('Maintenance', space quota): compact, defragment, disarm."""
    gateway = world.cluster.leader().gateway
    gateway.delete_prefix(FILL)
    gateway.compact(gateway.revision())
    for member in world.cluster.members:
        member.ctl("defrag")
    world.cluster.wait_healthy()
    world.cluster.leader().ctl("alarm", "disarm")
    return time.monotonic()


@pytest.mark.etcd("--quota-backend-bytes", str(QUOTA))
def test_database_is_full(world: World, figure: Figure) -> None:
    """A publish waits for room, and completes with NO_SPACE and a remedy at its time-out; published
    labels stay, their lease is renewed; reads work. With room again publishes succeed, waiting ones
    too, and no event has come."""
    agent = world.agent(b"alpha", ttl=5, interval=1)
    agent.succeed("publish", label=b"other", blob=b"1")
    lease = agent.stats()["lease_id"]
    permanent = world.host("python")
    world.open(permanent, agent=b"beta")
    permanent.succeed("publish", label=b"l", blob=b"1")
    peer, watch = world.observer(flags=capi.WATCH_BLOBS)
    late = world.host()
    world.open(late, agent=b"late")
    begun = time.monotonic()
    keys = [NS + b"/alpha/", NS + b"/alpha/metadata", NS + b"/beta/", NS + b"/beta/l"]
    world.everywhere(keys)
    with (
        world.observed(agent, peer, permanent, late),
        KeySampler(world.cluster.members, NS) as looks,
    ):
        fill(world)
        for host, label in ((agent, b"metadata"), (agent, b"new"), (permanent, b"l"), (late, b"l")):
            begin = time.monotonic()
            done = host.finish("publish", label=label, blob=b"2", timeout=1000, within=PATIENCE)
            assert done["status"] == capi.NO_SPACE, done
            assert "space exceeded" in done["text"]
            assert "alarm disarm" in done["text"]
            figure("publish is told NO_SPACE, since its time-out", begin + 1, done["t"] / 1e9, 1)
        beats = {"interval": 1000, "ttl": 5000}
        done = late.finish("start_heartbeat", timeout=1000, within=PATIENCE, **beats)
        assert done["status"] == capi.NO_SPACE, done
        assert "alarm disarm" in done["text"]
        assert agent.succeed("fetch", agent=b"beta", label=b"l")["blob"] == b"1".hex()
        waiting = [
            (host, host.start("publish", label=b"waits", blob=b"2", timeout=capi.NEVER))
            for host in (agent, permanent, late)
        ]
        time.sleep(7)
        room = make_room(world)
        done = agent.succeed("publish", label=b"metadata", blob=b"3", within=PATIENCE)
        figure("publish, since the alarm is off", room, done["t"] / 1e9, 1)
        for host, op in waiting:
            done = host.done(op, PATIENCE)
            assert done["status"] == capi.SUCCESS
            figure("what waited, since the alarm is off", room, done["t"] / 1e9, 3)
        permanent.succeed("publish", label=b"l", blob=b"3", within=PATIENCE)
        late.succeed("start_heartbeat", interval=1000, ttl=5000, within=PATIENCE)
        late.succeed("publish", label=b"l", blob=b"3", within=PATIENCE)
        for name, label in ((b"alpha", b"metadata"), (b"beta", b"l"), (b"late", b"l")):
            peer.event("PUT", watch=watch, agent=name, label=label, blob=b"3", within=PATIENCE)
    assert permanent.events() == late.events() == []
    with world.unless_late(begun, *renewing(5, 1)):
        assert looks.missing(keys) == []
        assert agent.stats()["lease_id"] == lease
        assert agent.events() == []
        assert set(peer.names()) == {"PRESENT", "PUT", "SYNCED"}


@pytest.mark.etcd("--quota-backend-bytes", str(QUOTA))
def test_reading_and_leaving_while_the_database_is_full(world: World, figure: Figure) -> None:
    """Lists and watches work, also where there are agents without a presence key (stock NIXL
    leaves such), of which etcd is asked in a transaction. A shutdown leaves nothing behind."""
    leaving = world.agent(b"leaving", ttl=60, interval=5)
    staying = world.agent(b"staying", ttl=60, interval=5)
    staying.succeed("publish", label=b"other", blob=b"1")
    gateway = world.cluster.leader().gateway
    gateway.put(NS + b"/stock/metadata", b"blob")
    peer = world.host("python")
    with world.observed(leaving, staying, peer):
        fill(world)
        world.open(peer)
        names = [bytes.fromhex(a[0]) for a in peer.succeed("list", within=PATIENCE)["agents"]]
        assert names == [b"leaving", b"staying", b"stock"]
        watches = [
            peer.start("watch", flags=f) for f in (capi.WATCH_PRESENCE_ONLY, capi.WATCH_BLOBS)
        ]
        for watch in watches:
            peer.event("SYNCED", watch=watch, within=PATIENCE)
            present = peer.events(watch=watch, event="PRESENT")
            assert [bytes.fromhex(line["agent"]) for line in present] == names
        # etcd 3.5.1 refuses every transaction while it is full, also one that only removes.
        done = staying.finish("unpublish", label=b"other", timeout=1000, within=PATIENCE)
        is_removed = done["status"] == capi.SUCCESS
        assert is_removed or (done["status"] == capi.NO_SPACE and world.version == "3.5")
        assert (NS + b"/staying/other" in set(world.keys())) is not is_removed
        begin = time.monotonic()
        leaving.do("shutdown", drain=5000)
        ended = leaving.line("shut_down", within=PATIENCE)
        figure("shutdown", begin, ended["t"] / 1e9, 2)
        for watch in watches:
            gone = peer.event("GONE", watch=watch, agent=b"leaving", within=PATIENCE)
            figure("peer is told GONE", begin, gone["t"] / 1e9, 2)
        assert not any(b"leaving" in each for each in set(world.keys()))
        make_room(world)
        staying.succeed("publish", label=b"other", blob=b"2", within=PATIENCE)
        assert staying.events() == []
        assert "ENDED" not in peer.names()


@pytest.mark.etcd("--quota-backend-bytes", str(QUOTA))
def test_lease_is_lost_while_the_database_is_full(world: World, figure: Figure) -> None:
    """LOST. etcd grants no new lease until there is room; then RESTORED, without the host's
    doing."""
    agent = world.agent(b"alpha", ttl=5, interval=1, language="python")
    peer, watch = world.observer(flags=capi.WATCH_BLOBS)
    with world.observed(agent, peer):
        fill(world)
        world.cluster.leader().gateway.revoke(agent.stats()["lease_id"])
        revoked = time.monotonic()
        gone = peer.event("GONE", watch=watch, agent=b"alpha", within=PATIENCE)
        figure("peer is told GONE", revoked, gone["t"] / 1e9, 1)
        lost = agent.event("LOST", within=PATIENCE)
        # At its next renewal, if not by the watch of its own key.
        figure("agent is told LOST", revoked, lost["t"] / 1e9, 2)
        failed = agent.stats()["requests_failed"]
        time.sleep(4)
        assert agent.names() == ["LOST"]
        # It asks again, but does not hammer a cluster that is in trouble.
        assert 1 <= agent.stats()["requests_failed"] - failed < 30
        room = make_room(world)
        restored = agent.event("RESTORED", within=PATIENCE)
        figure("RESTORED, since the alarm is off", room, restored["t"] / 1e9, 3)
        peer.event("RETURNED", watch=watch, agent=b"alpha", within=PATIENCE)
        peer.event("PUT", watch=watch, label=b"metadata", blob=b"alpha", count=2, within=PATIENCE)
    assert agent.names() == ["LOST", "RESTORED"]
    assert world.keys() == [NS + b"/alpha/", NS + b"/alpha/metadata"]
    assert peer.names().count("GONE") == 1
