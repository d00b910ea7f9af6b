# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The test that NIXL's pull request 1010 brought: a process that has published its metadata is
killed; its peer must drop it. On ours, on a stock pair for contrast, and on both mixes."""

from __future__ import annotations

import time

import pytest

from conftest import (
    EXPIRY,
    SOON,
    Figure,
    PeerFactory,
    eventually,
    has_loaded,
    load_in_stock,
    wait_dropped,
    wait_loaded,
)
from etcd_server import Etcd
from hosts import Host

TTL = 5
# Our reader drops it by then, whatever the machine withheld from it (see figures.py).
LATEST = 4.0 * TTL
# So long the other outcome is waited for before it is called 'never': longer than for ours.
NEVER_SECONDS = LATEST + TTL


def publisher(peers: PeerFactory, kind: str, etcd: Etcd, namespace: bytes) -> Host:
    host = peers(kind, "alpha", etcd, namespace, TEST_TTL=str(TTL))
    if kind == "stock":
        host.do("send")
        key = namespace + b"/alpha/metadata"
        eventually(lambda: etcd.gateway.get(key) is not None, SOON, "stock NIXL has sent")
    else:
        eventually(lambda: host.do("is_published")["is_published"], SOON, "it is published")
    return host


def reader(peers: PeerFactory, kind: str, etcd: Etcd, namespace: bytes) -> Host:
    host = peers(kind, "beta", etcd, namespace)
    if kind == "stock":
        load_in_stock(host, etcd, "alpha")
    else:
        host.do("want", agent="alpha")
        wait_loaded(host, "alpha")
    return host


@pytest.mark.parametrize("kind", ["tick", "stock"])
def test_ours_is_killed(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes, figure: Figure, kind: str
) -> None:
    """The peer drops it within TTL + 2 s, whichever etcd layer the peer has."""
    ours = publisher(peers, "tick", etcd34, namespace)
    peer = reader(peers, kind, etcd34, namespace)
    killed = ours.kill()
    wait_dropped(peer, "alpha", LATEST)
    figure("dropped, since the kill", killed, time.monotonic(), TTL + EXPIRY)
    assert etcd34.gateway.keys(namespace + b"/alpha/") == []


@pytest.mark.parametrize("kind", ["stock", "tick"])
def test_stock_is_killed(peers: PeerFactory, etcd34: Etcd, namespace: bytes, kind: str) -> None:
    """Its keys stay forever, and so does its metadata in any peer: the defect, reproduced."""
    stock = publisher(peers, "stock", etcd34, namespace)
    peer = reader(peers, kind, etcd34, namespace)
    killed = stock.kill()
    while time.monotonic() < killed + NEVER_SECONDS:
        assert has_loaded(peer, "alpha")
        time.sleep(0.5)
    kept = {kv.key: kv.lease for kv in etcd34.gateway.range(namespace + b"/alpha/")}
    assert kept == {namespace + b"/alpha/": 0, namespace + b"/alpha/metadata": 0}
