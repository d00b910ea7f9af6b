# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Each example of an agent, as examples/README.md starts it, with another one as its peer."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import TREE, clean_environment
from etcd_server import Etcd

EXAMPLES = {
    "cpp_agent": ["build/examples/cpp_agent"],
    "cpp_epoll": ["build/examples/cpp_epoll"],
    "cpp_libuv": ["build/examples/cpp_libuv"],
    "cpp_asio": ["build/examples/cpp_asio"],
    "cpp_progress": ["build/examples/cpp_progress"],
    "python_agent": [sys.executable, "examples/python_agent.py"],
    "python_asyncio": [sys.executable, "examples/python_asyncio.py"],
}
PAIRS = [
    ("cpp_agent", "python_asyncio"),
    ("cpp_epoll", "python_agent"),
    ("python_asyncio", "cpp_epoll"),
    ("python_agent", "cpp_agent"),
    ("cpp_libuv", "cpp_asio"),
    ("cpp_asio", "cpp_progress"),
    ("cpp_progress", "cpp_libuv"),
]
SECONDS = 60.0


class Example:
    """An agent that runs; its output goes into a file."""

    def __init__(self, program: str, name: str, peer: str, etcd: Etcd, output: Path) -> None:
        self.name = name
        self.output = output
        command = [*EXAMPLES[program], "--name", name, "--peer", peer]
        environment = clean_environment(
            NIXL_ETCD_ENDPOINTS=f"127.0.0.1:{etcd.port}",
            NIXL_ETCD_NAMESPACE=f"/examples/{output.parent.name}/",
            PYTHONPATH="python",
        )
        with output.open("wb") as stream:
            self.process = subprocess.Popen(
                command, cwd=TREE, env=environment, stdout=stream, stderr=stream
            )

    def expect(self, line: str, seconds: float = SECONDS) -> float:
        """Waits until it has printed this line; how long that took."""
        begin = time.monotonic()
        while line not in self.output.read_text().splitlines():
            told = self.output.read_text()
            assert self.process.poll() is None, f"{self.name} has ended: {told}"
            assert time.monotonic() - begin < seconds, f"{self.name}: no '{line}' in:\n{told}"
            time.sleep(0.02)
        return time.monotonic() - begin

    def end(self, number: signal.Signals) -> str:
        """Ends it cleanly; returns all of its output."""
        self.process.send_signal(number)
        assert self.process.wait(SECONDS) == 0, self.output.read_text()
        return self.output.read_text()


@contextmanager
def ended(*examples: Example) -> Iterator[None]:
    try:
        yield
    finally:
        for example in examples:
            example.process.kill()
            example.process.wait()


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_agents_meet(etcd: Etcd, tmp_path: Path, first: str, second: str) -> None:
    prefix = f"/examples/{tmp_path.name}/".encode()
    alpha = Example(first, "alpha", "beta", etcd, tmp_path / "alpha")
    beta = Example(second, "beta", "alpha", etcd, tmp_path / "beta")
    with ended(alpha, beta):
        for one, peer in ((alpha, "beta"), (beta, "alpha")):
            one.expect(f"fetched metadata of {peer}")
            one.expect(f"PUT {peer} metadata {len(f'metadata of {peer}')}")
        found = {kv.key: (kv.value, kv.lease) for kv in etcd.gateway.range(prefix)}
        leases = {found[prefix + b"/%s/" % name][1] for name in (b"alpha", b"beta")}
        assert len(leases - {0}) == 2, "not each under a lease of its own"
        for name in (b"alpha", b"beta"):
            presence = found.pop(prefix + b"/%s/" % name)
            assert found.pop(prefix + b"/%s/metadata" % name) == (
                b"metadata of " + name,
                presence[1],
            )
        assert not found
        told = alpha.end(signal.SIGINT)
        assert etcd.gateway.keys(prefix + b"/alpha/") == []
        beta.expect("GONE alpha  0")
        assert "GONE" not in told
        told = beta.end(signal.SIGTERM)
        assert told.count("GONE") == 1
        assert etcd.gateway.keys(prefix) == []


@pytest.mark.parametrize("program", EXAMPLES)
def test_wrong_arguments(program: str) -> None:
    done = subprocess.run(
        [*EXAMPLES[program], "--name", "alpha"],
        cwd=TREE,
        env=clean_environment(PYTHONPATH="python"),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert "--peer" in done.stderr
