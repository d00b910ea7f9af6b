# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Putting back what was lost while the process lives: in guarded batches, never over another."""

from __future__ import annotations

import time
from collections import Counter

import pytest

import capi
from conftest import EtcdFactory, HostFactory
from etcd_server import Etcd
from gateway import KeyValue
from hosts import Host, made_blob
from leases import RESTORE_PAUSE, one_lease
from memcheck import scaled
from proxy import Proxy

LANGUAGES = ("cpp", "python")
TTL = 5
SMALL_LABELS = 300
LARGE_BLOBS = 7
# Batches of small labels.
BATCHES = 3
LARGE = 400 * 1024
MIB = 1 << 20


def publish(host: Host, endpoint: str, namespace: bytes, large: int, ttl: int = TTL) -> None:
    host.open(endpoint, namespace, agent=b"alpha")
    host.succeed("start_heartbeat", interval=1000, ttl=ttl * 1000)
    ops = host.do("publish", label=b"l", blob=b"small", repeat=SMALL_LABELS)["ops"]
    ops += [
        host.start("publish", label=b"large%d" % number, size=LARGE, seed=number)
        for number in range(large)
    ]
    assert {done["status"] for done in host.completions(ops, 30).values()} == {capi.SUCCESS}


def expected(prefix: bytes, large: int) -> dict[bytes, bytes]:
    labels = {b"l%d" % number: b"small" for number in range(SMALL_LABELS)}
    labels |= {b"large%d" % number: made_blob(LARGE, number) for number in range(large)}
    return {prefix: b"", **{prefix + label: blob for label, blob in labels.items()}}


def batches(found: list[KeyValue]) -> dict[int, tuple[int, int]]:
    """For each revision how many keys it wrote, and their bytes."""
    keys = Counter(kv.mod_revision for kv in found)
    sizes: Counter[int] = Counter()
    for kv in found:
        sizes[kv.mod_revision] += len(kv.key) + len(kv.value)
    return {revision: (keys[revision], sizes[revision]) for revision in keys}


@pytest.mark.parametrize("language", LANGUAGES)
def test_restore_of_300_labels_is_batched(
    hosts: HostFactory, etcd: Etcd, namespace: bytes, language: str
) -> None:
    """300 labels and 2.7 MiB of blobs: one revision for each batch of at most 100 keys and 1 MiB,
    the presence key first and alone; LOST once, RESTORED after the last label; nothing missing."""
    host, peer = hosts(language), hosts()
    publish(host, etcd.endpoint, namespace, LARGE_BLOBS)
    peer.open(etcd.endpoint, namespace)
    watch = peer.start("watch", agent=b"alpha")
    peer.event("SYNCED", watch=watch)
    mark, peer_mark = host.mark(), peer.mark()
    etcd.ctl("lease", "revoke", f"{host.stats()['lease_id']:x}")
    host.event("LOST", since=mark, within=3)
    restored = host.event("RESTORED", since=mark, within=5)
    prefix = namespace + b"/alpha/"
    found = etcd.gateway.range(prefix)
    assert {kv.key: kv.value for kv in found} == expected(prefix, LARGE_BLOBS)
    assert {kv.lease for kv in found} == {host.stats()["lease_id"]}
    written = batches(found)
    assert max(count for count, _ in written.values()) <= 100
    assert max(size for _, size in written.values()) <= MIB
    assert len(written) <= 1 + 3 + 4, f"more transactions than it takes: {written}"
    assert written[min(written)] == (1, len(prefix)), "the presence key is not the first"
    assert restored["revision"] >= max(written)
    time.sleep(1.5)  # a renewal
    assert batches(etcd.gateway.range(prefix)) == written
    assert host.names(mark) == ["LOST", "RESTORED"]
    peer.event("RETURNED", watch=watch, since=peer_mark)
    peer.event("PUT", watch=watch, since=peer_mark, label=b"large%d" % (LARGE_BLOBS - 1))
    told = Counter(peer.names(peer_mark, watch=watch))
    assert told["GONE"] == told["RETURNED"] == 1
    assert set(told) == {"GONE", "RETURNED", "PUT"}
    labels = [line["label"] for line in peer.events(peer_mark, watch=watch, event="PUT")]
    assert sorted(labels) == sorted(
        key.removeprefix(prefix).hex() for key in expected(prefix, LARGE_BLOBS) if key != prefix
    )


