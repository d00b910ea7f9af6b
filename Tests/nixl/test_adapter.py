# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""nixl_md.nixl: stock agents without NIXL's own etcd layer exchange metadata through libnixl_md."""

from __future__ import annotations

import time

import pytest

from agents import is_refused
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
from hosts import Host, Line, Refused, made_blob

TTL = 5
# A TTL that no test outlasts: nothing that happens within it comes from the end of a lease.
LONG_TTL = 300
SIZE = 5000
KINDS = ("tick", "asyncio")


def serve(
    peers: PeerFactory, kind: str, etcd: Etcd, namespace: bytes, seed: int, ttl: int = TTL
) -> tuple[Host, int]:
    """Agent alpha with a buffer to be read, and where that lies. A stock one sends its metadata."""
    environment = {"TEST_SIZE": str(SIZE), "TEST_SEED": str(seed), "TEST_TTL": str(ttl)}
    peer = peers(kind, "alpha", etcd, namespace, **environment)
    if kind == "stock":
        peer.do("send")
    else:
        eventually(lambda: peer.do("is_published")["is_published"], SOON, "it is published")
    return peer, peer.do("where")["address"]


def check_read(reader: Host, address: int, seed: int) -> None:
    answer = reader.do("read", agent="alpha", address=address, size=SIZE)
    assert answer["state"] == "DONE"
    assert bytes.fromhex(answer["bytes"]) == made_blob(SIZE, seed)


def told(reader: Host, is_loaded: bool, since: int = 0, within: float = SOON) -> Line:
    """The next call of on_peer; NIXL has the metadata at both times."""
    line = reader.line("peer", name="alpha", is_loaded=is_loaded, since=since, within=within)
    assert line["check"] is True
    return line


def lease_of(etcd: Etcd, namespace: bytes, agent: bytes = b"alpha") -> int:
    presence = etcd.gateway.get(namespace + b"/" + agent + b"/")
    assert presence is not None
    return presence.lease


@pytest.mark.parametrize("kind", KINDS)
def test_killed_and_restarted(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes, figure: Figure, kind: str
) -> None:
    """The reader's application names its peer once, and does nothing more."""
    reader = peers(kind, "beta", etcd34, namespace)
    reader.do("want", agent="alpha")
    old, address = serve(peers, kind, etcd34, namespace, seed=3)
    told(reader, True)
    check_read(reader, address, seed=3)

    mark = reader.mark()
    lease = lease_of(etcd34, namespace)
    killed = old.kill()
    dropped = told(reader, False, since=mark)
    figure("dropped, since the kill", killed, dropped["t"] / 1e9, TTL + EXPIRY)
    assert etcd34.gateway.time_to_live(lease) <= 0
    wait_dropped(reader, "alpha")
    assert not reader.do("is_loaded", agent="alpha")["is_loaded"]

    mark = reader.mark()
    new, address = serve(peers, kind, etcd34, namespace, seed=4)
    told(reader, True, since=mark)
    check_read(reader, address, seed=4)
    new.quit()
    told(reader, False, since=mark)
    assert etcd34.gateway.keys(namespace + b"/alpha/") == []


@pytest.mark.parametrize("kind", KINDS)
def test_restarted_within_the_ttl(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes, kind: str
) -> None:
    reader = peers(kind, "beta", etcd34, namespace)
    reader.do("want", agent="alpha")
    old, address = serve(peers, kind, etcd34, namespace, seed=5, ttl=LONG_TTL)
    told(reader, True)
    check_read(reader, address, seed=5)
    mark = reader.mark()
    old.kill()
    _, address = serve(peers, kind, etcd34, namespace, seed=6)
    told(reader, False, since=mark)
    told(reader, True, since=mark)
    check_read(reader, address, seed=6)


