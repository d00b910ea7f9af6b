# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Host processes that are stopped, fork or are killed, while etcd is well."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter

import pytest

import capi
from conftest import Figure
from hosts import Host
from procfs import remote_addresses
from store import PATIENCE, KeySampler
from world import NS, World, renewing

LANGUAGES = ("cpp", "python")
REQUEST_DEADLINE = 2.0


@pytest.mark.parametrize("language", LANGUAGES)
def test_host_stopped_longer_than_its_ttl(world: World, figure: Figure, language: str) -> None:
    """SIGSTOP, then SIGCONT. The peer gets GONE within TTL + 2 s. Continued, the agent gets LOST,
    its keys are put back within a second, RESTORED; the peer gets RETURNED: the same process, whose
    metadata is valid again."""
    agent = world.agent(b"alpha", ttl=5, interval=1, language=language)
    labels = [b"l%d" % number for number in range(20)]
    for label in labels:
        agent.succeed("publish", label=label, blob=label)
    lease = agent.stats()["lease_id"]
    keys = [NS + b"/alpha/", *sorted(NS + b"/alpha/" + each for each in [*labels, b"metadata"])]
    peer, watch = world.observer(flags=capi.WATCH_BLOBS)
    with world.observed(agent, peer):
        stopped = agent.freeze()
        gone = peer.event("GONE", watch=watch, agent=b"alpha", within=PATIENCE)
        figure("peer is told GONE", stopped, gone["t"] / 1e9, 5 + 2)
        assert world.keys() == []
        time.sleep(2)
        mark = peer.mark()
        continued = agent.thaw()
        restored = agent.event("RESTORED", within=PATIENCE)
        figure("RESTORED, since continued", continued, restored["t"] / 1e9, 1)
        assert world.keys() == keys
        returned = peer.event("RETURNED", watch=watch, since=mark, within=PATIENCE)
        assert returned["incarnation"] == lease >> 16
        for label in labels:
            peer.event("PUT", watch=watch, label=label, blob=label, since=mark, within=PATIENCE)
    assert agent.names()[:2] == ["LOST", "RESTORED"]
    assert "RESTARTED" not in peer.names()
    with world.unless_late(continued, *renewing(5, 1)):
        assert agent.names() == ["LOST", "RESTORED"]
        assert peer.names().count("GONE") == 1
        stats = agent.stats()
        assert (stats["leases_lost"], stats["restores"]) == (1, 1)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("how", ["exit", "close", "tick"])
def test_forked_child_leaves_the_parent_alone(
    world: World, figure: Figure, language: str, how: str
) -> None:
    """The child exits at once, or closes its copy, or goes on ticking it, beside the parent: the
    parent's connection, lease and watch go on as if there were no child."""
    # At this TTL a renewal may take as long as any other request.
    agent = world.agent(b"alpha", ttl=12, interval=1, language=language)
    watch = agent.start("watch", agent=b"beta")
    agent.event("SYNCED", watch=watch)
    told: list[tuple[float, float]] = []
    published: list[tuple[float, float]] = []
    begun = time.monotonic()
    before = agent.stats()
    remotes = remote_addresses(agent.pid)
    gateway = world.cluster.leader().gateway
    keys = world.keys()
    world.everywhere(keys)
    with world.observed(agent), KeySampler(world.cluster.members, NS + b"/alpha/") as looks:
        for number in range(3):
            child = agent.do("fork_beside", how=how, ms=2000)["child"]
            for step in range(8):
                value = b"%d.%d" % (number, step)
                begin = time.monotonic()
                gateway.put(NS + b"/beta/l", value, timeout=PATIENCE)
                put = agent.event("PUT", watch=watch, label=b"l", blob=value, within=PATIENCE)
                told.append((begin, put["t"] / 1e9))
                begin = time.monotonic()
                done = agent.succeed("publish", label=b"metadata", blob=value, within=PATIENCE)
                published.append((begin, done["t"] / 1e9))
                time.sleep(0.25)
            assert agent.do("reap", child=child)["child_status"] == 0
    figure("slowest change told", *latest(world, told), 1)
    figure("slowest publish", *latest(world, published), 1)
    assert looks.missing(keys) == []
    assert [line["rc"] for line in agent.lines("child")] == {
        "exit": [],
        "close": [capi.SUCCESS] * 3,
        "tick": [capi.FORKED] * 3,
    }[how]
    assert all(line["count"] > 10 for line in agent.lines("child_ticks"))
    after = agent.stats()
    assert after["lease_id"] == before["lease_id"]
    assert after["renewals"] >= before["renewals"] + 5
    assert set(agent.names()) == {"SYNCED", "PRESENT", "PUT"}
    # Nothing but etcd's being held up for as long as a request may take excuses another connection.
    with world.unless_late(begun, REQUEST_DEADLINE, REQUEST_DEADLINE):
        for name in ("connects", "connects_failed", "requests_failed", "renewals_unanswered"):
            assert after[name] == before[name], name
        assert remote_addresses(agent.pid) == remotes


