# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""An operator restores a snapshot: the cluster is replaced by an older state of itself, with
another id."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest

import capi
from conftest import Figure
from hosts import Host
from store import PATIENCE, wait_until
from world import NS, World

TTL = 5


def save(world: World, directory: Path) -> Path:
    path = directory / "snapshot.db"
    world.cluster.leader().ctl("snapshot", "save", str(path))
    return path


def restore(world: World, snapshot: Path) -> float:
    """As etcd's documentation says ('Disaster recovery'), on all members. When the new cluster
    was healthy."""
    for member in world.cluster.members:
        member.kill()
    for member in world.cluster.members:
        member.wipe()
        # Without another token the new cluster would have the old one's id.
        token = ("--initial-cluster-token", "restored")
        member.ctl(
            *("snapshot", "restore", str(snapshot), "--name", member.name, *token),
            *("--initial-cluster", member.initial_cluster),
            *("--initial-advertise-peer-urls", member.peer_url),
            *("--data-dir", str(member.directory / "data")),
        )
        member.flags = (*member.flags, *token)
        member.start()
    world.cluster.learn_ids()
    return time.monotonic()


def write_past(world: World, revision: int) -> None:
    """Others write until the new store's revision is behind no host's back any more."""
    gateway = world.cluster.leader().gateway
    while gateway.put(b"/others/", b"") <= revision + 5:
        pass


Told = list[tuple[str, bytes, bytes, bytes]]


def told_of(host: Host, watch: int, since: int) -> Told:
    return [
        (
            line["event"],
            bytes.fromhex(line["agent"]),
            bytes.fromhex(line["label"] or ""),
            bytes.fromhex(line.get("blob") or ""),
        )
        for line in host.events(since, watch=watch)
        if line["agent"]
    ]


def before(world: World) -> None:
    gateway = world.cluster.leader().gateway
    for name in (b"stays", b"changes", b"leaves"):
        gateway.put_all([(NS + b"/" + name + b"/", b""), (NS + b"/" + name + b"/l", b"1")])


def after(world: World) -> None:
    """Writes changes that the snapshot does not have."""
    gateway = world.cluster.leader().gateway
    gateway.put(NS + b"/changes/l", b"2")
    gateway.put(NS + b"/changes/new", b"2")
    gateway.delete_prefix(NS + b"/leaves/")
    gateway.put_all([(NS + b"/comes/", b""), (NS + b"/comes/l", b"1")])


# The result of all changes, from a list of the older state: every label is reported again, since
# revisions say nothing.
DIFFERENCE: Told = [
    ("DELETE", b"changes", b"new", b""),
    ("GONE", b"comes", b"", b""),
    ("PUT", b"changes", b"l", b"1"),
    ("PUT", b"leaves", b"l", b"1"),
    ("PUT", b"stays", b"l", b"1"),
    ("RETURNED", b"leaves", b"", b""),
]


