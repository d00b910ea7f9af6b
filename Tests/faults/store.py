# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The contents of etcd during a fault, looked at from outside the library."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from etcd_server import Etcd
from gateway import GatewayError

# How long anything is waited for that must come: promises in seconds are figures, measured when
# it has.
PATIENCE = 60.0


@dataclass(frozen=True)
class Look:
    """The contents of a member at a time (monotonic)."""

    time: float
    member: str
    keys: frozenset[bytes]


class KeySampler:
    """Reads the keys under a prefix all the time, from whichever members answer, until stopped.

    The reads are serializable: a member's own copy, which is there without a leader too. Keys of an
    expired lease are removed by an entry of the log, so a copy that lags shows keys too long, never
    too short."""

    def __init__(self, members: Sequence[Etcd], prefix: bytes, pause: float = 0.03) -> None:
        self.looks: list[Look] = []
        self._members = members
        self._prefix = prefix
        self._pause = pause
        self._passed_over: set[str] = set()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(member,), daemon=True) for member in members
        ]

    def __enter__(self) -> KeySampler:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def pass_over(self, member: Etcd) -> None:
        """It is no member any more, or will be a new one that has nothing at first."""
        self._passed_over.add(member.name)

    def _run(self, member: Etcd) -> None:
        while not self._stopping.wait(self._pause * len(self._members)):
            begin = time.monotonic()
            try:
                found = member.gateway.range(
                    self._prefix, keys_only=True, serializable=True, timeout=0.5
                )
            except (GatewayError, OSError):
                continue
            if member.name in self._passed_over:
                continue
            self.looks.append(Look(begin, member.name, frozenset(kv.key for kv in found)))

    def missing(self, keys: Iterable[bytes]) -> list[tuple[float, str, set[bytes]]]:
        """Every look in which one of the keys was not there."""
        wanted = frozenset(keys)
        return [
            (look.time, look.member, set(wanted - look.keys))
            for look in self.looks
            if not wanted <= look.keys
        ]


def wait_until(is_reached: Callable[[], bool], seconds: float, what: str) -> float:
    """When it was reached (monotonic)."""
    deadline = time.monotonic() + seconds
    while not is_reached():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.01)
    return time.monotonic()
