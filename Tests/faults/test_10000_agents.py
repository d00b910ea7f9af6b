# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""10,000 agents in the namespace, one host that watches them all, and an etcd that is restarted."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

import capi
from conftest import Figure
from gateway import put_all_body
from hosts import Host
from store import PATIENCE
from world import NS, World

AGENTS = 10_000
BLOB = b"x" * 1024
TTL = 3600
# 1,000 leases; and as many agents as go into a transaction of at most 128 operations.
ON_ONE_LEASE = 10
AT_ONCE = 50

Names = Sequence[bytes]


def names(first: int, last: int) -> list[bytes]:
    return [b"agent-%05d" % number for number in range(first, last)]


def in_parts(world: World, agents: Names, work: Callable[[int, Names], None]) -> None:
    """A third of the agents through each member, at once; those on one lease together."""
    members = len(world.cluster.members)
    parts: list[list[bytes]] = [[] for _ in range(members)]
    for begin in range(0, len(agents), ON_ONE_LEASE):
        parts[begin // ON_ONE_LEASE % members] += agents[begin : begin + ON_ONE_LEASE]
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number, parts[number])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(members)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


class Script:
    """Writes agents as a script would: leases, and on them the agents' presence keys and
    metadata."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.leases: dict[bytes, int] = {}

    def write(self, agents: Names) -> None:
        in_parts(self._world, agents, self._write)

    def _write(self, number: int, agents: Names) -> None:
        gateway = self._world.cluster.members[number].gateway
        count = len(agents) // ON_ONE_LEASE
        grants = gateway.calls("/v3/lease/grant", [{"TTL": str(TTL), "ID": "0"}] * count)
        granted = [(name, int(grants[i // ON_ONE_LEASE]["ID"])) for i, name in enumerate(agents)]
        bodies = []
        for begin in range(0, len(granted), AT_ONCE):
            puts = []
            for name, lease in granted[begin : begin + AT_ONCE]:
                prefix = NS + b"/" + name + b"/"
                puts += [(prefix, b"", lease), (prefix + b"metadata", BLOB, lease)]
            bodies.append(put_all_body(puts))
        gateway.calls("/v3/kv/txn", bodies)
        self.leases.update(granted)

    def revoke(self, agents: Names) -> None:
        in_parts(self._world, agents, self._revoke)

    def _revoke(self, number: int, agents: Names) -> None:
        gateway = self._world.cluster.members[number].gateway
        leases = sorted({self.leases[name] for name in agents})
        gateway.calls("/v3/lease/revoke", [{"ID": str(lease)} for lease in leases])


def told(host: Host, watch: int, since: int, event: str) -> Counter[bytes]:
    """The agents with this event, and how often each got it."""
    return Counter(
        bytes.fromhex(line["agent"]) for line in host.events(since, watch=watch, event=event)
    )


def restart(world: World, is_noticed: Callable[[], object] = lambda: None) -> float:
    for member in world.cluster.members:
        member.kill()
    is_noticed()
    for member in world.cluster.members:
        member.start()
    return world.cluster.wait_healthy()


@pytest.mark.parametrize("history", ["kept", "compacted"])
def test_10000_agents_cause_exact_events(world: World, figure: Figure, history: str) -> None:
    """One event for each agent, with its blob. A restart of all members causes no event; the host
    sleeps through another, with 1,000 agents gone, 1,000 restarted and 1,000 new, and then gets
    exactly these, also from a list where the history is compacted away; at last 10,000 GONE. The
    longest tick is checked as for every host."""
    script = Script(world)
    everyone = names(0, AGENTS)
    script.write(everyone)
    host = world.host()
    world.open(host)
    flags = {"presence": capi.WATCH_PRESENCE_ONLY, "blobs": capi.WATCH_BLOBS}
    watches = {name: host.start("watch", flags=flag) for name, flag in flags.items()}
    for watch in watches.values():
        host.event("SYNCED", watch=watch, within=PATIENCE)
        assert told(host, watch, 0, "PRESENT") == dict.fromkeys(everyone, 1)
    assert told(host, watches["blobs"], 0, "PUT") == dict.fromkeys(everyone, 1)
    with world.observed(host):
        mark = host.mark()
        healthy = restart(
            world,
            lambda: [
                host.event("CONTACT_LOST", watch=watch, since=mark, within=PATIENCE)
                for watch in watches.values()
            ],
        )
        for watch in watches.values():
            regained = host.event("CONTACT_REGAINED", watch=watch, since=mark, within=PATIENCE)
            figure("CONTACT_REGAINED, since healthy", healthy, regained["t"] / 1e9, 2)
        assert set(host.names(mark)) == {"CONTACT_LOST", "CONTACT_REGAINED"}
        host.freeze()
        mark = host.mark()
        restart(world)
        gone, restarted, new = everyone[:1000], everyone[1000:2000], names(AGENTS, AGENTS + 1000)
        script.revoke(gone)
        script.write([*restarted, *new])
        gateway = world.cluster.leader().gateway
        if history == "compacted":
            gateway.compact(gateway.revision())
        thawed = host.thaw()
        last = gateway.put(NS + b"/last/metadata", b"last")
        for watch in watches.values():
            host.event("PRESENT", watch=watch, agent=b"last", since=mark, within=PATIENCE)
        figure("all told, since the host goes on", thawed, time.monotonic(), 5)
        check_difference(host, watches, mark, last, gone, restarted, new)
        assert ("RESYNC" in host.names(mark)) is (history == "compacted")
        mark = host.mark()
        rest = [*everyone[1000:], *new]
        script.revoke(rest)
        for watch in watches.values():
            host.event("GONE", watch=watch, since=mark, count=len(rest), within=PATIENCE)
            assert told(host, watch, mark, "GONE") == dict.fromkeys(rest, 1)
    assert "ENDED" not in host.names()


def check_difference(
    host: Host,
    watches: dict[str, int],
    mark: int,
    last: int,
    gone: Names,
    restarted: Names,
    new: Names,
) -> None:
    for watch in watches.values():
        assert told(host, watch, mark, "GONE") == dict.fromkeys(gone, 1)
        assert told(host, watch, mark, "RESTARTED") == dict.fromkeys(restarted, 1)
        appeared = told(host, watch, mark, "PRESENT")
        del appeared[b"last"]
        assert appeared == dict.fromkeys(new, 1)
    labels = told(host, watches["blobs"], mark, "PUT")
    assert labels == dict.fromkeys([*restarted, *new, b"last"], 1)
    put = host.event("PUT", watch=watches["blobs"], agent=b"last", label=b"metadata", since=mark)
    assert put["revision"] == last
