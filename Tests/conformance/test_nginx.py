# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""nginx between the host and etcd: it sends connections away (GOAWAY) as a matter of course, and
nobody notices."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

import pytest

import capi
from conftest import EtcdFactory
from inprocess import Local
from machine import Delay
from nginx import Nginx

ROUNDS = 1250
PARALLEL = 2
SLOWEST = 0.2
BLOB = bytes(range(256)) * 16


def start(local: Local, name: str, *arguments: object) -> int:
    op = ctypes.c_uint64()
    rc = local.call(name, *arguments, local.opts(), ctypes.byref(op))
    assert rc == capi.SUCCESS, local.error()
    return op.value


def one_round(local: Local) -> list[int]:
    publishes = [
        start(local, "publish", b"l%d" % number, 2, BLOB, len(BLOB)) for number in range(PARALLEL)
    ]
    fetches = [start(local, "fetch", b"peer", 4, b"l%d" % number, 2) for number in range(PARALLEL)]
    return publishes + fetches


@pytest.mark.native("thousands of requests")
def test_nginx_goawayAfter1000RequestsAndByReload_losesNothing(
    own_etcd: EtcdFactory, tmp_path: Path, namespace: bytes
) -> None:
    etcd = own_etcd("3.5")
    for number in range(PARALLEL):
        etcd.gateway.put(namespace + b"/peer/l%d" % number, b"there")
    nginx = Nginx(etcd.port, tmp_path)
    try:
        local = Local(
            endpoints=nginx.endpoint.encode(), name_space=namespace, agent=b"alpha", agent_len=5
        )
        assert local.call("watch", b"peer", 4, local.on_event, None, None) == capi.SUCCESS
        slow = []
        for number in range(ROUNDS):
            if number % 400 == 399:
                nginx.reload()
            delay = Delay(ctypes.CDLL(None).getpid(), nginx.pid, etcd.pid)
            begun = time.monotonic()
            before = len(local.done)
            ops = one_round(local)
            wanted = before + len(ops)
            local.tick_until(lambda wanted=wanted: len(local.done) >= wanted)  # type: ignore[misc]
            took = time.monotonic() - begun
            if took > SLOWEST and took - delay.seconds > SLOWEST:
                slow.append((number, took, delay.seconds))
        assert {status for _, status, _ in local.done} == {capi.SUCCESS}
        assert slow == []
        for number in range(PARALLEL):
            found = etcd.gateway.get(namespace + b"/alpha/l%d" % number)
            assert found is not None
            assert found.value == BLOB
            assert found.version == ROUNDS, "something was written twice"
        etcd.gateway.put(namespace + b"/peer/new", b"b")
        local.tick_until(lambda: len([e for e in local.events if e[0] == capi.PUT]) > PARALLEL)
        stats = local.stats()
        assert (stats["connects"], stats["connects_failed"]) == (1, 0)
        assert stats["requests_failed"] == 0
        assert not {e[0] for e in local.events} & {capi.CONTACT_LOST, capi.RESYNC}
        requests = nginx.requests()
        assert len({connection for connection, _, _ in requests}) >= 5
        # Streams are still open, and not in the log.
        assert len(requests) == stats["requests"]
        assert {status for _, _, status in requests} == {"200"}
        local.close()
    finally:
        nginx.close()
