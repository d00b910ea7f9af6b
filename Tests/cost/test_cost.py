# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Compares the costs with costs.json; more than a margin above is a failure: instructions and
system calls of one publish, fetch, event, renewal and idle tick, of one agent in a namespace that
is watched or listed, of one watch; memory and descriptors. They do not depend on the machine's
speed. NIXL_MD_RECORD=1 records them again."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from certificates import Authority
from conftest import EtcdFactory
from etcd_server import Etcd

RECORD = Path(__file__).with_name("costs.json")
# For other versions of the C library and of libcurl, and for answers that come in more pieces.
INSTRUCTIONS_MARGIN = 1.10
CALLS_MARGIN = 1.0
# A record of TLS that comes in two pieces costs a read more.
TLS_CALLS_MARGIN = 2.0
MEMORY_MARGIN = 1.15
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
    # The namespace holds as many agents.
    is_filled: bool = False


KINDS = {
    "publish_4k": Kind(("publish", str(SIZE)), 40, 240),
    "fetch_4k": Kind(("fetch", str(SIZE)), 40, 240),
    "event_4k": Kind(("event", str(SIZE)), 20, 120, is_written=True),
    "renewal": Kind(("renew",), 10, 60),
    "idle_tick": Kind(("idle",), 1000, 11000),
    "agent_watched": Kind(("namespace",), 1000, 3000, is_filled=True),
    "agent_listed": Kind(("list",), 1000, 3000, is_filled=True),
    "watch": Kind(("watches",), 100, 300),
}
# Kinds of which memory and descriptors are measured.
HELD = {"handle": Kind(("handles",), 20, 60), "watch": Kind(("watches",), 1000, 5000)}


class Runner:
    """Runs the host under a tool."""

    def __init__(
        self,
        host: Path,
        etcd: Etcd,
        namespace: bytes,
        directory: Path,
        soname: Path,
        **environment: str,
    ) -> None:
        self._host, self._etcd, self._namespace = host, etcd, namespace
        self._directory = directory
        self._environment = {
            **os.environ,
            **environment,
            "LD_LIBRARY_PATH": str(soname),
            "BENCH_QUIET": "1",
        }
        self._environment.pop("NIXL_LOG_LEVEL", None)

    def run(self, tool: list[str], kind: Kind, count: int) -> str:
        namespace = self._filled(count) if kind.is_filled else self._namespace
        host = [str(self._host), self._etcd.endpoint, namespace.decode()]
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
            out, errors = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, errors
        return out

    def _filled(self, agents: int) -> bytes:
        """A namespace that holds so many, as NIXL's agents are: a presence key and a label."""
        namespace = self._namespace + b"%d/" % agents
        gateway = self._etcd.gateway
        if not gateway.get(b"%s/agent0/" % namespace):
            lease = gateway.grant(SECONDS)
            for first in range(0, agents, 50):
                keys = [b"%s/agent%d/" % (namespace, i) for i in range(first, first + 50)]
                pairs = [(key, b"") for key in keys] + [(key + b"l", b"blob") for key in keys]
                gateway.put_all(pairs, lease)
        return namespace

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
    """The cost of one: the least of some attempts, further ones only while it is above the
    limit."""
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


@pytest.fixture
def tls_runner(
    bench_host: Path,
    own_etcd: EtcdFactory,
    namespace: bytes,
    tmp_path: Path,
    soname_directory: Path,
) -> Runner:
    authority = Authority(tmp_path / "ca", "authority")
    certificate, key = authority.issue("server", "IP:127.0.0.1")
    context = ssl.create_default_context(cafile=str(authority.certificate))
    flags = ("--cert-file", str(certificate), "--key-file", str(key))
    etcd = own_etcd("3.5", *flags, tls=context)
    ca_file = str(authority.certificate)
    return Runner(bench_host, etcd, namespace, tmp_path, soname_directory, BENCH_CA_FILE=ca_file)


def check(name: str, what: str, measured: float, limit: float) -> None:
    record = json.loads(RECORD.read_text())
    if os.environ.get("NIXL_MD_RECORD"):
        record.setdefault(name, {})[what] = measured
        RECORD.write_text(json.dumps(record, indent=4) + "\n")
        return
    print(f"{name}: {measured} {what}, recorded {record[name][what]}")
    assert measured <= limit, f"{name}: {measured} {what}, at most {limit:.1f}"


def recorded(name: str, what: str) -> float:
    """While recording, no result ends the attempts early."""
    if os.environ.get("NIXL_MD_RECORD"):
        return 0.0
    return float(json.loads(RECORD.read_text())[name][what])


@pytest.mark.parametrize("name", KINDS)
def test_instructions_are_within_the_record(runner: Runner, name: str) -> None:
    limit = recorded(name, "instructions") * INSTRUCTIONS_MARGIN
    check(name, "instructions", cost(runner.instructions, KINDS[name], limit), limit)


@pytest.mark.parametrize("name", KINDS)
def test_system_calls_are_within_the_record(runner: Runner, name: str) -> None:
    wanted = recorded(name, "system calls")
    limit = wanted + CALLS_MARGIN if wanted else 0.0
    check(name, "system calls", cost(runner.calls, KINDS[name], limit), limit)


def test_system_calls_over_tls_are_within_the_record(tls_runner: Runner) -> None:
    limit = recorded("publish_4k", "system calls over TLS") + TLS_CALLS_MARGIN
    measured = cost(tls_runner.calls, KINDS["publish_4k"], limit)
    check("publish_4k", "system calls over TLS", measured, limit)


def held(runner: Runner, kind: Kind, what: str) -> float:
    """The cost of one by difference, so that shared costs do not count."""
    more, fewer = (json.loads(runner.run([], kind, n))[what] for n in (kind.more, kind.fewer))
    return round(float(more - fewer) / (kind.more - kind.fewer), 2)


@pytest.mark.parametrize("name", HELD)
def test_memory_is_within_the_record(runner: Runner, name: str) -> None:
    limit = recorded(name, "KiB") * MEMORY_MARGIN
    check(name, "KiB", held(runner, HELD[name], "kib"), limit)


def test_memory_over_tls_is_within_the_record(tls_runner: Runner) -> None:
    limit = recorded("handle", "KiB over TLS") * MEMORY_MARGIN
    check("handle", "KiB over TLS", held(tls_runner, HELD["handle"], "kib"), limit)


def test_descriptors_per_handle_are_few(runner: Runner) -> None:
    check("handle", "descriptors", held(runner, HELD["handle"], "descriptors"), 6)
