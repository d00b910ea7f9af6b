# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""GOAWAY, RST_STREAM, refusals in the only headers, and resets, during uploads and downloads.
Requests that can be repeated are repeated, and take effect once; a refusal is reported; the lease
and the watches live on."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from frames import DATA, END_STREAM, LARGEST_STREAM, Fault, FrameProxy, Link

import capi
import libcurl
from certificates import Authority
from conftest import EtcdFactory, HostFactory
from etcd_server import Etcd
from hosts import Host, Line, made_blob

SIZE = 1 << 20
SMALL = 20
NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0, 2, 7, 8, 11
# Status codes of gRPC.
RESOURCE_EXHAUSTED, UNAVAILABLE = 8, 14

Act = Callable[[Link, int], None]


def reset_stream(code: int) -> Act:
    return lambda link, stream: link.reset(stream, code)


def goaway_drain(link: Link, stream: int) -> None:
    """A server that will stop gives a notice, then the last stream; open streams go on."""
    link.goaway(LARGEST_STREAM, NO_ERROR)
    link.goaway(link.last_stream, NO_ERROR)
    link.ends_when_idle = True


def goaway_unprocessed(link: Link, stream: int) -> None:
    """The stream is above the last one that the server will process."""
    link.goaway(stream - 2, NO_ERROR)
    link.bury(stream)
    link.end()


def goaway_at_once(link: Link, stream: int) -> None:
    link.goaway(link.last_stream, ENHANCE_YOUR_CALM, b"too_many_pings")
    link.end()


def reset_connection(link: Link, stream: int) -> None:
    link.end(reset=True)


def refuse(status: int, text: str, *, resets: bool) -> Act:
    """A gRPC server refuses in the only headers. RST_STREAM(NO_ERROR) says that it needs no more of
    the request (RFC 9113, section 8.1)."""

    def act(link: Link, stream: int) -> None:
        head = ((":status", "200"), ("content-type", "application/grpc"))
        link.refuse(stream, *head, ("grpc-status", str(status)), ("grpc-message", text))
        if resets:
            link.reset(stream, NO_ERROR)
        else:
            link.bury(stream)

    return act


def cut_short(link: Link, stream: int) -> None:
    """The answer ends in the middle of a message, without a status."""
    link.tell_host(DATA, END_STREAM, stream, b"")
    link.bury(stream)


def unavailable_reset(link: Link, stream: int) -> None:
    """In the middle of an answer: trailers, and RST_STREAM in the same packet."""
    link.refuse(stream, ("grpc-status", str(UNAVAILABLE)), ("grpc-message", "leader changed"))
    link.reset(stream, NO_ERROR)


EITHER: dict[str, Act] = {
    "goaway_drain": goaway_drain,
    "goaway_unprocessed": goaway_unprocessed,
    "goaway_at_once": goaway_at_once,
    "reset_connection": reset_connection,
    "rst_refused": reset_stream(REFUSED_STREAM),
    "rst_internal": reset_stream(INTERNAL_ERROR),
    "rst_cancel": reset_stream(CANCEL),
    "rst_calm": reset_stream(ENHANCE_YOUR_CALM),
}
UPLOAD: dict[str, Act] = {
    **EITHER,
    "unavailable": refuse(UNAVAILABLE, "etcdserver: leader changed", resets=False),
    "unavailable_reset": refuse(UNAVAILABLE, "etcdserver: leader changed", resets=True),
    "rst_no_error": reset_stream(NO_ERROR),
}
DOWNLOAD: dict[str, Act] = {
    **EITHER,
    "cut_short": cut_short,
    "unavailable_reset": unavailable_reset,
}
TOO_LARGE = "grpc: received message larger than max (1048700 vs. 1000)"


@pytest.fixture(params=["http", "https"])
def way(
    request: pytest.FixtureRequest, own_etcd: EtcdFactory, tmp_path: Path
) -> Iterator[tuple[FrameProxy, Etcd, dict[str, bytes]]]:
    """A proxy before an etcd, and what a host needs to know for TLS."""
    etcd = own_etcd("3.5")
    files: dict[str, bytes] = {}
    pair: tuple[str, str] | None = None
    if request.param == "https":
        authority = Authority(tmp_path / "ca", "authority")
        certificate, key = authority.issue("server", "IP:127.0.0.1")
        files = {"ca_file": str(authority.certificate).encode()}
        pair = (str(certificate), str(key))
    with contextlib.closing(FrameProxy(etcd.port, pair)) as proxy:
        yield proxy, etcd, files


Way = tuple[FrameProxy, Etcd, dict[str, bytes]]


