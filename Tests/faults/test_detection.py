# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""How soon peers get GONE after a process was killed."""

from __future__ import annotations

import time

import pytest

from conftest import Figure
from store import PATIENCE
from world import World

SLACK = 2  # what etcd takes to notice that a lease has run out, and to remove its keys


def test_killed_agents_are_gone_within_ttl_and_2_s(world: World, figure: Figure) -> None:
    """While etcd keeps its leader: TTL 2, 5 and 30 s, beside one another. Not before the last
    renewal's TTL is over either: a lease that ran out early would be a lease lost."""
    agents = {
        2: world.agent(b"ttl-2", ttl=2, interval=1),
        5: world.agent(b"ttl-5", ttl=5, interval=1, language="python"),
        30: world.agent(b"ttl-30", ttl=30, interval=5),
    }
    peer, watch = world.observer()
    _, term = world.cluster.elected()
    with world.observed(peer, *agents.values()):
        time.sleep(2)
        killed = {ttl: agent.kill() for ttl, agent in agents.items()}
        for ttl in agents:
            gone = peer.event("GONE", watch=watch, agent=b"ttl-%d" % ttl, within=ttl + PATIENCE)
            told = gone["t"] / 1e9
            # A busy machine may cause an election, which gives every lease its full TTL again.
            is_kept = world.cluster.elected()[1] == term
            bound = ttl + SLACK if is_kept else 2 * ttl + SLACK
            figure(f"GONE at TTL {ttl} s", killed[ttl], told, bound)
            longest_since_renewal = min(5 if ttl == 30 else 1, ttl / 3)
            late = world.machine.withheld(killed[ttl] - ttl, killed[ttl])
            assert told - killed[ttl] > ttl - longest_since_renewal - 0.5 - late
    assert peer.names().count("GONE") == 3


@pytest.mark.parametrize("what", ["leader killed", "leader stopped", "all restarted"])
def test_killed_agent_with_an_election_in_between(world: World, figure: Figure, what: str) -> None:
    """A new leader gives every lease its full TTL again, so GONE comes within a second TTL: TTL + 2
    s from when there is a leader."""
    ttl = 5
    agent = world.agent(b"alpha", ttl=ttl, interval=1)
    peer, watch = world.observer("python")
    _, term = world.cluster.elected()
    with world.observed(peer, agent):
        # Long enough for a renewal.
        time.sleep(2)
        killed = agent.kill()
        time.sleep(3)
        struck = time.monotonic()
        leader = world.cluster.leader()
        if what == "leader stopped":
            leader.freeze()
        elif what == "leader killed":
            leader.kill()
        else:
            for member in world.cluster.members:
                member.kill()
            for member in world.cluster.members:
                member.start()
        world.cluster.elected(after=term)
        elected = time.monotonic()
        gone = peer.event("GONE", watch=watch, agent=b"alpha", within=ttl + PATIENCE)
        told = gone["t"] / 1e9
        figure("GONE, since there is a leader", elected, told, ttl + SLACK)
        figure("GONE, since the kill", killed, told, 2 * ttl + SLACK + elected - struck)
        if what == "leader stopped":
            leader.thaw()
    assert peer.names().count("GONE") == 1
