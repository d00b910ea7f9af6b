# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""https: authority, client certificate, server name; verified by default."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest

import capi
from certificates import Authority
from conftest import EtcdFactory, HostFactory
from etcd_server import Etcd
from hosts import Host
from memcheck import scaled
from procfs import Sampler

NS = b"/ns/"


@dataclass
class Secure:
    """A server that wants a client certificate, and what a client needs."""

    etcd: Etcd
    authority: Authority
    stranger: Authority
    client: tuple[Path, Path]

    @property
    def files(self) -> dict[str, bytes]:
        return {
            "ca_file": str(self.authority.certificate).encode(),
            "cert_file": str(self.client[0]).encode(),
            "key_file": str(self.client[1]).encode(),
        }


def secured(
    own_etcd: EtcdFactory, directory: Path, version: str, *names: str, client: bool = True
) -> Secure:
    authority = Authority(directory / "ca", "authority")
    stranger = Authority(directory / "stranger", "stranger")
    server = authority.issue("server", *names)
    pair = authority.issue("client")
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.check_hostname = False
    context.load_cert_chain(*(str(path) for path in pair))
    flags = ["--cert-file", str(server[0]), "--key-file", str(server[1])]
    if client:
        flags += ["--client-cert-auth", "--trusted-ca-file", str(authority.certificate)]
    return Secure(own_etcd(version, *flags, tls=context), authority, stranger, pair)


def check_refused(host: Host, endpoint: str, *words: str, **values: object) -> None:
    """No connection comes about; the operation times out and its text says why."""
    host.open(endpoint, NS, agent=b"alpha", **values)
    watch = host.start("watch", agent=b"beta")
    lost = host.event("CONTACT_LOST", watch=watch, within=5)
    assert any(word in lost["text"].lower() for word in words), lost["text"]
    assert host.finish("publish", label=b"l", blob=b"b", timeout=500)["status"] == capi.TIMED_OUT
    assert host.stats()["connects"] == 0


@pytest.mark.parametrize("language", ["cpp", "python"])
def test_client_certificate(
    hosts: HostFactory, own_etcd: EtcdFactory, tmp_path: Path, version: str, language: str
) -> None:
    """All of it over one connection, as in cleartext."""
    secure = secured(own_etcd, tmp_path, version, "IP:127.0.0.1")
    host = hosts(language)
    with Sampler(host.pid) as sampler:
        host.open(secure.etcd.endpoint, NS, agent=b"alpha", **secure.files)
        host.succeed("start_heartbeat", interval=500, ttl=5000)
        host.succeed("publish", label=b"l", size=1 << 20)
        watch = host.start("watch", agent=b"alpha")
        host.event("SYNCED", watch=watch)
        ops = host.do("fetch", agent=b"alpha", label=b"l", repeat=None)["ops"]
        assert host.done(ops[0])["blob_len"] == 1 << 20
        waiting = host.do("fetch", agent=b"later", label=b"l", repeat=150, timeout=30_000)["ops"]
        for number in range(150):
            secure.etcd.gateway.put(NS + b"/later%d/l" % number, b"b")
        host.completions(waiting, within=10)
    assert sampler.samples.connections_max == 1
    assert len(sampler.samples.threads) == 1
    stats = host.stats()
    assert stats["connects"] == 1
    assert stats["ticks_tls_setup"] >= 1


def test_wrong_authority_is_refused(
    hosts: HostFactory, own_etcd: EtcdFactory, tmp_path: Path
) -> None:
    secure = secured(own_etcd, tmp_path, "3.5", "IP:127.0.0.1")
    wrong = {**secure.files, "ca_file": str(secure.stranger.certificate).encode()}
    check_refused(hosts(), secure.etcd.endpoint, "certificate", "ssl", "tls", **wrong)


def test_authority_unknown_to_the_system_is_refused(
    hosts: HostFactory, own_etcd: EtcdFactory, tmp_path: Path
) -> None:
    secure = secured(own_etcd, tmp_path, "3.5", "IP:127.0.0.1", client=False)
    check_refused(hosts(), secure.etcd.endpoint, "certificate", "ssl", "tls")


