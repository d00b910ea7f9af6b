# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Publish, unpublish, invalidate and fetch where nothing fails but what the test makes fail."""

from __future__ import annotations

import re
import time
import zlib
from typing import Any

import pytest

import capi
from conftest import EtcdFactory, HostFactory
from etcd_server import Etcd
from hosts import made_blob
from leases import one_lease
from memcheck import scaled

LANGUAGES = ("cpp", "python")


@pytest.mark.parametrize("language", LANGUAGES)
def test_sizes_up_to_etcds_limit(
    hosts: HostFactory, etcd: Etcd, namespace: bytes, language: str
) -> None:
    host = hosts(language)
    host.open(etcd.endpoint, namespace, agent=b"alpha")
    for size in (1, 5, 4096, 65536, 1 << 20, 1_570_000):
        host.succeed("publish", label=b"l%d" % size, size=size, seed=size)
        found = host.succeed("fetch", agent=b"alpha", label=b"l%d" % size)
        assert found["blob_len"] == size
        assert found["blob_crc"] == zlib.crc32(made_blob(size, size))
        stored = etcd.gateway.get(namespace + b"/alpha/l%d" % size)
        assert stored is not None
        assert stored.value == made_blob(size, size)


@pytest.mark.parametrize("size", [1_572_820, 1_573_000, 3_000_000, 10 * 1024 * 1024])
def test_too_large_for_etcd(hosts: HostFactory, etcd: Etcd, namespace: bytes, size: int) -> None:
    """Its own status, both sizes in the text; what was published before is still there."""
    host = hosts()
    host.open(etcd.endpoint, namespace, agent=b"alpha")
    host.succeed("publish", label=b"l", blob=b"before")
    done = host.finish("publish", label=b"l", size=size)
    assert done["status"] == capi.TOO_LARGE
    numbers = [int(number) for number in re.findall(r"\d{6,}", done["text"])]
    assert size in numbers, done["text"]
    assert len(set(numbers)) >= 2, f"only one size in '{done['text']}'"
    assert any(size < number < size + 1000 for number in numbers), "no size of the request"
    assert max(numbers) > 1_572_864, "nothing named is over etcd's limit"
    stored = etcd.gateway.get(namespace + b"/alpha/l")
    assert stored is not None
    assert stored.value == b"before"
    assert host.succeed("fetch", agent=b"alpha", label=b"l")["blob"] == b"before".hex()
    host.succeed("publish", label=b"l", blob=b"after")


