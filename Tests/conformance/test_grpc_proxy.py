# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""`etcd grpc-proxy` between agent and etcd: it gives watches ids of its own, renews leases in its
own time, and may lose events."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

import capi
from conftest import EtcdFactory, HostFactory
from etcd_server import Etcd
from grpc_proxy import GrpcProxy
from hosts import Host

# `NIXL_MD_PROXY_SECONDS=600` is the run of ten minutes.
SECONDS = float(os.environ.get("NIXL_MD_PROXY_SECONDS", "24"))
INTERVAL, TTL = 5000, 15000
# Connections that either host may make in the whole run: a first one, and some for each restart.
CONNECTIONS = 12


@pytest.fixture(params=["3.4", "3.5"])
def behind_proxy(
    request: pytest.FixtureRequest, own_etcd: EtcdFactory
) -> Iterator[tuple[Etcd, GrpcProxy]]:
    etcd = own_etcd(request.param)
    proxy = GrpcProxy(request.param, etcd.port)
    try:
        yield etcd, proxy
    finally:
        proxy.close()


class Publisher:
    """Publishes a new blob now and then, and remembers what became of each."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.count = 0
        self.last = b""

    def publish(self, within: float = 15.0) -> None:
        self.count += 1
        self.last = b"%d" % self.count
        self.host.succeed("publish", label=b"l", blob=self.last, within=within)


def follow(host: Host, watch: int, blob: bytes, since: int) -> None:
    host.event("PUT", watch=watch, blob=blob, within=10, since=since)


@pytest.mark.native("a long run")
def test_grpcProxy_restartsAndCompaction_loseNothing(
    behind_proxy: tuple[Etcd, GrpcProxy], hosts: HostFactory, namespace: bytes
) -> None:
    etcd, proxy = behind_proxy
    agent, peer = hosts("cpp"), hosts("cpp")
    agent.open(proxy.endpoint, namespace, agent=b"alpha")
    agent.succeed("start_heartbeat", interval=INTERVAL, ttl=TTL)
    peer.open(proxy.endpoint, namespace)
    watches = [peer.start("watch", flags=capi.WATCH_BLOBS), peer.start("watch", agent=b"alpha")]
    for watch in watches:
        peer.event("SYNCED", watch=watch, within=10)
    publisher = Publisher(agent)
    faults = [lambda: restart_proxy(proxy), lambda: restart(etcd), lambda: compact(etcd)]
    pause = min(5.0, SECONDS / 8)
    started = time.monotonic()
    while (elapsed := time.monotonic() - started) < SECONDS:
        since = peer.mark()
        publisher.publish()
        for watch in watches:
            follow(peer, watch, publisher.last, since)
        if faults and elapsed > SECONDS / 4 * (4 - len(faults)) - pause:
            faults.pop(0)()
        else:
            time.sleep(pause)
    since = peer.mark()
    publisher.publish()
    for watch in watches:
        follow(peer, watch, publisher.last, since)
    assert not faults
    assert not {"LOST", "RESTORED", "SUPERSEDED", "WITHDRAWN"} & set(agent.names())
    assert not {"GONE", "RESTARTED", "RETURNED", "ENDED"} & set(peer.names())
    for host in (agent, peer):
        assert host.stats()["connects"] <= CONNECTIONS, host.stats()
        host.close()


def restart_proxy(proxy: GrpcProxy) -> None:
    proxy.kill()
    time.sleep(0.5)
    proxy.start()


def restart(etcd: Etcd) -> None:
    etcd.kill()
    time.sleep(0.5)
    etcd.start().wait_healthy()


def compact(etcd: Etcd) -> None:
    etcd.gateway.compact(etcd.gateway.revision())


@pytest.mark.native("a long run")
def test_grpcProxy_manyWatches_eachGetsItsEvents(
    behind_proxy: tuple[Etcd, GrpcProxy], hosts: HostFactory, namespace: bytes
) -> None:
    """Ids that the proxy gives are never confused with others; ending one frees nothing of the
    others."""
    etcd, proxy = behind_proxy
    host = hosts("cpp")
    host.open(proxy.endpoint, namespace)
    names = [b"a%d" % number for number in range(40)]
    watches = {name: host.start("watch", agent=name) for name in names}
    for watch in watches.values():
        host.event("SYNCED", watch=watch, within=10)
    for name in names[::3]:
        host.do("cancel", op=watches[name])
        host.event("ENDED", watch=watches.pop(name), within=10)
    for name in names:
        etcd.gateway.put(namespace + b"/" + name + b"/", b"")
    for name, watch in watches.items():
        host.event("PRESENT", watch=watch, agent=name, within=10)
    fetched = host.start("fetch", agent=b"late", label=b"l")
    time.sleep(0.3)
    etcd.gateway.put(namespace + b"/late/l", b"1")
    assert host.done(fetched)["status"] == capi.SUCCESS
    assert host.stats()["connects"] == 1
    host.close()
