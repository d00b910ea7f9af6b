# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Keys, byte for byte, as stock NIXL has them; etcd's JSON gateway is the second opinion."""

from __future__ import annotations

import pytest

import capi
from conftest import EtcdFactory, HostFactory
from etcd_server import Etcd
from leases import one_lease

LANGUAGES = ("cpp", "python")
NFC = "caf\u00e9".encode()
NFD = "cafe\u0301".encode()


@pytest.mark.parametrize("language", LANGUAGES)
def test_default_namespace_has_two_slashes(
    hosts: HostFactory, own_etcd: EtcdFactory, language: str, version: str
) -> None:
    etcd = own_etcd(version)
    host = hosts(language)
    host.open(etcd.endpoint, None, agent=b"alpha")
    host.succeed("publish", label=b"metadata", blob=b"\x00blob\xff")
    host.succeed("publish", label=b"part/of/it", blob=b"x")
    found = {kv.key: kv.value for kv in etcd.gateway.range(b"/")}
    assert found == {
        b"/nixl/agents//alpha/": b"",
        b"/nixl/agents//alpha/metadata": b"\x00blob\xff",
        b"/nixl/agents//alpha/part/of/it": b"x",
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_namespace_of_the_environment_is_used_as_it_is(
    hosts: HostFactory, own_etcd: EtcdFactory, language: str
) -> None:
    etcd = own_etcd()
    host = hosts(
        language,
        environment={
            "NIXL_ETCD_NAMESPACE": "/nixl/agents",
            "NIXL_ETCD_ENDPOINTS": f" 127.0.0.1:{etcd.port}/ ; ,",
        },
    )
    host.open(None, None, agent=b"alpha")
    host.succeed("publish", label=b"metadata", blob=b"b")
    assert etcd.gateway.keys(b"/") == [b"/nixl/agents/alpha/", b"/nixl/agents/alpha/metadata"]


def test_config_wins_over_the_environment(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    host = hosts(
        environment={"NIXL_ETCD_NAMESPACE": "/elsewhere", "NIXL_ETCD_ENDPOINTS": "127.0.0.1:1"}
    )
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    host.succeed("publish", label=b"l", blob=b"b")
    assert etcd34.gateway.keys(namespace) == [
        namespace + b"/alpha/",
        namespace + b"/alpha/l",
    ]


def test_environment_can_be_ignored(hosts: HostFactory, own_etcd: EtcdFactory) -> None:
    etcd = own_etcd()
    host = hosts(environment={"NIXL_ETCD_NAMESPACE": "/elsewhere"})
    host.open(etcd.endpoint, None, agent=b"alpha", flags=capi.CONFIG_IGNORE_ENVIRONMENT)
    host.succeed("publish", label=b"l", blob=b"b")
    assert etcd.gateway.keys(b"/") == [b"/nixl/agents//alpha/", b"/nixl/agents//alpha/l"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_null_label_is_metadata(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes, language: str
) -> None:
    """In publish and unpublish as in fetch."""
    host = hosts(language)
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    host.succeed("publish", blob=b"1")
    prefix = namespace + b"/alpha/"
    assert etcd34.gateway.keys(namespace) == [prefix, prefix + b"metadata"]
    assert host.succeed("fetch", agent=b"alpha")["blob"] == b"1".hex()
    assert host.succeed("fetch", agent=b"alpha", label=b"metadata")["blob"] == b"1".hex()
    host.succeed("unpublish")
    assert etcd34.gateway.keys(namespace) == [prefix]


def test_presence_key_and_labels_share_one_lease(
    hosts: HostFactory, etcd: Etcd, namespace: bytes
) -> None:
    host = hosts()
    host.open(etcd.endpoint, namespace, agent=b"alpha")
    host.succeed("start_heartbeat", interval=1000, ttl=5000)
    for number in range(5):
        host.succeed("publish", label=b"label%d" % number, blob=b"b")
    found = etcd.gateway.range(namespace)
    assert len(found) == 6
    leases = {kv.lease for kv in found}
    assert leases == {host.stats()["lease_id"]}
    assert 0 not in leases
    # Bit 63 clear, 47 bits of incarnation over 16 bits of generation.
    assert 0 < leases.pop() < 1 << 63


def test_without_heartbeat_keys_outlive_the_process(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str
) -> None:
    """They hang on a lease that never ends and is not renewed; also where etcd is started again."""
    etcd = own_etcd(version)
    host = hosts()
    host.open(etcd.endpoint, b"/ns/", agent=b"alpha")
    host.succeed("publish", label=b"l", blob=b"b")
    lease = one_lease(etcd, b"/ns/", is_renewed=False)
    stats = host.stats()
    assert (stats["lease_id"], stats["lease_ttl_ms"], stats["renewals"]) == (0, 0, 0)
    host.kill()
    etcd.kill()
    etcd.start().wait_healthy()
    assert len(etcd.gateway.range(b"/ns/")) == 2
    assert one_lease(etcd, b"/ns/", is_renewed=False) == lease


def test_names_that_differ_by_normal_form_are_different(
    hosts: HostFactory, etcd: Etcd, namespace: bytes
) -> None:
    first, second, peer = hosts(), hosts(), hosts("python")
    for host, agent in ((first, NFC), (second, NFD)):
        host.open(etcd.endpoint, namespace, agent=agent)
        host.succeed("publish", label=NFC, blob=b"composed of " + agent)
        host.succeed("publish", label=NFD, blob=b"decomposed of " + agent)
    values = {kv.key: kv.value for kv in etcd.gateway.range(namespace)}
    assert len(values) == 6
    peer.open(etcd.endpoint, namespace)
    for agent in (NFC, NFD):
        for label, word in ((NFC, b"composed of "), (NFD, b"decomposed of ")):
            assert values[namespace + b"/" + agent + b"/" + label] == word + agent
            blob = peer.succeed("fetch", agent=agent, label=label)["blob"]
            assert bytes.fromhex(blob) == word + agent
    listed = peer.succeed("list")["agents"]
    assert [bytes.fromhex(agent[0]) for agent in listed] == sorted([NFC, NFD])


def test_watch_distinguishes_normal_forms(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    peer = hosts()
    peer.open(etcd34.endpoint, namespace)
    watch = peer.start("watch", agent=NFC)
    peer.event("SYNCED", watch=watch)
    etcd34.gateway.put(namespace + b"/" + NFD + b"/l", b"other")
    etcd34.gateway.put(namespace + b"/" + NFC + b"/" + NFD, b"mine")
    peer.event("PUT", watch=watch, agent=NFC, label=NFD, blob=b"mine")
    assert not peer.events(agent=NFD)


def test_republishing_leaves_create_revision_and_other_labels(
    hosts: HostFactory, etcd34: Etcd, namespace: bytes
) -> None:
    host = hosts()
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    host.succeed("publish", label=b"l", blob=b"1")
    host.succeed("publish", label=b"m", blob=b"1")
    before = {kv.key: kv for kv in etcd34.gateway.range(namespace)}
    revision = host.succeed("publish", label=b"l", blob=b"2")["revision"]
    after = {kv.key: kv for kv in etcd34.gateway.range(namespace)}
    key = namespace + b"/alpha/l"
    assert after[key].value == b"2"
    assert after[key].mod_revision == revision
    assert after[key].create_revision == before[key].create_revision
    del before[key], after[key]
    assert before == after
