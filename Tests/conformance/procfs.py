# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What the kernel says about a process: its threads and its TCP connections (proc(5))."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

# States of /proc/net/tcp in which the process still holds the connection: ESTABLISHED, SYN_SENT,
# FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT (linux/include/net/tcp_states.h).
_HELD_STATES = frozenset({"01", "02", "04", "05", "08"})


def thread_count(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


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
    owned = _socket_inodes(pid)
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] in _HELD_STATES and columns[9] in owned:
                found.add(f"{columns[1]} {columns[2]}")
    return found


def descriptors(pid: int) -> dict[int, str]:
    """Its open descriptors and what they are."""
    found = {}
    for descriptor in os.scandir(f"/proc/{pid}/fd"):
        try:
            found[int(descriptor.name)] = os.readlink(descriptor.path)
        except FileNotFoundError:
            continue
    return found


@dataclass
class Sampler:
    """Looks at a process every 5 ms from a thread of its own, until stopped."""

    pid: int
    interval: float = 0.005
    threads: set[int] = field(default_factory=set)
    connections: set[str] = field(default_factory=set)
    connections_max: int = 0
    samples: int = 0
    longest_gap: float = 0.0

    def __enter__(self) -> Sampler:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stopping.wait(self.interval):
            self.threads.add(thread_count(self.pid))
            now_open = tcp_connections(self.pid)
            self.connections |= now_open
            self.connections_max = max(self.connections_max, len(now_open))
            self.samples += 1
            now = time.monotonic()
            self.longest_gap = max(self.longest_gap, now - last)
            last = now