def stop_in_restore(
    host: Host, etcd: Etcd, proxy: Proxy, prefix: bytes, count: int
) -> list[KeyValue]:
    """Ticks a host by hand until so many transactions of its restore are in the store and the next
    ones wait in the proxy: first the one that puts the presence key, then all batches of labels."""
    deadline = time.monotonic() + scaled(10)
    while True:
        proxy.hold(requests=True)
        sent = host.stats()["requests"]
        assert host.request("tick")["rc"] >= 0
        if host.stats()["requests"] > sent:
            wait_for_request(proxy)
        # A transaction names the presence key in its guard, and again or a label's in what it does.
        if host.names() == ["LOST"] and proxy.held().count(prefix) >= 2:
            found = etcd.gateway.range(prefix)
            if len(batches(found)) == count:
                return found
        assert time.monotonic() < deadline, f"told {host.names()}"
        proxy.release()
        time.sleep(0.005)


def test_restore_interrupted_by_another_loss_is_complete(
    hosts: HostFactory, etcd: Etcd, namespace: bytes
) -> None:
    """A lease is revoked in the middle of a restore: LOST and RESTORED come once, all keys are
    there. Each restore begins after a longer pause."""
    prefix = namespace + b"/alpha/"
    proxy = Proxy(etcd.port)
    try:
        host = hosts()
        # The proxy delays renewals, too, for longer than TTL; only the revocation may lose the
        # lease.
        publish(host, proxy.endpoint, namespace, 2, ttl=12 * TTL)
        host.do("drive", mode="hand")
        for count in (0, 1, 0, 1):
            etcd.gateway.revoke(host.stats()["lease_id"])
            stop_in_restore(host, etcd, proxy, prefix, count)
            proxy.release()
        host.do("drive", mode="efd")
        host.event("RESTORED", within=5 + 8 * RESTORE_PAUSE)
        found = etcd.gateway.range(prefix)
        assert {kv.key: kv.value for kv in found} == expected(prefix, 2)
        assert {kv.lease for kv in found} == {host.stats()["lease_id"]}
        assert host.names() == ["LOST", "RESTORED"]
        assert host.stats()["restores"] == 1
    finally:
        proxy.close()


@pytest.mark.parametrize("done", [0, 1])
@pytest.mark.parametrize("is_late", [False, True])
def test_takeover_during_a_restore(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str, done: int, is_late: bool
) -> None:
    """After so many transactions (the presence key, then all batches of labels) a newcomer takes
    the name, while the answers to the next ones have not been read or, when late, before they
    arrive. The old one ends SUPERSEDED, and none of its labels stands under the new one, not for a
    moment."""
    etcd = own_etcd(version)
    prefix = b"/ns//alpha/"
    proxy = Proxy(etcd.port)
    try:
        old, new = hosts(), hosts()
        publish(old, proxy.endpoint, b"/ns/", 0)
        # First this handle: its self-watch reports the revocation at once.
        old.do("drive", mode="hand")
        etcd.gateway.revoke(old.stats()["lease_id"])
        partly = stop_in_restore(old, etcd, proxy, prefix, done)
        assert len(partly) == done
        transactions = etcd.gateway.transactions()
        if not is_late:
            proxy.release()
            wait_for_transactions(etcd, transactions + [1, BATCHES][done])
            assert len(etcd.gateway.keys(prefix)) == [1, 1 + SMALL_LABELS][done]
        first = etcd.gateway.revision() + 1
        new.open(etcd.endpoint, b"/ns/", agent=b"alpha")
        new.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
        new.succeed("publish", label=b"new", blob=b"b")
        mine = etcd.gateway.range(prefix)
        assert [kv.key for kv in mine] == [prefix, prefix + b"new"]
        transactions = etcd.gateway.transactions()
        if is_late:
            proxy.release()
            wait_for_transactions(etcd, transactions + [1, BATCHES][done])
        assert etcd.gateway.range(prefix) == mine
        old.do("drive", mode="efd")
        old.event("SUPERSEDED", within=3)
        time.sleep(0.5)
        assert etcd.gateway.range(prefix) == mine
        # With its batches everything was back before the newcomer came.
        was_complete = done == 1 and not is_late
        assert old.names() == ["LOST", *["RESTORED"] * was_complete, "SUPERSEDED"]
        assert new.events() == []
        check_history(etcd, prefix, first, new.stats()["lease_id"])
    finally:
        proxy.close()


