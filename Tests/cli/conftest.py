# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The tool as an operator runs it, against real etcd."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from etcd_server import Etcd
from figures import Figure, figure, machine, print_figures
from fixtures import TREE, EtcdFactory, etcd, etcd34, library, namespace, own_etcd, servers, version
from gateway import Gateway
from screen import Screen

# No answer takes so long on a machine that has anything left.
PATIENCE = 120.0


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    print_figures(terminalreporter)


@dataclass(frozen=True)
class Answer:
    """The result of a run of the tool."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def clean_environment(**more: str) -> dict[str, str]:
    """Without what says where etcd is, or how output looks."""
    dropped = ("NIXL_", "ETCDCTL_", "ETCD_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    kept["PYTHONPATH"] = str(TREE / "python")
    return {**kept, **more}


def interruptible() -> None:
    """In a child: where the suite runs in the background of a script, Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Tool:
    """Runs `nixl-md` for one etcd and namespace."""

    def __init__(self, library: Path, etcd: Etcd | None = None, namespace: bytes = b"") -> None:
        self.environment = clean_environment(NIXL_MD_LIBRARY=str(library))
        if etcd is not None:
            self.environment["NIXL_ETCD_ENDPOINTS"] = etcd.own_endpoint
        if namespace:
            self.environment["NIXL_ETCD_NAMESPACE"] = os.fsdecode(namespace)

    @staticmethod
    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "nixl_md.cli", *arguments]

    def __call__(self, *arguments: str, status: int | None = 0, **environment: Any) -> Answer:
        done = subprocess.run(
            self.command(*arguments),
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
        )
        out = done.stdout.decode("utf-8", "surrogateescape")
        answer = Answer(done.returncode, out, done.stderr.decode("utf-8", "replace"))
        assert status is None or answer.status == status, answer
        assert "Traceback" not in answer.err, answer.err
        return answer

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=interruptible,
        )


ToolFactory = Callable[..., Tool]


@pytest.fixture
def tool_for(library: Path) -> ToolFactory:
    def make(etcd: Etcd | None = None, namespace: bytes = b"") -> Tool:
        return Tool(library, etcd, namespace)

    return make


@pytest.fixture
def tool(library: Path, etcd: Etcd, namespace: bytes) -> Tool:
    """For a server shared with other tests, one of each version."""
    return Tool(library, etcd, namespace)


class Plants:
    """Puts agents of each kind into a namespace."""

    def __init__(self, gateway: Gateway, namespace: bytes) -> None:
        self.gateway = gateway
        self.namespace = namespace

    def key(self, agent: str, label: str = "") -> bytes:
        return self.namespace + f"/{agent}/{label}".encode()

    def lease(self, ttl: int = 600, identity: int = 0) -> int:
        body = {"TTL": str(ttl), "ID": str(identity)}
        return int(self.gateway.call("/v3/lease/grant", body)["ID"])

    def never_ending(self) -> int:
        """As nixl_md grants it: the lowest bit of the id is set."""
        return self.lease(9_000_000_000, int.from_bytes(os.urandom(7), "big") | 1)

    def agent(
        self, name: str, lease: int = 0, blob: bytes = b"blob", label: str = "metadata"
    ) -> int:
        pairs = [(self.key(name), b""), (self.key(name, label), blob)]
        return self.gateway.put_all(pairs, lease)

    def orphan(self, name: str) -> int:
        return self.gateway.put(self.key(name, "metadata"), b"left behind")

    def mixed(self, name: str, lease: int) -> None:
        self.gateway.put(self.key(name), b"", lease)
        self.gateway.put(self.key(name, "metadata"), b"not on the lease")


@pytest.fixture
def plants(etcd: Etcd, namespace: bytes) -> Plants:
    return Plants(etcd.gateway, namespace)


@pytest.fixture
def screens(tmp_path: Path) -> Iterator[Callable[..., Screen]]:
    started: list[Screen] = []

    def make(environment: dict[str, str], columns: int = 100, lines: int = 30) -> Screen:
        started.append(Screen(tmp_path / f"tmux-{len(started)}", environment, columns, lines))
        return started[-1]

    yield make
    for screen in started:
        screen.close()


__all__ = [
    "TREE",
    "EtcdFactory",
    "Figure",
    "etcd",
    "etcd34",
    "figure",
    "library",
    "machine",
    "namespace",
    "own_etcd",
    "servers",
    "version",
]
