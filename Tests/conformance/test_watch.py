# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Watches: the events of keys that come and go, whoever writes them."""

from __future__ import annotations

import zlib

import pytest

import capi
from conftest import HostFactory
from etcd_server import Etcd
from hosts import Host

LANGUAGES = ("cpp", "python")


def told(host: Host, watch: int) -> list[tuple[str, bytes, bytes, bytes]]:
    """The events of a watch, without their numbers."""
    return [
        (
            line["event"],
            bytes.fromhex(line["agent"] or ""),
            bytes.fromhex(line["label"] or ""),
            bytes.fromhex(line.get("blob") or ""),
        )
        for line in host.events(watch=watch)
    ]


def synced(host: Host, **values: object) -> int:
    watch = host.start("watch", **values)
    host.event("SYNCED", watch=watch)
    return watch


@pytest.mark.parametrize("language", LANGUAGES)
def test_life_of_an_agent(hosts: HostFactory, etcd: Etcd, namespace: bytes, language: str) -> None:
    peer, agent = hosts(language), hosts()
    peer.open(etcd.endpoint, namespace)
    watch = synced(peer, agent=b"beta")
    agent.open(etcd.endpoint, namespace, agent=b"beta")
    agent.succeed("start_heartbeat", interval=1000, ttl=5000)
    agent.succeed("publish", label=b"metadata", blob=b"1")
    agent.succeed("publish", label=b"a/b", blob=b"2")
    agent.succeed("publish", label=b"metadata", blob=b"3")
    agent.succeed("unpublish", label=b"a/b")
    lease = agent.stats()["lease_id"]
    agent.succeed("invalidate")
    peer.event("GONE", watch=watch)
    assert told(peer, watch) == [
        ("SYNCED", b"", b"", b""),
        ("PRESENT", b"beta", b"", b""),
        ("PUT", b"beta", b"metadata", b"1"),
        ("PUT", b"beta", b"a/b", b"2"),
        ("PUT", b"beta", b"metadata", b"3"),
        ("DELETE", b"beta", b"a/b", b""),
        ("GONE", b"beta", b"", b""),
    ]
    revisions = [line["revision"] for line in peer.events(watch=watch)]
    assert revisions == sorted(revisions)
    assert 0 not in revisions
    appeared = peer.event("PRESENT", watch=watch)
    assert appeared["incarnation"] == lease >> 16


def test_watch_begins_with_existing_agents(
    hosts: HostFactory, etcd: Etcd, namespace: bytes
) -> None:
    peer, agent = hosts(), hosts()
    agent.open(etcd.endpoint, namespace, agent=b"beta")
    for number in range(30):
        agent.succeed("publish", label=b"l%02d" % number, blob=b"b%02d" % number)
    peer.open(etcd.endpoint, namespace)
    watch = synced(peer, agent=b"beta")
    events = told(peer, watch)
    assert events[0] == ("PRESENT", b"beta", b"", b"")
    assert events[1:-1] == [
        ("PUT", b"beta", b"l%02d" % number, b"b%02d" % number) for number in range(30)
    ]
    assert events[-1][0] == "SYNCED"


def test_namespace_watch_reports_presence_only(
    hosts: HostFactory, etcd: Etcd, namespace: bytes
) -> None:
    """Without names and with the flag: no label, no blob, for every agent of the namespace."""
    peer, agent = hosts(), hosts()
    etcd.gateway.put(namespace + b"/stock/", b"")
    etcd.gateway.put(namespace + b"/stock/metadata", b"b")
    peer.open(etcd.endpoint, namespace)
    watches = [synced(peer), synced(peer, flags=capi.WATCH_PRESENCE_ONLY)]
    agent.open(etcd.endpoint, namespace, agent=b"beta")
    agent.succeed("publish", label=b"l", blob=b"1")
    agent.succeed("publish", label=b"l", blob=b"2")
    agent.succeed("invalidate")
    for watch in watches:
        peer.event("GONE", watch=watch)
        assert told(peer, watch) == [
            ("PRESENT", b"stock", b"", b""),
            ("SYNCED", b"", b"", b""),
            ("PRESENT", b"beta", b"", b""),
            ("GONE", b"beta", b"", b""),
        ]


