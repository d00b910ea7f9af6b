# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The servers that the other tests run against are what they are taken for."""

from __future__ import annotations

import pytest

import grpc_call
from etcd_server import LIKE_37, Etcd
from leaseless import LeaselessProxy, fields
from small_etcd import Fields, encode

RANGE = "/etcdserverpb.KV/Range"
TXN = "/etcdserverpb.KV/Txn"
KEYS = 2_000
# As etcd's api/etcdserverpb/rpc.proto and api/mvccpb/kv.proto number them.
KVS, SUCCEEDED, RESPONSES = 2, 2, 3
VALUE, LEASE = 5, 6


def test_server_has_the_expected_version(etcd: Etcd) -> None:
    told = etcd.status()["version"]
    expected = {"3.4": "3.4.", "3.5": "3.5.1", "trixie": "3.5.16", "sid": "", LIKE_37: ""}
    assert told.startswith(expected[etcd.version]), told


def of(message: bytes, wanted: int) -> list[bytes]:
    return [body for number, _, body, _ in fields(message) if number == wanted]


def kvs(range_response: bytes) -> list[dict[int, int | bytes]]:
    """The fields of each key."""
    return [
        {number: body or value for number, value, body, _ in fields(kv)}
        for kv in of(range_response, KVS)
    ]


def range_request(prefix: bytes, keys_only: bool) -> Fields:
    request: Fields = [(1, prefix), (2, prefix[:-1] + b"0")]
    return [*request, (8, 1)] if keys_only else request


def ranges(txn_response: bytes) -> list[bytes]:
    """The keys in a transaction's answer, nested transactions included."""
    found: list[bytes] = []
    for response in of(txn_response, RESPONSES):
        found += of(response, 1)
        for inner in of(response, 4):
            found += ranges(inner)
    return found


@pytest.fixture
def written(etcd34: Etcd, namespace: bytes) -> bytes:
    """A prefix with many keys on one lease, so that an answer takes several frames and windows."""
    lease = etcd34.gateway.grant(60)
    pairs = [(namespace + b"%04d" % number, b"value" * 20) for number in range(KEYS)]
    for first in range(0, KEYS, 100):
        etcd34.gateway.put_all(pairs[first : first + 100], lease)
    return namespace


def test_3_7_answers_keys_only_without_leases(etcd34: Etcd, written: bytes) -> None:
    """Through the proxy, answers lack only the lease, and only in keys-only reads."""
    proxy = LeaselessProxy(etcd34.own_port)
    try:
        for keys_only in (True, False):
            request = encode(range_request(written, keys_only))
            real = kvs(grpc_call.call(etcd34.own_port, RANGE, request))
            assert len(real) == KEYS
            assert all(kv[LEASE] and (VALUE in kv) is not keys_only for kv in real)
            if keys_only:
                for kv in real:
                    del kv[LEASE]
            assert kvs(grpc_call.call(proxy.port, RANGE, request)) == real
    finally:
        proxy.close()


@pytest.mark.parametrize("branch", [2, 3], ids=["success", "failure"])
def test_3_7_answers_without_leases_in_transactions(
    etcd34: Etcd, written: bytes, branch: int
) -> None:
    """In the branch that is taken, whichever it is, and in transactions of transactions."""
    proxy = LeaselessProxy(etcd34.own_port)
    all_of_it: Fields = [(1, range_request(written, False))]
    keys: Fields = [(1, range_request(written, True))]
    inner: Fields = [(2, keys), (2, all_of_it)]
    # The version of a missing key is 0.
    compare: Fields = [(1, 0), (2, 0), (3, b"nobody's"), (4, 0 if branch == 2 else 7)]
    other: Fields = [(1, range_request(b"other/", False))]
    request: Fields = [(1, compare), (branch, keys), (branch, all_of_it), (branch, [(4, inner)])]
    request.append((5 - branch, other))
    try:
        message = encode(request)
        real = ranges(grpc_call.call(etcd34.own_port, TXN, message))
        told = ranges(grpc_call.call(proxy.port, TXN, message))
    finally:
        proxy.close()
    assert [{LEASE in kv for kv in kvs(each)} for each in real] == [{True}] * 4
    assert [{LEASE in kv for kv in kvs(each)} for each in told] == [{False}, {True}] * 2
    assert [len(kvs(each)) for each in told] == [KEYS] * 4