def test_too_large_on_a_heartbeat(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    """It disturbs neither the lease nor the connection."""
    host = hosts()
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    host.succeed("start_heartbeat", interval=300, ttl=5000)
    host.succeed("publish", label=b"l", blob=b"before")
    lease = host.stats()["lease_id"]
    assert host.finish("publish", label=b"m", size=2_000_000)["status"] == capi.TOO_LARGE
    renewals = host.stats()["renewals"]
    time.sleep(1)
    stats = host.stats()
    assert stats["renewals"] > renewals
    assert stats["lease_id"] == lease
    assert etcd34.gateway.keys(namespace) == [namespace + b"/alpha/", namespace + b"/alpha/l"]


def test_newer_publish_takes_the_place_of_a_queued_one(
    hosts: HostFactory, etcd: Etcd, namespace: bytes
) -> None:
    host = hosts()
    host.do("drive", mode="hand")
    host.open(etcd.endpoint, namespace, agent=b"alpha")
    first = host.start("publish", label=b"l", blob=b"1")
    other = host.start("publish", label=b"m", blob=b"1")
    second = host.start("publish", label=b"l", blob=b"2")
    third = host.start("publish", label=b"l", blob=b"3")
    host.do("drive", mode="efd")
    for op in (first, second):
        done = host.done(op)
        assert done["status"] == capi.REPLACED, done
        assert done["text"]
    assert host.done(other)["status"] == capi.SUCCESS
    assert host.done(third)["status"] == capi.SUCCESS
    stored = etcd.gateway.get(namespace + b"/alpha/l")
    assert stored is not None
    assert stored.value == b"3"
    assert stored.version == 1


def test_unpublish(hosts: HostFactory, etcd: Etcd, namespace: bytes) -> None:
    host, peer = hosts(), hosts("python")
    host.open(etcd.endpoint, namespace, agent=b"alpha")
    host.succeed("publish", label=b"l", blob=b"1")
    host.succeed("publish", label=b"a/b", blob=b"1")
    peer.open(etcd.endpoint, namespace)
    watch = peer.start("watch", agent=b"alpha")
    peer.event("SYNCED", watch=watch)
    host.succeed("unpublish", label=b"a/b")
    peer.event("DELETE", watch=watch, agent=b"alpha", label=b"a/b")
    assert etcd.gateway.keys(namespace) == [namespace + b"/alpha/", namespace + b"/alpha/l"]
    for label in (b"a/b", b"never"):
        done = host.finish("unpublish", label=label)
        assert done["status"] == capi.NOT_FOUND
        assert label.decode() in done["text"]
    host.succeed("unpublish", label=b"l")
    assert etcd.gateway.keys(namespace) == [namespace + b"/alpha/"]
    peer.event("DELETE", watch=watch, label=b"l")
    assert "GONE" not in peer.names()


def test_unpublish_replaces_a_queued_publish(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    host = hosts()
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    host.succeed("publish", label=b"l", blob=b"1")
    host.do("drive", mode="hand")
    first = host.start("publish", label=b"l", blob=b"2")
    second = host.start("unpublish", label=b"l")
    host.do("drive", mode="efd")
    assert host.done(first)["status"] == capi.REPLACED
    assert host.done(second)["status"] == capi.SUCCESS
    assert etcd34.gateway.keys(namespace) == [namespace + b"/alpha/"]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("leased", [True, False])
def test_invalidate(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes, language: str, leased: bool
) -> None:
    host, peer = hosts(language), hosts()
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    peer.open(etcd34.endpoint, namespace)
    host.succeed("invalidate")  # Nothing is published yet.
    if leased:
        host.succeed("start_heartbeat", interval=1000, ttl=5000)
    host.succeed("publish", label=b"l", blob=b"1")
    host.succeed("publish", label=b"m", blob=b"1")
    watch = peer.start("watch", agent=b"alpha")
    peer.event("SYNCED", watch=watch)
    etcd34.gateway.put(namespace + b"/alphabet/l", b"not mine")
    host.succeed("invalidate")
    peer.event("GONE", watch=watch, agent=b"alpha", within=1)
    assert etcd34.gateway.keys(namespace) == [namespace + b"/alphabet/l"]
    host.succeed("publish", label=b"l", blob=b"2")
    found = {kv.key: kv for kv in etcd34.gateway.range(namespace + b"/alpha/")}
    assert sorted(found) == [namespace + b"/alpha/", namespace + b"/alpha/l"]
    lease = one_lease(etcd34, namespace + b"/alpha/", is_renewed=leased)
    assert not leased or lease == host.stats()["lease_id"]
    assert peer.event("RETURNED", watch=watch)["incarnation"] == lease >> 16
    peer.event("PUT", watch=watch, label=b"l", blob=b"2")


def test_invalidate_replaces_queued_publishes(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    host = hosts()
    host.do("drive", mode="hand")
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    publish = host.start("publish", label=b"l", blob=b"1")
    invalidate = host.start("invalidate")
    host.do("drive", mode="efd")
    assert host.done(publish)["status"] == capi.REPLACED
    assert host.done(invalidate)["status"] == capi.SUCCESS
    assert etcd34.gateway.keys(namespace) == []


def test_publish_that_times_out(hosts: HostFactory, own_etcd: EtcdFactory) -> None:
    """The publish completes with that status, and the library keeps trying until the label holds
    the blob."""
    etcd = own_etcd()
    host = hosts()
    host.open(etcd.endpoint, b"/ns/", agent=b"alpha")
    host.succeed("publish", label=b"l", blob=b"1")
    etcd.freeze()
    before = time.monotonic()
    done = host.finish("publish", label=b"l", blob=b"2", timeout=300)
    assert done["status"] == capi.TIMED_OUT
    assert 0.25 < time.monotonic() - before < scaled(1.0)
    etcd.thaw()
    deadline = time.monotonic() + scaled(10)
    while True:
        stored = etcd.gateway.get(b"/ns//alpha/l")
        if stored is not None and stored.value == b"2":
            break
        assert time.monotonic() < deadline, "the label never held the blob"
        time.sleep(0.05)


def test_many_labels(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    host = hosts()
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    ops = host.do("publish", label=b"l", size=100, repeat=4096)["ops"]
    done = host.completions(ops, within=30)
    assert {line["status"] for line in done.values()} == {capi.SUCCESS}
    assert len(etcd34.gateway.keys(namespace)) == 4097
    over = host.finish("publish", label=b"one more", blob=b"b")
    assert over["status"] == capi.LIMIT
    assert "4096" in over["text"]
    host.succeed("invalidate")
    assert etcd34.gateway.keys(namespace) == []


def test_no_space(hosts: HostFactory, own_etcd: EtcdFactory) -> None:
    """A publish waits for room until its time-out, and its error then says so."""
    etcd = own_etcd("3.5", "--quota-backend-bytes", "2097152")
    host = hosts()
    host.open(etcd.endpoint, b"/ns/", agent=b"alpha")
    host.succeed("publish", label=b"l", blob=b"1")
    # etcd compares with the size at its last commit to disk, every 100 ms.
    deadline = time.monotonic() + scaled(10)
    done: dict[str, Any] = {"status": capi.SUCCESS}
    while done["status"] == capi.SUCCESS and time.monotonic() < deadline:
        begun = time.monotonic()
        done = host.finish("publish", label=b"big", size=400_000, timeout=1500)
    assert done["status"] == capi.NO_SPACE
    assert "space" in done["text"]
    assert time.monotonic() - begun > 1.4, "it was not waited for room"
