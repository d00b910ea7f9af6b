# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Where the adapter and stock NIXL meet the unusual: names, sizes, labels, restarts during a
transfer, applications that raise."""

from __future__ import annotations

import random
import time
from urllib.parse import quote

import pytest

from agents import KINDS, LONG_TTL, SIZE, TTL, check_read, is_refused, start, told, wait_published
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
    wait_loaded,
)
from etcd_server import Etcd
from hosts import Host, Line, made_blob

NAMES = ("agent-ü-λ-漢", "two words & 100 %")


# Names, labels, sizes


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_no_identifiers(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes, name: str
) -> None:
    """In both directions: names are bytes, and none is changed on its way."""
    ours = start(peers, "tick", name, etcd34, namespace, seed=21)
    wait_published(ours)
    root = namespace + b"/" + name.encode() + b"/"
    assert etcd34.gateway.keys(namespace) == [root, root + b"metadata"]
    stock = start(peers, "stock", name + "2", etcd34, namespace, seed=22)
    stock.do("send")
    load_in_stock(stock, etcd34, name)
    check_read(stock, ours, 21, name)
    ours.do("want", agent=quote(name + "2"))
    wait_loaded(ours, name + "2")
    check_read(ours, stock, 22, name + "2")
    ours.do("withdraw")
    wait_dropped(stock, name)
    stock.do("invalidate")
    wait_dropped(ours, name + "2")


def test_several_labels_of_ours(peers: PeerFactory, etcd34: Etcd, namespace: bytes) -> None:
    """A stock peer adds each to what it has, and drops all of them together."""
    alpha = start(peers, "tick", "alpha", etcd34, namespace)
    wait_published(alpha)
    parts = [alpha.do("register", size=SIZE, seed=30 + number) for number in range(3)]
    alpha.do("withdraw")
    alpha.do("publish_partial", registration=0, label="conn", conn=1)
    for number, part in enumerate(parts):
        label = f"part/{number}"
        alpha.do("publish_partial", registration=part["registration"], label=label)
    eventually(lambda: len(etcd34.gateway.keys(namespace)) == 5, SOON, "all are published")
    leases = {kv.lease for kv in etcd34.gateway.range(namespace + b"/alpha/")}
    assert len(leases) == 1
    assert 0 not in leases
    stock = peers("stock", "beta", etcd34, namespace)
    load_in_stock(stock, etcd34, "alpha", "conn")
    for number, part in enumerate(parts):
        where = {"agent": "alpha", "address": part["address"], "size": SIZE}
        assert not stock.do("check", **where)["is_there"]
        stock.do("fetch", agent="alpha", label=f"part/{number}")
        eventually(lambda: stock.do("check", **where)["is_there"], SOON, "it is known")  # noqa: B023
        read = stock.do("read", **where)
        assert bytes.fromhex(read["bytes"]) == made_blob(SIZE, 30 + number)
    alpha.do("withdraw")
    wait_dropped(stock, "alpha")


@pytest.mark.parametrize("kind", KINDS)
def test_several_labels_of_stock(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes, kind: str
) -> None:
    """Loaded when the last has come, in the order that was asked for."""
    reader = peers(kind, "beta", etcd34, namespace)
    reader.do("want", agent="alpha", labels="conn,part/a,part/b")
    alpha = start(peers, "stock", "alpha", etcd34, namespace, seed=33)
    parts = [alpha.do("register", size=SIZE, seed=34 + number) for number in range(2)]
    for number, label in ((1, "part/b"), (0, "part/a")):
        alpha.do("send_partial", registration=parts[number]["registration"], label=label)
    eventually(lambda: len(etcd34.gateway.keys(namespace + b"/alpha/")) == 3, SOON, "both are sent")
    time.sleep(0.5)
    assert not reader.do("is_loaded", agent="alpha")["is_loaded"]
    alpha.do("send_partial", registration=0, label="conn", conn=1)
    told(reader, True)
    check_read(reader, alpha, 33)
    for number, part in enumerate(parts):
        read = reader.do("read", agent="alpha", address=part["address"], size=SIZE)
        assert bytes.fromhex(read["bytes"]) == made_blob(SIZE, 34 + number)
    alpha.do("invalidate")
    told(reader, False)
    wait_dropped(reader, "alpha")


def test_empty_metadata(peers: PeerFactory, etcd34: Etcd, namespace: bytes) -> None:
    """As stock NIXL's newest layer has it, an empty value is not there yet."""
    alpha = start(peers, "plain", "alpha", etcd34, namespace, seed=35)
    key = namespace + b"/alpha/"
    etcd34.gateway.put_all([(key, b""), (key + b"metadata", b"")])
    reader = peers("tick", "beta", etcd34, namespace)
    reader.do("want", agent="alpha")
    wait_published(reader)
    time.sleep(0.5)
    assert reader.do("failure", agent="alpha")["failure"] == "None"
    assert not has_loaded(reader, "alpha")
    etcd34.gateway.put(key + b"metadata", blob_of(alpha))
    told(reader, True)
    check_read(reader, alpha, 35)


