# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The questions of the review of NIXL's pull request 1010, measured; docs/why.md has the
outcome."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import (
    EXPIRY,
    SOON,
    EtcdFactory,
    Figure,
    HostFactory,
    PeerFactory,
    eventually,
    has_loaded,
    load_in_stock,
    wait_dropped,
    wait_loaded,
)
from etcd_server import Etcd
from hosts import Host
from proxy import Proxy

INTERVAL = 2
ATTEMPTS = 5
LEASES = 8
NEVER_SECONDS = 5.0


@pytest.fixture
def proxy(etcd34: Etcd) -> Iterator[Proxy]:
    between = Proxy(etcd34.port)
    yield between
    between.close()


def renew(etcd: Etcd, lease: int) -> bool:
    """One renewal; whether the lease lives."""
    answer = etcd.gateway.call("/v3/lease/keepalive", {"ID": str(lease)})
    return int(answer["result"].get("TTL", 0)) > 0


@pytest.mark.parametrize(("k", "survives"), [(2, False), (3, True)])
def test_ttl_of_three_intervals_survives_one_lost_renewal(
    etcd34: Etcd, k: int, survives: bool
) -> None:
    """Why TTL = 3 x interval: of renewals every interval, one is lost, the next arrives."""
    for _ in range(ATTEMPTS):
        begun = time.monotonic()
        leases = [etcd34.gateway.grant(k * INTERVAL) for _ in range(LEASES)]
        time.sleep(2 * INTERVAL + 0.05)
        with ThreadPoolExecutor(LEASES) as pool:
            lives = list(pool.map(lambda lease: renew(etcd34, lease), leases))
        # Where the machine was held up, the renewals were not sent after two intervals.
        if time.monotonic() - begun < 2.5 * INTERVAL:
            break
    assert lives == [survives] * LEASES


def test_ours_keeps_its_lease_over_lost_renewals(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes, proxy: Proxy
) -> None:
    """No answer for a whole interval, again and again: the lease is kept."""
    host = hosts()
    host.open(proxy.endpoint, namespace, agent=b"alpha")
    interval = 2 * INTERVAL
    host.succeed("start_heartbeat", interval=interval * 1000, ttl=3 * interval * 1000)
    host.succeed("publish", label=b"metadata", blob=b"b")
    lease = host.stats()["lease_id"]
    for _ in range(3):
        proxy.silence()
        time.sleep(interval)
        proxy.heal()
        time.sleep(interval)
    stats = host.stats()
    assert stats["renewals_unanswered"] + stats["connects_failed"] > 0, "no renewal was lost"
    assert (stats["leases_lost"], stats["lease_id"]) == (0, lease)


class Gap:
    """A reader behind a proxy has asked for alpha; alpha goes before the answer comes."""

    def __init__(self, peers: PeerFactory, kind: str, etcd: Etcd, ns: bytes, proxy: Proxy) -> None:
        alpha = peers("plain", "alpha")
        blob = bytes.fromhex(alpha.do("blob")["blob"])
        etcd.gateway.put(ns + b"/alpha/", b"")
        etcd.gateway.put(ns + b"/alpha/metadata", blob)
        etcd_of_reader = {"NIXL_ETCD_ENDPOINTS": proxy.endpoint}
        self.reader = peers(kind, "beta", None, ns, **etcd_of_reader)
        # Both put their presence key when they start; the rest is for its answer.
        eventually(lambda: etcd.gateway.get(ns + b"/beta/") is not None, SOON, "it is there")
        time.sleep(1)
        proxy.hold(answers=True)
        self.reader.do("want" if kind == "tick" else "fetch", agent="alpha")
        eventually(lambda: proxy.held() != b"", SOON, "the reader has asked")
        time.sleep(0.2)
        etcd.gateway.delete_prefix(ns + b"/alpha/")
        proxy.release()


def test_stock_loses_what_is_deleted_before_it_watches(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes, proxy: Proxy
) -> None:
    """Why watch from revision + 1: NIXL's own layer watches from 'now', after it has loaded."""
    reader = Gap(peers, "stock", etcd34, namespace, proxy).reader
    eventually(lambda: has_loaded(reader, "alpha"), SOON, "the dead agent is loaded")
    time.sleep(NEVER_SECONDS)
    assert has_loaded(reader, "alpha")


def test_ours_watches_from_the_revision_of_its_list(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes, proxy: Proxy
) -> None:
    reader = Gap(peers, "tick", etcd34, namespace, proxy).reader
    wait_dropped(reader, "alpha")
    time.sleep(NEVER_SECONDS)
    assert not has_loaded(reader, "alpha")


def deleted_last(etcd: Etcd, namespace: bytes) -> None:
    """The newest revision of the store is the deletion of the key that will be waited for."""
    etcd.gateway.put(namespace + b"/alpha/metadata", b"old")
    etcd.gateway.delete(namespace + b"/alpha/metadata")


def publish_late(etcd: Etcd, namespace: bytes, alpha: Host) -> None:
    time.sleep(1)
    blob = bytes.fromhex(alpha.do("blob")["blob"])
    etcd.gateway.put_all([(namespace + b"/alpha/", b""), (namespace + b"/alpha/metadata", blob)])


