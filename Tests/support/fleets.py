# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Processes with many agents each (Tests/fleet/members.cpp), and their reports."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Report = dict[str, Any]
TREE = Path(__file__).resolve().parents[2]


def build(library: Path, binary: Path) -> Path:
    """Builds the program with many agents."""
    command = [
        *(os.environ.get("CXX", "c++"), "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror"),
        *("-I", str(TREE / "include"), str(TREE / "Tests/fleet/members.cpp")),
        *("-o", str(binary), str(library), f"-Wl,-rpath,{library.parent}"),
    ]
    subprocess.run(command, check=True)
    return binary


@dataclass(frozen=True)
class Plan:
    """Where the agents of a fleet find etcd, and how they live."""

    binary: Path
    endpoint: str
    ca_file: Path | None
    of_all: int
    # Each watches the one so many places on.
    offset: int
    ttl: float
    start_seconds: float


class Members:
    """One process with some agents of a fleet."""

    def __init__(self, plan: Plan, first: int, count: int) -> None:
        words = (plan.endpoint, "/fleet/", first, count, plan.of_all, plan.offset)
        times = (int(plan.ttl * 1000), int(plan.start_seconds * 1000))
        command = [plan.binary, *words, *times, *([plan.ca_file] if plan.ca_file else [])]
        self.count = count
        self.reports: list[Report] = []
        self._process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.reports.append(json.loads(line))

    def check(self) -> None:
        assert self._process.poll() is None, "a process of the fleet has ended"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    def served_since(self) -> float | None:
        """Since when all of its agents have been served; None: they are not."""
        since = None
        for report in reversed(self.reports):
            if report["served"] < self.count:
                break
            since = float(report["at"])
        return since


class Fleet:
    def __init__(self, plan: Plan, agents: int, processes: int) -> None:
        edges = [agents * n // processes for n in range(processes + 1)]
        self.members = [
            Members(plan, first, last - first) for first, last in itertools.pairwise(edges)
        ]
        self.agents = agents

    def total(self, name: str) -> int:
        return sum(int(part.reports[-1][name]) for part in self.members if part.reports)

    def served_since(self) -> float | None:
        """Since when all agents have been served without a break; None: they are not."""
        since = [part.served_since() for part in self.members]
        return None if None in since else max(time for time in since if time is not None)

    def wait(self, is_reached: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not is_reached():
            for part in self.members:
                part.check()
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def watch(self, seconds: float) -> None:
        self.wait(lambda: False, seconds)

    def kill(self) -> None:
        for part in self.members:
            part.kill()
