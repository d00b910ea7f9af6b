# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What the kernel says about a process: its threads and its TCP connections (proc(5))."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

# States of /proc/net/tcp in which the process still holds the connection: ESTABLISHED, SYN_SENT,
# FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT (linux/include/net/tcp_states.h).
_HELD_STATES = frozenset({"01", "02", "04", "05", "08"})


def thread_count(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def thread_states(pid: int) -> list[str]:
    """One letter per thread, as proc(5) has them."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            text = Path(f"/proc/{pid}/task/{task}/stat").read_text()
        except FileNotFoundError:
            continue
        found.append(text.rpartition(") ")[2][0])
    return found


def freeze(pid: int) -> None:
    """Stops a process, and waits until its last thread has stopped."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 5
    while not all(state in "tT" for state in thread_states(pid)):
        assert time.monotonic() < deadline, f"process {pid} does not stop"
        time.sleep(0.001)


def _socket_inodes(pid: int) -> set[str]:
    inodes = set()
    for descriptor in os.scandir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(descriptor.path)
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    return inodes


def tcp_connections(pid: int) -> set[str]:
    """Its TCP connections, each as 'local remote' in the kernel's own notation."""
    return _tcp_connections(pid, _socket_inodes(pid))


def _tcp_connections(pid: int, owned: set[str]) -> set[str]:
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] in _HELD_STATES and columns[9] in owned:
                found.add(f"{columns[1]} {columns[2]}")
    return found


def remote_addresses(pid: int) -> set[tuple[str, int]]:
    """The other ends of its connections over IPv4."""
    found = set()
    for connection in tcp_connections(pid):
        address, _, port = connection.split()[1].partition(":")
        if len(address) == 8:
            found.add((socket.inet_ntoa(struct.pack("=I", int(address, 16))), int(port, 16)))
    return found


def descriptors(pid: int) -> dict[int, str]:
    """Its open descriptors and what they are; without the one that this look takes."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
    return found


@dataclass
class Samples:
    """What was seen of a process while it was being looked at."""

    threads: set[int] = field(default_factory=set)
    connections: set[str] = field(default_factory=set)
    connections_max: int = 0
    count: int = 0


class Sampler:
    """Looks at a process every few milliseconds, from a process of its own, until stopped."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.samples = Samples()

    def __enter__(self) -> Sampler:
        command = [sys.executable, __file__, str(self._pid)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        output, _errors = self._process.communicate(b"stop\n", timeout=10)
        told = json.loads(output)
        self.samples = Samples(
            set(told["threads"]), set(told["connections"]), told["connections_max"], told["count"]
        )


def _sample(pid: int) -> None:
    seen = Samples()
    inodes: set[str] = set()
    now_open: set[str] = set()
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0.003)[0]:
        seen.threads.add(thread_count(pid))
        # The table of connections takes the kernel 20 ms; only a new socket can be in it anew.
        if (sockets := _socket_inodes(pid)) != inodes:
            inodes = sockets
            now_open = _tcp_connections(pid, inodes)
        seen.connections |= now_open
        seen.connections_max = max(seen.connections_max, len(now_open))
        seen.count += 1
    told = {
        "threads": sorted(seen.threads),
        "connections": sorted(seen.connections),
        "connections_max": seen.connections_max,
        "count": seen.count,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    _sample(int(sys.argv[1]))
