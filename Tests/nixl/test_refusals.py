# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The adapter and an etcd that refuses for a while, or forgets."""

from __future__ import annotations

import time

import pytest

from agents import KINDS, LONG_TTL, SIZE, TTL, check_read, is_refused, start, told, wait_published
from conftest import (
    EXPIRY,
    SOON,
    EtcdFactory,
    Figure,
    PeerFactory,
    blob_of,
    eventually,
    wait_dropped,
    wait_loaded,
)
from etcd_server import Etcd
from hosts import Host


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", [None, "publish"], ids=["the loop", "the application"])
def test_never_without_a_lease(
    peers: PeerFactory,
    own_etcd: EtcdFactory,
    namespace: bytes,
    figure: Figure,
    kind: str,
    command: str | None,
) -> None:
    """etcd grants no lease at first: its database is full. Metadata published by the loop or by the
    application meanwhile is there when it has room, on a lease, without another call."""
    etcd = own_etcd()
    etcd.gateway.alarm("ACTIVATE")
    alpha = start(peers, kind, "alpha", etcd, namespace)
    eventually(lambda: "space exceeded" in peers.log(alpha), SOON, "the log tells")
    if command is not None:
        alpha.do(command)
    time.sleep(1)
    assert not alpha.do("is_published")["is_published"]
    assert etcd.gateway.keys(namespace) == []
    etcd.gateway.alarm("DEACTIVATE")
    eventually(lambda: etcd.gateway.keys(namespace) != [], SOON, "it is published")
    wait_published(alpha)
    alpha.do("publish_partial", registration=0, label="part")
    eventually(lambda: len(etcd.gateway.keys(namespace)) == 3, SOON, "all is published")
    leases = {kv.lease for kv in etcd.gateway.range(namespace)}
    assert len(leases) == 1
    assert 0 not in leases
    # Once while it lasts, not at each attempt.
    assert peers.log(alpha).count("space exceeded") == 1
    killed = alpha.kill()
    eventually(lambda: not etcd.gateway.keys(namespace), SOON, "the lease ends")
    figure("the lease ends, since the kill", killed, time.monotonic(), TTL + EXPIRY)


def publish_parts(host: Host) -> None:
    host.do("publish_partial", registration=0, label="conn", conn=1)
    host.do("publish_partial", registration=0, label="part")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("refused", ["lease", "lease and labels", "labels"])
def test_only_partial_metadata(
    peers: PeerFactory, own_etcd: EtcdFactory, namespace: bytes, kind: str, refused: str
) -> None:
    """A lease or labels for which etcd has no room are written when it has, and nothing else."""
    etcd = own_etcd()
    partial = {"TEST_PARTIAL_ONLY": "1", "TEST_TTL": str(TTL)}
    if refused == "labels":
        alpha = peers(kind, "alpha", etcd, namespace, **partial)
        eventually(lambda: etcd.gateway.leases() != [], SOON, "there is a lease")
        etcd.gateway.alarm("ACTIVATE")
    else:
        etcd.gateway.alarm("ACTIVATE")
        alpha = peers(kind, "alpha", etcd, namespace, **partial)
        eventually(
            lambda: "space exceeded" in peers.log(alpha), SOON, "the refusal of the lease is told"
        )
    if refused != "lease":
        publish_parts(alpha)
        eventually(lambda: "space exceeded" in peers.log(alpha), SOON, "the refusal is told")
        # For several checks.
        time.sleep(1)
        assert not alpha.do("is_published")["is_published"]
    etcd.gateway.alarm("DEACTIVATE")
    if refused == "lease":
        eventually(lambda: etcd.gateway.leases() != [], SOON, "there is a lease")
        assert not alpha.do("is_published")["is_published"]
        publish_parts(alpha)
    root = namespace + b"/alpha/"
    keys = [root, root + b"conn", root + b"part"]
    eventually(lambda: etcd.gateway.keys(namespace) == keys, SOON, "both are published")
    wait_published(alpha)
    # Nor does the loop publish anything else, or once more.
    kept = etcd.gateway.range(namespace)
    time.sleep(1)
    assert etcd.gateway.range(namespace) == kept
    assert {kv.lease for kv in kept} == set(etcd.gateway.leases())
    assert len(etcd.gateway.leases()) == 1
    assert peers.log(alpha).count("space exceeded") <= 2


def test_removed_by_an_operator(
    peers: PeerFactory, own_etcd: EtcdFactory, namespace: bytes
) -> None:
    """For example to make room. Labels that had no room before are then not written either."""
    etcd = own_etcd()
    alpha = start(peers, "tick", "alpha", etcd, namespace)
    wait_published(alpha)
    etcd.gateway.alarm("ACTIVATE")
    alpha.do("publish_partial", registration=0, label="part")
    eventually(lambda: "space exceeded" in peers.log(alpha), SOON, "the refusal is told")
    etcd.gateway.delete_prefix(namespace + b"/alpha/")
    eventually(lambda: "alpha: WITHDRAWN" in peers.log(alpha), SOON, "it is told")
    assert not alpha.do("is_published")["is_published"]
    etcd.gateway.alarm("DEACTIVATE")
    time.sleep(1)
    assert etcd.gateway.keys(namespace) == []
    publish_parts(alpha)
    eventually(lambda: len(etcd.gateway.keys(namespace)) == 3, SOON, "only that is published")
    wait_published(alpha)