def test_registrations_change(peers: PeerFactory, etcd34: Etcd, namespace: bytes) -> None:
    """They are published again; a peer that fetches again has them, without losing what it had."""
    reader = peers("tick", "beta", etcd34, namespace)
    alpha, address = serve(peers, "tick", etcd34, namespace, seed=7, ttl=LONG_TTL)
    reader.do("want", agent="alpha")
    told(reader, True)
    version = etcd34.gateway.range(namespace + b"/alpha/m")[0].version
    more = alpha.do("register", size=SIZE, seed=8)
    assert not reader.do("check", agent="alpha", address=more["address"], size=SIZE)["is_there"]
    key = namespace + b"/alpha/metadata"
    eventually(
        lambda: etcd34.gateway.range(key)[0].value == blob_of(alpha), SOON, "published again"
    )
    reader.do("refetch", agent="alpha")
    eventually(
        lambda: reader.do("check", agent="alpha", address=more["address"], size=SIZE)["is_there"],
        SOON,
        "the new buffer is known",
    )
    check_read(reader, more["address"], seed=8)
    check_read(reader, address, seed=7)
    alpha.do("deregister", registration=more["registration"])
    eventually(
        lambda: etcd34.gateway.range(key)[0].value == blob_of(alpha), SOON, "published again"
    )
    # Only what changed is published: once for each.
    time.sleep(1)
    assert etcd34.gateway.range(key)[0].version == version + 2
    assert not reader.lines("peer", is_loaded=False)


def test_forget_drops_the_peer(peers: PeerFactory, etcd34: Etcd, namespace: bytes) -> None:
    reader = peers("tick", "beta", etcd34, namespace)
    _, address = serve(peers, "tick", etcd34, namespace, seed=9)
    reader.do("want", agent="alpha")
    told(reader, True)
    reader.do("forget", agent="alpha")
    assert not has_loaded(reader, "alpha")
    reader.do("want", agent="alpha")
    told(reader, True, since=reader.mark() - 2)
    check_read(reader, address, seed=9)


def check_waits_for_publish(alpha: Host, etcd: Etcd, namespace: bytes) -> None:
    """Withdrawn metadata is claimed again by publish, not when registrations change."""
    alpha.do("register", size=64)
    assert not alpha.do("check_registrations")["is_any"]
    time.sleep(1)
    assert etcd.gateway.keys(namespace + b"/alpha/") == []
    assert not alpha.do("is_published")["is_published"]
    alpha.do("publish")


@pytest.mark.parametrize("kind", KINDS)
def test_invalidate(peers: PeerFactory, etcd34: Etcd, namespace: bytes, kind: str) -> None:
    """Withdrawn at once, and not put back by registrations that change, only by publish."""
    reader = peers(kind, "beta", etcd34, namespace)
    reader.do("want", agent="alpha")
    alpha, _ = serve(peers, kind, etcd34, namespace, seed=1)
    told(reader, True)
    mark = reader.mark()
    alpha.do("withdraw")
    told(reader, False, since=mark)
    assert not alpha.do("is_published")["is_published"]
    check_waits_for_publish(alpha, etcd34, namespace)
    told(reader, True, since=mark)
    assert alpha.do("is_published")["is_published"]


@pytest.mark.parametrize("kind", KINDS)
def test_removed_by_an_operator(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes, kind: str
) -> None:
    """As after an invalidate: the name is claimed again only by publish."""
    reader = peers("tick", "beta", etcd34, namespace)
    reader.do("want", agent="alpha")
    alpha, _ = serve(peers, kind, etcd34, namespace, seed=1)
    told(reader, True)
    mark = reader.mark()
    etcd34.gateway.delete_prefix(namespace + b"/alpha/")
    eventually(lambda: not alpha.do("is_published")["is_published"], SOON, "it is known")
    told(reader, False, since=mark)
    assert "alpha: WITHDRAWN" in peers.log(alpha)
    check_waits_for_publish(alpha, etcd34, namespace)
    told(reader, True, since=mark)
    assert alpha.do("is_published")["is_published"]
    # Registrations are looked at again.
    alpha.do("register", size=64)
    key = namespace + b"/alpha/metadata"
    eventually(lambda: etcd34.gateway.range(key)[0].value == blob_of(alpha), SOON, "it is new")