def test_stock_waits_from_the_revision_it_has_seen(
    peers: PeerFactory, own_etcd: EtcdFactory, namespace: bytes
) -> None:
    """It watches from that revision, not the next: it gets a known deletion, and stops waiting."""
    etcd = own_etcd()
    reader, alpha = peers("stock", "beta", etcd, namespace), peers("plain", "alpha")
    deleted_last(etcd, namespace)
    reader.do("fetch", agent="alpha")
    eventually(lambda: "metadata key deleted" in peers.log(reader), SOON, "it gives up at once")
    publish_late(etcd, namespace, alpha)
    time.sleep(NEVER_SECONDS)
    assert not has_loaded(reader, "alpha")


def test_ours_waits_from_the_next_revision(
    peers: PeerFactory, own_etcd: EtcdFactory, namespace: bytes
) -> None:
    etcd = own_etcd()
    reader, alpha = peers("tick", "beta", etcd, namespace), peers("plain", "alpha")
    deleted_last(etcd, namespace)
    reader.do("want", agent="alpha")
    publish_late(etcd, namespace, alpha)
    eventually(lambda: has_loaded(reader, "alpha"), SOON, "it is loaded when it appears")


@pytest.mark.parametrize(("kind", "notices"), [("stock", False), ("tick", True)])
def test_watch_after_a_restart_of_etcd(
    peers: PeerFactory, own_etcd: EtcdFactory, namespace: bytes, kind: str, notices: bool
) -> None:
    """Why not what the client has built in: its watcher does not survive this, and tells nobody."""
    etcd = own_etcd()
    alpha = peers("tick", "alpha", etcd, namespace)
    eventually(lambda: alpha.do("is_published")["is_published"], SOON, "it is published")
    reader = peers(kind, "beta", etcd, namespace)
    if kind == "tick":
        reader.do("want", agent="alpha")
        wait_loaded(reader, "alpha")
    else:
        load_in_stock(reader, etcd, "alpha")
    etcd.kill()
    etcd.start().wait_healthy()
    time.sleep(3)
    assert has_loaded(reader, "alpha")
    alpha.do("withdraw")
    eventually(lambda: not etcd.gateway.keys(namespace + b"/alpha/"), SOON, "it is withdrawn")
    if notices:
        wait_dropped(reader, "alpha")
    else:
        time.sleep(NEVER_SECONDS)
        assert has_loaded(reader, "alpha")


def seconds_until_published(host: Host, etcd: Etcd, namespace: bytes, command: str) -> float:
    key = namespace + b"/beta/metadata"
    before = etcd.gateway.get(key)
    host.do(command)
    return eventually(lambda: etcd.gateway.get(key) != before, 2 * SOON, "beta is published")


def test_worker_of_stock_is_blocked_by_an_absent_agent(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes
) -> None:
    """Why renewals may run on NIXL's worker only if nothing there waits: two such fetches are
    longer than a TTL of 5 s."""
    stock = peers("stock", "beta", etcd34, namespace)
    for absent in ("nobody", "no-one"):
        stock.do("fetch", agent=absent)
    late = seconds_until_published(stock, etcd34, namespace, "send")
    print(f"stock: published {late:.2f} s late")
    assert late > 5


def test_worker_of_ours_is_not_blocked_by_absent_agents(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes
) -> None:
    ours = peers("tick", "beta", etcd34, namespace)
    eventually(lambda: ours.do("is_published")["is_published"], SOON, "it is published")
    for number in range(100):
        ours.do("want", agent=f"absent-{number}")
    late = seconds_until_published(ours, etcd34, namespace, "publish")
    print(f"ours: published {late:.2f} s late")
    # That of a machine under load.
    assert late < 5


def test_101_keys_on_one_lease_end_in_one_revision(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes, figure: Figure
) -> None:
    """101 keys cost the renewals of one, and end in one revision."""
    host = hosts()
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    host.succeed("start_heartbeat", interval=1000, ttl=5000)
    for number in range(100):
        host.start("publish", label=b"label-%d" % number, blob=b"b")
    eventually(lambda: len(etcd34.gateway.keys(namespace)) == 101, SOON, "all labels are published")
    first = etcd34.gateway.revision()
    before, begun = host.stats()["renewals"], time.monotonic()
    time.sleep(10)
    renewals, seconds = host.stats()["renewals"] - before, time.monotonic() - begun
    print(f"101 keys: {renewals} renewals in {seconds:.1f} s at an interval of 1 s")
    # Due after 1 s less a jitter of up to a fifth, and not one for each key.
    assert 1 <= renewals <= seconds / 0.8 + 1
    killed = host.kill()
    eventually(lambda: not etcd34.gateway.keys(namespace), SOON, "the lease ends")
    figure("the lease ends, since the kill", killed, time.monotonic(), 5 + EXPIRY)
    ended = etcd34.gateway.history(namespace, first + 1, etcd34.gateway.revision())
    deleted = [change for change in ended if change.is_delete]
    assert len(deleted) == 101
    assert len({change.revision for change in deleted}) == 1
