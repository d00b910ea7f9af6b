# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Members of the cluster that die, hang, are cut off or lose packets; what etcd holds survives.

In each case (see Scene) the agent keeps its lease and gets no event, its keys are there whenever
one looks, the peer gets each change once and in order; no thread and no second connection appears.
The longest tick is checked of every host of every test (check_host)."""

from __future__ import annotations

import itertools
import time

import pytest

import capi
from conftest import Figure
from etcd_server import Etcd
from store import PATIENCE
from world import CONTACT, NS, Scene, World, contacts, settle_after

REQUEST_DEADLINE = 2.0
RENEWAL = 1 + 5 / 6  # at the latest, at TTL 5 s: when one is due, and its own deadline


def publish_time(scene: Scene, blob: bytes) -> tuple[float, float]:
    """When a publish is called for and when it completes."""
    begin = time.monotonic()
    done = scene.agent.succeed(
        "publish", label=b"metadata", blob=blob, timeout=60_000, within=PATIENCE
    )
    return begin, done["t"] / 1e9


def publish_over_election(scene: Scene, blob: bytes, term: int) -> tuple[float, float, float]:
    """The same, and how long it took until etcd had a leader of a later term."""
    begin = time.monotonic()
    op = scene.agent.start("publish", label=b"metadata", blob=blob, timeout=60_000)
    scene.world.cluster.elected(after=term)
    elected = time.monotonic() - begin
    done = scene.agent.done(op, PATIENCE)
    assert done["status"] == capi.SUCCESS, done
    return begin, done["t"] / 1e9, elected


def test_leader_killed(world: World, figure: Figure) -> None:
    """SIGKILL. Publishing goes on with the next leader; the killed member comes back."""
    with Scene(world, ttl=5, interval=1) as scene:
        leader, term = world.cluster.elected()
        leader.kill()
        begin, end, elected = publish_over_election(scene, b"1", term)
        figure("publish completes", begin, end, max(REQUEST_DEADLINE, elected) + 2)
        time.sleep(5)
        leader.start().wait_healthy()
        figure("publish, member back", *publish_time(scene, b"2"), 1)


def test_all_members_killed_and_restarted(world: World, figure: Figure) -> None:
    """SIGKILL of all, for longer than the TTL: leases are on disk, and get their full TTL again."""
    with Scene(world, ttl=5, interval=1) as scene:
        for member in world.cluster.members:
            member.kill()
        killed = time.monotonic()
        lost = scene.peer.event("CONTACT_LOST", watch=scene.watch, within=PATIENCE)
        figure("CONTACT_LOST told", killed, lost["t"] / 1e9, 1 + 1)
        time.sleep(max(0.0, killed + 7 - time.monotonic()))
        for member in world.cluster.members:
            member.start()
        healthy = world.cluster.wait_healthy()
        regained = scene.peer.event("CONTACT_REGAINED", watch=scene.watch, within=PATIENCE)
        figure("CONTACT_REGAINED told, since healthy", healthy, regained["t"] / 1e9, 1)
        figure("publish, since healthy", *publish_time(scene, b"1"), 1)


@pytest.mark.parametrize("role", ["follower", "leader"])
def test_member_in_use_stopped(world: World, figure: Figure, role: str) -> None:
    """SIGSTOP: silent, no RST. The renewal misses its deadline of TTL/6: another member is used."""
    with Scene(world, ttl=5, interval=1) as scene:
        member = world.in_use(scene.agent)
        world.make_leader(member if role == "leader" else world.others(member)[0])
        _, term = world.cluster.elected()
        member.freeze()
        if role == "follower":
            figure("publish completes", *publish_time(scene, b"1"), RENEWAL + 1)
        else:
            begin, end, elected = publish_over_election(scene, b"1", term)
            figure("publish completes", begin, end, max(RENEWAL, elected) + 2)
        assert world.in_use(scene.agent) is not member
        time.sleep(7)
        if role == "follower":
            member.thaw()
            figure("publish, member back", *publish_time(scene, b"2"), 1)
    if role == "leader":
        member.thaw()
        settle_after(world, [scene.agent], scene.own_keys)


@pytest.mark.cuts
@pytest.mark.parametrize("role", ["follower", "leader"])
def test_member_in_use_partitioned_from_the_others(world: World, figure: Figure, role: str) -> None:
    """It still answers us, but has no leader: `hasleader` makes it say so. With TTL 10 s an agent
    that only renews loses no lease, and a watch on that member does not stay behind."""
    with Scene(world, ttl=10, interval=3) as scene:
        member = world.in_use(scene.agent)
        assert world.in_use(scene.peer) is member
        world.make_leader(member if role == "leader" else world.others(member)[0])
        _, term = world.cluster.elected()
        world.isolate(member)
        parted = time.monotonic()
        world.cluster.elected(after=term if role == "leader" else 0)
        elected = time.monotonic() - parted
        time.sleep(max(0.0, parted + 15 - time.monotonic()))
        assert world.in_use(scene.agent) is not member
        assert world.in_use(scene.peer) is not member
        # A follower misses its leader after 2 s; a member cancels streams after three looks, an
        # election time-out apart, without a leader.
        begin, end = longest_pause(scene, parted)
        figure("longest that the peer is told nothing", begin, end, max(6.0, elected) + 1)
        figure("publish on the next member", *publish_time(scene, b"1"), 1)
        world.network.heal()
        world.cluster.wait_healthy()


def longest_pause(scene: Scene, begin: float) -> tuple[float, float]:
    """The longest gap between the peer's events since then, while somebody wrote all the time."""
    told: list[float] = [line["t"] / 1e9 for line in scene.peer.events(watch=scene.watch)]
    times = [begin, *(each for each in told if each > begin), time.monotonic()]
    return max(itertools.pairwise(times), key=lambda pause: pause[1] - pause[0])


