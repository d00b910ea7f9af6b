# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Connections that are reset during an upload, at many places of blobs of many sizes."""

from __future__ import annotations

import contextlib
import random
import ssl
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from cutting import CuttingProxy

import libcurl
from certificates import Authority
from conftest import EtcdFactory, HostFactory
from etcd_server import Etcd
from hosts import Host, made_blob

# etcd's options for blobs of 10 MiB.
RAISED = ("--max-request-bytes", str(15 << 20))
SMALLEST, LARGEST = 20_000, 10 << 20
GROUPS, GROUP = 13, 8
TIMEOUT_MS = 100_000


@dataclass(frozen=True)
class Case:
    """The size of a blob, and after how many bytes the first two connections are reset."""

    size: int
    cuts: tuple[int, int]


def made_cases() -> list[Case]:
    """The first is what aborted hosts with libcurl 8.14.1; then ends and beginnings, then any."""
    source = random.Random(8141)
    cases = [
        Case(SMALLEST, (10_000, 3_000)),
        Case(SMALLEST, (1, 1)),
        Case(SMALLEST, (24, 25)),  # the preface of HTTP/2
        Case(SMALLEST, (19_990, 19_990)),
        Case(1 << 20, (1 << 20, 1 << 20)),
        Case(LARGEST, (LARGEST, 10_000)),
        Case(LARGEST, (10_000, LARGEST)),
        Case(LARGEST, (LARGEST // 2, LARGEST // 2)),
    ]
    while len(cases) < GROUPS * GROUP:
        size = int(SMALLEST * (LARGEST / SMALLEST) ** source.random())
        # Half of the cuts among the first bytes: handshakes, headers, the first frames.
        ends = (size, min(size, 40_000))
        first, second = (source.randrange(1, source.choice(ends)) for _ in range(2))
        cases.append(Case(size, (first, second)))
    return cases


CASES = made_cases()


@dataclass
class Secured:
    """A server, and what a host needs to know of it."""

    etcd: Etcd
    scheme: str
    files: dict[str, bytes]


@pytest.fixture(scope="module", params=["http", "https"])
def secured(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secured]:
    factory = EtcdFactory()
    if request.param == "http":
        made = Secured(factory("3.5", *RAISED), "http", {})
    else:
        authority = Authority(tmp_path_factory.mktemp("ca"), "authority")
        certificate, key = authority.issue("server", "IP:127.0.0.1")
        tls = ssl.create_default_context(cafile=str(authority.certificate))
        flags = (*RAISED, "--cert-file", str(certificate), "--key-file", str(key))
        files = {"ca_file": str(authority.certificate).encode()}
        made = Secured(factory("3.5", *flags, tls=tls), "https", files)
    yield made
    factory.close()


def publish(host: Host, h: int, way: CuttingProxy, secured: Secured, ns: bytes, case: Case) -> int:
    """Every other host has a heartbeat, every third a watch: streams beside the upload."""
    endpoint = f"{secured.scheme}://127.0.0.1:{way.port}"
    host.open(endpoint, ns, h=h, agent=b"agent%d" % h, **secured.files)
    if h % 2 == 0:
        host.do("start_heartbeat", h=h, interval=500, ttl=60_000, timeout=TIMEOUT_MS)
    if h % 3 == 0:
        host.do("watch", h=h, agent=b"agent%d" % h)
    return host.start("publish", h=h, label=b"l", size=case.size, seed=h, timeout=TIMEOUT_MS)


@pytest.mark.parametrize("group", range(GROUPS))
def test_twoResetsDuringUpload_thenPublishSucceeds(
    hosts: HostFactory, secured: Secured, namespace: bytes, group: int
) -> None:
    """libcurl 8.14.1 aborts the host when the easy handle of the failed upload is used again."""
    cases = CASES[group * GROUP : (group + 1) * GROUP]
    with contextlib.ExitStack() as stack:
        ways = [
            stack.enter_context(contextlib.closing(CuttingProxy(secured.etcd.port, case.cuts)))
            for case in cases
        ]
        host = hosts()
        ops = [
            publish(host, h, way, secured, namespace, case)
            for h, (way, case) in enumerate(zip(ways, cases, strict=True))
        ]
        libcurl.check_loaded(host.pid)
        for h, (op, way, case) in enumerate(zip(ops, ways, cases, strict=True)):
            done = host.done(op, within=120, h=h)
            assert done["status"] == 0, (case, done)
            assert way.cuts_left == 0, case
            # One more for each cut; and no more, or a few where the machine is slow.
            assert 3 <= way.accepted <= 6, (case, way.accepted)
        check_stored(hosts(), secured, namespace, cases)
        for h in range(len(cases)):
            host.close(h)
    secured.etcd.gateway.delete_prefix(namespace)


def check_stored(reader: Host, secured: Secured, namespace: bytes, cases: list[Case]) -> None:
    reader.open(secured.etcd.endpoint, namespace, **secured.files)
    for h, case in enumerate(cases):
        found = reader.succeed("fetch", agent=b"agent%d" % h, label=b"l", within=60)
        wanted = made_blob(case.size, h)
        assert (found["blob_len"], found["blob_crc"]) == (len(wanted), zlib.crc32(wanted))
