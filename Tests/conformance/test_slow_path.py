# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A path to etcd that is narrower than what is published at once, so that the socket is full most
of the time: etcd holds what was published, byte for byte, and renewals do not wait behind it."""

from __future__ import annotations

import random
import ssl
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certificates import Authority
from conftest import EtcdFactory, HostFactory
from etcd_server import Etcd
from hosts import Host
from narrow import NarrowLink

LANGUAGES = ("cpp", "python")
# Bytes per second. Far less than a host sends, and enough for the deadlines of requests, which
# reckon with 1 MiB/s.
RATE = 4e6
SIZES = (300_000, 1_400_000, 20_000, 700_000, 1_000_000, 70_000, 500_000, 1_200_000)
FETCHES = 100
NARROW = pytest.mark.native("memcheck is too slow for its deadlines")

LinkFactory = Callable[[int], NarrowLink]


@pytest.fixture
def links() -> Iterator[LinkFactory]:
    made: list[NarrowLink] = []

    def link(target: int) -> NarrowLink:
        made.append(NarrowLink(target))
        return made[-1]

    yield link
    for one in made:
        one.close()


def widen(host: Host, link: NarrowLink) -> None:
    """A long path with room for much makes etcd open its windows of flow control wide, so that on a
    narrow one they do not hold back what the socket cannot take."""
    link.delay = 0.02
    for seed in range(8):
        host.succeed("publish", within=120, label=b"wide", size=1 << 20, seed=seed, timeout=120_000)
    link.delay = 0.0


def publish_all(host: Host, etcd: Etcd, namespace: bytes, seed: int) -> None:
    """Several blobs at once, of many sizes; and what does not wait for them: small ones, reads."""
    source = random.Random(seed)
    blobs = {b"large%d" % number: source.randbytes(size) for number, size in enumerate(SIZES)}
    ops = {
        label: host.start("publish", label=label, blob=blob, timeout=120_000)
        for label, blob in blobs.items()
    }
    small = {b"small%d" % number: source.randbytes(50 * number) for number in range(1, 40)}
    for label, blob in small.items():
        ops[label] = host.start("publish", label=label, blob=blob, timeout=120_000)
    fetches = host.do("fetch", agent=b"peer", label=b"l", timeout=120_000, repeat=FETCHES)["ops"]
    done = host.completions([*ops.values(), *fetches], within=150)
    assert {line["status"] for line in done.values()} == {0}
    for label, blob in {**blobs, **small}.items():
        found = etcd.gateway.get(namespace + b"/alpha/" + label)
        assert found is not None
        assert found.value == blob, f"{label!r} is not what was published"


def check_narrow(
    host: Host, link: NarrowLink, endpoint: str, etcd: Etcd, ns: bytes, **values: object
) -> None:
    host.open(endpoint, ns, agent=b"alpha", **values)
    # Each renewal has 2 s to be answered.
    host.succeed("start_heartbeat", interval=500, ttl=15_000)
    for number in range(FETCHES):
        etcd.gateway.put(ns + b"/peer%d/l" % number, b"there")
    widen(host, link)
    link.rate = RATE
    for seed in range(2):
        publish_all(host, etcd, ns, seed)
    stats = host.stats()
    assert (stats["leases_lost"], stats["renewals_unanswered"]) == (0, 0), stats
    assert stats["connects"] == 1, stats
    host.quit()


@NARROW
@pytest.mark.parametrize("language", LANGUAGES)
def test_narrow_path_carries_every_blob(
    hosts: HostFactory,
    links: LinkFactory,
    etcd: Etcd,
    namespace: bytes,
    language: str,
) -> None:
    link = links(etcd.port)
    check_narrow(hosts(language), link, f"http://127.0.0.1:{link.port}", etcd, namespace)


@NARROW
def test_narrow_path_with_tls_carries_every_blob(
    hosts: HostFactory,
    links: LinkFactory,
    own_etcd: EtcdFactory,
    namespace: bytes,
    tmp_path: Path,
    version: str,
) -> None:
    authority = Authority(tmp_path / "ca", "authority")
    certificate, key = authority.issue("server", "IP:127.0.0.1")
    context = ssl.create_default_context(cafile=str(authority.certificate))
    flags = ("--cert-file", str(certificate), "--key-file", str(key))
    etcd = own_etcd(version, *flags, tls=context)
    link = links(etcd.port)
    host = hosts()
    ca_file = str(authority.certificate).encode()
    check_narrow(host, link, f"https://127.0.0.1:{link.port}", etcd, namespace, ca_file=ca_file)


@NARROW
def test_narrow_path_with_another_libcurl(
    hosts: HostFactory,
    links: LinkFactory,
    etcd: Etcd,
    namespace: bytes,
    tmp_path: Path,
    soname_directory: Path,
) -> None:
    """The one in pycurl's wheel, 8.x."""
    bundled = Path(sysconfig.get_path("platlib")) / "pycurl.libs"
    (found,) = bundled.glob("libcurl-*.so.*")
    directory = tmp_path / "libcurl"
    directory.mkdir()
    (directory / "libcurl.so.4").symlink_to(found)
    path = f"{soname_directory}:{directory}:{bundled}"
    # The loader says that this libcurl's symbols have no versions, as Debian's have.
    host = hosts(environment={"LD_LIBRARY_PATH": path}, is_quiet=False)
    link = links(etcd.port)
    check_narrow(host, link, f"http://127.0.0.1:{link.port}", etcd, namespace)
    assert str(directory) in hosts.stderr(host), "it ran with the system's libcurl"
