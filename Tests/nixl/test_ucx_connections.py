# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""UCX's connections between two agents that live are reset; etcd and its connections are not."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

from agents import LONG_TTL, SIZE, check_read, told, wait_published
from conftest import (
    MORE_VERSIONS,
    SOON,
    VERSIONS,
    EtcdFactory,
    PeerFactory,
    eventually,
    has_loaded,
    interpreter,
)
from etcd_server import Etcd
from hosts import Refused
from procfs import tcp_connections
from test_example import EXAMPLE, environment

ALL = pytest.mark.parametrize("version", [*VERSIONS, *MORE_VERSIONS])
RESETS = 20
# Without shared memory, which agents of one machine would use.
OVER_TCP = {"UCX_TLS": "tcp,self", "TEST_SIZE": str(SIZE), "TEST_TTL": str(LONG_TTL)}

Connection = tuple[str, str]


def address(text: str) -> str:
    """As ss(8) takes it, of the kernel's own notation."""
    host, port = text.split(":")
    return f"{socket.inet_ntoa(struct.pack('=I', int(host, 16)))}:{int(port, 16)}"


def connections(pid: int) -> set[Connection]:
    """Those of a process over IPv4, by its own address and the other."""
    pairs = (one.split() for one in tcp_connections(pid))
    return {(address(own), address(other)) for own, other in pairs if len(own) == 13}


def reset_between(one: int, other: int) -> int:
    """Resets all connections between two processes, at the side of the first; how many there were.
    The kernel ends them (SOCK_DESTROY of sock_diag(7)), and the other side is sent a reset."""
    back = {(theirs, ours) for ours, theirs in connections(other)}
    between = connections(one) & back
    wanted = " or ".join(f"( src {ours} and dst {theirs} )" for ours, theirs in between)
    if between:
        subprocess.run(["ss", "-K", "-tn", wanted], capture_output=True, check=True)
    assert not connections(one) & between, "this kernel does not end connections (ss -K)"
    return len(between)


class Pair:
    """Reader beta has read of owner alpha."""

    def __init__(self, peers: PeerFactory, kind: str, etcd: Etcd, namespace: bytes) -> None:
        self.reader = peers(kind, "beta", etcd, namespace, **OVER_TCP)
        self.owner = peers(kind, "alpha", etcd, namespace, TEST_SEED="3", **OVER_TCP)
        self.reader.do("want", agent="alpha")
        told(self.reader, True)
        check_read(self.reader, self.owner, 3)

    def reset(self, side: int = 0) -> None:
        eventually(self.reads, SOON, "transfers work")
        ends = (self.reader.pid, self.owner.pid)
        assert reset_between(ends[side], ends[1 - side]) > 0

    def reads(self) -> bool:
        """Whether a transfer succeeds; the right bytes then."""
        try:
            check_read(self.reader, self.owner, 3)
        except Refused as refused:
            assert "REMOTE_DISCONNECT" in refused.text or "NOT_FOUND" in refused.text
            return False
        return True

    def heals(self) -> bool:
        """The steps of an application after a failure. Up to 1.4.1, NIXL may drop freshly loaded
        metadata, since it learns late of the connection that broke: then the next transfer
        fails."""
        mark = self.reader.mark()
        self.reader.do("reload", agent="alpha")
        told(self.reader, True, since=mark)
        return self.reads()

    def wait_broken(self) -> None:
        eventually(lambda: not self.reads(), SOON, "a transfer fails")


@pytest.mark.parametrize(
    ("version", "kind"),
    [*((each, "tick") for each in (*VERSIONS, *MORE_VERSIONS)), (VERSIONS[0], "asyncio")],
)
def test_reset_again_and_again(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes, kind: str
) -> None:
    """With no call of the application but its loop, and `reload` after a failure."""
    pair = Pair(peers, kind, etcd34, namespace)
    for turn in range(RESETS):
        pair.reset(turn % 2)
        pair.wait_broken()
        eventually(pair.heals, SOON, f"transfers work again after reset {turn}")
    assert len(pair.reader.lines("peer", is_loaded=True)) >= RESETS + 1


@pytest.mark.parametrize("version", [each for each in (*VERSIONS, *MORE_VERSIONS) if "1.4" in each])
def test_peer_dropped_by_nixl_is_loaded_again(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes
) -> None:
    """As 1.4 does: `check`, so the loop alone, loads it again, and `on_peer` gets both events."""
    pair = Pair(peers, "tick", etcd34, namespace)
    mark = pair.reader.mark()
    pair.reset()
    pair.wait_broken()
    told(pair.reader, False, since=mark)
    told(pair.reader, True, since=mark)
    eventually(pair.reads, SOON, "transfers work again")


