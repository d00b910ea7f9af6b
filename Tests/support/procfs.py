# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The kernel's view of a process: its threads and its TCP connections (proc(5))."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
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
        except (FileNotFoundError, ProcessLookupError):
            continue
        found.append(text.rpartition(") ")[2][0])
    return found


def _schedstat_seconds(pid: int, column: int) -> float:
    """Of all threads (linux/Documentation/scheduler/sched-stats.rst)."""
    spent = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            spent += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[column])
    return spent / 1e9


def cpu_seconds(pid: int) -> float:
    """The processor time of its threads."""
    return _schedstat_seconds(pid, 0)


def cpu_wait_seconds(pid: int) -> float:
    """The time in which its threads waited for a processor."""
    return _schedstat_seconds(pid, 1)


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
    """Observations of a process while it was watched."""

    threads: set[int] = field(default_factory=set)
    connections: set[str] = field(default_factory=set)
    connections_max: int = 0
    count: int = 0
    is_ended: bool = False


class Sampler:
    """Looks at processes, one every few milliseconds, from a process of its own, until stopped; at
    each as long as it lives."""

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self.seen: dict[int, Samples] = {}

    def __enter__(self) -> Sampler:
        command = [sys.executable, __file__, *(str(pid) for pid in self._pids)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        output, _errors = self._process.communicate(b"stop\n", timeout=10)
        for pid, told in zip(self._pids, json.loads(output), strict=True):
            told["threads"], told["connections"] = set(told["threads"]), set(told["connections"])
            self.seen[pid] = Samples(**told)

    @property
    def samples(self) -> Samples:
        """The observations of the first process."""
        return self.seen[self._pids[0]]


class _Look:
    """The observations of one process so far."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.seen = Samples()
        self._inodes: set[str] = set()
        self._open: set[str] = set()
        self._changed = 0.0

    def again(self) -> bool:
        """False when the process is ending."""
        try:
            states = thread_states(self.pid)
            # The table of connections takes the kernel 20 ms; only a new socket can be new in it,
            # or one that is connecting: under valgrind that takes its time.
            if (sockets := _socket_inodes(self.pid)) != self._inodes:
                self._inodes = sockets
                self._changed = time.monotonic()
                self._open = _tcp_connections(self.pid, sockets)
            elif len(self._open) < len(sockets) and time.monotonic() < self._changed + 1:
                self._open = _tcp_connections(self.pid, sockets)
        except OSError:
            states = []
        if all(state in "ZX" for state in states):
            self.seen.is_ended = True
            return False
        self.seen.threads.add(len(states))
        self.seen.connections |= self._open
        self.seen.connections_max = max(self.seen.connections_max, len(self._open))
        self.seen.count += 1
        return True


def _sample(pids: Sequence[int]) -> None:
    looks = [_Look(pid) for pid in pids]
    left = deque(looks)
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0.003)[0]:
        if left and left[0].again():
            left.rotate(-1)
        elif left:
            left.popleft()
    told = [
        {
            "threads": sorted(look.seen.threads),
            "connections": sorted(look.seen.connections),
            "connections_max": look.seen.connections_max,
            "count": look.seen.count,
            "is_ended": look.seen.is_ended,
        }
        for look in looks
    ]
    print(json.dumps(told))


if __name__ == "__main__":
    _sample([int(pid) for pid in sys.argv[1:]])