def test_large_metadata(peers: PeerFactory, own_etcd: EtcdFactory, namespace: bytes) -> None:
    """Blobs up to etcd's limit are loaded, by ours and by stock. A larger one is an error, and
    peers keep the earlier one."""
    etcd = own_etcd("3.4", "--max-request-bytes", "200000")
    alpha = start(peers, "tick", "alpha", etcd, namespace, seed=36)
    more = alpha.do("register", size=64, seed=37, count=3000)
    key = namespace + b"/alpha/metadata"

    def stored() -> bytes:
        found = etcd.gateway.get(key)
        return b"" if found is None else found.value

    eventually(lambda: len(stored()) > 100_000, SOON, "it is published")
    last = stored()
    reader, stock = peers("tick", "beta", etcd, namespace), peers("stock", "gamma", etcd, namespace)
    reader.do("want", agent="alpha")
    load_in_stock(stock, etcd, "alpha")
    told(reader, True)
    for peer in (reader, stock):
        check_read(peer, alpha, 36)
        assert peer.do("check", agent="alpha", address=more["address"], size=64)["is_there"]
    alpha.do("register", size=64, seed=38, count=3000)
    eventually(lambda: is_refused(alpha, "TooLarge"), SOON, "it is told that it is too large")
    assert "publish metadata: TOO_LARGE" in peers.log(alpha)
    assert stored() == last
    check_read(reader, alpha, 36)


# Registrations that change, restarts, withdrawal


@pytest.mark.parametrize("kind", KINDS)
def test_registrations_change_while_stock_has_it(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes, kind: str
) -> None:
    """It may fetch again without losing what it has, nor the watch on it."""
    alpha = start(peers, kind, "alpha", etcd34, namespace, seed=40)
    wait_published(alpha)
    stock = peers("stock", "beta", etcd34, namespace)
    load_in_stock(stock, etcd34, "alpha")
    check_read(stock, alpha, 40)
    more = alpha.do("register", size=SIZE, seed=41)
    key = namespace + b"/alpha/metadata"
    eventually(
        lambda: etcd34.gateway.range(key)[0].value == blob_of(alpha), SOON, "published again"
    )
    assert has_loaded(stock, "alpha")
    stock.do("fetch", agent="alpha")
    where = {"agent": "alpha", "address": more["address"], "size": SIZE}
    eventually(lambda: stock.do("check", **where)["is_there"], SOON, "the new buffer is known")
    assert bytes.fromhex(stock.do("read", **where)["bytes"]) == made_blob(SIZE, 41)
    check_read(stock, alpha, 40)
    alpha.do("withdraw")
    wait_dropped(stock, "alpha")


