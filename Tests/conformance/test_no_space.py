# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""etcd's database is full. The first write that meets the limit is carried out and yet refused for
lack of space (server/etcdserver/apply/quota.go): NO_SPACE leaves a write in doubt."""

from __future__ import annotations

import time

import capi
from conftest import EtcdFactory, HostFactory
from etcd_server import Etcd
from gateway import GatewayError
from memcheck import scaled

NS = b"/ns/"
PREFIX = NS + b"/alpha/"
QUOTA = 8 << 20
FILL = b"/fill/"
AT_ONCE = 24
TTL = 5
FULL = (capi.NO_SPACE, capi.TIMED_OUT)


def is_full(etcd: Etcd) -> bool:
    try:
        etcd.gateway.put(b"/others", b"")
    except GatewayError as error:
        assert "database space exceeded" in str(error)
        return True
    return False


def make_room(etcd: Etcd) -> None:
    """As etcd's documentation says ('Maintenance', space quota): compact, defragment, disarm."""
    etcd.gateway.delete_prefix(FILL)
    etcd.gateway.compact(etcd.gateway.revision())
    etcd.ctl("defrag")
    # An earlier write may have raised the alarm again: repeat until it stays off.
    for _ in range(10):
        etcd.ctl("alarm", "disarm")
        time.sleep(0.5)
        if not is_full(etcd):
            return
    state = etcd.ctl("endpoint", "status", "--write-out=json")
    raise AssertionError(f"the alarm stays on: {state}")


def held(etcd: Etcd) -> dict[bytes, bytes]:
    return {kv.key.removeprefix(PREFIX): kv.value for kv in etcd.gateway.range(PREFIX)}


def test_no_space_then_room_again_leaves_the_completed_state(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str
) -> None:
    """Many publishes at once run out of space. All successful ones are stored; afterwards each
    label holds its last published blob, unpublished ones are gone, and no agent got an event. The
    lease is renewed meanwhile."""
    # It compares the quota with its size as of the last commit. On a busy machine megabytes would
    # come in before the next, more than can be deleted to make room.
    etcd = own_etcd(version, "--quota-backend-bytes", str(QUOTA), "--backend-batch-limit", "1")
    host = hosts()
    host.open(etcd.endpoint, NS, agent=b"alpha")
    host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
    lease = host.stats()["lease_id"]
    for number in range(5):
        etcd.gateway.put(FILL + b"%d" % number, b"x" * 500_000)
    told: dict[bytes, int] = {}
    deadline = time.monotonic() + scaled(60)
    while not set(told.values()) & set(FULL):
        assert time.monotonic() < deadline, "it is never full"
        number = len(told)
        labels = [b"l%d" % each for each in range(number, number + AT_ONCE)]
        ops = [host.start("publish", label=each, size=40_000, seed=7) for each in labels]
        done = host.completions(ops, within=30)
        told |= {label: done[op]["status"] for label, op in zip(labels, ops, strict=True)}
    assert set(told.values()) <= {capi.SUCCESS, *FULL}
    assert is_full(etcd)
    done_for = {label for label, status in told.items() if status == capi.SUCCESS}
    assert done_for <= set(held(etcd))
    time.sleep(TTL + 2)
    assert done_for <= set(held(etcd)), "its lease was not renewed"
    make_room(etcd)
    gone = sorted(told)[::2]
    for label in sorted(told):
        if label in gone:
            removed = host.finish("unpublish", label=label)
            assert removed["status"] in (capi.SUCCESS, capi.NOT_FOUND), removed
        else:
            host.succeed("publish", label=label, blob=b"after " + label)
    expected = {label: b"after " + label for label in told if label not in gone}
    assert held(etcd) == {b"": b"", **expected}
    assert host.stats()["lease_id"] == lease
    assert host.names() == []


def test_shutdown_while_the_database_is_full(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str
) -> None:
    """One revocation: nothing is left, neither keys nor leases."""
    etcd = own_etcd(version, "--quota-backend-bytes", str(QUOTA))
    host = hosts()
    host.open(etcd.endpoint, NS, agent=b"alpha")
    host.succeed("start_heartbeat", interval=1000, ttl=60_000)
    ops = host.do("publish", label=b"l", blob=b"b", repeat=100)["ops"]
    assert {line["status"] for line in host.completions(ops, 30).values()} == {capi.SUCCESS}
    deadline = time.monotonic() + scaled(60)
    while not is_full(etcd):
        assert time.monotonic() < deadline, "it is never full"
        try:
            etcd.gateway.put(FILL, b"x" * 400_000)
        except GatewayError:
            break
    begin = time.monotonic()
    host.do("shutdown", drain=5000)
    host.line("shut_down", within=10)
    assert time.monotonic() - begin < scaled(4), "it took all its time"
    assert held(etcd) == {}
    assert etcd.gateway.leases() == []
