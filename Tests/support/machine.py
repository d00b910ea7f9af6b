# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Measures for how long the machine withheld a processor from processes that wanted to run.

A promise in seconds assumes that hosts and etcd get a processor when they want one. On a busy
machine they do not, and the kernel says for how long: the second number of
/proc/PID/task/TID/schedstat (linux/Documentation/scheduler/sched-stats.rst), and the time that a
hypervisor took (`steal` in proc_stat(5)). A test's measurement can be late by as much, and by no
more."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PERIOD = 0.2
# They look on; nobody waits for them.
LOOKERS = ("procfs.py", "machine.py")


@dataclass(frozen=True)
class Sample:
    """All that was withheld until then (seconds): taken between `begin` and `end` (monotonic)."""

    begin: float
    end: float
    withheld: float


class Machine:
    """Adds up what is withheld from this process and all below it, until stopped."""

    def __init__(self) -> None:
        self._samples: list[Sample] = []
        self._changed = threading.Condition()

    def __enter__(self) -> Machine:
        command = [sys.executable, __file__, str(os.getpid())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._sample_after(0.0)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(b"stop\n", timeout=30)
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._samples.append(Sample(*json.loads(line)))
                self._changed.notify_all()

    def _sample_after(self, moment: float) -> Sample:
        with self._changed:
            is_there = self._changed.wait_for(
                lambda: self._samples and self._samples[-1].begin >= moment, timeout=60
            )
            assert is_there, "nobody looks at the machine any more"
            return next(sample for sample in self._samples if sample.begin >= moment)

    def withheld(self, begin: float, end: float) -> float:
        """In seconds, at most: each process that waited meanwhile counts."""
        last = self._sample_after(end)
        before = [sample for sample in self._samples if sample.end <= begin]
        return last.withheld - (before[-1] if before else self._samples[0]).withheld

    def sleep(self, seconds: float) -> None:
        """For so long, and as long again as was withheld meanwhile, at most four times as long."""
        begin = time.monotonic()
        time.sleep(seconds)
        late = self.withheld(begin, time.monotonic())
        time.sleep(min(late, 3 * seconds))

    def was_held_up(self, begin: float, end: float, span: float, seconds: float) -> bool:
        """Whether so many seconds were withheld within any so long a span."""
        step = PERIOD
        moment = begin
        while moment < end:
            if self.withheld(moment, min(moment + span, end)) >= seconds:
                return True
            moment += step
        return False


def _descendants(root: int) -> list[int]:
    """The process and those below it."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with suppress(OSError):  # It has just ended.
                text = Path("/proc", name, "stat").read_text()
                children.setdefault(int(text.rpartition(") ")[2].split()[1]), []).append(int(name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _looks_on(pid: int) -> bool:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        return any(word.endswith(LOOKERS) for word in words)
    return True


def _delays(pid: int) -> Iterator[tuple[str, int]]:
    """The time that each thread has waited so far, in nanoseconds."""
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            name = f"/proc/{pid}/task/{task}/schedstat"
            yield name, int(Path(name).read_text().split()[1])


def _stolen() -> int:
    """The time that the hypervisor took from all processors, in nanoseconds."""
    columns = Path("/proc/stat").read_text().splitlines()[0].split()
    return int(columns[8]) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class Delay:
    """The exact time withheld from a few processes from now on; Machine gives the maximum for all.
    The kernel counts a wait when it is over: ask once the process has run."""

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self._before = self._now()

    def _now(self) -> dict[str, int]:
        return {"steal": _stolen(), **dict(each for pid in self._pids for each in _delays(pid))}

    @property
    def seconds(self) -> float:
        now = self._now()
        return sum(now[name] - self._before.get(name, 0) for name in now) / 1e9


def _watch(root: int) -> None:
    known: dict[str, int] = {"steal": _stolen()}
    total = 0
    while True:
        begin = time.monotonic()
        now = {"steal": _stolen()}
        for pid in _descendants(root):
            if not _looks_on(pid):
                now.update(_delays(pid))
        total += sum(max(0, now[name] - known.get(name, 0)) for name in now)
        known = now
        print(json.dumps([begin, time.monotonic(), total / 1e9]), flush=True)
        if select.select([sys.stdin], [], [], PERIOD)[0]:
            return


if __name__ == "__main__":
    _watch(int(sys.argv[1]))