def test_certificateFileOfTheEnvironment_isNotRead(
    hosts: HostFactory, own_etcd: EtcdFactory, tmp_path: Path
) -> None:
    secure = secured(own_etcd, tmp_path, "3.5", "IP:127.0.0.1", client=False)
    names = ("SSL_CERT_FILE", "CURL_CA_BUNDLE")
    host = hosts(environment=dict.fromkeys(names, str(secure.authority.certificate)))
    check_refused(host, secure.etcd.endpoint, "certificate", "ssl", "tls")


def test_missing_client_certificate_is_refused(
    hosts: HostFactory, own_etcd: EtcdFactory, tmp_path: Path, version: str
) -> None:
    secure = secured(own_etcd, tmp_path, version, "IP:127.0.0.1")
    values = {"ca_file": secure.files["ca_file"]}
    host = hosts()
    host.open(secure.etcd.endpoint, NS, agent=b"alpha", **values)
    assert host.finish("publish", label=b"l", blob=b"b", timeout=1500)["status"] == capi.TIMED_OUT
    assert secure.etcd.gateway.keys(NS) == []


def test_certificate_for_another_name_is_refused(
    hosts: HostFactory, own_etcd: EtcdFactory, tmp_path: Path
) -> None:
    """Unless the config names it, which then is what is verified."""
    secure = secured(own_etcd, tmp_path, "3.4", "DNS:etcd.example.org")
    check_refused(
        hosts(), secure.etcd.endpoint, "certificate", "subject", "name", "ssl", **secure.files
    )
    host = hosts()
    host.open(
        secure.etcd.endpoint,
        NS,
        agent=b"alpha",
        server_name=b"etcd.example.org",
        **secure.files,
    )
    host.succeed("publish", label=b"l", blob=b"b")
    wrong = hosts()
    check_refused(
        wrong,
        secure.etcd.endpoint,
        "certificate",
        "subject",
        "name",
        "ssl",
        server_name=b"other.example.org",
        **secure.files,
    )


def test_name_in_the_endpoint_is_verified(
    hosts: HostFactory, own_etcd: EtcdFactory, tmp_path: Path
) -> None:
    """libcurl is given an address, TLS still sees the name."""
    secure = secured(own_etcd, tmp_path, "3.5", "DNS:localhost")
    host = hosts()
    host.open(f"https://localhost:{secure.etcd.port}", NS, agent=b"alpha", **secure.files)
    host.succeed("publish", label=b"l", blob=b"b")


def test_verification_can_be_turned_off(
    hosts: HostFactory, own_etcd: EtcdFactory, tmp_path: Path
) -> None:
    secure = secured(own_etcd, tmp_path, "3.5", "DNS:etcd.example.org", client=False)
    host = hosts()
    host.open(secure.etcd.endpoint, NS, agent=b"alpha", flags=capi.CONFIG_TLS_NO_VERIFY)
    host.succeed("publish", label=b"l", blob=b"b")


@pytest.mark.parametrize("missing", ["ca_file", "cert_file", "key_file"])
def test_missing_file_is_named(
    hosts: HostFactory, own_etcd: EtcdFactory, tmp_path: Path, missing: str
) -> None:
    """Open reads no file, so it succeeds; contact is lost with a text that says why."""
    secure = secured(own_etcd, tmp_path, "3.5", "IP:127.0.0.1")
    values = {**secure.files, missing: str(tmp_path / "absent.pem").encode()}
    check_refused(hosts(), secure.etcd.endpoint, "absent.pem", **values)


def test_restart_over_tls(hosts: HostFactory, own_etcd: EtcdFactory, tmp_path: Path) -> None:
    secure = secured(own_etcd, tmp_path, "3.4", "IP:127.0.0.1")
    host = hosts()
    host.open(secure.etcd.endpoint, NS, agent=b"alpha", **secure.files)
    host.succeed("start_heartbeat", interval=1000, ttl=5000)
    watch = host.start("watch", agent=b"beta")
    host.event("SYNCED", watch=watch)
    secure.etcd.kill()
    healthy = secure.etcd.start().wait_healthy()
    secure.etcd.gateway.put(NS + b"/beta/l", b"b")
    told = host.event("PUT", watch=watch, label=b"l", within=3)
    assert told["t"] / 1e9 - healthy < scaled(1.0)
    assert host.events(event="LOST") == []