@pytest.mark.cuts
@pytest.mark.parametrize("direction", ["to the server", "from the server"])
def test_packets_dropped_in_one_direction(world: World, figure: Figure, direction: str) -> None:
    """Between the agent and the member in use: the other members are reached, one is used. The peer
    on the same member is not concerned."""
    with Scene(world, ttl=5, interval=1) as scene:
        member = world.in_use(scene.agent)
        drop(world, scene, member, direction)
        figure("publish completes", *publish_time(scene, b"1"), RENEWAL + 1)
        assert world.in_use(scene.agent) is not member
        time.sleep(7)
        world.network.heal()
        figure("publish, healed", *publish_time(scene, b"2"), 1)
    with world.unless_late(scene.begun, *CONTACT):
        assert contacts(scene.peer, scene.watch) == []


def drop(world: World, scene: Scene, member: Etcd, direction: str) -> None:
    ours, theirs = world.place(scene.agent), member.place
    world.network.drop(*((ours, theirs) if direction == "to the server" else (theirs, ours)))


@pytest.mark.cuts
@pytest.mark.parametrize("direction", ["to the server", "from the server"])
def test_packets_dropped_between_the_agent_and_all_members(
    world: World, figure: Figure, direction: str
) -> None:
    """For 3 s of a TTL of 6 s, less than TTL - interval - a round trip: the lease survives."""
    with Scene(world, ttl=6, interval=1) as scene:
        for member in world.cluster.members:
            drop(world, scene, member, direction)
        dropped = time.monotonic()
        op = scene.agent.start("publish", label=b"metadata", blob=b"1", timeout=60_000)
        time.sleep(max(0.0, dropped + 3 - time.monotonic()))
        world.network.heal()
        healed = time.monotonic()
        done = scene.agent.done(op, PATIENCE)
        assert done["status"] == capi.SUCCESS
        figure("publish, since healed", healed, done["t"] / 1e9, 2.5)
        time.sleep(6)


@pytest.mark.cuts
def test_all_members_out_of_reach_longer_than_the_ttl(world: World, figure: Figure) -> None:
    """Both directions: the peer gets GONE; once in reach again the agent gets LOST, its keys are
    put back, RESTORED; the peer gets RETURNED: the same process."""
    agent = world.agent(b"alpha", ttl=5, interval=1)
    peer, watch = world.observer("python", flags=capi.WATCH_BLOBS)
    lease = agent.stats()["lease_id"]
    with world.observed(agent, peer):
        for member in world.cluster.members:
            world.network.part(world.place(agent), member.place)
        parted = time.monotonic()
        gone = peer.event("GONE", watch=watch, agent=b"alpha", within=PATIENCE)
        figure("peer is told GONE", parted, gone["t"] / 1e9, 5 + 2)
        world.network.heal()
        healed = time.monotonic()
        restored = agent.event("RESTORED", within=PATIENCE)
        # An attempt to connect ends at its deadline of at most 4 s.
        figure("RESTORED told, since healed", healed, restored["t"] / 1e9, 5)
        assert agent.names() == ["LOST", "RESTORED"]
    returned = peer.event("RETURNED", watch=watch, within=PATIENCE)
    assert returned["incarnation"] == lease >> 16
    peer.event("PUT", watch=watch, label=b"metadata", blob=b"alpha", count=2, within=PATIENCE)
    assert world.keys() == [NS + b"/alpha/", NS + b"/alpha/metadata"]
    assert "RESTARTED" not in peer.names()


def test_stream_that_the_member_ended(world: World, figure: Figure) -> None:
    """A member that has had no leader for a while ends the streams, and has one again before the
    host looks: every question is answered, only the watch is dead. The host recovers."""
    peer, watch = world.observer(agent=b"beta")
    member = world.in_use(peer)
    with world.observed(peer):
        peer.freeze()
        for other in world.others(member):
            other.kill()
        # Its own deadlines too are late on a busy machine.
        world.machine.sleep(6.5)
        for other in world.others(member):
            other.start()
        world.cluster.wait_healthy()
        world.cluster.leader().gateway.put(NS + b"/beta/l", b"b")
        continued = peer.thaw()
        told = peer.event("PUT", watch=watch, label=b"l", within=PATIENCE)
        figure("told, since the host goes on", continued, told["t"] / 1e9, 2)
    assert any("ended a stream" in line["line"] for line in peer.lines("log"))