def test_lease_lost_is_unpublished_until_restored(
    peers: PeerFactory, own_etcd: EtcdFactory, namespace: bytes
) -> None:
    """Until everything is back, it is not published."""
    etcd = own_etcd()
    alpha = start(peers, "tick", "alpha", etcd, namespace)
    wait_published(alpha)
    etcd.gateway.alarm("ACTIVATE")
    etcd.gateway.revoke(etcd.gateway.leases()[0])
    eventually(lambda: "alpha: LOST" in peers.log(alpha), SOON, "it is told")
    assert not alpha.do("is_published")["is_published"]
    etcd.gateway.alarm("DEACTIVATE")
    wait_published(alpha)
    assert len(etcd.gateway.keys(namespace)) == 2


def test_name_in_use_is_taken_once_it_is_free(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes, figure: Figure
) -> None:
    """Where taking over is refused, the name is had as soon as the other process has lost it, by
    the loop alone."""
    reader = peers("tick", "beta", etcd34, namespace)
    reader.do("want", agent="alpha")
    old = start(peers, "tick", "alpha", etcd34, namespace, seed=55)
    told(reader, True)
    new = peers("tick", "alpha", etcd34, namespace, TEST_SIZE=str(SIZE), TEST_REFUSE_TAKEOVER="1")
    eventually(lambda: is_refused(new, "NotAllowed"), SOON, "the refusal is told")
    time.sleep(1)
    check_read(reader, old, 55)
    mark = reader.mark()
    killed = old.kill()
    dropped = told(reader, False, since=mark)
    figure("dropped, since the kill", killed, dropped["t"] / 1e9, TTL + EXPIRY)
    told(reader, True, since=mark)
    check_read(reader, new, 1)
    assert peers.log(new).count("publish metadata: NOT_ALLOWED") == 1


def test_withdrawn_while_there_is_no_lease(
    peers: PeerFactory, own_etcd: EtcdFactory, namespace: bytes
) -> None:
    """A publish that waits for a lease does not happen after an invalidate."""
    etcd = own_etcd.unstarted()
    alpha = start(peers, "tick", "alpha", etcd, namespace)
    alpha.do("publish_partial", registration=0, label="part")
    alpha.do("withdraw")
    etcd.start().wait_healthy()
    alpha.do("publish_partial", registration=0, label="other")
    key = namespace + b"/alpha/"
    eventually(lambda: etcd.gateway.keys(namespace) == [key, key + b"other"], SOON, "only the last")


@pytest.mark.parametrize(("kind", "is_late"), [("tick", True), ("asyncio", False)])
def test_etcd_forgets_everything(
    peers: PeerFactory, own_etcd: EtcdFactory, namespace: bytes, kind: str, is_late: bool
) -> None:
    """Living agents put their keys back and go on, though etcd's revisions begin again; one that
    died meanwhile is dropped. A late reader finds the keys back already."""
    etcd = own_etcd()
    # So that revisions are higher than those to come.
    for number in range(100):
        etcd.gateway.put(b"/other", str(number).encode())
    reader = peers(kind, "beta", etcd, namespace)
    alpha = start(peers, kind, "alpha", etcd, namespace, seed=60)
    dead = start(peers, kind, "gamma", etcd, namespace, ttl=LONG_TTL)
    for name in ("alpha", "gamma"):
        reader.do("want", agent=name)
        told(reader, True, name=name)
    if is_late:
        reader.freeze()
    etcd.kill()
    dead.kill()
    etcd.wipe()
    etcd.start().wait_healthy()
    key = namespace + b"/alpha/metadata"
    eventually(lambda: etcd.gateway.get(key) is not None, SOON, "it is put back")
    if is_late:
        reader.thaw()
    told(reader, False, name="gamma")
    wait_dropped(reader, "gamma")
    wait_loaded(reader, "alpha")
    check_read(reader, alpha, 60)
    # New metadata is still fetched and loaded, and a restart is noticed.
    more = alpha.do("register", size=SIZE, seed=61)
    eventually(lambda: etcd.gateway.range(key)[0].value == blob_of(alpha), SOON, "published again")
    where = {"agent": "alpha", "address": more["address"], "size": SIZE}

    def is_known() -> bool:
        reader.do("refetch", agent="alpha")
        return bool(reader.do("check", **where)["is_there"])

    eventually(is_known, SOON, "the new buffer is known")
    mark = reader.mark()
    alpha.kill()
    new = start(peers, kind, "alpha", etcd, namespace, seed=62)
    # The last fetch may be reported as well.
    dropped = reader.log.lines.index(told(reader, False, since=mark))
    told(reader, True, since=dropped)
    check_read(reader, new, 62)
