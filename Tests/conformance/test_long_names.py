# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A host has buffers for names of NIXL_MD_MAX_AGENT and NIXL_MD_MAX_LABEL bytes. Somebody else's
keys with longer ones are left out of events and lists, and counted."""

from __future__ import annotations

import pytest

import capi
from conftest import HostFactory
from etcd_server import Etcd

LANGUAGES = ("cpp", "python")
LONG = b"n" * 1_000_000
LONGEST_AGENT = b"a" * capi.MAX_AGENT
LONGEST_LABEL = b"l" * capi.MAX_LABEL
NOT_TOLD = (
    LONG + b"/",
    LONG + b"/metadata",
    b"c/" + LONG,
    b"only-long-labels/" + LONG,
    b"d" * (capi.MAX_AGENT + 1) + b"/",
    b"e/" + b"l" * (capi.MAX_LABEL + 1),
)
TOLD = (
    LONGEST_AGENT + b"/",
    LONGEST_AGENT + b"/" + LONGEST_LABEL,
    b"without-presence-key/" + LONGEST_LABEL,
)


def put_all(etcd: Etcd, namespace: bytes) -> None:
    for key in (*NOT_TOLD, *TOLD):
        value = b"" if key.endswith(b"/") else b"b"
        etcd.gateway.put(namespace + b"/" + key, value)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("is_listed", [True, False], ids=["listed", "changed"])
def test_names_of_a_million_bytes(
    hosts: HostFactory, etcd: Etcd, namespace: bytes, language: str, is_listed: bool
) -> None:
    host = hosts(language)
    if is_listed:
        put_all(etcd, namespace)
    host.open(etcd.endpoint, namespace, log=1, log_level=4)
    watches = {flag: host.start("watch", flags=flag) for flag in (0, capi.WATCH_BLOBS)}
    one = host.start("watch", agent=b"c")
    for watch in (*watches.values(), one):
        host.event("SYNCED", watch=watch)
    if not is_listed:
        put_all(etcd, namespace)
    etcd.gateway.put(namespace + b"/z/", b"")
    etcd.gateway.put(namespace + b"/c/end", b"b")
    for watch in watches.values():
        host.event("PRESENT", watch=watch, agent=b"z")
        present = host.events(watch=watch, event="PRESENT")
        assert {bytes.fromhex(line["agent"]) for line in present} == {
            *(LONGEST_AGENT, b"without-presence-key", b"z"),
            # The label after z reveals it.
            *([b"c"] if len(present) == 4 else []),
        }
    host.event("PUT", watch=one, label=b"end")
    host.event("PUT", watch=watches[capi.WATCH_BLOBS], label=b"end")
    labels = host.events(watch=watches[capi.WATCH_BLOBS], event="PUT")
    assert sorted(bytes.fromhex(line["label"]) for line in labels) == [
        b"end",
        LONGEST_LABEL,
        LONGEST_LABEL,
    ]
    # Each key once for each watch that reads it.
    expected = 2 * len(NOT_TOLD) + 1
    assert host.stats()["names_left_out"] == expected
    listed = host.succeed("list")["agents"]
    assert {bytes.fromhex(agent[0]) for agent in listed} == {
        *(LONGEST_AGENT, b"without-presence-key", b"c", b"z"),
    }
    assert host.stats()["names_left_out"] == expected + len(NOT_TOLD)
    warned = [line["line"] for line in host.lines("log") if "left out" in line["line"]]
    assert len(warned) == 1
    assert "names_left_out" in warned[0]
    assert len(warned[0]) < 600


def test_end_of_a_label_that_was_left_out_causes_no_event(
    hosts: HostFactory, etcd: Etcd, namespace: bytes
) -> None:
    """No event comes of it either, and an agent whose label was left out stays present."""
    host = hosts()
    host.open(etcd.endpoint, namespace)
    watch = host.start("watch", agent=b"c")
    host.event("SYNCED", watch=watch)
    etcd.gateway.put(namespace + b"/c/", b"")
    etcd.gateway.put(namespace + b"/c/" + LONG, b"b")
    etcd.gateway.delete(namespace + b"/c/" + LONG)
    etcd.gateway.put(namespace + b"/c/end", b"b")
    host.event("PUT", watch=watch, label=b"end")
    assert host.names(watch=watch) == ["SYNCED", "PRESENT", "PUT"]
    assert host.stats()["names_left_out"] == 2


def test_list_whose_pages_are_too_large(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    """20 MB of names in one namespace: the library reads smaller pages, and reports as many agents
    as it can."""
    host = hosts()
    for number in range(20):
        etcd34.gateway.put(namespace + b"/%02d" % number + LONG + b"/", b"")
    names = [b"agent%d" % number for number in range(9)]
    for name in names:
        etcd34.gateway.put(namespace + b"/" + name + b"/", b"")
    host.open(etcd34.endpoint, namespace)
    listed = host.succeed("list", timeout=100_000, within=100)["agents"]
    assert [bytes.fromhex(agent[0]) for agent in listed] == names
    watch = host.start("watch")
    host.event("SYNCED", watch=watch, within=100)
    present = host.events(watch=watch, event="PRESENT")
    assert [bytes.fromhex(line["agent"]) for line in present] == names
    assert host.stats()["names_left_out"] == 40
