# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""An agent's keys stand on its lease (docs/registration.md): lost answers, withdrawals, foreign
keys, roles, cost."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

import capi
from conftest import EtcdFactory, HostFactory
from etcd_server import Etcd
from gateway import GatewayError
from hosts import Host
from leases import granted_ttl, never_ends, one_lease
from memcheck import CPU_FACTOR, scaled
from proxy import Proxy
from slowness import slowness

NS = b"/ns/"
PREFIX = NS + b"/alpha/"
TTL = 5
HEARTBEAT = {"interval": 1000, "ttl": TTL * 1000}
ALL_LABELS = 4096
# Also of the peer, which decodes 4,097 events of one revision: 2.1 to 3.9 on a busy machine.
TICK_LIMIT_MS = 5 * CPU_FACTOR
# While the host makes 4,096 calls at once; 5 ms of it are what one tick spends on taking calls.
PUBLISH_TICK_LIMIT_MS = 11 * CPU_FACTOR


def wait_for(is_so: Callable[[], bool], text: str, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + scaled(seconds)
    while not is_so():
        assert time.monotonic() < deadline, text
        time.sleep(0.01)


def watching(host: Host, endpoint: str) -> int:
    host.open(endpoint, NS)
    watch = host.start("watch", agent=b"alpha")
    host.event("SYNCED", watch=watch)
    return watch


# Answers that are lost


@pytest.fixture
def etcd_behind(own_etcd: EtcdFactory, version: str) -> Iterator[tuple[Etcd, Proxy]]:
    etcd = own_etcd(version)
    proxy = Proxy(etcd.port)
    try:
        yield etcd, proxy
    finally:
        proxy.close()


def lose_answer(host: Host, proxy: Proxy, is_carried_out: Callable[[], bool]) -> None:
    """Ticks a host, which is driven by hand, until a transaction about its presence key waits in
    the proxy; lets that go to etcd, and ends the connection with its answer."""
    deadline = time.monotonic() + scaled(10)
    while True:
        proxy.hold(requests=True)
        sent = host.stats()["requests"]
        assert host.request("tick")["rc"] >= 0
        if host.stats()["requests"] > sent:
            wait_for(lambda: proxy.held() != b"", "it does not come")
            time.sleep(0.05)
        # Its guard names the key, what it does, and its else-branch; a reading names it twice.
        if proxy.held().count(PREFIX) >= 3:
            break
        assert time.monotonic() < deadline, "no transaction comes"
        proxy.release()
        time.sleep(0.005)
    proxy.lose_answers()
    wait_for(is_carried_out, "it is not carried out")
    time.sleep(0.1)
    proxy.cut()
    proxy.release()
    proxy.heal()
    host.do("drive", mode="efd")


def check_incarnation(peer: Host, etcd: Etcd, event: str, watch: int, *, is_renewed: bool) -> None:
    """That of the list, of the event and of the lease on which all keys hang are the same."""
    lease = one_lease(etcd, PREFIX, is_renewed=is_renewed)
    assert peer.event(event, watch=watch)["incarnation"] == lease >> 16
    (listed,) = peer.succeed("list")["agents"]
    assert (bytes.fromhex(listed[0]), listed[1]) == (b"alpha", lease >> 16)


@pytest.mark.parametrize("flags", [0, capi.CONFIG_REFUSE_TAKEOVER], ids=["", "refuse takeover"])
@pytest.mark.parametrize("leased", [True, False])
def test_answer_to_the_first_claim_is_lost(
    hosts: HostFactory, etcd_behind: tuple[Etcd, Proxy], leased: bool, flags: int
) -> None:
    """The agent knows its own key again, and is not locked out of its own name."""
    etcd, proxy = etcd_behind
    host, peer = hosts(), hosts()
    watch = watching(peer, etcd.endpoint)
    host.open(proxy.endpoint, NS, agent=b"alpha", flags=flags)
    if leased:
        host.succeed("start_heartbeat", **HEARTBEAT)
    host.succeed("list")  # it is connected
    host.do("drive", mode="hand")
    op = host.start("publish", label=b"l", blob=b"b", timeout=30_000)
    lose_answer(host, proxy, lambda: etcd.gateway.get(PREFIX) is not None)
    assert host.done(op)["status"] == capi.SUCCESS
    peer.event("PUT", watch=watch)
    assert peer.names(watch=watch) == ["SYNCED", "PRESENT", "PUT"]
    assert host.events() == []
    check_incarnation(peer, etcd, "PRESENT", watch, is_renewed=leased)


def test_answer_to_a_heartbeat_after_a_publish_is_lost(
    hosts: HostFactory, etcd_behind: tuple[Etcd, Proxy]
) -> None:
    """The move of the keys was carried out: no event."""
    etcd, proxy = etcd_behind
    host, peer = hosts(), hosts()
    host.open(proxy.endpoint, NS, agent=b"alpha")
    for number in range(3):
        host.succeed("publish", label=b"l%d" % number, blob=b"b%d" % number)
    watch = watching(peer, etcd.endpoint)
    before = one_lease(etcd, PREFIX, is_renewed=False)
    mark = peer.mark()
    host.do("drive", mode="hand")
    op = host.start("start_heartbeat", timeout=30_000, **HEARTBEAT)

    def is_moved() -> bool:
        presence = etcd.gateway.get(PREFIX)
        assert presence is not None
        return presence.lease != before

    lose_answer(host, proxy, is_moved)
    assert host.done(op)["status"] == capi.SUCCESS
    host.succeed("publish", label=b"end", blob=b"end")
    peer.event("PUT", watch=watch, label=b"end", since=mark)
    assert set(peer.names(mark)) == {"PUT"}
    values = {(line["label"], line["blob"]) for line in peer.events(mark)}
    assert values == {
        *(((b"l%d" % number).hex(), (b"b%d" % number).hex()) for number in range(3)),
        (b"end".hex(), b"end".hex()),
    }
    assert host.events() == []
    check_incarnation(peer, etcd, "PRESENT", watch, is_renewed=True)
    wait_for(lambda: granted_ttl(etcd.gateway, before) == 0, "a lease is left behind")


@pytest.mark.parametrize("leased", [True, False])
def test_answer_to_a_restore_is_lost(
    hosts: HostFactory, etcd_behind: tuple[Etcd, Proxy], leased: bool
) -> None:
    """LOST and RESTORED once, GONE and RETURNED once."""
    etcd, proxy = etcd_behind
    host, peer = hosts(), hosts()
    host.open(proxy.endpoint, NS, agent=b"alpha")
    if leased:
        host.succeed("start_heartbeat", **HEARTBEAT)
    host.succeed("publish", label=b"l", blob=b"b")
    watch = watching(peer, etcd.endpoint)
    host.do("drive", mode="hand")
    mark = peer.mark()
    etcd.gateway.revoke(one_lease(etcd, PREFIX, is_renewed=leased))
    lose_answer(host, proxy, lambda: etcd.gateway.get(PREFIX) is not None)
    host.event("RESTORED", within=5)
    assert host.names() == ["LOST", "RESTORED"]
    peer.event("PUT", watch=watch, since=mark)
    assert peer.names(mark) == ["GONE", "RETURNED", "PUT"]
    check_incarnation(peer, etcd, "RETURNED", watch, is_renewed=leased)


# Withdrawals


def publish_all(host: Host, endpoint: str, *, leased: bool, **values: object) -> None:
    host.open(endpoint, NS, agent=b"alpha", **values)
    if leased:
        host.succeed("start_heartbeat", **HEARTBEAT)
    # Newer releases of etcd check with each Put that the user may write all keys of its lease.
    ops = host.do("publish", label=b"l", blob=b"b", repeat=ALL_LABELS, timeout=240_000)["ops"]
    assert {line["status"] for line in host.completions(ops, 240).values()} == {capi.SUCCESS}
    longest, factor = host.stats()["tick_cpu_max_ns"] / 1e6, slowness()
    print(f"the longest tick of publishing, in ms: {longest}; {factor:.1f} times as slow")
    assert longest < PUBLISH_TICK_LIMIT_MS * factor


def tick_by_hand(host: Host) -> tuple[int, int]:
    """A tick's result, and its CPU time in nanoseconds."""
    before = host.stats()["tick_cpu_total_ns"]
    rc = host.request("tick")["rc"]
    return rc, host.stats()["tick_cpu_total_ns"] - before


def check_shutdown(host: Host, peer: Host, watch: int, etcd: Etcd) -> None:
    """One revocation, and so one revision, takes everything; no tick of either is long."""
    lease = one_lease(etcd, PREFIX, is_renewed=host.stats()["lease_id"] != 0)
    before, revision = etcd.gateway.answered("LeaseRevoke"), etcd.gateway.revision()
    mark = peer.mark()
    for each in (host, peer):
        each.do("drive", mode="hand")
    host.do("shutdown", drain=60_000)
    deadline = time.monotonic() + scaled(15)
    ticks: dict[Host, list[int]] = {host: [], peer: []}
    is_over = {host: False, peer: False}
    while not all(is_over.values()):
        assert time.monotonic() < deadline, peer.names(mark, watch=watch)
        for each in (host, peer):
            if not is_over[each]:
                rc, nanoseconds = tick_by_hand(each)
                ticks[each].append(nanoseconds)
                is_told = each is peer and "GONE" in peer.names(mark, watch=watch)
                is_over[each] = rc == capi.SHUT_DOWN or is_told
    assert peer.names(mark, watch=watch) == ["GONE"]
    assert etcd.gateway.keys(NS) == []
    assert etcd.gateway.leases() == [], f"{lease:x} stays"
    assert etcd.gateway.answered("LeaseRevoke") == before + 1
    assert etcd.gateway.revision() == revision + 1
    longest = {name: max(ticks[each]) / 1e6 for name, each in (("agent", host), ("peer", peer))}
    factor = slowness()
    print(f"the longest ticks, in ms: {longest}; the machine is {factor:.1f} times as slow")
    assert max(longest.values()) < TICK_LIMIT_MS * factor, (longest, factor)


@pytest.mark.parametrize("leased", [True, False])
@pytest.mark.parametrize("is_full", [False, True], ids=["", "full"])
def test_shutdown_with_all_labels(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str, leased: bool, is_full: bool
) -> None:
    """Also while etcd's database is full."""
    etcd = own_etcd(version)
    host, peer = hosts(), hosts()
    publish_all(host, etcd.endpoint, leased=leased)
    watch = watching(peer, etcd.endpoint)
    if is_full:
        etcd.gateway.alarm("ACTIVATE")
    check_shutdown(host, peer, watch, etcd)


def guarded(etcd: Etcd) -> Etcd:
    etcd.gateway.enable_auth("root-password")
    etcd.gateway.add_user("alice", "secret", NS, "READWRITE")
    return etcd


ALICE = {"user": b"alice", "password": b"secret"}
ROOT = {"user": b"root", "password": b"root-password"}


def test_shutdown_without_permission_to_read(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str
) -> None:
    etcd = guarded(own_etcd(version))
    host, peer = hosts(), hosts()
    publish_all(host, etcd.endpoint, leased=True, **ALICE)
    peer.open(etcd.endpoint, NS, **ROOT)
    watch = peer.start("watch", agent=b"alpha")
    peer.event("SYNCED", watch=watch)
    etcd.gateway.authenticate("root", "root-password")
    etcd.gateway.grant_permission("alice", NS, "WRITE")
    etcd.gateway.authenticate("root", "root-password")
    check_shutdown(host, peer, watch, etcd)


@pytest.mark.parametrize("command", ["invalidate", "stop_heartbeat"])
@pytest.mark.parametrize("how", ["time-out", "cancel"])
def test_withdrawal_that_times_out_goes_on(
    hosts: HostFactory, own_etcd: EtcdFactory, command: str, how: str
) -> None:
    """And what is published meanwhile is written after it."""
    etcd = own_etcd()
    host, peer = hosts(), hosts()
    host.open(etcd.endpoint, NS, agent=b"alpha")
    host.succeed("start_heartbeat", **HEARTBEAT)
    host.succeed("publish", label=b"old", blob=b"b")
    watch = watching(peer, etcd.endpoint)
    lease = host.stats()["lease_id"]
    etcd.freeze()
    timeout = 300 if how == "time-out" else 60_000
    mode = {"mode": capi.HEARTBEAT_WITHDRAW} if command == "stop_heartbeat" else {}
    op = host.start(command, timeout=timeout, **mode)
    if how == "cancel":
        time.sleep(0.2)
        host.do("cancel", op=op)
    wanted = {"time-out": capi.TIMED_OUT, "cancel": capi.CANCELED}[how]
    assert host.done(op)["status"] == wanted
    later = host.start("publish", label=b"new", blob=b"b", timeout=60_000)
    etcd.thaw()
    assert host.done(later)["status"] == capi.SUCCESS
    assert etcd.gateway.keys(NS) == [PREFIX, PREFIX + b"new"]
    assert granted_ttl(etcd.gateway, lease) == 0
    one_lease(etcd, PREFIX, is_renewed=command == "invalidate")
    peer.event("PUT", watch=watch, label=b"new")
    assert peer.names(watch=watch)[-3:] == ["GONE", "RETURNED", "PUT"]
    assert host.events() == []


# Foreign keys, and roles


def foreign_key(etcd: Etcd, lease: int) -> bytes:
    """Somebody hangs a key on the agent's lease that its role may not write."""
    key = b"/other/key"
    etcd.gateway.authenticate("root", "root-password")
    etcd.gateway.put(key, b"foreign", lease)
    return key


def may_not_write(etcd: Etcd, lease: int) -> bool:
    """Whether etcd refuses the agent's user a transaction that puts a key of its own on the
    lease."""
    etcd.gateway.authenticate("alice", "secret")
    try:
        etcd.gateway.put_all([(NS + b"probe", b"")], lease)
    except GatewayError as error:
        assert "permission denied" in str(error)
        return True
    finally:
        etcd.gateway.authenticate("root", "root-password")
    etcd.gateway.delete(NS + b"probe")
    return False


@pytest.mark.parametrize("leased", [True, False])
def test_foreign_key_on_our_lease_moves_us_to_the_next(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str, leased: bool
) -> None:
    """Where etcd refuses to write on such a lease (3.4 and 3.5.1 do not check it in a transaction),
    the agent takes the next one. No event."""
    etcd = guarded(own_etcd(version))
    host, peer = hosts(), hosts()
    host.open(etcd.endpoint, NS, agent=b"alpha", **ALICE)
    if leased:
        host.succeed("start_heartbeat", **HEARTBEAT)
    host.succeed("publish", label=b"l", blob=b"1")
    peer.open(etcd.endpoint, NS, **ROOT)
    watch = peer.start("watch", agent=b"alpha")
    peer.event("SYNCED", watch=watch)
    first = one_lease(etcd, PREFIX, is_renewed=leased)
    foreign_key(etcd, first)
    is_refused = may_not_write(etcd, first)
    mark = peer.mark()
    host.succeed("publish", label=b"l", blob=b"2")
    host.succeed("publish", label=b"m", blob=b"2")
    etcd.gateway.authenticate("root", "root-password")
    second = one_lease(etcd, PREFIX, is_renewed=leased)
    assert second >> 16 == first >> 16
    # Each kind of lease has every second generation.
    assert second == first + 2 * is_refused
    peer.event("PUT", watch=watch, label=b"m", since=mark)
    assert set(peer.names(mark)) == {"PUT"}
    assert host.events() == []
    host.do("shutdown", drain=5000)
    host.line("shut_down", within=6)
    etcd.gateway.authenticate("root", "root-password")
    assert etcd.gateway.keys(NS) == []
    # This user cannot revoke a lease that a foreign key hangs on.
    assert (granted_ttl(etcd.gateway, second) == 0) is is_refused


@pytest.mark.parametrize("leased", [True, False])
def test_withdrawal_where_a_foreign_key_hangs_on_our_lease(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str, leased: bool
) -> None:
    """etcd refuses to revoke it: the keys are removed without it, and the foreign one stays."""
    etcd = guarded(own_etcd(version))
    host = hosts()
    host.open(etcd.endpoint, NS, agent=b"alpha", **ALICE)
    if leased:
        host.succeed("start_heartbeat", **HEARTBEAT)
    host.succeed("publish", label=b"l", blob=b"1")
    key = foreign_key(etcd, one_lease(etcd, PREFIX, is_renewed=leased))
    host.succeed("invalidate")
    etcd.gateway.authenticate("root", "root-password")
    assert etcd.gateway.keys(NS) == []
    assert etcd.gateway.get(key) is not None
    host.succeed("publish", label=b"l", blob=b"2")
    assert len(etcd.gateway.keys(PREFIX)) == 2
    assert host.events() == []


@pytest.mark.parametrize("leased", [True, False])
def test_role_that_may_read_only_the_presence_key(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str, leased: bool
) -> None:
    """And write the prefix: it can publish, unpublish, restore what was lost, and withdraw."""
    etcd = guarded(own_etcd(version))
    etcd.gateway.grant_permission("alice", NS, "WRITE")
    etcd.gateway.grant_permission("alice", PREFIX, "READ", key_alone=True)
    host = hosts()
    host.open(etcd.endpoint, NS, agent=b"alpha", **ALICE)
    if leased:
        host.succeed("start_heartbeat", **HEARTBEAT)
    host.succeed("publish", label=b"l", blob=b"1")
    host.succeed("publish", label=b"m", blob=b"1")
    host.succeed("publish", label=b"l", blob=b"2")
    host.succeed("unpublish", label=b"m")
    etcd.gateway.authenticate("root", "root-password")
    wanted = {PREFIX: b"", PREFIX + b"l": b"2"}
    assert {kv.key: kv.value for kv in etcd.gateway.range(NS)} == wanted
    etcd.gateway.revoke(one_lease(etcd, PREFIX, is_renewed=leased))
    host.event("RESTORED", within=5)
    assert host.names() == ["LOST", "RESTORED"]
    etcd.gateway.authenticate("root", "root-password")
    assert {kv.key: kv.value for kv in etcd.gateway.range(NS)} == wanted
    assert host.finish("fetch", agent=b"alpha", label=b"l")["status"] == capi.PERMISSION
    host.succeed("invalidate")
    etcd.gateway.authenticate("root", "root-password")
    assert etcd.gateway.keys(NS) == []


# Observers


def test_label_on_a_lease_does_not_imply_presence(
    hosts: HostFactory, etcd: Etcd, namespace: bytes
) -> None:
    """A process that died in the middle of a move may leave a label until its lease ends. Stock
    agents leave labels on no lease, and those mean that their agent is present."""
    host = hosts()
    host.open(etcd.endpoint, namespace)
    # With the lowest bit, as of one that never ends: a fetch asks for the presence key then.
    lease = etcd.gateway.grant(60, secrets.randbits(62) | 1)
    etcd.gateway.put(namespace + b"/before/l", b"b", lease)
    whole = host.start("watch", flags=capi.WATCH_BLOBS)
    one = host.start("watch", agent=b"ghost")
    presence = host.start("watch")
    for watch in (whole, one, presence):
        host.event("SYNCED", watch=watch)
    etcd.gateway.put(namespace + b"/ghost/l", b"b", lease)
    etcd.gateway.put(namespace + b"/stock/l", b"b")
    for watch in (whole, presence):
        host.event("PRESENT", watch=watch, agent=b"stock")
    listed = host.succeed("list")["agents"]
    assert [bytes.fromhex(name) for name, *_ in listed] == [b"stock"]
    for agent in (b"before", b"ghost"):
        done = host.finish("fetch", agent=agent, label=b"l", flags=capi.FETCH_NO_WAIT)
        assert done["status"] == capi.NOT_FOUND
    told = Counter(bytes.fromhex(line["agent"]) for line in host.events() if line["agent"])
    assert set(told) == {b"stock"}
    # With its presence key it is there, labels and all.
    revision = etcd.gateway.put(namespace + b"/ghost/", b"", lease)
    assert host.event("PRESENT", watch=one)["revision"] == revision
    host.event("PUT", watch=one, label=b"l", blob=b"b")
    host.event("PUT", watch=whole, agent=b"ghost", label=b"l", blob=b"b")
    assert host.succeed("fetch", agent=b"ghost", label=b"l")["blob"] == b"b".hex()
    etcd.gateway.revoke(lease)
    host.event("GONE", watch=one)


# Cost


def cost(host: Host, calls: Callable[[], object]) -> tuple[int, int]:
    """Requests, and bytes sent, of what is done."""
    before = host.stats()
    calls()
    after = host.stats()
    return after["requests"] - before["requests"], after["bytes_sent"] - before["bytes_sent"]


# The cost of publishing 1,000 bytes with a heartbeat before keys were put on the agent's lease
# (commit 3938a29): requests of the first, bytes of a second one and of one under another label.
FIRST_BEFORE, AGAIN_BEFORE, OTHER_BEFORE = 3, 1118, 1112


def test_cost_of_publishing(hosts: HostFactory, own_etcd: EtcdFactory) -> None:
    """With a heartbeat. Under a free name the first publish claims it, without a look before, and
    writes the label; each one after it is one request, of fewer bytes than it was."""
    etcd = own_etcd()
    host = hosts()
    host.open(etcd.endpoint, NS, agent=b"alpha")
    host.succeed("start_heartbeat", interval=20_000, ttl=60_000)

    def publish(label: bytes = b"metadata") -> tuple[int, int]:
        return cost(host, lambda: host.succeed("publish", label=label, blob=b"b" * 1000))

    first = publish()
    time.sleep(0.5)  # the self-watch has begun
    again = [publish() for _ in range(20)]
    other = publish(b"other")
    print(f"first {first}, again {again}, another label {other}")
    assert not never_ends(etcd.gateway, host.stats()["lease_id"])
    assert first[0] == FIRST_BEFORE - 1
    assert {requests for requests, _ in [*again, other]} == {1}
    assert max(sent for _, sent in again) < AGAIN_BEFORE
    assert other[1] < OTHER_BEFORE
