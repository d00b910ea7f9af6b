# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Fetch and list."""

from __future__ import annotations

import time

import pytest

import capi
from conftest import HostFactory
from etcd_server import Etcd
from memcheck import scaled

LANGUAGES = ("cpp", "python")


@pytest.mark.parametrize("language", LANGUAGES)
def test_fetch_of_an_existing_label(
    hosts: HostFactory, etcd: Etcd, namespace: bytes, language: str
) -> None:
    host = hosts(language)
    revision = etcd.gateway.put(namespace + b"/beta/metadata", b"blob")
    host.open(etcd.endpoint, namespace)
    for label in (None, b"metadata"):
        done = host.succeed("fetch", agent=b"beta", label=label)
        assert done["blob"] == b"blob".hex()
        assert done["revision"] == revision
        assert done["op_kind"] == capi.OP_FETCH
        assert done["text"] == ""


def test_fetch_no_wait_of_an_absent_label_is_not_found(
    hosts: HostFactory, etcd: Etcd, namespace: bytes
) -> None:
    host = hosts()
    etcd.gateway.put(namespace + b"/beta/empty", b"")
    host.open(etcd.endpoint, namespace)
    for label in (b"absent", b"empty"):
        done = host.finish("fetch", agent=b"beta", label=label, flags=capi.FETCH_NO_WAIT, within=2)
        assert done["status"] == capi.NOT_FOUND
        assert "beta" in done["text"]


