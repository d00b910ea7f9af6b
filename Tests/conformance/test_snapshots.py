# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""An operator restores a snapshot of a store under the same cluster id, while agents live. With
`--bump-revision --mark-compacted` (etcd's docs, 'Disaster recovery') its revision is ahead of all
that anybody knows, and without it is behind, or ahead again when others have written."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

import capi
from conftest import EtcdFactory, HostFactory
from etcd_server import VERSIONS, Etcd, can_bump
from hostile_server import wait_until
from hosts import Host

NS = b"/ns/"
TTL = 30
# As etcd's documentation advises.
BUMP = 1_000_000_000
PREFIX = NS + b"/alpha/"
# The labels whose last publish succeeded.
LABELS = {b"stays": b"1", b"changes": b"2", b"comes": b"2"}

# How the restored revision lies to what was known, for each server that can do it.
WAYS = [
    (version, way)
    for version in VERSIONS
    for way in ("bumped", "behind", "ahead")
    if way != "bumped" or can_bump(version)
]


def publish(host: Host, **labels: bytes) -> None:
    for label, blob in labels.items():
        host.succeed("publish", label=label.encode(), blob=blob)


def restore(etcd: Etcd, snapshot: Path, way: str) -> None:
    """Under the same cluster id, and nobody has looked before it is as it is to be."""
    known = etcd.gateway.revision()
    cluster = etcd.status()["header"]["cluster_id"]
    etcd.kill()
    etcd.restore(snapshot, BUMP if way == "bumped" else 0)
    assert etcd.status()["header"]["cluster_id"] == cluster
    if way == "ahead":
        while etcd.gateway.put(b"/others", b"") <= known + 5:
            pass
    now = etcd.gateway.revision()
    assert {"bumped": now > BUMP, "behind": now < known, "ahead": known < now < BUMP}[way]


def found(etcd: Etcd) -> dict[bytes, bytes]:
    return {kv.key: kv.value for kv in etcd.gateway.range(PREFIX)}


def is_back(etcd: Etcd) -> bool:
    return found(etcd) == {PREFIX: b"", **{PREFIX + name: blob for name, blob in LABELS.items()}}


@pytest.mark.parametrize("leased", [True, False], ids=["leased", "permanent"])
@pytest.mark.parametrize(("version", "way"), WAYS)
def test_snapshot_restored_agents_put_their_labels_back(
    hosts: HostFactory,
    own_etcd: EtcdFactory,
    tmp_path: Path,
    version: str,
    way: str,
    leased: bool,
) -> None:
    """Each label holds the blob of its last successful publish, and labels unpublished since are
    gone again, all on the lease that the agent names. It goes on publishing."""
    etcd = own_etcd(version)
    agent = hosts()
    agent.open(etcd.endpoint, NS, agent=b"alpha")
    if leased:
        agent.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
    publish(agent, stays=b"1", changes=b"1", leaves=b"1")
    snapshot = tmp_path / "snapshot.db"
    etcd.save(snapshot)
    publish(agent, changes=b"2", comes=b"2")
    agent.succeed("unpublish", label=b"leaves")
    # So that the agent does not notice by a write of its own.
    for number in range(20):
        etcd.gateway.put(b"/others", b"%d" % number)
    agent.freeze()
    restore(etcd, snapshot, way)
    agent.thaw()
    wait_until(partial(is_back, etcd), 20, "all labels are back")
    leases = {kv.lease for kv in etcd.gateway.range(PREFIX)}
    assert len(leases) == 1
    if leased:
        assert leases == {agent.stats()["lease_id"]}
    agent.succeed("publish", label=b"stays", blob=b"3")
    assert found(etcd)[PREFIX + b"stays"] == b"3"
    told = agent.names()
    assert told.count("LOST") == told.count("RESTORED")
    assert not {"SUPERSEDED", "WITHDRAWN"} & set(told), told


@pytest.mark.parametrize(("version", "way"), [each for each in WAYS if each[1] != "ahead"])
def test_snapshot_restored_peers_get_the_difference(
    hosts: HostFactory, own_etcd: EtcdFactory, tmp_path: Path, version: str, way: str
) -> None:
    """RESYNC, the differences of the snapshot, SYNCED; then new changes."""
    etcd = own_etcd(version)
    put = etcd.gateway.put
    for name in (b"stays", b"changes", b"leaves"):
        etcd.gateway.put_all([(NS + b"/" + name + b"/", b""), (NS + b"/" + name + b"/l", b"1")])
    peer = hosts()
    peer.open(etcd.endpoint, NS)
    watch = peer.start("watch", flags=capi.WATCH_BLOBS)
    peer.event("SYNCED", watch=watch)
    snapshot = tmp_path / "snapshot.db"
    etcd.save(snapshot)
    put(NS + b"/changes/l", b"2")
    etcd.gateway.delete_prefix(NS + b"/leaves/")
    etcd.gateway.put_all([(NS + b"/comes/", b""), (NS + b"/comes/l", b"1")])
    peer.event("PUT", watch=watch, agent=b"comes", label=b"l")
    peer.freeze()
    mark = peer.mark()
    restore(etcd, snapshot, way)
    peer.thaw()
    peer.event("RESYNC", watch=watch, since=mark, within=20)
    peer.event("SYNCED", watch=watch, since=mark, within=20)
    told = {
        (line["event"], bytes.fromhex(line["agent"]), bytes.fromhex(line.get("label") or ""))
        for line in peer.events(mark, watch=watch)
        if line["agent"] and bytes.fromhex(line["agent"]) != b"stays"
    }
    assert told == {
        ("PUT", b"changes", b"l"),
        ("RETURNED", b"leaves", b""),
        ("PUT", b"leaves", b"l"),
        ("GONE", b"comes", b""),
    }
    put(NS + b"/stays/l", b"3")
    peer.event("PUT", watch=watch, agent=b"stays", blob=b"3", since=mark)