def test_partial_metadata(peers: PeerFactory, etcd34: Etcd, namespace: bytes) -> None:
    alpha = peers("tick", "alpha", etcd34, namespace)
    hidden = alpha.do("register", size=SIZE, seed=1)
    shown = alpha.do("register", size=SIZE, seed=2)
    alpha.do("publish_partial", registration=0, label="conn", conn=1)
    alpha.do("publish_partial", registration=shown["registration"], label="part/a")
    reader = peers("tick", "beta", etcd34, namespace)
    reader.do("want", agent="alpha", labels="conn,part/a")
    told(reader, True)
    check_read(reader, shown["address"], seed=2)
    assert not reader.do("check", agent="alpha", address=hidden["address"], size=SIZE)["is_there"]


def test_stock_peer_loads_it(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes, figure: Figure
) -> None:
    stock = peers("stock", "beta", etcd34, namespace)
    old, address = serve(peers, "tick", etcd34, namespace, seed=10)
    load_in_stock(stock, etcd34, "alpha")
    check_read(stock, address, seed=10)
    killed = old.kill()
    wait_dropped(stock, "alpha")
    figure("dropped, since the kill", killed, time.monotonic(), TTL + EXPIRY)
    _, address = serve(peers, "tick", etcd34, namespace, seed=11)
    stock.do("fetch", agent="alpha")
    wait_loaded(stock, "alpha")
    check_read(stock, address, seed=11)


def test_it_loads_a_stock_peer(peers: PeerFactory, etcd34: Etcd, namespace: bytes) -> None:
    """Also after a restart, when the metadata of the dead process is still there, with its keys."""
    reader = peers("tick", "beta", etcd34, namespace)
    reader.do("want", agent="alpha")
    old, address = serve(peers, "stock", etcd34, namespace, seed=12)
    told(reader, True)
    check_read(reader, address, seed=12)
    mark = reader.mark()
    old.kill()
    new = peers("stock", "alpha", etcd34, namespace, TEST_SIZE=str(SIZE), TEST_SEED="13")
    told(reader, False, since=mark)
    time.sleep(1)
    assert not has_loaded(reader, "alpha"), "what the dead process left was loaded"
    new.do("send")
    told(reader, True, since=mark)
    check_read(reader, new.do("where")["address"], seed=13)
    mark = reader.mark()
    new.do("invalidate")
    told(reader, False, since=mark)


@pytest.mark.parametrize(
    ("blob", "words"), [(b"junk", "MISMATCH"), (b"", "MISMATCH")], ids=["junk", "another's"]
)
def test_blob_that_nixl_refuses_is_an_error_then_a_good_one_loads(
    peers: PeerFactory,
    hosts: HostFactory,
    etcd34: Etcd,
    namespace: bytes,
    blob: bytes,
    words: str,
) -> None:
    """The application gets the error; nothing is loaded; a good blob later is."""
    other = peers("plain", "gamma")
    host = hosts()
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    host.succeed("publish", label=b"metadata", blob=blob or blob_of(other))
    reader = peers("tick", "beta", etcd34, namespace)
    reader.do("want", agent="alpha")
    eventually(
        lambda: words.casefold() in reader.do("failure", agent="alpha")["failure"].casefold(),
        SOON,
        "the failure is told",
    )
    assert not has_loaded(reader, "alpha")
    assert not has_loaded(reader, "gamma")
    alpha = peers("plain", "alpha")
    address = alpha.do("register", size=SIZE, seed=14)["address"]
    host.succeed("publish", label=b"metadata", blob=blob_of(alpha))
    reader.do("refetch", agent="alpha")
    told(reader, True)
    assert reader.do("failure", agent="alpha")["failure"] == "None"
    check_read(reader, address, seed=14)


def test_two_processes_of_one_name(peers: PeerFactory, etcd34: Etcd, namespace: bytes) -> None:
    """The later one wins; the earlier one says in its log that it has lost the name."""
    reader = peers("tick", "beta", etcd34, namespace)
    first, _ = serve(peers, "tick", etcd34, namespace, seed=17)
    reader.do("want", agent="alpha")
    told(reader, True)
    mark = reader.mark()
    _, address = serve(peers, "tick", etcd34, namespace, seed=18)
    told(reader, False, since=mark)
    told(reader, True, since=mark)
    check_read(reader, address, seed=18)
    eventually(lambda: "alpha: SUPERSEDED" in peers.log(first), SOON, "it is logged")
    assert not first.do("is_published")["is_published"]
    first.do("register", size=64)
    assert not first.do("check_registrations")["is_any"]
    assert not first.do("is_published")["is_published"]
    # The error says why it cannot have it back.
    first.do("publish")
    eventually(lambda: is_refused(first, "Superseded"), SOON, "publish is refused")
    # Nor does it withdraw what is not its own.
    first.quit()
    time.sleep(1)
    assert has_loaded(reader, "alpha")
    assert len(etcd34.gateway.keys(namespace + b"/alpha/")) == 2