def latest(world: World, spans: list[tuple[float, float]]) -> tuple[float, float]:
    """The one that took longest, what the machine held up left aside."""
    return max(spans, key=lambda span: span[1] - span[0] - world.machine.withheld(*span))


def test_500_agents_killed_at_once(world: World, figure: Figure) -> None:
    """25 processes with 20 agents each, SIGKILL: a watcher of the namespace gets GONE for each,
    once, within TTL + 2 s."""
    processes, handles, ttl = 25, 20, 10
    hosts = [world.host() for _ in range(processes)]
    names = {b"agent-%d-%d" % (p, h) for p in range(processes) for h in range(handles)}
    for p, host in enumerate(hosts):
        start_agents(world, host, [b"agent-%d-%d" % (p, h) for h in range(handles)], ttl)
    peer, watch = world.observer("python")
    told = {bytes.fromhex(line["agent"]) for line in peer.events(watch=watch, event="PRESENT")}
    assert told == names
    with world.observed(peer, *hosts):
        # Long enough for a renewal of each.
        time.sleep(ttl / 3 + 1)
        for host in hosts:
            for h in range(handles):
                host.keep_stats(h)
        mark = peer.mark()
        _, term = world.cluster.elected()
        # No host is asked for anything in between: they die within milliseconds of one another.
        for host in hosts:
            os.kill(host.pid, signal.SIGKILL)
        killed = time.monotonic()
        peer.event("GONE", watch=watch, since=mark, count=len(names), within=ttl + PATIENCE)
        gone = peer.events(mark, watch=watch, event="GONE")
        # A busy machine may cause an election, which gives every lease its full TTL again.
        is_kept = world.cluster.elected()[1] == term
        bound = ttl + 2 if is_kept else 2 * ttl + 2
        figure("the first GONE", killed, gone[0]["t"] / 1e9, bound)
        figure("the last GONE", killed, gone[-1]["t"] / 1e9, bound)
        time.sleep(3)
    counts = Counter(bytes.fromhex(line["agent"]) for line in peer.events(mark, event="GONE"))
    assert counts == dict.fromkeys(names, 1)
    assert set(peer.names(mark)) == {"GONE"}
    assert world.keys() == []


def start_agents(world: World, host: Host, names: list[bytes], ttl: int) -> None:
    """Several handles of one process, each an agent with a heartbeat and one label."""
    started = []
    for h, name in enumerate(names):
        host.open(world.cluster.endpoints, NS, agent=name, h=h)
        heartbeat = host.start("start_heartbeat", h=h, interval=ttl * 333, ttl=ttl * 1000)
        publish = host.start("publish", h=h, label=b"metadata", blob=name)
        started += [(h, heartbeat), (h, publish)]
    for h, op in started:
        assert host.done(op, within=PATIENCE, h=h)["status"] == capi.SUCCESS
