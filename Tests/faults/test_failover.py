# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""How soon another member is used, and what a lease outlives."""

from __future__ import annotations

import time

import pytest

import capi
from conftest import Figure
from etcd_server import Etcd
from hosts import Host
from store import PATIENCE, KeySampler
from world import CONTACT, NS, World, contacts, renewing, settle_after

REQUEST_DEADLINE = 2.0
SILENCE = 5.0


@pytest.mark.parametrize("role", ["follower", "leader"])
def test_publishing_goes_on_without_a_heartbeat(world: World, figure: Figure, role: str) -> None:
    """The member in use falls silent, and nothing but the publish itself can notice it: through
    another within the request deadline + 1 s."""
    host = world.host()
    world.open(host, agent=b"alpha")
    host.succeed("publish", label=b"l", blob=b"0")
    member = world.in_use(host)
    world.make_leader(member if role == "leader" else world.others(member)[0])
    host.succeed("publish", label=b"l", blob=b"1")
    _, term = world.cluster.elected()
    with world.observed(host):
        member.freeze()
        begin = time.monotonic()
        op = host.start("publish", label=b"l", blob=b"2", timeout=60_000)
        world.cluster.elected(after=term if role == "leader" else 0)
        elected = time.monotonic() - begin
        done = host.done(op, PATIENCE)
        assert done["status"] == capi.SUCCESS
        bound = max(REQUEST_DEADLINE, elected) + 1
        figure("publish completes", begin, done["t"] / 1e9, bound)
        kept = world.cluster.leader().gateway.get(NS + b"/alpha/l")
        assert kept is not None
        assert kept.value == b"2"
        member.thaw()
    assert host.events() == []


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_no_lease_is_lost_when_one_member_dies_or_hangs(
    world: World, figure: Figure, how: str
) -> None:
    """Heartbeat 1 s, TTL 5 s, agents on every member: each member in turn, the leader included, is
    away for longer than the TTL."""
    agents = agents_on_every_member(world)
    leases = [agent.stats()["lease_id"] for agent in agents]
    keys = world.keys()
    world.everywhere(keys)
    with world.observed(*agents):
        for member in world.cluster.members:
            begun = time.monotonic()
            with KeySampler(world.cluster.members, NS) as looks:
                away(world, agents, member, how, figure)
            with world.unless_late(begun, *renewing(5, 1)):
                assert looks.missing(keys) == []
                assert [agent.stats()["lease_id"] for agent in agents] == leases
            if how == "killed":
                member.start()
            else:
                member.thaw()
            world.cluster.wait_healthy()
            settle_after(world, agents, keys)
            if how == "killed":
                with world.unless_late(begun, *renewing(5, 1)):
                    assert leases == [agent.stats()["lease_id"] for agent in agents]
            leases = [agent.stats()["lease_id"] for agent in agents]


def away(world: World, agents: list[Host], member: Etcd, how: str, figure: Figure) -> None:
    """The member dies or hangs for longer than the TTL. The agents do nothing but renew; then each
    publishes, on a member that it has found by that."""
    if how == "killed":
        member.kill()
    else:
        member.freeze()
    time.sleep(7)
    assert member not in [world.in_use(agent) for agent in agents]
    begin = time.monotonic()
    ops = [agent.start("publish", label=b"metadata", blob=b"b") for agent in agents]
    done = [agent.done(op, PATIENCE) for agent, op in zip(agents, ops, strict=True)]
    assert {line["status"] for line in done} == {capi.SUCCESS}
    slowest = max(line["t"] for line in done) / 1e9
    figure(f"publish after 7 s, member {how}", begin, slowest, 1)


def agents_on_every_member(world: World) -> list[Host]:
    """Agents with a heartbeat until each member is in use; where a handle starts is random."""
    agents: list[Host] = []
    while len({world.in_use(agent).name for agent in agents}) < len(world.cluster.members):
        number = len(agents)
        assert number < 25, "the members are not all chosen"
        language = "python" if number == 0 else "cpp"
        agents.append(world.agent(b"agent-%d" % number, ttl=5, interval=1, language=language))
    return agents


@pytest.mark.parametrize("role", ["follower", "leader"])
def test_handle_that_only_watches_finds_a_silent_member(
    world: World, figure: Figure, role: str
) -> None:
    """The host sends nothing that could go unanswered, until 5 s of silence; then its question
    misses the request deadline and another member is used. Changes made meanwhile are reported."""
    peer, watch = world.observer("cpp", agent=b"beta")
    member = world.in_use(peer)
    world.make_leader(member if role == "leader" else world.others(member)[0])
    _, term = world.cluster.elected()
    with world.observed(peer):
        member.freeze()
        frozen = time.monotonic()
        leader, _ = world.cluster.elected(after=term if role == "leader" else 0)
        leader.gateway.put(NS + b"/beta/l", b"b", timeout=10)
        put = peer.event("PUT", watch=watch, label=b"l", within=PATIENCE)
        # The time a fresh connection takes comes on top.
        bound = SILENCE + REQUEST_DEADLINE + 0.5
        figure("told of a change through another", frozen, put["t"] / 1e9, bound)
        assert world.in_use(peer) is not member
        member.thaw()
    assert set(peer.names()) - {"CONTACT_LOST", "CONTACT_REGAINED"} == {"SYNCED", "PRESENT", "PUT"}
    with world.unless_late(frozen, *CONTACT):
        assert contacts(peer, watch) == []
