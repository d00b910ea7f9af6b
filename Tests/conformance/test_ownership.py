# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Who owns a name: takeover, refusal, operators, crashes."""

from __future__ import annotations

import time

import pytest

import capi
from conftest import EtcdFactory, HostFactory
from etcd_server import Etcd
from hosts import Host
from leases import granted_ttl, one_lease
from memcheck import scaled

LANGUAGES = ("cpp", "python")
TTL = 5


def live(host: Host, etcd: Etcd, namespace: bytes, blob: bytes, *, leased: bool = True) -> None:
    host.open(etcd.endpoint, namespace, agent=b"alpha")
    if leased:
        host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
    host.succeed("publish", label=b"metadata", blob=blob)


def watching(host: Host, etcd: Etcd, namespace: bytes) -> int:
    host.open(etcd.endpoint, namespace)
    watch = host.start("watch", agent=b"alpha")
    host.event("SYNCED", watch=watch)
    return watch


@pytest.mark.parametrize("leased", [True, False])
def test_stock_agent_of_the_same_name(
    hosts: HostFactory, etcd: Etcd, namespace: bytes, leased: bool
) -> None:
    """It does not remove the presence key first, as our own kind does, but puts it over ours."""
    host = hosts()
    live(host, etcd, namespace, b"ours", leased=leased)
    etcd.gateway.put(namespace + b"/alpha/", b"")
    etcd.gateway.put(namespace + b"/alpha/metadata", b"stock's")
    host.event("SUPERSEDED", within=2)
    time.sleep(2)  # Two renewals would be due.
    assert host.finish("publish", label=b"metadata", blob=b"x")["status"] == capi.SUPERSEDED
    host.do("shutdown", drain=2000)
    host.line("shut_down", within=3)
    left = {kv.key: (kv.value, kv.lease) for kv in etcd.gateway.range(namespace)}
    assert left == {
        namespace + b"/alpha/": (b"", 0),
        namespace + b"/alpha/metadata": (b"stock's", 0),
    }


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("leased", [True, False])
def test_takeover(
    hosts: HostFactory, etcd: Etcd, namespace: bytes, language: str, leased: bool
) -> None:
    """SUPERSEDED to the first, RESTARTED to the peers; the first can remove nothing any more."""
    other = "cpp" if language == "python" else "python"
    first, second, peer = hosts(language), hosts(other), hosts()
    live(first, etcd, namespace, b"first", leased=leased)
    first.succeed("publish", label=b"only-first", blob=b"b")
    watch = watching(peer, etcd, namespace)
    old = one_lease(etcd, namespace, is_renewed=leased)
    mark = peer.mark()
    live(second, etcd, namespace, b"second", leased=leased)
    first.event("SUPERSEDED", within=2)
    restarted = peer.event("RESTARTED", watch=watch, since=mark)
    lease = one_lease(etcd, namespace, is_renewed=leased)
    assert restarted["incarnation"] == lease >> 16
    assert not leased or lease == second.stats()["lease_id"]
    peer.event("PUT", watch=watch, since=mark, label=b"metadata", blob=b"second")
    before = etcd.gateway.range(namespace)
    assert [kv.key for kv in before] == [namespace + b"/alpha/", namespace + b"/alpha/metadata"]
    for command in ("invalidate", "publish", "unpublish", "start_heartbeat"):
        done = first.finish(command, label=b"metadata", blob=b"x")
        assert done["status"] == capi.SUPERSEDED, command
        assert "alpha" in done["text"]
    first.do("shutdown", drain=2000)
    first.line("shut_down", within=3)
    after = etcd.gateway.range(namespace)
    assert after == before
    assert old not in etcd.gateway.leases(), "the first has kept its lease"
    # A takeover is two transactions; between them a mark says that a newcomer is on its way.
    assert first.names() == ["SUPERSEDED"]
    second.succeed("publish", label=b"metadata", blob=b"third")
    assert second.events() == []