def wait_for_request(proxy: Proxy) -> None:
    """Waits until the proxy holds what a tick has sent."""
    deadline = time.monotonic() + scaled(3)
    while not proxy.held():
        assert time.monotonic() < deadline, "what was sent did not arrive"
        time.sleep(0.005)
    time.sleep(0.05)


def wait_for_transactions(etcd: Etcd, count: int) -> None:
    deadline = time.monotonic() + scaled(3)
    while etcd.gateway.transactions() < count:
        assert time.monotonic() < deadline, "what was on its way did not arrive"
        time.sleep(0.01)


def check_history(etcd: Etcd, prefix: bytes, first: int, lease: int) -> None:
    """Once the newcomer has put the presence key, nothing is written under it but its own."""
    changes = etcd.gateway.history(prefix, first, etcd.gateway.revision())
    puts = [change for change in changes if not change.is_delete]
    begun = next(c.revision for c in puts if c.kv.lease == lease and c.kv.key == prefix)
    assert {change.kv.lease for change in puts if change.revision >= begun} == {lease}
    assert not [change for change in changes if change.is_delete and change.revision > begun]


# Far below the library's own size of a batch, and enough for each of the labels.
LOWERED = ("--max-request-bytes", "300000")
LABELS, BLOB = 10, 100_000


def publish_ten(host: Host) -> dict[bytes, bytes]:
    """Ten labels whose blobs are larger together than etcd takes at once; the keys that makes."""
    ops = [
        host.start("publish", label=b"l%d" % number, size=BLOB, seed=number)
        for number in range(LABELS)
    ]
    assert {done["status"] for done in host.completions(ops, 15).values()} == {capi.SUCCESS}
    blobs = {b"/ns//alpha/l%d" % number: made_blob(BLOB, number) for number in range(LABELS)}
    return {b"/ns//alpha/": b"", **blobs}


def test_restore_where_etcd_takes_less_than_a_batch(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str
) -> None:
    etcd = own_etcd(version, *LOWERED)
    host = hosts()
    host.open(etcd.endpoint, b"/ns/", agent=b"alpha")
    host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
    wanted = publish_ten(host)
    etcd.gateway.revoke(host.stats()["lease_id"])
    host.event("RESTORED", within=10)
    assert host.names() == ["LOST", "RESTORED"]
    found = etcd.gateway.range(b"/ns/")
    assert {kv.key: kv.value for kv in found} == wanted
    assert {kv.lease for kv in found} == {host.stats()["lease_id"]}


def test_heartbeat_after_publish_where_etcd_takes_less_than_a_batch(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str
) -> None:
    etcd = own_etcd(version, *LOWERED)
    host = hosts()
    host.open(etcd.endpoint, b"/ns/", agent=b"alpha")
    wanted = publish_ten(host)
    host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
    found = etcd.gateway.range(b"/ns/")
    assert {kv.key: kv.value for kv in found} == wanted
    assert {kv.lease for kv in found} == {host.stats()["lease_id"]}
    host.succeed("stop_heartbeat", mode=capi.HEARTBEAT_KEEP)
    found = etcd.gateway.range(b"/ns/")
    assert {kv.key: kv.value for kv in found} == wanted
    one_lease(etcd, b"/ns/", is_renewed=False)
    assert host.events() == []
