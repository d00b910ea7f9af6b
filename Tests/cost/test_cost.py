# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Instructions and system calls of one publish, fetch, event, renewal and idle tick, against what
costs.json records. They do not depend on the machine's speed. NIXL_MD_RECORD=1 records anew."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import EtcdFactory
from etcd_server import Etcd

RECORD = Path(__file__).with_name("costs.json")
# For other versions of the C library and of libcurl, and for answers that come in more pieces.
INSTRUCTIONS_MARGIN = 1.10
CALLS_MARGIN = 1.0
# The least of so many: what the system does beside us only adds.
ATTEMPTS = 4
SECONDS = 3600
SIZE = 4096
# The host's own waiting is not the library's.
HOST_CALLS = {"poll"}
TOTALS = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Kind:
    """Work of which more is done in one run than in another; the difference is what it costs."""

    work: tuple[str, ...]
    fewer: int
    more: int
    # Somebody must write what the host waits for.
    is_written: bool = False


KINDS = {
    "publish_4k": Kind(("publish", str(SIZE)), 40, 240),
    "fetch_4k": Kind(("fetch", str(SIZE)), 40, 240),
    "event_4k": Kind(("event", str(SIZE)), 20, 120, is_written=True),
    "renewal": Kind(("renew",), 10, 60),
    "idle_tick": Kind(("idle",), 1000, 11000),
}


class Runner:
    """Runs the host under a tool."""

    def __init__(
        self, host: Path, etcd: Etcd, namespace: bytes, directory: Path, soname: Path
    ) -> None:
        self._host, self._etcd, self._namespace = host, etcd, namespace
        self._directory = directory
        self._environment = {**os.environ, "LD_LIBRARY_PATH": str(soname)}
        self._environment.pop("NIXL_LOG_LEVEL", None)

    def run(self, tool: list[str], kind: Kind, count: int) -> None:
        host = [str(self._host), self._etcd.endpoint, self._namespace.decode()]
        process = subprocess.Popen(
            [*tool, *host, *kind.work, str(count)],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            if kind.is_written:
                assert process.stdout and process.stdout.readline() == "ready\n"
                self._write(count)
            _, errors = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, errors

    def _write(self, count: int) -> None:
        """One at a time, and as many again as the host does not count."""
        key = self._namespace + b"/writer/l"
        for _ in range(count + 20):
            self._etcd.gateway.put(key, b"x" * SIZE)

    def instructions(self, kind: Kind, count: int) -> int:
        out = self._directory / "callgrind.out"
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
        self.run(tool, kind, count)
        found = TOTALS.search(out.read_text())
        assert found, "callgrind tells no sum"
        return int(found[1])

    def calls(self, kind: Kind, count: int) -> int:
        out = self._directory / "strace.out"
        self.run(["strace", "-f", "-c", "-U", "calls,name", "-o", str(out)], kind, count)
        rows = [line.split() for line in out.read_text().splitlines()]
        return sum(
            int(row[0])
            for row in rows
            if len(row) == 2 and row[0].isdigit() and row[1] not in {*HOST_CALLS, "total"}
        )


def cost(measure: Callable[[Kind, int], int], kind: Kind, limit: float) -> float:
    """Of one, the least of some attempts; further ones only while it is above the limit."""
    least = float("inf")
    for _ in range(ATTEMPTS):
        difference = measure(kind, kind.more) - measure(kind, kind.fewer)
        least = min(least, difference / (kind.more - kind.fewer))
        if least <= limit:
            break
    return round(least, 2)


@pytest.fixture
def runner(
    bench_host: Path,
    own_etcd: EtcdFactory,
    namespace: bytes,
    tmp_path: Path,
    soname_directory: Path,
) -> Runner:
    return Runner(bench_host, own_etcd("3.5"), namespace, tmp_path, soname_directory)


def check(name: str, what: str, measured: float, limit: float) -> None:
    record = json.loads(RECORD.read_text())
    if os.environ.get("NIXL_MD_RECORD"):
        record.setdefault(name, {})[what] = measured
        RECORD.write_text(json.dumps(record, indent=4) + "\n")
        return
    print(f"{name}: {measured} {what}, recorded {record[name][what]}")
    assert measured <= limit, f"{name}: {measured} {what}, at most {limit:.1f}"


def recorded(name: str, what: str) -> float:
    """Nothing is good enough to end the attempts early while it is recorded anew."""
    if os.environ.get("NIXL_MD_RECORD"):
        return 0.0
    return float(json.loads(RECORD.read_text())[name][what])


@pytest.mark.parametrize("name", KINDS)
def test_instructions(runner: Runner, name: str) -> None:
    limit = recorded(name, "instructions") * INSTRUCTIONS_MARGIN
    check(name, "instructions", cost(runner.instructions, KINDS[name], limit), limit)


@pytest.mark.parametrize("name", KINDS)
def test_system_calls(runner: Runner, name: str) -> None:
    wanted = recorded(name, "system calls")
    limit = wanted + CALLS_MARGIN if wanted else 0.0
    check(name, "system calls", cost(runner.calls, KINDS[name], limit), limit)
