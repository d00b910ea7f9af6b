# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""libnixl_md and NIXL's own etcd layer in one keyspace, in both directions."""

from __future__ import annotations

import time

import pytest

import capi
from conftest import (
    EXPIRY,
    SOON,
    EtcdFactory,
    Figure,
    HostFactory,
    PeerFactory,
    blob_of,
    eventually,
    has_loaded,
    load_in_stock,
    wait_dropped,
)
from etcd_server import Etcd
from hosts import Host, made_blob

TTL = 5
# A TTL that no test outlasts: nothing that happens within it comes from the end of a lease.
LONG_TTL = 300
SIZE = 5000


class Remote:
    """A NIXL agent that knows no etcd, and the host of libnixl_md that publishes for it."""

    def __init__(
        self, peers: PeerFactory, hosts: HostFactory, name: str, seed: int, language: str = "cpp"
    ) -> None:
        self.name = name
        self.bytes = made_blob(SIZE, seed)
        self.nixl = peers("plain", name, TEST_SIZE=str(SIZE), TEST_SEED=str(seed))
        self.address = self.nixl.do("where")["address"]
        self.host = hosts(language)

    def publish(self, etcd: Etcd, namespace: bytes | None, ttl: int = TTL) -> None:
        self.host.open(etcd.endpoint, namespace, agent=self.name.encode())
        self.host.succeed("start_heartbeat", interval=1000, ttl=ttl * 1000)
        self.host.succeed("publish", label=b"metadata", blob=blob_of(self.nixl))

    def kill(self) -> float:
        self.nixl.kill()
        return self.host.kill()

    def check_read(self, reader: Host) -> None:
        """Loaded metadata can be used: the other agent reads this one's memory over UCX."""
        answer = reader.do("read", agent=self.name, address=self.address, size=SIZE)
        assert answer["state"] == "DONE"
        assert bytes.fromhex(answer["bytes"]) == self.bytes


@pytest.mark.parametrize("language", ["cpp", "python"])
def test_stock_publishes_and_withdraws(
    peers: PeerFactory, hosts: HostFactory, etcd34: Etcd, namespace: bytes, language: str
) -> None:
    host = hosts(language)
    host.open(etcd34.endpoint, namespace)
    watch = host.start("watch", agent=b"alpha")
    host.event("SYNCED", watch=watch)
    waiting = host.start("fetch", agent=b"alpha", timeout=60_000)
    stock = peers("stock", "alpha", etcd34, namespace)
    host.event("PRESENT", watch=watch, agent=b"alpha", within=60)
    stock.do("send")
    blob = blob_of(stock)
    assert host.done(waiting, within=60)["blob"] == blob.hex()
    assert host.event("PUT", watch=watch, label=b"metadata")["blob"] == blob.hex()
    stock.do("invalidate")
    host.event("GONE", watch=watch, agent=b"alpha", within=SOON)
    assert (
        host.finish("fetch", agent=b"alpha", flags=capi.FETCH_NO_WAIT)["status"] == capi.NOT_FOUND
    )


