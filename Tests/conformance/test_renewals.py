# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Since etcd 3.5.28 and 3.6.9 a lease is renewed only for who may write all keys on it
(server/etcdserver/v3_server.go, checkLeaseRenew); it was always revoked only for such a user."""

from __future__ import annotations

import time

import capi
from conftest import EtcdFactory, HostFactory
from etcd_server import LIKE_37, Etcd
from hosts import Host
from memcheck import scaled

NS = b"/ns/"
TTL = 5
WHO = {"user": b"alice", "password": b"secret"}
# Where renewals are refused.
CHECKING = ("sid", LIKE_37)


def guarded(own_etcd: EtcdFactory, version: str) -> Etcd:
    etcd = own_etcd(version)
    etcd.gateway.enable_auth("root-password")
    etcd.gateway.add_user("alice", "secret", NS, "READWRITE")
    return etcd


def live(host: Host, etcd: Etcd) -> int:
    """Its lease."""
    host.open(etcd.endpoint, NS, agent=b"alpha", **WHO)
    host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
    host.succeed("publish", label=b"l", blob=b"1")
    return int(host.stats()["lease_id"])


def permit(etcd: Etcd, mode: str) -> None:
    # Every change of a role makes the tokens that were given before it too old.
    etcd.gateway.authenticate("root", "root-password")
    etcd.gateway.grant_permission("alice", NS, mode)
    etcd.gateway.authenticate("root", "root-password")


def held(etcd: Etcd) -> dict[bytes, int]:
    """The lease of each key."""
    return {kv.key: kv.lease for kv in etcd.gateway.range(NS)}


def test_permission_to_write_is_lost_and_comes_back(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str
) -> None:
    """Where renewals are refused, the lease ends and LOST comes; when the user may write again,
    everything is put back without a call. Elsewhere nothing happens. A publish completes with
    PERMISSION meanwhile, and nothing hammers etcd."""
    etcd = guarded(own_etcd, version)
    host = hosts()
    lease = live(host, etcd)
    permit(etcd, "READ")
    requests = host.stats()["requests"]
    begin = time.monotonic()
    done = host.finish("publish", label=b"l", blob=b"2", timeout=20_000, within=25)
    assert done["status"] == capi.PERMISSION, done
    assert "permission denied" in done["text"]
    if version in CHECKING:
        host.event("LOST", within=TTL + 15)
        assert lease not in etcd.gateway.leases()
    else:
        time.sleep(TTL + 2)
        assert held(etcd) == {NS + b"/alpha/": lease, NS + b"/alpha/l": lease}
    per_second = (host.stats()["requests"] - requests) / (time.monotonic() - begin)
    assert per_second < 20, f"{per_second:.0f} requests a second although all are refused"
    permit(etcd, "READWRITE")
    if version in CHECKING:
        host.event("RESTORED", within=40)
    host.succeed("publish", label=b"l", blob=b"3", timeout=40_000, within=45)
    lease = host.stats()["lease_id"]
    assert held(etcd) == {NS + b"/alpha/": lease, NS + b"/alpha/l": lease}
    expected = ["LOST", "RESTORED"] if version in CHECKING else []
    assert host.names() == expected
    # It is renewed.
    time.sleep(TTL + 2)
    assert held(etcd) == {NS + b"/alpha/": lease, NS + b"/alpha/l": lease}


def test_foreign_key_on_the_lease_stops_renewals(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str
) -> None:
    """It costs a new lease, not the agent: its keys are on a lease that is renewed, it publishes,
    and its shutdown leaves none of its keys."""
    etcd = guarded(own_etcd, version)
    host, peer = hosts(), hosts()
    lease = live(host, etcd)
    peer.open(etcd.endpoint, NS, **WHO)
    watch = peer.start("watch", agent=b"alpha")
    peer.event("SYNCED", watch=watch)
    etcd.gateway.authenticate("root", "root-password")
    etcd.gateway.put(b"/elsewhere", b"", lease)
    host.succeed("publish", label=b"l", blob=b"2", timeout=20_000, within=25)
    deadline = time.monotonic() + scaled(3 * TTL)
    while time.monotonic() < deadline:
        assert set(held(etcd)) == {NS + b"/alpha/", NS + b"/alpha/l"}
        time.sleep(0.1)
    if version in CHECKING:
        assert lease not in set(held(etcd).values())
    host.succeed("publish", label=b"l", blob=b"3")
    assert host.names() == []
    assert not {"GONE", "RESTARTED", "RETURNED"} & set(peer.names())
    host.do("shutdown", drain=5000)
    host.line("shut_down", within=10)
    assert held(etcd) == {}
