# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Drives the scriptable hosts (Tests/hosts in C++, pyhost.py in Python) from a test."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import capi
import contract
import libcurl
from memcheck import CPU_FACTOR, TIMEOUT_MS, scaled
from procfs import freeze
from slowness import slowness

ANSWER_SECONDS = 30.0
# The calls that have a time-out.
TIMED = frozenset(
    ["publish", "unpublish", "start_heartbeat", "stop_heartbeat", "fetch", "invalidate", "list"]
)
TICK_CPU_LIMIT_NS = 20_000_000 * CPU_FACTOR
TLS_SETUP_CPU_LIMIT_NS = 100_000_000 * CPU_FACTOR
# A wait for the network takes a second at least; a busy machine delays a host by less.
TICK_WALL_LIMIT_NS = 900_000_000 * CPU_FACTOR

Line = dict[str, Any]


class HostError(Exception):
    """A call that a test expected to succeed was refused."""


class Refused(HostError):
    """With its status and last-error text."""

    def __init__(self, command: str, status: int, text: str) -> None:
        super().__init__(f"{command}: {status} {text}")
        self.status = status
        self.text = text


def made_blob(size: int, seed: int) -> bytes:
    """The blob that a host publishes for a size and a seed instead of bytes."""
    period = bytes((seed + i * 7) & 0xFF for i in range(256))
    return (period * (size // 256 + 1))[:size]


def _word(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return str(int(value)) if isinstance(value, (bool, int)) else str(value)


@dataclass
class Log:
    """Everything that a host has reported, in order."""

    lines: list[Line] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    is_ended: bool = False

    def append(self, line: Line) -> None:
        with self.changed:
            self.lines.append(line)
            self.changed.notify_all()

    def end(self) -> None:
        with self.changed:
            self.is_ended = True
            self.changed.notify_all()

    def wait(self, wanted: Callable[[Line], bool], seconds: float, start: int = 0) -> Line | None:
        """The first line that is wanted; None when it does not come in time."""
        deadline = time.monotonic() + scaled(seconds)
        position = start
        with self.changed:
            while True:
                while position < len(self.lines):
                    if wanted(self.lines[position]):
                        return self.lines[position]
                    position += 1
                left = deadline - time.monotonic()
                if left <= 0 or self.is_ended:
                    return None
                self.changed.wait(left)


class Host:
    """One host process. Its handle number 0 is meant where none is named."""

    def __init__(
        self,
        command: Sequence[str],
        environment: dict[str, str] | None = None,
        stderr: Path | None = None,
    ) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("NIXL_")}
        self._stderr = stderr.open("wb") if stderr else None
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr or subprocess.DEVNULL,
            env={
                **clean,
                "NIXL_MD_LIBRARY": str(capi.library_path()),
                **(environment or {}),
            },
        )
        self.log = Log()
        self._next_request = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.open_handles: set[int] = set()
        self.final_stats: list[Line] = []
        assert self._wait_line(lambda line: line["kind"] == "ready", 60), "the host did not start"

    @property
    def pid(self) -> int:
        return self.process.pid

    def _read(self) -> None:
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            try:
                self.log.append(json.loads(raw))
            except ValueError:
                self.log.append({"kind": "foreign", "raw": raw.decode("latin-1")})
        self.log.end()

    # Requests

    def request(self, command: str, *, seconds: float = ANSWER_SECONDS, **values: Any) -> Line:
        """Sends a request and returns its answer, whatever its status."""
        if TIMEOUT_MS is not None and command in TIMED:
            values.setdefault("timeout", TIMEOUT_MS)
        self._next_request += 1
        number = self._next_request
        words = [str(number), command]
        words += [f"{name}={_word(value)}" for name, value in values.items() if value is not None]
        assert self.process.stdin is not None
        start = len(self.log.lines)
        self.process.stdin.write((" ".join(words) + "\n").encode("ascii"))
        self.process.stdin.flush()
        answer = self._wait_line(
            lambda line: line["kind"] == "answer" and line["id"] == number, seconds, start
        )
        if answer is None:
            raise HostError(f"{command}: no answer in {seconds} s; exit {self.process.poll()}")
        if command in contract.FUNCTIONS:
            contract.check_returned(command, answer["rc"])
        return answer

    def do(self, command: str, **values: Any) -> Line:
        """As request, but a refusal is an error."""
        answer = self.request(command, **values)
        if answer["rc"] < 0:
            raise Refused(command, answer["rc"], answer["error"])
        return answer

    def start(self, command: str, **values: Any) -> int:
        """A starting call; its operation id."""
        return int(self.do(command, **values)["ops"][0])

    def finish(self, command: str, *, within: float = 15.0, **values: Any) -> Line:
        """A starting call and its completion."""
        return self.done(self.start(command, **values), within)

    def succeed(self, command: str, *, within: float = 15.0, **values: Any) -> Line:
        """A starting call that completes with success."""
        line = self.finish(command, within=within, **values)
        assert line["status"] == capi.SUCCESS, f"{command}: {line['status']} {line['text']}"
        return line

    def open(self, endpoints: str | None, namespace: bytes | None, **values: Any) -> None:
        """Opens handle `h`."""
        self.do(
            "open",
            endpoints=endpoints.encode() if endpoints is not None else None,
            namespace=namespace,
            **values,
        )
        self.open_handles.add(int(values.get("h", 0)))

    def close(self, h: int = 0) -> Line:
        self.keep_stats(h)
        answer = self.do("close", h=h)
        self.open_handles.discard(h)
        return answer

    def stats(self, h: int = 0) -> Line:
        return self.do("stats", h=h)

    def keep_stats(self, h: int) -> None:
        self.final_stats.append(self.stats(h))

    # Reports

    def _wait_line(
        self, wanted: Callable[[Line], bool], seconds: float, start: int = 0
    ) -> Line | None:
        return self.log.wait(wanted, seconds, start)

    def done(self, op: int, within: float = 15.0, h: int = 0) -> Line:
        """The completion of an operation."""
        line = self._wait_line(
            lambda line: line["kind"] == "done" and line["op"] == op and line["h"] == h, within
        )
        assert line is not None, f"operation {op} did not complete within {within} s"
        return line

    def completions(self, ops: Sequence[int], within: float, h: int = 0) -> dict[int, Line]:
        """The completions of many operations."""
        deadline = time.monotonic() + within
        return {op: self.done(op, max(0.0, deadline - time.monotonic()), h) for op in ops}

    def mark(self) -> int:
        """A position in the reports so far, for `since`."""
        return len(self.log.lines)

    def event(
        self,
        name: str,
        *,
        within: float = 15.0,
        since: int = 0,
        count: int = 1,
        **wanted: Any,
    ) -> Line:
        """The event of this name whose fields are as wanted (the `count`th such)."""
        seen = 0

        def matches(line: Line) -> bool:
            nonlocal seen
            if line["kind"] != "event" or line["event"] != name or not _has(line, wanted):
                return False
            seen += 1
            return seen == count

        line = self._wait_line(matches, within, since)
        assert line is not None, f"no {name} {wanted} within {within} s; told: {self.tail(since)}"
        return line

    def events(self, since: int = 0, **wanted: Any) -> list[Line]:
        """Every event so far whose fields are as wanted."""
        lines = self.log.lines[since:]
        return [line for line in lines if line["kind"] == "event" and _has(line, wanted)]

    def names(self, since: int = 0, **wanted: Any) -> list[str]:
        return [line["event"] for line in self.events(since, **wanted)]

    def line(self, kind: str, *, within: float = 15.0, since: int = 0, **wanted: Any) -> Line:
        """Any other line."""
        line = self._wait_line(
            lambda line: line["kind"] == kind and _has(line, wanted), within, since
        )
        assert line is not None, f"no {kind} {wanted} within {within} s"
        return line

    def lines(self, kind: str, **wanted: Any) -> list[Line]:
        return [line for line in self.log.lines if line["kind"] == kind and _has(line, wanted)]

    def tail(self, since: int = 0) -> str:
        return "\n".join(json.dumps(line) for line in self.log.lines[since:][-12:])

    # Faults and ends

    def freeze(self) -> float:
        """SIGSTOP, as a debugger or a suspended container would; the monotonic time of it."""
        freeze(self.pid)
        return time.monotonic()

    def thaw(self) -> float:
        os.kill(self.pid, signal.SIGCONT)
        return time.monotonic()

    def kill(self) -> float:
        """SIGKILL; the monotonic time of it."""
        self._remember_stats()
        self.process.kill()
        now = time.monotonic()
        self.process.wait()
        self._end()
        return now

    def quit(self) -> None:
        """Ends the process cleanly, whatever state it is in."""
        if self.process.poll() is None:
            self._remember_stats()
            try:
                self.request("quit", seconds=5)
                self.process.wait(scaled(5))
            except (HostError, OSError, subprocess.TimeoutExpired):
                self.process.kill()
                self.process.wait()
        self._end()

    def _remember_stats(self) -> None:
        for h in sorted(self.open_handles):
            try:
                answer = self.request("stats", h=h, seconds=5)
            except (HostError, OSError):
                return
            if answer["rc"] >= 0:
                self.final_stats.append(answer)

    def _end(self) -> None:
        self.open_handles.clear()
        self._reader.join(5)
        for stream in (self.process.stdin, self.process.stdout, self._stderr):
            if stream is not None:
                # The last bytes written may have no reader any more.
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def _has(line: Line, wanted: dict[str, Any]) -> bool:
    return all(
        line.get(name) == (value.hex() if isinstance(value, bytes) else value)
        for name, value in wanted.items()
    )


def is_too_long(nanoseconds: float, limit: float = TICK_CPU_LIMIT_NS) -> bool:
    """Of CPU time. Where other work makes each instruction slower the limit is as much higher."""
    return nanoseconds > limit and nanoseconds > limit * slowness()


def check_ticks(stats: Line) -> None:
    """The promise of nixl_md_tick about its length."""
    assert not is_too_long(stats["tick_cpu_max_ns"]), (
        f"a tick took {stats['tick_cpu_max_ns'] / 1e6:.1f} ms of CPU: {stats}"
    )
    assert not is_too_long(stats["tick_tls_setup_cpu_max_ns"], TLS_SETUP_CPU_LIMIT_NS), stats


def check_host(host: Host, is_quiet: bool, stderr: Path) -> None:
    """Checks every host of every test. A host reports a long tick as soon as it has run: if it is
    killed, only its last tick is unknown."""
    for stats in [*host.final_stats, *host.lines("long_tick")]:
        check_ticks(stats)
    for line in host.log.lines:
        assert line["kind"] not in ("foreign", "fatal", "tick_failed"), line
        contract.check_told(line)
    if is_quiet:
        assert stderr.read_bytes() == b"", "the library printed something"


def python_command() -> list[str]:
    return [*libcurl.prefix(), sys.executable, str(Path(__file__).with_name("pyhost.py"))]
