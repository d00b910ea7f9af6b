# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The cost of an etcd layer in a process of the real NIXL: threads, memory, connections.

The figures are printed (pytest -rP); docs/why.md has them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from conftest import EtcdFactory, PeerFactory, wait_loaded
from etcd_server import Etcd
from hosts import Host
from procfs import tcp_connections, thread_count

PEERS = (0, 10)
# Python's modules, the relocations of libcurl and what it needs, the handle.
OURS_KIB_MAX = 2048


@dataclass(frozen=True)
class Cost:
    """The cost of a process that has published and has loaded its peers."""

    threads: int
    rss_kib: int
    # Memory that cannot be shared with any other process: what each further one takes.
    private_kib: int
    connections: int


def kib(pid: int, name: str) -> int:
    """A line of smaps_rollup (proc(5)), in KiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def cost(host: Host, etcd: Etcd) -> Cost:
    """Connections are those to etcd alone: UCX has its own."""
    port = f":{etcd.port:04X}"
    to_etcd = [one for one in tcp_connections(host.pid) if one.endswith(port)]
    return Cost(
        thread_count(host.pid), kib(host.pid, "Rss:"), kib(host.pid, "Private_Dirty:"), len(to_etcd)
    )


class Fleet:
    """Remote agents, and readers of them. A dead agent's metadata cannot be loaded, so the remote
    ones live on."""

    def __init__(self, peers: PeerFactory, etcd: Etcd, namespace: bytes, cache: Path) -> None:
        self.peers = peers
        # Compiling the package would take memory that an installed one does not.
        self.compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(cache)}
        self.etcd = etcd
        self.namespace = namespace
        self.names: list[str] = []

    def grow(self, count: int) -> None:
        """Puts the metadata of `count` agents under their names."""
        while len(self.names) < count:
            name = f"remote-{len(self.names)}"
            remote = self.peers("plain", name)
            blob = bytes.fromhex(remote.do("blob")["blob"])
            key = self.namespace + b"/" + name.encode() + b"/"
            self.etcd.gateway.put_all([(key, b""), (key + b"metadata", blob)])
            self.names.append(name)

    def measure(self, kind: str, count: int) -> Cost:
        etcd = None if kind == "plain" else self.etcd
        name = f"reader-{kind}-{count}"
        host = self.peers(kind, name, etcd, self.namespace, **self.compiled)
        if kind == "stock":
            host.do("send")
        for remote in self.names[:count]:
            self.load(host, kind, remote)
        # Threads that only began or ended something are over.
        time.sleep(2)
        found = cost(host, self.etcd)
        host.quit()
        return found

    def load(self, host: Host, kind: str, name: str) -> None:
        if kind == "plain":
            key = self.namespace + b"/" + name.encode() + b"/metadata"
            kv = self.etcd.gateway.get(key)
            assert kv is not None
            host.do("load", blob=kv.value)
        else:
            host.do("fetch" if kind == "stock" else "want", agent=name)
        wait_loaded(host, name)


def test_threads_and_memory(
    peers: PeerFactory, own_etcd: EtcdFactory, namespace: bytes, tmp_path: Path
) -> None:
    etcd = own_etcd()
    fleet = Fleet(peers, etcd, namespace, tmp_path / "compiled")
    fleet.measure("asyncio", 0)
    fleet.grow(max(PEERS))
    costs = {
        (kind, count): fleet.measure(kind, count)
        for kind in ("plain", "tick", "asyncio", "stock")
        for count in PEERS
    }
    print(
        f"NIXL {peers.version}\n{'etcd layer':10} peers threads  RSS KiB  private KiB  connections"
    )
    for (kind, count), found in costs.items():
        print(
            f"{kind:10} {count:5} {found.threads:7} {found.rss_kib:8} {found.private_kib:12} "
            f"{found.connections:12}"
        )
    for count in PEERS:
        plain, stock = costs["plain", count], costs["stock", count]
        for kind in ("tick", "asyncio"):
            ours = costs[kind, count]
            assert ours.threads == plain.threads
            assert ours.connections == 1
        assert costs["tick", count].private_kib - plain.private_kib < OURS_KIB_MAX
        assert stock.threads >= plain.threads + 7 + count
