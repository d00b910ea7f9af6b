#!/usr/bin/env python3
# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The demonstration of 'make demo': a C++ and a Python agent meet in etcd; the C++ one is killed.

Starts a private etcd on a free loopback port, unless NIXL_ETCD_ENDPOINTS names one, and prints a
timeline. Ends with an error if anything that is promised does not happen in time.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from nixl_md import Agent, NixlMDError

ROOT = Path(__file__).resolve().parents[1]
TTL = 5.0
# Peers are told of a death within TTL + 2 s while etcd keeps its leader.
TOLD_WITHIN = TTL + 2
# A machine that is busy with something else adds to that, and may be slow in everything.
SLACK = 10.0
PATIENCE = 60.0
START = time.monotonic()


class DemoError(Exception):
    """Something promised did not happen."""


def say(text: str) -> None:
    print(f"{time.monotonic() - START:7.3f} s  {text}", flush=True)


class Process:
    """An agent in a process of its own; its lines of output with the time of each."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        self.name = name
        self.lines: list[tuple[float, str]] = []
        self._has_more = threading.Condition()
        self._process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True, errors="replace"
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._has_more:
                self.lines.append((time.monotonic(), line.strip()))
                self._has_more.notify_all()

    def expect(self, line: str, seconds: float, since: float = 0) -> float:
        """Waits for a line that begins so; when it came."""
        deadline = time.monotonic() + seconds

        def found() -> float | None:
            times = (at for at, text in self.lines if text.startswith(line) and at >= since)
            return next(times, None)

        with self._has_more:
            while (at := found()) is None:
                left = deadline - time.monotonic()
                if left <= 0 or not self._has_more.wait(left):
                    seen = "; ".join(text for _, text in self.lines) or "nothing"
                    raise DemoError(f"{self.name} did not print '{line}' in {seconds} s ({seen})")
        return at

    def kill(self) -> float:
        self._process.kill()
        at = time.monotonic()
        self._process.wait()
        return at

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def private_etcd() -> Iterator[str]:
    """A new etcd in a temporary directory; its endpoint."""
    binary = shutil.which("etcd")
    if binary is None:
        sys.exit(
            "demo: etcd is missing. Install it (Debian: apt-get install etcd-server), or set "
            "NIXL_ETCD_ENDPOINTS to one that runs"
        )
    with tempfile.TemporaryDirectory(prefix="nixl_md-demo-") as directory:
        client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        command = [
            *(binary, "--name", "demo", "--data-dir", f"{directory}/data"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"demo={peer}"),
        ]
        log = Path(directory, "etcd.log")
        with log.open("wb") as output:
            server = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            yield client
        except DemoError:
            sys.stderr.write(log.read_text(errors="replace")[-2000:])
            raise
        finally:
            server.terminate()
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def wait_until_healthy(endpoint: str) -> None:
    """Asks by the library itself: an observer that lists who is present."""
    # A private etcd listens after a moment; that nothing answers before is no warning.
    logging.getLogger("nixl_md").setLevel(logging.ERROR)
    with Agent(endpoints=endpoint) as observer:
        try:
            observer.list(timeout=20).wait(25)
        except NixlMDError as error:
            raise DemoError(f"no etcd answers at {endpoint}: {error}") from error


def start_cpp_agent(environment: dict[str, str]) -> Process:
    command = [
        *(str(ROOT / "build/examples/cpp_agent"), "--name", "alpha", "--peer", "beta"),
        *("--interval-ms", "1500", "--ttl-ms", str(round(TTL * 1000))),
    ]
    return Process("alpha", command, environment)


def start_python_agent(environment: dict[str, str]) -> Process:
    command = [
        *(sys.executable, str(ROOT / "examples/python_asyncio.py"), "--name", "beta"),
        *("--peer", "alpha", "--interval", "1.5", "--ttl", str(TTL)),
    ]
    return Process("beta", command, environment)


def demonstrate(environment: dict[str, str], stack: ExitStack) -> None:
    beta = start_python_agent(environment)
    stack.callback(beta.end)
    say(f"beta    Python, pid {beta.pid}: publishes, watches alpha, fetches what is not there yet")
    beta.expect("SYNCED", PATIENCE)
    started = time.monotonic()
    alpha = start_cpp_agent(environment)
    stack.callback(alpha.end)
    say(f"alpha   C++, pid {alpha.pid}: publishes under a lease of {TTL:g} s")
    alpha.expect("publish ok", PATIENCE)
    fetched = beta.expect("fetched metadata of alpha", PATIENCE)
    say(f"beta    has alpha's metadata, {fetched - started:.2f} s after alpha was started")
    alpha.expect("fetched metadata of beta", PATIENCE)
    say("alpha   has beta's metadata")

    time.sleep(TTL + 1)
    if any(text.startswith("GONE") for _, text in beta.lines):
        raise DemoError("alpha was reported gone while it lived")
    say("both    live on past the TTL: the lease is renewed by alpha's own ticks")

    killed = alpha.kill()
    say(f"alpha   SIGKILL to pid {alpha.pid}")
    gone = beta.expect("GONE alpha", PATIENCE)
    say(f"beta    gets GONE, {gone - killed:.2f} s after the kill (promised: {TOLD_WITHIN:g} s)")
    if gone - killed > TOLD_WITHIN + SLACK:
        raise DemoError(f"GONE came {gone - killed:.2f} s after the kill")

    started = time.monotonic()
    again = start_cpp_agent(environment)
    stack.callback(again.end)
    say(f"alpha   starts again, pid {again.pid}")
    restarted = beta.expect("RESTARTED alpha", PATIENCE, since=gone)
    again.expect("publish ok", PATIENCE)
    say(f"beta    gets RESTARTED, {restarted - started:.2f} s after alpha was started again")
    beta.expect("PUT alpha metadata", PATIENCE, since=restarted)

    ended = time.monotonic()
    again.end()
    gone = beta.expect("GONE alpha", PATIENCE, since=restarted)
    say(f"beta    gets GONE {gone - ended:.2f} s after SIGTERM: alpha withdrew cleanly")


def main() -> int:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    endpoint = os.environ.get("NIXL_ETCD_ENDPOINTS", "").strip()
    with ExitStack() as stack:
        try:
            if endpoint:
                say(f"etcd    {endpoint} (NIXL_ETCD_ENDPOINTS)")
            else:
                endpoint = stack.enter_context(private_etcd())
                say(f"etcd    private, at {endpoint}")
            wait_until_healthy(endpoint)
            # A namespace of its own: in an etcd that is not private the names may be taken.
            namespace = os.environ.get("NIXL_ETCD_NAMESPACE") or f"/nixl_md-demo/{os.getpid()}/"
            environment = {
                **os.environ,
                "NIXL_ETCD_ENDPOINTS": endpoint,
                "NIXL_ETCD_NAMESPACE": namespace,
                "PYTHONPATH": str(ROOT / "python"),
            }
            demonstrate(environment, stack)
        except DemoError as error:
            print(f"demo: FAILED: {error}", file=sys.stderr)
            return 1
    say("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