@pytest.mark.parametrize("revision", ["behind", "ahead"])
def test_snapshot_restored_resyncs_and_restores(
    world: World, figure: Figure, tmp_path: Path, revision: str
) -> None:
    """Watches: RESYNC, what differs, SYNCED; then live. Also where only the cluster's id tells,
    the revision being ahead of what was seen. Agents: LOST, what they published put back, also of
    one that the snapshot does not know, RESTORED; what one has unpublished since the snapshot
    goes with its old lease."""
    agent = world.agent(b"alpha", ttl=TTL, interval=1)
    agent.succeed("publish", label=b"old", blob=b"old")
    before(world)
    peer, watch = world.observer(flags=capi.WATCH_BLOBS)
    snapshot = save(world, tmp_path)
    late = world.agent(b"late", ttl=TTL, interval=1, language="python")
    agent.succeed("unpublish", label=b"old")
    agent.succeed("publish", label=b"metadata", blob=b"2")
    agent.succeed("publish", label=b"new", blob=b"2")
    after(world)
    old_id = world.cluster.leader().status()["header"]["cluster_id"]
    peer.event("PUT", watch=watch, agent=b"comes", label=b"l", within=PATIENCE)
    with world.observed(agent, peer, late):
        mark = peer.mark()
        # Nobody looks until the new cluster is as the test wants it; then first the peer.
        for host in (agent, late, peer):
            host.freeze()
        seen = world.cluster.leader().gateway.revision()
        restore(world, snapshot)
        assert world.cluster.leader().status()["header"]["cluster_id"] != old_id
        if revision == "ahead":
            write_past(world, seen)
        assert (world.cluster.leader().gateway.revision() > seen) is (revision == "ahead")
        thawed = peer.thaw()
        resync = peer.event("RESYNC", watch=watch, since=mark, within=PATIENCE)
        synced = peer.event("SYNCED", watch=watch, since=mark, within=PATIENCE)
        figure("peer is told RESYNC, since it goes on", thawed, resync["t"] / 1e9, 2)
        assert resync["t"] <= synced["t"]
        told = told_of(peer, watch, mark)
        assert sorted(t for t in told if t[1] not in (b"alpha", b"late")) == DIFFERENCE
        check_agents(told)
        mark = peer.mark()
        for host in (agent, late):
            thawed = host.thaw()
            restored = host.event("RESTORED", within=PATIENCE)
            figure("RESTORED, since it goes on", thawed, restored["t"] / 1e9, 2)
            assert host.names() == ["LOST", "RESTORED"]
        for name in (b"alpha", b"late"):
            wait_until(partial(is_told, peer, watch, mark, name), PATIENCE, f"{name!r} is told")
    wait_until(partial(is_settled, world, agent, late), PATIENCE, "all keys on their new leases")
    world.cluster.leader().gateway.put(NS + b"/stays/l", b"3")
    peer.event("PUT", watch=watch, agent=b"stays", blob=b"3", since=mark, within=PATIENCE)
    assert "ENDED" not in peer.names()


def is_settled(world: World, agent: Host, late: Host) -> bool:
    """Whether what is on a lease is what the two have published, on their new ones."""
    lease, late_lease = agent.stats()["lease_id"], late.stats()["lease_id"]
    found = world.cluster.leader().gateway.range(NS)
    return {kv.key: kv.lease for kv in found if kv.lease} == {
        NS + b"/alpha/": lease,
        NS + b"/alpha/metadata": lease,
        NS + b"/alpha/new": lease,
        NS + b"/late/": late_lease,
        NS + b"/late/metadata": late_lease,
    }


def check_agents(told: Told) -> None:
    """While both are silent: the older labels of the agent whose lease in the snapshot still lives,
    else GONE; GONE of the other. The old cluster may have reported the end of its lease first."""
    assert [t[0] for t in told if t[1] == b"late"] == ["GONE"]
    alpha = [t for t in told if t[1] == b"alpha"]
    expected = [
        ("DELETE", b"alpha", b"new", b""),
        ("PUT", b"alpha", b"metadata", b"alpha"),
        ("PUT", b"alpha", b"old", b"old"),
    ]
    is_gone = [t[0] for t in alpha][-1] == "GONE"
    if [t[0] for t in alpha[:2]] == ["GONE", "RETURNED"]:
        alpha, expected = alpha[2:], expected[1:]
    assert is_gone or sorted(alpha) == expected, alpha


def is_told(peer: Host, watch: int, since: int, name: bytes) -> bool:
    """Whether the peer's last events of the agent match what it published."""
    labels: dict[bytes, bytes] = {}
    for event, agent, label, blob in told_of(peer, watch, since):
        if agent == name and event == "PUT":
            labels[label] = blob
    return (
        labels
        == {
            b"alpha": {b"metadata": b"2", b"new": b"2"},
            b"late": {b"metadata": b"late"},
        }[name]
    )