def test_peer_removed_by_the_application_is_loaded_again(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes
) -> None:
    """The application loads it again, with any version."""
    pair = Pair(peers, "tick", etcd34, namespace)
    mark = pair.reader.mark()
    pair.reader.do("remove", agent="alpha")
    told(pair.reader, True, since=mark)
    assert has_loaded(pair.reader, "alpha")
    assert pair.reads()


def test_reload_while_etcd_is_down(
    peers: PeerFactory, own_etcd: EtcdFactory, namespace: bytes
) -> None:
    """It is loaded when etcd is back."""
    etcd = own_etcd()
    pair = Pair(peers, "tick", etcd, namespace)
    etcd.kill()
    pair.reset()
    pair.wait_broken()
    mark = pair.reader.mark()
    for _ in range(3):
        pair.reader.do("reload", agent="alpha")
    told(pair.reader, False, since=mark)
    etcd.start().wait_healthy()
    told(pair.reader, True, since=mark)
    eventually(pair.reads, SOON, "transfers work again")
    assert len(pair.reader.lines("peer", is_loaded=True)) == 2


def test_reload_of_an_absent_peer_raises(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes
) -> None:
    reader = peers("tick", "beta", etcd34, namespace)
    wait_published(reader)
    with pytest.raises(Refused, match="KeyError"):
        reader.do("reload", agent="alpha")
    reader.do("want", agent="alpha")
    reader.do("reload", agent="alpha")
    assert not reader.do("is_loaded", agent="alpha")["is_loaded"]
    assert not reader.lines("peer")


class Example:
    """A role of the example, and what it has printed."""

    def __init__(self, role: str, version: str, variables: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [interpreter(version), EXAMPLE, role], env=variables, stdout=output, stderr=output
            )

    def count(self, line: str) -> int:
        return self._log.read_text(errors="replace").count(line)

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(SOON)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Examples:
    """Owner and reader. An owner that ends is started again, as by a supervisor: in 1.5.1 UCX ends
    a process whose peer's connection breaks in a large transfer ('Fatal: unexpected error')."""

    def __init__(self, version: str, variables: dict[str, str], directory: Path) -> None:
        self._version = version
        self._variables = variables
        self._directory = directory
        self._owners: list[Example] = []
        self.start_owner()
        self.reader = Example("reader", version, variables, directory / "reader")

    @property
    def owner(self) -> Example:
        return self._owners[-1]

    def start_owner(self) -> None:
        log = self._directory / f"owner-{len(self._owners)}"
        self._owners.append(Example("owner", self._version, self._variables, log))

    def reads_on(self, count: int) -> bool:
        """Whether more than `count` reads have succeeded."""
        assert self.reader.process.poll() is None
        if self.owner.process.poll() is not None:
            assert self.owner.count("Fatal: unexpected error") == 1
            self.start_owner()
        return self.reader.count("read ok") > count

    def wait_reads(self, what: str) -> None:
        count = self.reader.count("read ok") + 2
        eventually(lambda: self.reads_on(count), 2 * SOON, f"it reads {what}")

    def reset(self) -> None:
        """Until a transfer fails: a reset that falls between two may be noticed by none."""
        failed = self.reader.count("read failed")
        deadline = time.monotonic() + SOON
        while self.reader.count("read failed") == failed and time.monotonic() < deadline:
            if self.owner.process.poll() is not None:
                return
            reset_between(self.reader.process.pid, self.owner.process.pid)
            time.sleep(0.2)
        assert self.reader.count("read failed") > failed

    def end(self) -> None:
        for each in (self.reader, *self._owners):
            each.end()


@ALL
def test_example_reads_on_after_each_reset(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes, tmp_path: Path
) -> None:
    """It reads on after each reset."""
    variables = environment(
        NIXL_ETCD_ENDPOINTS=etcd34.endpoint,
        NIXL_ETCD_NAMESPACE=namespace.decode(),
        UCX_TLS=OVER_TCP["UCX_TLS"],
    )
    examples = Examples(peers.version, variables, tmp_path)
    try:
        for turn in range(RESETS):
            examples.wait_reads(f"before reset {turn}")
            examples.reset()
        examples.wait_reads("at the end")
        assert examples.reader.count("read WRONG") == 0
        assert examples.reader.count("removed owner") >= RESETS
    finally:
        examples.end()