@pytest.mark.parametrize("kind", KINDS)
def test_restarts_during_a_transfer(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes, kind: str
) -> None:
    """The reader's `on_peer` releases the transfer, and what it reads next is the new process's."""
    reader = peers(kind, "beta", etcd34, namespace)
    reader.do("want", agent="alpha")
    old = start(peers, kind, "alpha", etcd34, namespace, seed=42, ttl=LONG_TTL)
    told(reader, True)
    address = old.do("where")["address"]
    old.freeze()
    state = reader.do("begin_read", agent="alpha", address=address, size=SIZE)["state"]
    assert state in ("PROC", "DONE")
    mark = reader.mark()
    old.kill()
    new = start(peers, kind, "alpha", etcd34, namespace, seed=43)
    told(reader, False, since=mark)
    told(reader, True, since=mark)
    check_read(reader, new, 43)


def test_stock_is_killed_and_taken_over(peers: PeerFactory, etcd34: Etcd, namespace: bytes) -> None:
    """Its keys stay when it is killed. One of ours that takes the name over removes them, and that
    a stock peer notices as ours does."""
    old = start(peers, "stock", "alpha", etcd34, namespace, seed=44)
    old.do("send")
    key = namespace + b"/alpha/metadata"
    eventually(lambda: etcd34.gateway.get(key) is not None, SOON, "it is sent")
    blob = blob_of(old)
    ours, stock = (
        peers("tick", "beta", etcd34, namespace),
        peers("stock", "gamma", etcd34, namespace),
    )
    ours.do("want", agent="alpha")
    load_in_stock(stock, etcd34, "alpha")
    told(ours, True)
    old.kill()
    found = etcd34.gateway.get(key)
    assert found is not None
    assert (found.value, found.lease) == (blob, 0)
    new = start(peers, "tick", "alpha", etcd34, namespace, seed=45)
    told(ours, False)
    wait_dropped(stock, "alpha")
    wait_published(new)
    told(ours, True, since=ours.mark() - 1)
    check_read(ours, new, 45)
    load_in_stock(stock, etcd34, "alpha")
    check_read(stock, new, 45)


def test_several_in_one_process(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes, figure: Figure
) -> None:
    """Each has a name, a lease and peers of its own, the others of the process among them."""
    both = start(peers, "several", "alpha,beta", etcd34, namespace, seed=46)
    other = start(peers, "tick", "gamma", etcd34, namespace, seed=47)
    both.do("want", who="alpha", agent="beta")
    both.do("want", who="beta", agent="alpha")
    for name in ("alpha", "beta"):
        both.do("want", who=name, agent="gamma")
        other.do("want", agent=name)
    for who, name in (("alpha", "beta"), ("beta", "alpha"), ("alpha", "gamma"), ("beta", "gamma")):
        told(both, True, who=who, name=name)
        owner = other if name == "gamma" else Member(both, name)
        check_read(both, owner, 47 if name == "gamma" else 46, name, who)
    for name in ("alpha", "beta"):
        told(other, True, name=name)
        check_read(other, Member(both, name), 46, name)
    leases = [
        presence.lease
        for name in (b"alpha", b"beta", b"gamma")
        if (presence := etcd34.gateway.get(namespace + b"/" + name + b"/")) is not None
    ]
    assert len(set(leases)) == 3
    # One of them ends; the other lives on.
    both.do("close", agent="alpha")
    told(other, False, name="alpha")
    told(both, False, who="beta", name="alpha")
    check_read(other, Member(both, "beta"), 46, "beta")
    killed = other.kill()
    dropped = told(both, False, who="beta", name="gamma")
    figure("dropped, since the kill", killed, dropped["t"] / 1e9, TTL + EXPIRY)


class Member(Host):
    """One of several agents in a process."""

    def __init__(self, host: Host, name: str) -> None:
        self._host = host
        self._name = name

    def do(self, command: str, **values: object) -> Line:
        return self._host.do(command, who=self._name, **values)


# An application that raises, or changes its mind, inside on_peer