def begin(hosts: HostFactory, way: Way, namespace: bytes) -> tuple[Host, int]:
    """A host with a heartbeat and a watch."""
    proxy, _, files = way
    host = hosts()
    host.open(proxy.endpoint, namespace, agent=b"alpha", **files)
    libcurl.check_loaded(host.pid)
    host.succeed("start_heartbeat", interval=500, ttl=30_000)
    watch = host.start("watch", agent=b"beta")
    host.event("SYNCED", watch=watch)
    return host, watch


def check_alive(host: Host, watch: int, etcd: Etcd, namespace: bytes) -> None:
    """The lease was kept, and the watch goes on; each event came once."""
    etcd.gateway.put(namespace + b"/beta/after", b"after")
    host.event("PUT", watch=watch, label=b"after")
    seen = [(line["label"], line["revision"]) for line in host.events(event="PUT", watch=watch)]
    assert len(seen) == len(set(seen)), seen
    assert host.events(event="RESYNC") == []
    assert host.stats()["leases_lost"] == 0


def upload(host: Host, within: float = 60) -> tuple[Line, list[Line]]:
    """A large blob and small ones behind it; their completions."""
    large = host.start("publish", label=b"large", size=SIZE, seed=1, timeout=50_000)
    small = [
        host.start("publish", label=b"%d" % number, blob=b"%d" % number, timeout=50_000)
        for number in range(SMALL)
    ]
    done = host.completions([large, *small], within)
    return done[large], [done[op] for op in small]


def check_uploaded(etcd: Etcd, namespace: bytes, *, has_large: bool) -> None:
    found = {kv.key: kv for kv in etcd.gateway.range(namespace + b"/alpha/")}
    for number in range(SMALL):
        assert found[namespace + b"/alpha/%d" % number].value == b"%d" % number
    large = found.get(namespace + b"/alpha/large")
    if has_large:
        assert large is not None
        # Written once: what the server never processed, or not whole, is not there.
        assert (large.value, large.version) == (made_blob(SIZE, 1), 1)
    else:
        assert large is None


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("name", UPLOAD)
def test_fault_duringUpload_thenAllIsPublishedOnce(
    hosts: HostFactory, way: Way, namespace: bytes, name: str, times: int
) -> None:
    proxy, etcd, _ = way
    host, watch = begin(hosts, way, namespace)
    proxy.fault = Fault(True, UPLOAD[name], times=times)
    large, small = upload(host)
    assert {line["status"] for line in (large, *small)} == {capi.SUCCESS}, large
    assert proxy.fault.hits == times
    check_uploaded(etcd, namespace, has_large=True)
    check_alive(host, watch, etcd, namespace)


@pytest.mark.parametrize("resets", [False, True])
def test_refusal_duringUpload_isReported(
    hosts: HostFactory, way: Way, namespace: bytes, resets: bool
) -> None:
    proxy, etcd, _ = way
    host, watch = begin(hosts, way, namespace)
    proxy.fault = Fault(True, refuse(RESOURCE_EXHAUSTED, TOO_LARGE, resets=resets), times=100)
    large, small = upload(host)
    assert large["status"] == capi.TOO_LARGE, large
    assert {line["status"] for line in small} == {capi.SUCCESS}
    check_uploaded(etcd, namespace, has_large=False)
    check_alive(host, watch, etcd, namespace)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("name", DOWNLOAD)
def test_fault_duringDownload_thenAllIsReadOnce(
    hosts: HostFactory, way: Way, namespace: bytes, name: str, times: int
) -> None:
    """The cut comes during a fetch, then during an event of a watch."""
    proxy, etcd, _ = way
    host, watch = begin(hosts, way, namespace)
    etcd.gateway.put(namespace + b"/gamma/large", made_blob(SIZE, 2))
    etcd.gateway.put(namespace + b"/gamma/small", b"small")
    proxy.fault = Fault(False, DOWNLOAD[name], times=times)
    options = {"agent": b"gamma", "timeout": 50_000}
    large = host.start("fetch", label=b"large", **options)
    small = [host.start("fetch", label=b"small", **options) for _ in range(SMALL)]
    done = host.completions([large, *small], within=60)
    assert {line["status"] for line in done.values()} == {capi.SUCCESS}, done[large]
    assert done[large]["blob_crc"] == zlib.crc32(made_blob(SIZE, 2))
    assert proxy.fault.hits == times

    proxy.fault = Fault(False, DOWNLOAD[name], times=times)
    etcd.gateway.put(namespace + b"/beta/large", made_blob(SIZE, 3))
    told = host.event("PUT", watch=watch, label=b"large", within=60)
    assert told["blob_crc"] == zlib.crc32(made_blob(SIZE, 3))
    assert proxy.fault.hits == times
    check_alive(host, watch, etcd, namespace)