def test_fetches_time_out_each_at_its_own_time(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    """Each at its own time."""
    host = hosts()
    host.open(etcd34.endpoint, namespace)
    waits = (500, 1500, 2500)
    before = time.monotonic()
    ops = [host.start("fetch", agent=b"nobody", timeout=ms) for ms in waits]
    for op, ms in zip(ops, waits, strict=True):
        done = host.done(op)
        assert done["status"] == capi.TIMED_OUT
        took = done["t"] / 1e9 - before
        assert ms / 1000 - 0.005 <= took < ms / 1000 + scaled(0.9), took
    assert host.stats()["operations_open"] == 0


def test_default_time_out(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    host = hosts()
    host.open(etcd34.endpoint, namespace)
    before = time.monotonic()
    done = host.finish("fetch", agent=b"nobody", within=12, timeout=0)
    assert done["status"] == capi.TIMED_OUT
    assert 9.9 < time.monotonic() - before < 10 + scaled(1)


def test_cancel(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    host = hosts()
    host.open(etcd34.endpoint, namespace)
    op = host.start("fetch", agent=b"nobody", timeout=capi.NEVER)
    time.sleep(0.2)
    host.do("cancel", op=op)
    assert host.done(op)["status"] == capi.CANCELED
    assert host.request("cancel", op=op)["rc"] == capi.NOT_FOUND
    etcd34.gateway.put(namespace + b"/nobody/metadata", b"b")
    time.sleep(0.2)
    assert len(host.lines("done")) == 1


def test_empty_value_counts_as_absent(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    host = hosts()
    host.open(etcd34.endpoint, namespace)
    op = host.start("fetch", agent=b"beta", label=b"l")
    time.sleep(0.2)
    etcd34.gateway.put(namespace + b"/beta/l", b"")
    time.sleep(0.2)
    assert not host.lines("done")
    revision = etcd34.gateway.put(namespace + b"/beta/l", b"at last")
    done = host.done(op)
    assert done["blob"] == b"at last".hex()
    assert done["revision"] == revision


@pytest.mark.parametrize("language", LANGUAGES)
def test_100_waiting_fetches_delay_nothing(
    hosts: HostFactory, etcd: Etcd, namespace: bytes, language: str
) -> None:
    host, peer = hosts(language), hosts()
    host.open(etcd.endpoint, namespace, agent=b"alpha")
    waiting = host.do("fetch", agent=b"later", label=b"l", timeout=60_000, repeat=100)["ops"]
    watch = host.start("watch", agent=b"peer")
    host.event("SYNCED", watch=watch, within=2)
    peer.open(etcd.endpoint, namespace, agent=b"peer")
    slowest = 0.0
    for number in range(30):
        before = time.monotonic()
        host.succeed("publish", label=b"n", blob=b"%d" % number, within=2)
        peer.succeed("publish", label=b"n", blob=b"%d" % number, within=2)
        host.event("PUT", watch=watch, label=b"n", blob=b"%d" % number, within=2)
        found = host.succeed("fetch", agent=b"peer", label=b"n", within=2)
        assert found["blob"] == (b"%d" % number).hex()
        slowest = max(slowest, time.monotonic() - before)
    assert slowest < scaled(1.0)
    assert not {line["op"] for line in host.lines("done")} & set(waiting)
    assert host.stats()["operations_open"] == 101
    for number in range(100):
        etcd.gateway.put(namespace + b"/later%d/l" % number, b"blob %d" % number)
    done = host.completions(waiting, within=10)
    assert [bytes.fromhex(done[op]["blob"]) for op in waiting] == [
        b"blob %d" % number for number in range(100)
    ]


def test_150_fetches_of_large_blobs_at_once(
    hosts: HostFactory, etcd: Etcd, namespace: bytes
) -> None:
    host = hosts()
    for number in range(150):
        etcd.gateway.put(namespace + b"/peer%d/l" % number, bytes([number]) * 100_000)
    host.open(etcd.endpoint, namespace)
    ops = host.do("fetch", agent=b"peer", label=b"l", repeat=150)["ops"]
    done = host.completions(ops, within=15)
    assert {(line["status"], line["blob_len"]) for line in done.values()} == {(0, 100_000)}


def test_list(hosts: HostFactory, etcd: Etcd, namespace: bytes) -> None:
    host, alpha = hosts("python"), hosts()
    alpha.open(etcd.endpoint, namespace, agent=b"alpha")
    alpha.succeed("start_heartbeat", interval=1000, ttl=5000)
    alpha.succeed("publish", label=b"l", blob=b"b")
    put = etcd.gateway.put
    put(namespace + b"/stock/", b"")
    put(namespace + b"/stock/metadata", b"b")
    put(namespace + b"/label-only/x", b"b")
    put(namespace + b"/empty-label/x", b"")
    put(namespace + b"//x", b"the empty name")
    put(namespace + b"/no-slash", b"no agent")
    put(namespace + b"/bad\xff\x00name/", b"")
    host.open(etcd.endpoint, namespace)
    done = host.succeed("list")
    listed = {bytes.fromhex(name): told for name, *told in done["agents"]}
    names = [bytes.fromhex(agent[0]) for agent in done["agents"]]
    assert names == sorted([b"alpha", b"stock", b"label-only", b"bad\xff\x00name"])
    lease = alpha.stats()["lease_id"]
    incarnation, _, told_lease = listed[b"alpha"]
    assert (incarnation, told_lease) == (lease >> 16, lease)
    stock = etcd.gateway.get(namespace + b"/stock/")
    assert stock is not None
    assert listed[b"stock"] == [stock.mod_revision, stock.create_revision, 0]
    incarnation, _, told_lease = listed[b"label-only"]
    assert (incarnation, told_lease) == (0, 0)
    assert done["revision"] >= max(revision for _, revision, _ in listed.values())


def test_list_of_an_empty_namespace(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    host = hosts()
    host.open(etcd34.endpoint, namespace)
    done = host.succeed("list")
    assert done.get("agents", []) == []


def test_list_over_many_pages(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    """More than 1,000 keys, agents on the borders of pages included; in the order of names."""
    host = hosts()
    expected = []
    pairs = []
    for number in range(1300):
        name = b"%d-agent" % number if number % 2 else b"%d" % number
        expected.append(name)
        pairs.append((namespace + b"/" + name + b"/", b""))
        pairs.append((namespace + b"/" + name + b"/metadata", b"b"))
    for start in range(0, len(pairs), 100):
        etcd34.gateway.put_all(pairs[start : start + 100])
    host.open(etcd34.endpoint, namespace)
    done = host.succeed("list")
    assert [bytes.fromhex(agent[0]) for agent in done["agents"]] == sorted(expected)