class Moving:
    """Agent alpha, whose keys are overwritten with those of another process, all at once: a peer
    gets RESTARTED, and no GONE before, so that dropping and loading are one event."""

    def __init__(self, peers: PeerFactory, etcd: Etcd, namespace: bytes, seed: int) -> None:
        self.nixl = peers("plain", "alpha", TEST_SIZE=str(SIZE), TEST_SEED=str(seed))
        self._gateway = etcd.gateway
        self._root = namespace + b"/alpha/"
        self.move()

    def move(self) -> None:
        # The upper bits of a lease's id tell which process it is.
        lease = self._gateway.grant(600, random.getrandbits(47) << 16 | 2)
        pairs = [(self._root, b""), (self._root + b"metadata", blob_of(self.nixl))]
        self._gateway.put_all(pairs, lease)

    def end(self) -> None:
        self._gateway.delete_prefix(self._root)


@pytest.mark.parametrize("kind", KINDS)
def test_on_peer_raises(peers: PeerFactory, etcd34: Etcd, namespace: bytes, kind: str) -> None:
    """The application gets it; peers are dropped and loaded anyway."""
    alpha = Moving(peers, etcd34, namespace, 50)
    reader = peers(kind, "beta", etcd34, namespace)
    reader.do("misbehave", raises=1)
    reader.do("want", agent="alpha")
    told(reader, True)
    for _ in range(2):
        mark = reader.mark()
        alpha.move()
        told(reader, False, since=mark)
        told(reader, True, since=mark)
        check_read(reader, alpha.nixl, 50)
    mark = reader.mark()
    alpha.end()
    told(reader, False, since=mark)
    wait_dropped(reader, "alpha")

    def count() -> int:
        if kind == "tick":
            return len(reader.lines("raised", text="on_peer of alpha"))
        return peers.log(reader).count("RuntimeError: on_peer of alpha")

    eventually(lambda: count() == 6, SOON, "each is told")


def test_forgotten_inside_on_peer(peers: PeerFactory, etcd34: Etcd, namespace: bytes) -> None:
    """Then it is not loaded again, and may be wanted again."""
    alpha = Moving(peers, etcd34, namespace, 53)
    reader = peers("tick", "beta", etcd34, namespace)
    reader.do("misbehave", forgets=1)
    reader.do("want", agent="alpha")
    told(reader, True)
    mark = reader.mark()
    alpha.move()
    told(reader, False, since=mark)
    time.sleep(1)
    assert not has_loaded(reader, "alpha")
    reader.do("want", agent="alpha")
    told(reader, True, since=mark)
    check_read(reader, alpha.nixl, 53)


def test_removed_by_the_application(peers: PeerFactory, etcd34: Etcd, namespace: bytes) -> None:
    """NIXL refuses to remove what is not there: that does not end the life of the peer."""
    alpha = Moving(peers, etcd34, namespace, 54)
    reader = peers("tick", "beta", etcd34, namespace)
    reader.do("want", agent="alpha")
    told(reader, True)
    reader.do("remove", agent="alpha")
    mark = reader.mark()
    alpha.move()
    told(reader, True, since=mark)
    check_read(reader, alpha.nixl, 54)


def test_blob_whose_name_is_no_text_is_a_mismatch(
    peers: PeerFactory, hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    """The name inside a blob may be any bytes: a mismatch, and nothing raises."""
    other = peers("plain", "alphabet")
    blob = blob_of(other).replace(b"alphabet", b"alpha\xff\xfe\xfd")
    assert blob != blob_of(other)
    host = hosts()
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    host.succeed("publish", label=b"metadata", blob=blob)
    reader = peers("tick", "beta", etcd34, namespace)
    reader.do("want", agent="alpha")

    def failure() -> str:
        return str(reader.do("failure", agent="alpha")["failure"])

    eventually(lambda: failure() != "None", SOON, "the failure is told")
    assert "Mismatch" in failure() or "nixl" in failure().casefold()
    assert "Decode" not in failure()
    assert not has_loaded(reader, "alpha")
    assert not reader.lines("raised")