def test_the_name_is_taken_meanwhile(peers: PeerFactory, etcd34: Etcd, namespace: bytes) -> None:
    """The earlier process stood still: it learns at once that the name has gone."""
    first, _ = serve(peers, "tick", etcd34, namespace, seed=17, ttl=LONG_TTL)
    first.freeze()
    second, _ = serve(peers, "tick", etcd34, namespace, seed=18)
    first.thaw()
    eventually(lambda: "alpha: SUPERSEDED" in peers.log(first), SOON, "it is logged")
    assert "alpha: WITHDRAWN" not in peers.log(first)
    assert not first.do("is_published")["is_published"]
    assert second.do("is_published")["is_published"]


def test_a_stock_agent_takes_the_name(peers: PeerFactory, etcd34: Etcd, namespace: bytes) -> None:
    """Keys that NIXL's own layer sends under our name are not undone, now or at the next
    renewal."""
    ours, _ = serve(peers, "tick", etcd34, namespace, seed=27)
    peers("stock", "alpha", etcd34, namespace, TEST_SIZE=str(SIZE), TEST_SEED="28").do("send")
    eventually(lambda: "alpha: SUPERSEDED" in peers.log(ours), SOON, "it is logged")

    def leases() -> list[int]:
        return [kv.lease for kv in etcd34.gateway.range(namespace)]

    eventually(lambda: leases() == [0, 0], SOON, "presence key and metadata are its own")
    sent = etcd34.gateway.range(namespace)
    time.sleep(TTL)
    assert etcd34.gateway.range(namespace) == sent


def test_wrong_arguments_raise(peers: PeerFactory, etcd34: Etcd, namespace: bytes) -> None:
    reader = peers("tick", "beta", etcd34, namespace)
    for values in ({"agent": "beta"}, {"agent": "alpha", "labels": ""}):
        with pytest.raises(Refused):
            reader.do("want", **values)
    reader.do("want", agent="alpha")
    with pytest.raises(Refused, match="wanted already"):
        reader.do("want", agent="alpha")


def test_etcd_is_down_at_the_start(
    peers: PeerFactory, own_etcd: EtcdFactory, namespace: bytes
) -> None:
    """For longer than the time-out of an operation: all goes on when etcd comes."""
    etcd = own_etcd.unstarted()
    reader = peers("tick", "beta", etcd, namespace)
    reader.do("want", agent="alpha")
    alpha = peers("tick", "alpha", etcd, namespace, TEST_SIZE=str(SIZE), TEST_SEED="15")
    time.sleep(12)
    assert not alpha.do("is_published")["is_published"]
    etcd.start().wait_healthy()
    told(reader, True)
    assert alpha.do("is_published")["is_published"]
    check_read(reader, alpha.do("where")["address"], seed=15)


def test_etcd_restarts(
    peers: PeerFactory, own_etcd: EtcdFactory, namespace: bytes, figure: Figure
) -> None:
    """Nothing is dropped by that, and a death afterwards is still noticed."""
    etcd = own_etcd()
    reader = peers("tick", "beta", etcd, namespace)
    reader.do("want", agent="alpha")
    alpha, address = serve(peers, "tick", etcd, namespace, seed=16, ttl=2 * TTL)
    told(reader, True)
    etcd.kill()
    time.sleep(2)
    etcd.start().wait_healthy()
    time.sleep(2 * TTL + 2)
    assert not reader.lines("peer", is_loaded=False)
    check_read(reader, address, seed=16)
    killed = alpha.kill()
    dropped = told(reader, False)
    figure("dropped, since the kill", killed, dropped["t"] / 1e9, 2 * TTL + EXPIRY)
