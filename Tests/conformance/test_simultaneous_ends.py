# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Thousands of operations or agents that end at one moment: no tick is long for it."""

from __future__ import annotations

import time

import pytest

import capi
from conftest import EtcdFactory, HostFactory
from etcd_server import Etcd
from hosts import Host, check_ticks

FETCHES = 20_000
AGENTS = 8_000
# etcd's limit of operations in one transaction.
IN_ONE = 100

pytestmark = pytest.mark.native("twenty thousand of anything take memcheck too long")


def wait_for_requests(host: Host, count: int, seconds: float) -> None:
    """Until the host has asked etcd so often, so that every fetch waits for its key."""
    deadline = time.monotonic() + seconds
    while (sent := host.stats()["requests"]) < count:
        assert time.monotonic() < deadline, f"{sent} of {count} requests in {seconds} s"
        time.sleep(0.1)


def count_done(host: Host, ops: list[int], status: int, seconds: float) -> None:
    """Every operation ends once, with this status."""
    deadline = time.monotonic() + seconds
    while len(host.lines("done")) < len(ops):
        assert time.monotonic() < deadline, f"{len(host.lines('done'))} completions"
        time.sleep(0.2)
    told = [(line["op"], line["status"]) for line in host.lines("done")]
    assert sorted(told) == [(op, status) for op in sorted(ops)]


def test_shutdown_with_waiting_fetches(hosts: HostFactory, etcd: Etcd, namespace: bytes) -> None:
    host = hosts()
    host.open(etcd.endpoint, namespace)
    ops = host.do("fetch", agent=b"x", label=b"l", timeout=capi.NEVER, repeat=FETCHES)["ops"]
    wait_for_requests(host, FETCHES, 60)
    host.do("shutdown", drain=1000)
    host.line("shut_down", within=10)
    count_done(host, ops, capi.CANCELED, 1)
    check_ticks(host.stats())


def present(etcd: Etcd, prefix: bytes) -> None:
    """Agents without labels, of whatever library."""
    for first in range(0, AGENTS, IN_ONE):
        numbers = range(first, first + IN_ONE)
        etcd.gateway.put_all([(prefix + b"a%d/" % number, b"") for number in numbers])


def watched(host: Host, endpoint: str, namespace: bytes) -> int:
    host.open(endpoint, namespace)
    watch = host.start("watch")
    host.event("SYNCED", watch=watch, within=30)
    assert len(host.events(watch=watch, event="PRESENT")) == AGENTS
    return watch


def check_gone(host: Host, watch: int) -> None:
    host.event("GONE", watch=watch, count=AGENTS, within=30)
    gone = [line["agent"] for line in host.events(watch=watch, event="GONE")]
    assert len(set(gone)) == len(gone) == AGENTS
    check_ticks(host.stats())


def test_agents_that_vanish_in_one_revision(
    hosts: HostFactory, etcd: Etcd, namespace: bytes
) -> None:
    present(etcd, namespace + b"/")
    host = hosts()
    watch = watched(host, etcd.endpoint, namespace)
    assert etcd.gateway.delete_prefix(namespace) == AGENTS
    check_gone(host, watch)


def test_agents_that_vanish_with_their_store(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str
) -> None:
    etcd = own_etcd(version)
    present(etcd, b"/ns//")
    host = hosts()
    watch = watched(host, etcd.endpoint, b"/ns/")
    etcd.kill()
    etcd.wipe()
    etcd.start()
    check_gone(host, watch)
