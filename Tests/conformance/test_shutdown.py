# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Shutdown: drain, withdraw, end."""

from __future__ import annotations

import ctypes
import select
import time
from pathlib import Path

import pytest

import capi
from conftest import HostFactory
from etcd_server import Etcd
from inprocess import Local
from memcheck import scaled

LANGUAGES = ("cpp", "python")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("leased", [True, False])
def test_queued_publishes_are_written_then_withdrawn(
    hosts: HostFactory, etcd: Etcd, namespace: bytes, language: str, leased: bool
) -> None:
    host, peer = hosts(language), hosts()
    host.open(etcd.endpoint, namespace, agent=b"alpha")
    peer.open(etcd.endpoint, namespace)
    watch = peer.start("watch", agent=b"alpha")
    peer.event("SYNCED", watch=watch)
    if leased:
        host.succeed("start_heartbeat", interval=1000, ttl=5000)
    lease = host.stats()["lease_id"]
    mine = host.start("watch")
    fetch = host.start("fetch", agent=b"nobody", timeout=capi.NEVER)
    host.event("SYNCED", watch=mine)
    ops = host.do("publish", label=b"l", blob=b"b", repeat=20)["ops"]
    host.do("shutdown", drain=3000)
    host.line("shut_down", within=4)
    assert {line["status"] for line in host.completions(ops, 1).values()} == {capi.SUCCESS}
    assert host.done(fetch)["status"] == capi.CANCELED
    host.event("ENDED", watch=mine, status=capi.CANCELED)
    assert etcd.gateway.keys(namespace) == []
    assert lease == 0 or lease not in etcd.gateway.leases()
    peer.event("GONE", watch=watch, within=1)
    for command in ("publish", "fetch", "watch", "list", "invalidate", "start_heartbeat"):
        refused = host.request(command, agent=b"x", label=b"l", blob=b"b")
        assert refused["rc"] == capi.SHUT_DOWN, command
    assert host.request("shutdown", drain=1)["rc"] == capi.SHUT_DOWN
    for _ in range(3):
        assert host.request("tick")["rc"] == capi.SHUT_DOWN
    host.close()


def test_calls_are_refused_at_once(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    host = hosts()
    host.do("drive", mode="hand")
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    host.do("shutdown", drain=1000)
    refused = host.request("publish", label=b"l", blob=b"b")
    assert refused["rc"] == capi.SHUT_DOWN
    assert refused["error"]


def test_zero_drain_withdraws_nothing(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    """Without a warning: the host has asked for it."""
    host = hosts()
    host.open(etcd34.endpoint, namespace, agent=b"alpha", log=1, log_level=4)
    host.succeed("publish", label=b"l", blob=b"b")
    fetch = host.start("fetch", agent=b"nobody")
    host.do("shutdown", drain=0)
    host.line("shut_down", within=1)
    assert host.done(fetch)["status"] == capi.CANCELED
    assert len(etcd34.gateway.keys(namespace)) == 2
    assert host.lines("log") == []


def test_efd_is_readable_when_it_is_done(library: Path, etcd34: Etcd, namespace: bytes) -> None:
    local = Local(
        endpoints=etcd34.endpoint.encode(), name_space=namespace, agent=b"alpha", agent_len=5
    )
    assert local.finish("publish", b"l", 1, b"b", 1)[0] == capi.SUCCESS
    assert local.call("shutdown", 2000) == capi.SUCCESS
    poller = select.poll()
    poller.register(local.call("efd"), select.POLLIN)
    deadline = time.monotonic() + scaled(3)
    rc = 0
    while rc != capi.SHUT_DOWN:
        assert poller.poll(1000), "the efd is not readable while there is something to do"
        rc = local.call("tick")
        assert rc >= 0 or rc == capi.SHUT_DOWN
        assert time.monotonic() < deadline
    for _ in range(3):
        assert poller.poll(0), "the efd must stay readable"
        assert local.call("tick") == capi.SHUT_DOWN
    ms = ctypes.c_uint64(5)
    assert local.call("deadline_ms", ctypes.byref(ms)) == capi.SUCCESS
    local.close()
    assert etcd34.gateway.keys(namespace) == []


def test_close_keeps_keys_until_ttl(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    host = hosts()
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    host.succeed("start_heartbeat", interval=1000, ttl=5000)
    host.succeed("publish", label=b"l", blob=b"b")
    host.close()
    assert len(etcd34.gateway.keys(namespace)) == 2
    deadline = time.monotonic() + scaled(7)
    while etcd34.gateway.keys(namespace):
        assert time.monotonic() < deadline
        time.sleep(0.05)
