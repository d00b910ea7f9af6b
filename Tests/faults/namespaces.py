# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Several hosts on one machine: network namespaces on a bridge, in which packets can be dropped in
one direction (ip-netns(8), veth(4), nft(8)). Nothing is changed in the machine's own network."""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from etcd_server import Etcd, Place

NAMED = Path("/run/netns")
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)


def run(*command: str, stdin: str | None = None) -> None:
    """Runs a tool of the system; its output explains a failure."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}\n{stdin or ''}")


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def inside(name: str) -> Iterator[None]:
    """The calling thread is in that namespace: sockets it makes stay there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        there = os.open(NAMED / name, os.O_RDONLY)
        try:
            _set_namespace(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _set_namespace(home)
    finally:
        os.close(home)


def remove_orphans() -> None:
    """Removes the remains of a run that was itself killed: its process id is part of the names."""
    for path in NAMED.glob("nixl-md-*"):
        owner = re.match(r"nixl-md-(\d+)-", path.name)
        if owner and not Path("/proc", owner[1]).exists():
            # Another worker may be doing the same.
            with suppress(RuntimeError):
                run("ip", "netns", "del", path.name)


def are_allowed() -> bool:
    """Whether this process may make network namespaces and rules in them."""
    probe = Namespaces()
    try:
        probe.create()
        probe.add("probe")
    except RuntimeError:
        return False
    finally:
        probe.close()
    return True


class Namespaces:
    """A bridge, and places connected to it. An operator sits at the bridge and reaches them all."""

    def __init__(self) -> None:
        self._prefix = f"nixl-md-{os.getpid()}-{next(_numbers)}"
        self._names: list[str] = []
        self._bridge = ""

    def create(self) -> None:
        self._bridge = self._create("bridge")
        run(
            *("ip", "-netns", self._bridge, "-batch", "-"),
            stdin="link set dev lo up\n"
            "link add name br0 type bridge\n"
            "address add 10.77.0.254/24 dev br0\n"
            "link set dev br0 up\n",
        )

    def _create(self, name: str) -> str:
        full = f"{self._prefix}-{name}"
        run("ip", "netns", "add", full)
        self._names.append(full)
        return full

    def add(self, name: str) -> Place:
        """A host of its own, connected to all others."""
        full = self._create(name)
        address = f"10.77.0.{len(self._names)}"
        port = f"port{len(self._names)}"
        run(
            *("ip", "-netns", self._bridge, "-batch", "-"),
            stdin=f"link add name {port} type veth peer name eth0 netns {full}\n"
            f"link set dev {port} master br0\n"
            f"link set dev {port} up\n",
        )
        run(
            *("ip", "-netns", full, "-batch", "-"),
            stdin=f"link set dev lo up\naddress add {address}/24 dev eth0\nlink set dev eth0 up\n",
        )
        run(
            *("ip", "netns", "exec", full, "nft", "-f", "-"),
            stdin="add table inet faults\n"
            "add chain inet faults input { type filter hook input priority 0; policy accept; }\n",
        )
        return Place(full, address, ("ip", "netns", "exec", full), self._connect)

    def _connect(self, address: tuple[str, int], timeout: float) -> socket.socket:
        with inside(self._bridge):
            return socket.create_connection(address, timeout)

    def connect(self, members: Sequence[Etcd]) -> None:
        """They reach one another as they are."""

    def endpoints(self, place: Place, members: Sequence[Etcd]) -> str:
        """The members, as this place reaches them."""
        return ",".join(member.endpoint for member in members)

    def member_at(self, port: int, members: Sequence[Etcd]) -> Etcd:
        return next(member for member in members if member.port == port)

    def drop(self, source: Place, destination: Place) -> None:
        """Packets from one to the other vanish on arrival, without a notice."""
        rule = f"add rule inet faults input ip saddr {source.address} drop"
        run("ip", "netns", "exec", destination.name, "nft", rule)

    def part(self, one: Place, other: Place) -> None:
        """As drop, in both directions."""
        self.drop(one, other)
        self.drop(other, one)

    def heal(self) -> None:
        for name in self._names:
            if name != self._bridge:
                run("ip", "netns", "exec", name, "nft", "flush chain inet faults input")

    def close(self) -> None:
        for name in reversed(self._names):
            run("ip", "netns", "del", name)
        self._names.clear()
