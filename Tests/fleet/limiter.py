# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Gives a process a share of one CPU by SIGSTOP and SIGCONT, and says what it really got.

The kernel counts the time that the threads ran and the time that they waited for a processor
(linux/Documentation/scheduler/sched-stats.rst). The process runs until it has used what its share
gives it, however long that takes on a busy machine, and then stands still."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from procfs import cpu_seconds, cpu_wait_seconds

PERIOD = 0.004
# Time that was not used is kept for so long.
KEPT_SECONDS = 0.1
PRIORITY = -15
# `had` looks at so long at a time.
SLICE = 1.0


@dataclass(frozen=True)
class Look:
    """One turn of the loop: until when, and what the process used and waited for in it."""

    at: float
    used: float
    waited: float
    was_stopped: bool


class Limiter(threading.Thread):
    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._share: float | None = None
        self._is_held = False
        self._is_stopped = False
        self._is_over = False
        self._credit = 0.0
        self._looks: list[Look] = []
        self._lock = threading.Lock()

    def limit(self, share: float | None) -> None:
        """`share` of one CPU; None: as much as it wants."""
        with self._lock:
            self._share, self._credit = share, 0.0

    def hold(self, is_held: bool) -> None:
        """The process stands still until it is let go."""
        with self._lock:
            self._is_held, self._credit = is_held, 0.0
            self._set_stopped(is_held)

    def follow(self, pid: int) -> None:
        """The process was started again under another pid."""
        with self._lock:
            self._pid, self._is_stopped, self._credit = pid, False, 0.0

    def end(self) -> None:
        self._is_over = True
        self.join()
        self._set_stopped(False)

    def _set_stopped(self, is_stopped: bool) -> None:
        if is_stopped != self._is_stopped:
            self._is_stopped = is_stopped
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGSTOP if is_stopped else signal.SIGCONT)

    def run(self) -> None:
        # Others must not decide when it looks.
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), PRIORITY)
        pid, at, used, waited = self._pid, time.monotonic(), 0.0, 0.0
        while not self._is_over:
            time.sleep(PERIOD)
            with self._lock, suppress(FileNotFoundError):
                now = time.monotonic()
                used_now, waited_now = cpu_seconds(self._pid), cpu_wait_seconds(self._pid)
                if pid == self._pid:
                    self._turn(now, now - at, used_now - used, waited_now - waited)
                pid, at, used, waited = self._pid, now, used_now, waited_now

    def _turn(self, now: float, passed: float, used: float, waited: float) -> None:
        self._looks.append(Look(now, used, waited, self._is_stopped))
        if self._share is None or self._is_held:
            self._set_stopped(self._is_held)
            return
        self._credit += self._share * passed - used
        self._credit = min(self._credit, self._share * KEPT_SECONDS)
        if self._credit <= 0:
            self._set_stopped(True)
        elif self._credit > self._share * PERIOD:
            self._set_stopped(False)

    def had(self, share: float, begin: float, end: float) -> float:
        """The part of its share that it got from `begin` to `end`, counting the time in which it
        wanted more: it was stopped, or waited for a processor. 1: exactly its share."""
        with self._lock:
            looks = [look for look in self._looks if begin <= look.at <= end]
        used = wanted = 0.0
        while looks:
            first = looks[0].at
            part = [look for look in looks if look.at < first + SLICE]
            looks = looks[len(part) :]
            length = part[-1].at - first
            is_short = any(look.was_stopped for look in part)
            if is_short or sum(look.waited for look in part) > length / 20:
                used += sum(look.used for look in part[1:])
                wanted += length * share
        return used / wanted if wanted else 1.0