def test_takeover_while_the_first_is_stalled(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    """It learns of it when it ticks again, whether its lease was lost meanwhile or not."""
    for lost in (False, True):
        space = namespace + (b"lost" if lost else b"alive")
        first, second = hosts(), hosts()
        live(first, etcd34, space, b"first")
        first.do("stall")
        if lost:
            etcd34.gateway.revoke(first.stats()["lease_id"])
        live(second, etcd34, space, b"second")
        before = etcd34.gateway.range(space)
        first.do("resume")
        first.event("SUPERSEDED", within=3)
        assert "RESTORED" not in first.names()
        time.sleep(0.5)
        assert etcd34.gateway.range(space) == before
        assert second.events() == []


def test_takeover_of_a_takeover(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    """Every new process wins over the one before; no two fight."""
    agents = [hosts() for _ in range(5)]
    for number, agent in enumerate(agents):
        live(agent, etcd34, namespace, b"%d" % number)
    for agent in agents[:-1]:
        agent.event("SUPERSEDED", within=3)
    time.sleep(0.5)
    stored = etcd34.gateway.get(namespace + b"/alpha/metadata")
    assert stored is not None
    assert stored.value == b"4"
    assert agents[-1].events() == []


def test_refuse_takeover(hosts: HostFactory, etcd: Etcd, namespace: bytes) -> None:
    first, second = hosts(), hosts()
    live(first, etcd, namespace, b"first")
    before = etcd.gateway.range(namespace)
    second.open(etcd.endpoint, namespace, agent=b"alpha", flags=capi.CONFIG_REFUSE_TAKEOVER)
    for _ in range(2):
        done = second.finish("publish", label=b"metadata", blob=b"second")
        assert done["status"] == capi.NOT_ALLOWED
        assert "alpha" in done["text"]
    assert etcd.gateway.range(namespace) == before
    first.do("shutdown", drain=2000)
    first.line("shut_down")
    second.succeed("publish", label=b"metadata", blob=b"second")
    assert first.events() == []


def test_two_that_refuse_takeover_race_for_a_name(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    agents = [hosts() for _ in range(4)]
    for agent in agents:
        agent.open(etcd34.endpoint, namespace, agent=b"alpha", flags=capi.CONFIG_REFUSE_TAKEOVER)
        agent.do("drive", mode="hand")
    ops = [agent.start("publish", label=b"l", blob=b"b") for agent in agents]
    for agent in agents:
        agent.do("drive", mode="efd")
    statuses = sorted(agent.done(op)["status"] for agent, op in zip(agents, ops, strict=True))
    assert statuses == [capi.NOT_ALLOWED] * 3 + [capi.SUCCESS]


@pytest.mark.parametrize("leased", [True, False])
def test_operator_deletes_the_keys(
    hosts: HostFactory, etcd: Etcd, namespace: bytes, leased: bool
) -> None:
    """They stay away until the next publish, which claims the name again."""
    host, peer = hosts(), hosts()
    live(host, etcd, namespace, b"1", leased=leased)
    host.succeed("publish", label=b"other", blob=b"1")
    watch = watching(peer, etcd, namespace)
    known = peer.event("PRESENT", watch=watch)["incarnation"]
    assert etcd.gateway.delete_prefix(namespace + b"/alpha/") == 3
    host.event("WITHDRAWN", within=2)
    peer.event("GONE", watch=watch)
    time.sleep(2.5 if leased else 0.5)
    assert etcd.gateway.keys(namespace) == []
    mark = peer.mark()
    host.succeed("publish", label=b"metadata", blob=b"2")
    found = etcd.gateway.range(namespace)
    assert [kv.key for kv in found] == [namespace + b"/alpha/", namespace + b"/alpha/metadata"]
    assert one_lease(etcd, namespace, is_renewed=leased) >> 16 == known
    assert peer.event("RETURNED", watch=watch, since=mark)["incarnation"] == known
    assert host.names() == ["WITHDRAWN"]


def test_operator_deletes_the_presence_key_only(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    """A change that stock NIXL's peers take for the agent's end is one for our peers too."""
    host, peer = hosts(), hosts()
    live(host, etcd34, namespace, b"1")
    watch = watching(peer, etcd34, namespace)
    etcd34.gateway.delete(namespace + b"/alpha/")
    host.event("WITHDRAWN", within=2)
    peer.event("GONE", watch=watch)
    host.succeed("publish", label=b"metadata", blob=b"2")
    assert len(etcd34.gateway.keys(namespace)) == 2


def test_first_publish_removes_labels_of_an_earlier_process(
    hosts: HostFactory, etcd: Etcd, namespace: bytes
) -> None:
    for label in (b"", b"metadata", b"stale/label"):
        etcd.gateway.put(namespace + b"/alpha/" + label, b"" if not label else b"stale")
    etcd.gateway.put(namespace + b"/alphabet/metadata", b"somebody else's")
    host = hosts()
    host.open(etcd.endpoint, namespace, agent=b"alpha")
    host.succeed("publish", label=b"new", blob=b"b")
    assert etcd.gateway.keys(namespace) == [
        namespace + b"/alpha/",
        namespace + b"/alpha/new",
        namespace + b"/alphabet/metadata",
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_sigkill_then_gone_and_restarted(
    hosts: HostFactory, etcd: Etcd, namespace: bytes, language: str
) -> None:
    """The peer of the other language gets GONE within TTL + 2 s, and RESTARTED afterwards."""
    agent, again = hosts(language), hosts(language)
    peer = hosts("python" if language == "cpp" else "cpp")
    live(agent, etcd, namespace, b"1")
    watch = watching(peer, etcd, namespace)
    known = peer.event("PRESENT", watch=watch)["incarnation"]
    killed = agent.kill()
    gone = peer.event("GONE", watch=watch, within=TTL + 2)
    assert gone["t"] / 1e9 - killed < TTL + scaled(2)
    assert etcd.gateway.keys(namespace) == []
    live(again, etcd, namespace, b"2")
    restarted = peer.event("RESTARTED", watch=watch, within=2)
    assert restarted["incarnation"] not in (0, known)
    peer.event("PUT", watch=watch, label=b"metadata", blob=b"2")


def test_restart_before_the_lease_ran_out(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    """The new process need not wait for the old one's TTL."""
    agent, again, peer = hosts(), hosts(), hosts("python")
    live(agent, etcd34, namespace, b"1")
    watch = watching(peer, etcd34, namespace)
    agent.kill()
    before = time.monotonic()
    live(again, etcd34, namespace, b"2")
    peer.event("RESTARTED", watch=watch, within=2)
    peer.event("PUT", watch=watch, label=b"metadata", blob=b"2")
    assert time.monotonic() - before < scaled(2)
    # The old lease ends without taking anything along.
    time.sleep(TTL + 1)
    assert len(etcd34.gateway.keys(namespace)) == 2
    assert again.events() == []


def test_keys_without_a_heartbeat_survive_and_are_taken_over(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str
) -> None:
    """Labels of a process that died are taken over by the next process of its name, which peers see
    as RESTARTED and which revokes the lease that would never end; or by the same process after it
    lost its lease, as RETURNED."""
    etcd = own_etcd(version)
    agent, again, peer = hosts(), hosts(), hosts()
    live(agent, etcd, b"/ns/", b"1", leased=False)
    first = one_lease(etcd, b"/ns/", is_renewed=False)
    watch = watching(peer, etcd, b"/ns/")
    known = peer.event("PRESENT", watch=watch)["incarnation"]
    agent.kill()
    live(again, etcd, b"/ns/", b"2", leased=False)
    second = one_lease(etcd, b"/ns/", is_renewed=False)
    restarted = peer.event("RESTARTED", watch=watch)
    assert known == first >> 16
    assert restarted["incarnation"] == second >> 16 != known
    wait_until_gone(etcd, first)
    etcd.kill()
    etcd.start().wait_healthy()
    again.succeed("publish", label=b"metadata", blob=b"3")
    peer.event("PUT", watch=watch, blob=b"3")
    assert again.events() == []
    etcd.gateway.revoke(second)
    again.event("RESTORED", within=5)
    returned = peer.event("RETURNED", watch=watch)
    assert returned["incarnation"] == second >> 16
    assert again.names() == ["LOST", "RESTORED"]
    assert peer.names(watch=watch).count("RESTARTED") == 1
    assert one_lease(etcd, b"/ns/", is_renewed=False) not in (first, second)


def wait_until_gone(etcd: Etcd, lease: int) -> None:
    deadline = time.monotonic() + scaled(3)
    while granted_ttl(etcd.gateway, lease):
        assert time.monotonic() < deadline, "a lease that never ends is left behind"
        time.sleep(0.02)
