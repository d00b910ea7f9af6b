# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""`nixl-md guard` around an unmodified stock agent: killed, it is gone for its stock peer."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from conftest import (
    EXPIRY,
    HERE,
    SOON,
    Figure,
    PeerFactory,
    eventually,
    has_loaded,
    interpreter,
    load_in_stock,
    wait_dropped,
)
from etcd_server import Etcd
from fixtures import TREE
from hosts import Host

TTL = 5
LATEST = 4.0 * TTL


def guarded(peers: PeerFactory, etcd: Etcd, namespace: bytes, log: Path) -> Host:
    """A stock agent 'alpha'; guard passes on what it reads and writes."""
    guard = [sys.executable, "-m", "nixl_md.cli", "guard", "--agent", "alpha", "--ttl", str(TTL)]
    agent = [str(interpreter(peers.version)), str(HERE / "peer.py"), "stock", "alpha"]
    environment = {
        "PYTHONPATH": str(TREE / "python"),
        "NIXL_ETCD_ENDPOINTS": etcd.endpoint,
        "NIXL_ETCD_NAMESPACE": namespace.decode(),
        "NIXL_MD_GATEWAY": etcd.own_endpoint,
    }
    return Host([*guard, "--", *agent], environment, log)


def child(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(children) == 1, children
    return int(children[0])


def is_attached(etcd: Etcd, namespace: bytes) -> bool:
    """Presence key and metadata hang on one lease."""
    keys = etcd.gateway.range(namespace + b"/alpha/")
    return len(keys) >= 2 and len({kv.lease for kv in keys}) == 1 and keys[0].lease != 0


def peer_of(stock: Host, peers: PeerFactory, etcd: Etcd, namespace: bytes) -> Host:
    """A stock peer that has loaded `stock`, whose keys guard has put on a lease."""
    stock.do("send")
    eventually(lambda: is_attached(etcd, namespace), SOON, "its keys are on a lease")
    peer = peers("stock", "beta", etcd, namespace)
    load_in_stock(peer, etcd, "alpha")
    return peer


def test_guardAndAgentKilled_keysEnd(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes, figure: Figure, tmp_path: Path
) -> None:
    """SIGKILL to the agent and to guard: its stock peer drops it within TTL + 2 s."""
    stock = guarded(peers, etcd34, namespace, tmp_path / "guarded")
    try:
        peer = peer_of(stock, peers, etcd34, namespace)
        # It is renewed: the peer keeps it past the TTL.
        time.sleep(TTL + EXPIRY)
        assert has_loaded(peer, "alpha")
        agent = child(stock.pid)
        begin = time.monotonic()
        os.kill(stock.pid, signal.SIGKILL)
        os.kill(agent, signal.SIGKILL)
        wait_dropped(peer, "alpha", LATEST)
        figure("dropped, since the kill", begin, time.monotonic(), TTL + EXPIRY)
        assert etcd34.gateway.keys(namespace + b"/alpha/") == []
    finally:
        stock.quit()


def test_agentKilled_guardRevokes(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes, figure: Figure, tmp_path: Path
) -> None:
    """Guard lives and revokes: at once, not at TTL."""
    stock = guarded(peers, etcd34, namespace, tmp_path / "guarded")
    try:
        peer = peer_of(stock, peers, etcd34, namespace)
        begin = time.monotonic()
        os.kill(child(stock.pid), signal.SIGKILL)
        wait_dropped(peer, "alpha", LATEST)
        figure("dropped, since the kill", begin, time.monotonic(), EXPIRY)
        assert stock.process.wait(SOON) == 128 + signal.SIGKILL
    finally:
        stock.quit()