def test_one_agent_presence_only(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    peer, agent = hosts(), hosts()
    peer.open(etcd34.endpoint, namespace)
    watch = synced(peer, agent=b"beta", flags=capi.WATCH_PRESENCE_ONLY)
    agent.open(etcd34.endpoint, namespace, agent=b"beta")
    agent.succeed("publish", label=b"l", blob=b"1")
    agent.succeed("unpublish", label=b"l")
    agent.succeed("invalidate")
    peer.event("GONE", watch=watch)
    assert peer.names(watch=watch) == ["SYNCED", "PRESENT", "GONE"]


def test_namespace_with_blobs(hosts: HostFactory, etcd: Etcd, namespace: bytes) -> None:
    peer = hosts("python")
    put = etcd.gateway.put
    put(namespace + b"/a/", b"")
    put(namespace + b"/a/l", b"1")
    put(namespace + b"/a-b/l", b"2")
    peer.open(etcd.endpoint, namespace)
    watch = synced(peer, flags=capi.WATCH_BLOBS)
    put(namespace + b"/a/m", b"3")
    etcd.gateway.delete(namespace + b"/a-b/l")
    peer.event("GONE", watch=watch)
    events = told(peer, watch)
    before = events.index(("SYNCED", b"", b"", b""))
    assert set(events[:before]) == {
        ("PRESENT", b"a", b"", b""),
        ("PUT", b"a", b"l", b"1"),
        ("PRESENT", b"a-b", b"", b""),
        ("PUT", b"a-b", b"l", b"2"),
    }
    assert events[before + 1 :] == [
        ("PUT", b"a", b"m", b"3"),
        ("GONE", b"a-b", b"", b""),
    ]


def test_agents_whose_names_begin_alike(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    peer = hosts()
    peer.open(etcd34.endpoint, namespace)
    watch = synced(peer, agent=b"beta")
    for name in (b"bet", b"beta-2", b"beta2", b"betaa"):
        etcd34.gateway.put(namespace + b"/" + name + b"/l", b"b")
    etcd34.gateway.put(namespace + b"/beta/l", b"b")
    peer.event("PUT", watch=watch, label=b"l")
    assert {line["agent"] for line in peer.events(watch=watch, event="PUT")} == {b"beta".hex()}


def test_foreign_keys(hosts: HostFactory, etcd: Etcd, namespace: bytes) -> None:
    """NUL, bad UTF-8, empty names, empty values, keys that are no agent's."""
    peer = hosts()
    peer.open(etcd.endpoint, namespace)
    watch = synced(peer, flags=capi.WATCH_BLOBS)
    one = synced(peer, agent=b"odd")
    root = namespace + b"/"
    put = etcd.gateway.put
    put(root + b"\xff\x00\xfe/\x00\x80label/", b"\x00\xff")
    put(root + b"/x", b"the empty name")
    put(root + b"/", b"its presence key")
    put(root + b"no-slash", b"nobody's")
    put(root + b"odd/empty", b"")
    put(root + b"odd/l", b"1")
    put(root + b"odd/l", b"")
    put(root + b"odd/l", b"2")
    peer.event("PUT", watch=one, label=b"l", blob=b"2")
    peer.event("PUT", watch=watch, label=b"l", blob=b"2")
    assert told(peer, watch)[1:] == [
        ("PRESENT", b"\xff\x00\xfe", b"", b""),
        ("PUT", b"\xff\x00\xfe", b"\x00\x80label/", b"\x00\xff"),
        ("PRESENT", b"odd", b"", b""),
        ("PUT", b"odd", b"l", b"1"),
        ("GONE", b"odd", b"", b""),
        ("RESTARTED", b"odd", b"", b""),
        ("PUT", b"odd", b"l", b"2"),
    ]


def test_empty_value_under_a_present_agent_is_a_delete(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    peer = hosts()
    root = namespace + b"/beta/"
    etcd34.gateway.put(root, b"")
    etcd34.gateway.put(root + b"l", b"1")
    peer.open(etcd34.endpoint, namespace)
    watch = synced(peer, agent=b"beta")
    etcd34.gateway.put(root + b"l", b"")
    peer.event("DELETE", watch=watch, label=b"l")
    etcd34.gateway.delete(root + b"l")
    etcd34.gateway.put(root + b"m", b"")
    etcd34.gateway.put(root + b"n", b"1")
    peer.event("PUT", watch=watch, label=b"n")
    assert peer.names(watch=watch) == ["PRESENT", "PUT", "SYNCED", "DELETE", "PUT"]


def test_agent_with_empty_labels_only_is_absent(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    peer = hosts()
    etcd34.gateway.put(namespace + b"/beta/l", b"")
    peer.open(etcd34.endpoint, namespace)
    for values in ({"agent": b"beta"}, {}, {"flags": capi.WATCH_BLOBS}):
        watch = synced(peer, **values)
        assert peer.names(watch=watch) == ["SYNCED"], values


def test_stock_restart(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    """A stock agent puts its presence key again: its own tell by the mod_revision."""
    peer = hosts()
    first = etcd34.gateway.put(namespace + b"/stock/", b"")
    peer.open(etcd34.endpoint, namespace)
    watch = synced(peer)
    assert peer.event("PRESENT", watch=watch)["incarnation"] == first
    second = etcd34.gateway.put(namespace + b"/stock/", b"")
    assert peer.event("RESTARTED", watch=watch)["incarnation"] == second
    etcd34.gateway.delete_prefix(namespace + b"/stock/")
    peer.event("GONE", watch=watch)


def test_changes_of_one_revision_come_together(
    hosts: HostFactory, etcd: Etcd, namespace: bytes
) -> None:
    peer = hosts()
    peer.open(etcd.endpoint, namespace)
    watch = synced(peer, flags=capi.WATCH_BLOBS)
    pairs = [(namespace + b"/a%02d/l" % number, b"b") for number in range(60)]
    revisions = [etcd.gateway.put_all(pairs) for _ in range(5)]
    etcd.gateway.put(namespace + b"/end/l", b"b")
    peer.event("PUT", watch=watch, agent=b"end", label=b"l")
    labels = peer.events(watch=watch, event="PUT")
    assert [line["revision"] for line in labels[:-1]] == [r for r in revisions for _ in range(60)]


def test_thousand_revisions(hosts: HostFactory, etcd: Etcd, namespace: bytes) -> None:
    """While the host does not tick: all of them, in order, each once."""
    peer = hosts()
    peer.open(etcd.endpoint, namespace)
    watch = synced(peer, agent=b"beta")
    peer.do("stall")
    for number in range(1000):
        etcd.gateway.put(namespace + b"/beta/l", b"%d" % number)
    peer.do("resume")
    peer.event("PUT", watch=watch, blob=b"999", within=10)
    blobs = [line["blob"] for line in peer.events(watch=watch, event="PUT")]
    assert blobs == [(b"%d" % number).hex() for number in range(1000)]
    assert "RESYNC" not in peer.names()


@pytest.mark.parametrize("language", LANGUAGES)
def test_ended_exactly_once_and_last(
    hosts: HostFactory, etcd: Etcd, namespace: bytes, language: str
) -> None:
    peer = hosts(language)
    peer.open(etcd.endpoint, namespace)
    watches = [synced(peer, agent=b"beta") for _ in range(4)]
    etcd.gateway.put(namespace + b"/beta/l", b"1")
    peer.event("PUT", watch=watches[-1], label=b"l")
    for watch in watches[:2]:
        peer.do("cancel", op=watch)
        peer.event("ENDED", watch=watch, status=capi.CANCELED)
        assert peer.request("cancel", op=watch)["rc"] == capi.NOT_FOUND
    etcd.gateway.put(namespace + b"/beta/l", b"2")
    for watch in watches[2:]:
        peer.event("PUT", watch=watch, blob=b"2")
    peer.close()
    for watch in watches:
        names = peer.names(watch=watch)
        assert names.count("ENDED") == 1
        assert names[-1] == "ENDED"
    for watch in watches[:2]:
        assert not peer.events(watch=watch, blob=b"2")


def test_cancel_of_a_watch_before_it_began(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    peer = hosts()
    peer.do("drive", mode="hand")
    peer.open(etcd34.endpoint, namespace)
    watch = peer.start("watch", agent=b"beta")
    peer.do("cancel", op=watch)
    peer.do("drive", mode="efd")
    peer.event("ENDED", watch=watch, status=capi.CANCELED)
    assert peer.names(watch=watch) == ["ENDED"]


def test_cancel_stops_events_at_once(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    """Called on the ticking thread, nothing but ENDED follows, whatever had arrived."""
    peer = hosts()
    peer.open(etcd34.endpoint, namespace)
    watch = synced(peer, agent=b"beta")
    peer.do("stall")
    for number in range(50):
        etcd34.gateway.put(namespace + b"/beta/l", b"%d" % number)
    peer.do("cancel", op=watch)
    peer.do("resume")
    peer.event("ENDED", watch=watch)
    assert peer.names(watch=watch) == ["SYNCED", "ENDED"]


def test_watch_of_the_own_agent(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    host = hosts()
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    watch = synced(host, agent=b"alpha")
    host.succeed("publish", label=b"l", blob=b"1")
    host.event("PUT", watch=watch, label=b"l")
    host.succeed("invalidate")
    host.event("GONE", watch=watch)


def test_two_watches_of_one_agent_are_independent(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    peer = hosts()
    peer.open(etcd34.endpoint, namespace)
    first = synced(peer, agent=b"beta")
    etcd34.gateway.put(namespace + b"/beta/l", b"1")
    peer.event("PUT", watch=first, label=b"l")
    second = synced(peer, agent=b"beta")
    assert peer.names(watch=first) == ["SYNCED", "PRESENT", "PUT"]
    assert peer.names(watch=second) == ["PRESENT", "PUT", "SYNCED"]


def state_of(host: Host, watch: int) -> dict[str, int]:
    """The state of a peer that follows its events: checksums by label."""
    state: dict[str, int] = {}
    for line in host.events(watch=watch):
        if line["event"] == "PUT":
            state[line["label"]] = line["blob_crc"]
        elif line["event"] == "DELETE":
            state.pop(line["label"], None)
        elif line["event"] in ("GONE", "RESTARTED"):
            state.clear()
    return state


def test_slow_host_is_resynchronised(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    """More waits than the library will hold, because callbacks are slower than what comes: RESYNC,
    the differences, SYNCED; nothing wrong in the end, and no tick is long."""
    peer = hosts()
    peer.open(etcd34.endpoint, namespace)
    watches = [peer.start("watch", agent=b"beta") for _ in range(40)]
    peer.event("SYNCED", count=40)
    peer.do("stall")
    # 40 watches x 60 blobs of 100 kB: far over the 32 MiB of callbacks that may wait.
    for number in range(60):
        etcd34.gateway.put(namespace + b"/beta/l%d" % (number % 6), bytes([number]) * 100_000)
    etcd34.gateway.delete(namespace + b"/beta/l0")
    etcd34.gateway.put(namespace + b"/beta/end", b"end")
    # Longer than callbacks may take in a tick: each delivers one, and reads a MiB.
    peer.do("linger", ms=10)
    peer.do("resume")
    peer.event("RESYNC", within=20)
    peer.do("linger", ms=0)
    for watch in watches:
        peer.event("PUT", watch=watch, label=b"end", within=20)
        # It may be the first of a list.
        resyncs = peer.names(watch=watch).count("RESYNC")
        peer.event("SYNCED", watch=watch, count=1 + resyncs, within=20)
    expected = {
        (b"l%d" % (number % 6)).hex(): zlib.crc32(bytes([number]) * 100_000)
        for number in range(55, 60)
    }
    expected[b"end".hex()] = zlib.crc32(b"end")
    for watch in watches:
        assert state_of(peer, watch) == expected
        names = peer.names(watch=watch)
        assert names.count("SYNCED") == 1 + names.count("RESYNC")
    assert peer.stats()["resyncs"] == peer.names().count("RESYNC") > 0


def test_large_state_at_the_start(hosts: HostFactory, etcd: Etcd, namespace: bytes) -> None:
    """40 MB of blobs, each value and its order right; read in portions, so that no tick is long."""
    peer = hosts()
    blobs = [bytes([number]) * 1_000_000 for number in range(40)]
    for number, blob in enumerate(blobs):
        etcd.gateway.put(namespace + b"/a%02d/l" % number, blob)
    peer.open(etcd.endpoint, namespace)
    watch = synced(peer, flags=capi.WATCH_BLOBS)
    labels = peer.events(watch=watch, event="PUT")
    assert [line["blob_crc"] for line in labels] == [zlib.crc32(blob) for blob in blobs]


def test_many_agents_at_the_start(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    """More keys than one page holds, while others come and go."""
    peer = hosts()
    pairs = [
        (namespace + b"/agent%04d/" % number + label, b"b" if label else b"")
        for number in range(1500)
        for label in (b"", b"metadata")
    ]
    for start in range(0, len(pairs), 100):
        etcd34.gateway.put_all(pairs[start : start + 100])
    peer.open(etcd34.endpoint, namespace)
    watch = peer.start("watch")
    for number in range(0, 1500, 100):
        etcd34.gateway.delete_prefix(namespace + b"/agent%04d/" % number)
        etcd34.gateway.put(namespace + b"/new%04d/" % number, b"")
    peer.event("PRESENT", watch=watch, agent=b"new1400")
    present: set[str] = set()
    for line in peer.events(watch=watch):
        if line["event"] == "PRESENT":
            assert line["agent"] not in present, "told twice"
            present.add(line["agent"])
        elif line["event"] == "GONE":
            present.remove(line["agent"])
    agents = peer.succeed("list")["agents"]
    assert present == {agent[0] for agent in agents}
    assert len(present) == 1500