def test_stock_restarts(
    peers: PeerFactory, hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    host = hosts()
    host.open(etcd34.endpoint, namespace)
    stock = peers("stock", "alpha", etcd34, namespace)
    stock.do("send")
    watch = host.start("watch", agent=b"alpha")
    host.event("PUT", watch=watch, label=b"metadata")
    stock.kill()
    again = peers("stock", "alpha", etcd34, namespace)
    host.event("RESTARTED", watch=watch, agent=b"alpha")
    mark = host.mark()
    again.do("send")
    told = host.event("PUT", watch=watch, label=b"metadata", since=mark)
    assert told["blob"] == blob_of(again).hex()


def test_stock_loads_and_uses_ours(
    peers: PeerFactory, hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    stock = peers("stock", "beta", etcd34, namespace)
    ours = Remote(peers, hosts, "alpha", seed=3)
    ours.publish(etcd34, namespace)
    assert not has_loaded(stock, "alpha")
    load_in_stock(stock, etcd34, "alpha")
    ours.check_read(stock)


def test_ours_is_killed(
    peers: PeerFactory, hosts: HostFactory, etcd34: Etcd, namespace: bytes, figure: Figure
) -> None:
    """The stock peer drops it when the lease ends: not before, for it is renewed."""
    stock = peers("stock", "beta", etcd34, namespace)
    ours = Remote(peers, hosts, "alpha", seed=4)
    ours.publish(etcd34, namespace)
    load_in_stock(stock, etcd34, "alpha")
    time.sleep(TTL + 2)
    assert has_loaded(stock, "alpha")
    lease = ours.host.stats()["lease_id"]
    killed = ours.kill()
    wait_dropped(stock, "alpha")
    figure("dropped, since the kill", killed, time.monotonic(), TTL + EXPIRY)
    assert etcd34.gateway.time_to_live(lease) <= 0
    assert etcd34.gateway.keys(namespace + b"/alpha/") == []


def test_ours_withdraws(
    peers: PeerFactory, hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    stock = peers("stock", "beta", etcd34, namespace)
    ours = Remote(peers, hosts, "alpha", seed=5)
    ours.publish(etcd34, namespace)
    load_in_stock(stock, etcd34, "alpha")
    ours.host.succeed("invalidate")
    wait_dropped(stock, "alpha")
    # And it can come back.
    ours.host.succeed("publish", label=b"metadata", blob=blob_of(ours.nixl))
    load_in_stock(stock, etcd34, "alpha")
    ours.check_read(stock)


def test_ours_restarts_within_the_ttl(
    peers: PeerFactory, hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    """The stock peer sees the presence key deleted by the new process, not by the lease."""
    stock = peers("stock", "beta", etcd34, namespace)
    old = Remote(peers, hosts, "alpha", seed=6)
    new = Remote(peers, hosts, "alpha", seed=7)
    old.publish(etcd34, namespace, LONG_TTL)
    load_in_stock(stock, etcd34, "alpha")
    old.check_read(stock)
    lease = old.host.stats()["lease_id"]
    old.kill()
    new.publish(etcd34, namespace)
    wait_dropped(stock, "alpha")
    assert etcd34.gateway.time_to_live(lease) > 0, "the lease has ended: this shows nothing"
    load_in_stock(stock, etcd34, "alpha")
    new.check_read(stock)


@pytest.mark.parametrize("label", ["part", "part/of/it"])
def test_partial_metadata_of_stock(
    peers: PeerFactory, hosts: HostFactory, etcd34: Etcd, namespace: bytes, label: str
) -> None:
    host = hosts()
    host.open(etcd34.endpoint, namespace)
    watch = host.start("watch", agent=b"alpha")
    stock = peers("stock", "alpha", etcd34, namespace)
    wanted = stock.do("register", size=200)
    stock.do("send_partial", registration=wanted["registration"], conn=1, label=label)
    blob = stock.do("partial", registration=wanted["registration"], conn=1)["blob"]
    assert host.succeed("fetch", agent=b"alpha", label=label.encode())["blob"] == blob
    assert host.event("PUT", watch=watch, label=label.encode())["blob"] == blob


@pytest.mark.parametrize("label", ["part", "part/of/it"])
def test_partial_metadata_of_ours(
    peers: PeerFactory, hosts: HostFactory, etcd34: Etcd, namespace: bytes, label: str
) -> None:
    """Only what is published under the label is known to the stock peer; it can be used."""
    stock = peers("stock", "beta", etcd34, namespace)
    ours = Remote(peers, hosts, "alpha", seed=8)
    other = ours.nixl.do("register", size=300)["address"]
    blob = bytes.fromhex(ours.nixl.do("partial", registration=0, conn=1)["blob"])
    ours.host.open(etcd34.endpoint, namespace, agent=b"alpha")
    ours.host.succeed("publish", label=label.encode(), blob=blob)
    load_in_stock(stock, etcd34, "alpha", label)
    assert stock.do("check", agent="alpha", address=ours.address, size=SIZE)["is_there"]
    assert not stock.do("check", agent="alpha", address=other, size=300)["is_there"]
    ours.check_read(stock)
    ours.host.succeed("invalidate")
    wait_dropped(stock, "alpha")


@pytest.mark.parametrize(
    ("namespace", "root"),
    [(None, b"/nixl/agents//"), (b"/nixl/agents", b"/nixl/agents/")],
    ids=["built in", "as in NIXL's README"],
)
def test_namespaces(
    peers: PeerFactory,
    hosts: HostFactory,
    own_etcd: EtcdFactory,
    namespace: bytes | None,
    root: bytes,
) -> None:
    """Both spellings, each set the same way on both sides, byte for byte."""
    etcd = own_etcd()
    stock = peers("stock", "beta", etcd, namespace)
    stock.do("send")
    ours = Remote(peers, hosts, "alpha", seed=9)
    ours.publish(etcd, namespace)
    fetched = ours.host.succeed("fetch", agent=b"beta")
    assert fetched["blob"] == blob_of(stock).hex()
    load_in_stock(stock, etcd, "alpha")
    ours.check_read(stock)
    assert etcd.gateway.keys(b"/") == [
        root + name for name in (b"alpha/", b"alpha/metadata", b"beta/", b"beta/metadata")
    ]


@pytest.mark.parametrize(
    ("stock", "ours"), [(None, b"/nixl/agents"), (b"/nixl/agents", None)], ids=["ours", "stock"]
)
def test_mixed_namespaces(
    peers: PeerFactory, own_etcd: EtcdFactory, stock: bytes | None, ours: bytes | None
) -> None:
    """One of the two spells it as NIXL's README does: they never meet, and ours says why."""
    etcd = own_etcd()
    peers("stock", "alpha", etcd, stock).do("send")
    eventually(lambda: len(etcd.gateway.keys(b"/")) == 2, SOON, "it is sent")
    reader = peers("tick", "beta", etcd, ours)
    reader.do("want", agent="alpha")
    warning = "agent 'alpha' is published under the namespace '/nixl/agents"
    eventually(lambda: warning in peers.log(reader), SOON, "the log tells of it")
    assert not has_loaded(reader, "alpha")


def test_mixed_namespaces_reported_later(peers: PeerFactory, own_etcd: EtcdFactory) -> None:
    """Also where the other one starts long after ours has looked."""
    etcd = own_etcd()
    reader = peers("tick", "beta", etcd)
    reader.do("want", agent="alpha")
    eventually(lambda: reader.do("is_published")["is_published"], SOON, "it has looked")
    assert "never meet" not in peers.log(reader)
    peers("stock", "alpha", etcd, b"/nixl/agents").do("send")
    warning = "agent 'alpha' is published under the namespace '/nixl/agents'"
    eventually(lambda: warning in peers.log(reader), 3 * SOON, "the log tells of it")
