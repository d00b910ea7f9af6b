# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""An operator uses etcdctl on the keys and the lease of a living process."""

from __future__ import annotations

import itertools
import time

import pytest

import capi
from conftest import HostFactory
from etcd_server import Etcd
from hosts import Host
from leases import RESTORE_PAUSE, one_lease
from memcheck import scaled

LANGUAGES = ("cpp", "python")
TTL = 5


def live(host: Host, etcd: Etcd, namespace: bytes, *, leased: bool = True, labels: int = 3) -> None:
    host.open(etcd.endpoint, namespace, agent=b"alpha")
    if leased:
        host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
    ops = host.do("publish", label=b"l", blob=b"b", repeat=labels)["ops"]
    assert {done["status"] for done in host.completions(ops, 15).values()} == {capi.SUCCESS}


def watching(host: Host, etcd: Etcd, namespace: bytes) -> int:
    host.open(etcd.endpoint, namespace)
    watch = host.start("watch", agent=b"alpha")
    host.event("SYNCED", watch=watch)
    return watch


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("leased", [True, False])
def test_del_prefix(
    hosts: HostFactory, etcd: Etcd, namespace: bytes, language: str, leased: bool
) -> None:
    """WITHDRAWN comes once, nothing is put back, and the next publish claims the name again; this
    can be repeated."""
    host, peer = hosts(language), hosts()
    live(host, etcd, namespace, leased=leased)
    watch = watching(peer, etcd, namespace)
    incarnation = one_lease(etcd, namespace, is_renewed=leased) >> 16
    prefix = namespace + b"/alpha/"
    for number in range(3):
        mark, peer_mark = host.mark(), peer.mark()
        count = len(etcd.gateway.keys(prefix))
        assert etcd.ctl("del", "--prefix", prefix.decode()).strip() == str(count)
        host.event("WITHDRAWN", since=mark, within=2)
        peer.event("GONE", watch=watch, since=peer_mark, within=2)
        time.sleep(2 if leased else 0.5)  # two renewals
        assert etcd.gateway.keys(namespace) == []
        host.succeed("publish", label=b"again%d" % number, blob=b"b")
        found = etcd.gateway.range(namespace)
        assert [kv.key for kv in found] == [prefix, prefix + b"again%d" % number]
        assert one_lease(etcd, namespace, is_renewed=leased) >> 16 == incarnation
        returned = peer.event("RETURNED", watch=watch, since=peer_mark, within=2)
        assert returned["incarnation"] == incarnation
        assert host.names(mark) == ["WITHDRAWN"]
    assert host.stats()["leases_lost"] == 0


def test_del_prefix_while_publishing(hosts: HostFactory, etcd: Etcd, namespace: bytes) -> None:
    """Every publish ends once, with success or because the keys were removed; afterwards the store
    holds exactly the later publishes."""
    host = hosts()
    live(host, etcd, namespace)
    prefix = (namespace + b"/alpha/").decode()
    mark = host.mark()
    ops: list[int] = []
    for number in range(10):
        ops += host.do("publish", label=b"m%d-" % number, blob=b"b", repeat=20)["ops"]
        if number % 3 == 1:
            etcd.ctl("del", "--prefix", prefix)
    statuses = {done["status"] for done in host.completions(ops, 15).values()}
    assert statuses <= {capi.SUCCESS, capi.MISMATCH}
    time.sleep(0.5)
    etcd.ctl("del", "--prefix", prefix)
    deadline = time.monotonic() + scaled(3)
    while host.finish("publish", label=b"last", blob=b"b")["status"] != capi.SUCCESS:
        assert time.monotonic() < deadline, "the name is not claimed again"
    assert [kv.key for kv in etcd.gateway.range(namespace)] == [
        namespace + b"/alpha/",
        namespace + b"/alpha/last",
    ]
    told = host.names(mark)
    assert set(told) == {"WITHDRAWN"}
    assert 1 <= len(told) <= 4


@pytest.mark.parametrize("language", LANGUAGES)
def test_lease_revoke(hosts: HostFactory, etcd: Etcd, namespace: bytes, language: str) -> None:
    """LOST, then RESTORED, and every key is back with its blob, under a lease of the same
    incarnation: peers get GONE and RETURNED, never RESTARTED."""
    host, peer = hosts(language), hosts()
    live(host, etcd, namespace, labels=30)
    watch = watching(peer, etcd, namespace)
    before = [(kv.key, kv.value) for kv in etcd.gateway.range(namespace)]
    leases = [host.stats()["lease_id"]]
    for number in range(3):
        pause = RESTORE_PAUSE * [0, 1, 2][number]
        mark, peer_mark = host.mark(), peer.mark()
        etcd.ctl("lease", "revoke", f"{leases[-1]:x}")
        lost = host.event("LOST", since=mark, within=2)
        restored = host.event("RESTORED", since=mark, within=pause + 2)
        assert (restored["t"] - lost["t"]) / 1e9 >= pause
        assert host.names(mark) == ["LOST", "RESTORED"]
        found = etcd.gateway.range(namespace)
        assert [(kv.key, kv.value) for kv in found] == before
        leases.append(host.stats()["lease_id"])
        assert {kv.lease for kv in found} == {leases[-1]}
        peer.event("RETURNED", watch=watch, since=peer_mark, within=2)
        peer.event("PUT", watch=watch, since=peer_mark, label=b"l29", within=2)
        told = peer.names(peer_mark, watch=watch)
        assert told.count("GONE") == told.count("RETURNED") == 1
        assert "RESTARTED" not in told
    assert len({lease >> 16 for lease in leases}) == 1
    assert all(one != other for one, other in itertools.pairwise(leases))
    assert host.stats()["restores"] == 3


def test_lease_revoked_after_a_withdrawal(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    """It is revoked, and what the operator has removed stays away."""
    host = hosts()
    live(host, etcd34, namespace)
    lease = host.stats()["lease_id"]
    etcd34.ctl("del", "--prefix", (namespace + b"/alpha/").decode())
    host.event("WITHDRAWN", within=2)
    assert lease not in etcd34.gateway.leases(), "it is given back before WITHDRAWN is told"
    time.sleep(3)
    assert etcd34.gateway.keys(namespace) == []
    host.succeed("publish", label=b"l", blob=b"b")
    assert one_lease(etcd34, namespace, is_renewed=True) == host.stats()["lease_id"] != lease
    assert host.names() == ["WITHDRAWN"]
