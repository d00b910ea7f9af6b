# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A path to etcd that is narrower than what is published at once: etcd holds what was published,
byte for byte. libcurl 7.88.1 sends bytes twice when its socket is full, so it must never be."""

from __future__ import annotations

import random
import re
import shutil
import ssl
import subprocess
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
# What libcurl wanted to send, and what the kernel took of it.
WRITE = re.compile(r"\bsend(?:to|msg)?\((\d+), .*?, (\d+), MSG_NOSIGNAL.* = (-?\d+) ?(\w*)")
NARROW = pytest.mark.native("memcheck makes system calls of its own")

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


class Traced:
    """A host whose writes are looked at."""

    def __init__(
        self, hosts: HostFactory, directory: Path, language: str, **options: object
    ) -> None:
        assert shutil.which("strace"), "strace is missing: apt-get install strace"
        self._trace = directory / "trace"
        calls = "trace=send,sendto,sendmsg,write,writev"
        prefix = ("strace", "-f", "-qq", "-s", "0", "-e", calls, "-o", str(self._trace))
        self.host: Host = hosts(language, prefix=prefix, **options)  # type: ignore[arg-type]

    def check(self) -> None:
        """Ends it. No write has met a full socket."""
        self.host.quit()
        trace = self._trace.read_text(errors="replace")
        writes = [found for line in trace.splitlines() if (found := WRITE.search(line))]
        assert len(writes) > 1000
        refused = [
            found[0]
            for found in writes
            if found[4] == "EAGAIN" or (not found[4] and found[2] != found[3])
        ]
        assert not refused, f"{len(refused)} writes met a full socket: {refused[:3]}"


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
    traced: Traced, link: NarrowLink, endpoint: str, etcd: Etcd, ns: bytes, **values: object
) -> None:
    host = traced.host
    host.open(endpoint, ns, agent=b"alpha", **values)
    host.succeed("start_heartbeat", interval=1000, ttl=60_000)
    for number in range(FETCHES):
        etcd.gateway.put(ns + b"/peer%d/l" % number, b"there")
    widen(host, link)
    link.rate = RATE
    for seed in range(2):
        publish_all(host, etcd, ns, seed)
    assert host.stats()["leases_lost"] == 0
    traced.check()


@NARROW
@pytest.mark.parametrize("language", LANGUAGES)
def test_what_etcd_gets_over_a_narrow_path(
    hosts: HostFactory,
    links: LinkFactory,
    etcd: Etcd,
    namespace: bytes,
    tmp_path: Path,
    language: str,
) -> None:
    link = links(etcd.port)
    traced = Traced(hosts, tmp_path, language)
    check_narrow(traced, link, f"http://127.0.0.1:{link.port}", etcd, namespace)


@NARROW
def test_what_etcd_gets_over_a_narrow_path_with_tls(
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
    traced = Traced(hosts, tmp_path, "cpp")
    ca_file = str(authority.certificate).encode()
    check_narrow(traced, link, f"https://127.0.0.1:{link.port}", etcd, namespace, ca_file=ca_file)


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
    traced = Traced(hosts, tmp_path, "cpp", environment={"LD_LIBRARY_PATH": path}, is_quiet=False)
    link = links(etcd.port)
    check_narrow(traced, link, f"http://127.0.0.1:{link.port}", etcd, namespace)
    assert str(directory) in hosts.stderr(traced.host), "it ran with the system's libcurl"


# A kernel that does not tell how full a socket is as it counts itself.
SILENT_KERNEL = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>

int getsockopt(int socket, int level, int name, void *value, socklen_t *length) {
    static int (*real)(int, int, int, void *, socklen_t *);
    if (!real) real = (int (*)(int, int, int, void *, socklen_t *))dlsym(RTLD_NEXT, "getsockopt");
    if (level == SOL_SOCKET && name == SO_MEMINFO) {
        errno = ENOPROTOOPT;
        return -1;
    }
    return real(socket, level, name, value, length);
}
"""


@NARROW
def test_narrow_path_where_the_kernel_does_not_tell(
    hosts: HostFactory, links: LinkFactory, etcd34: Etcd, namespace: bytes, tmp_path: Path
) -> None:
    (tmp_path / "silent.c").write_text(SILENT_KERNEL)
    library = tmp_path / "silent.so"
    command = ["cc", "-shared", "-fPIC", str(tmp_path / "silent.c"), "-o", str(library), "-ldl"]
    subprocess.run(command, check=True)
    traced = Traced(hosts, tmp_path, "cpp", environment={"LD_PRELOAD": str(library)})
    link = links(etcd34.port)
    check_narrow(traced, link, f"http://127.0.0.1:{link.port}", etcd34, namespace)
