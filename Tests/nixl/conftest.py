# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Agents of the real NIXL, each in a process of its own, beside hosts of libnixl_md."""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from etcd_server import Etcd
from figures import Figure, figure, machine, print_figures
from fixtures import (
    TREE,
    EtcdFactory,
    HostFactory,
    etcd34,
    host_binary,
    hosts,
    library,
    namespace,
    own_etcd,
    servers,
    soname_directory,
)
from hosts import Host

HERE = Path(__file__).resolve().parent
WHEELS = Path(os.environ.get("NIXL_MD_BUILD", TREE / "build")) / "nixl"
# The longest wait for anything that needs no lease to end; it takes much less, except on a machine
# under load. Promised times are checked by `figure`.
SOON = 30.0
# The time that etcd takes to notice that a lease has run out, and to remove its keys.
EXPIRY = 2
# A stock peer's watch, which is known only by the number that etcd has.
WATCH_SECONDS = 5.0
VERSIONS = (os.environ.get("NIXL_VERSIONS") or (HERE / "versions").read_text()).split()
# Wheels for other versions of CUDA, for tests of NIXL's own code.
MORE_VERSIONS = (
    os.environ.get("NIXL_MORE_VERSIONS") or (HERE / "more_versions").read_text()
).split()


def interpreter(version: str) -> Path:
    """The Python that has this version of the wheel."""
    python = WHEELS / version / "bin" / "python"
    assert python.exists(), f"{python} is missing: run make test-nixl, which installs the wheel"
    return python


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    print_figures(terminalreporter)


class PeerFactory:
    """Starts agents of one version of NIXL; they are ended when the test ends."""

    def __init__(self, version: str, directory: Path) -> None:
        self.version = version
        self._directory = directory
        self._started: list[Host] = []

    def __call__(
        self,
        kind: str,
        name: str,
        etcd: Etcd | None = None,
        namespace: bytes | None = None,
        **environment: str,
    ) -> Host:
        """An agent of one of the kinds of peer.py; `namespace` None is NIXL's built-in one."""
        if etcd is not None:
            environment["NIXL_ETCD_ENDPOINTS"] = etcd.endpoint
        if namespace is not None:
            environment["NIXL_ETCD_NAMESPACE"] = namespace.decode()
        host = Host(
            [str(interpreter(self.version)), str(HERE / "peer.py"), kind, name],
            {"PYTHONPATH": str(TREE / "python"), "NIXL_LOG_LEVEL": "DEBUG", **environment},
            self.stderr(len(self._started)),
        )
        self._started.append(host)
        return host

    def stderr(self, number: int) -> Path:
        return self._directory / f"nixl-{number}"

    def log(self, host: Host) -> str:
        """An agent's log so far."""
        return self.stderr(self._started.index(host)).read_text(errors="replace")

    def end(self) -> None:
        for host in self._started:
            host.quit()


# A test takes MORE_VERSIONS as well by parametrizing this.
@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def peers(version: str, library: Path, tmp_path: Path) -> Iterator[PeerFactory]:
    factory = PeerFactory(version, tmp_path)
    try:
        yield factory
    finally:
        factory.end()


def eventually(is_so: Callable[[], bool], within: float, what: str) -> float:
    """Asks until it is so; how long it took."""
    start = time.monotonic()
    while not is_so():
        assert time.monotonic() - start < within, f"not within {within} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - start


def has_loaded(host: Host, agent: str) -> bool:
    """Whether NIXL itself has the metadata of an agent."""
    return bool(host.do("check", agent=quote(agent))["is_there"])


def wait_loaded(host: Host, agent: str, within: float = SOON) -> None:
    """Waits until NIXL has the metadata."""
    eventually(lambda: has_loaded(host, agent), within, f"{agent} is loaded")


def watches(etcd: Etcd) -> int:
    """How many watches etcd has open."""
    with urllib.request.urlopen(f"{etcd.endpoint}/metrics", timeout=SOON) as answer:
        lines = answer.read().decode().splitlines()
    name = "etcd_debugging_mvcc_watcher_total "
    return next(int(float(line.split()[1])) for line in lines if line.startswith(name))


def load_in_stock(stock: Host, etcd: Etcd, agent: str, label: str = "") -> None:
    """Lets NIXL's own etcd layer fetch what is there, and waits until it has loaded it and watches:
    it begins to watch after it has loaded, and what is deleted in between is lost to it."""
    fewest = watches(etcd)
    stock.do("fetch", agent=quote(agent), label=label or None)
    wait_loaded(stock, agent)
    deadline = time.monotonic() + WATCH_SECONDS
    # A watch of an earlier test that ends meanwhile may hide the new one: hence the deadline.
    while (now := watches(etcd)) <= fewest and time.monotonic() < deadline:
        fewest = min(fewest, now)
        time.sleep(0.02)


def wait_dropped(host: Host, agent: str, within: float = SOON) -> float:
    return eventually(lambda: not has_loaded(host, agent), within, f"{agent} is dropped")


def blob_of(host: Host) -> bytes:
    """The result of get_agent_metadata() there."""
    return bytes.fromhex(host.do("blob")["blob"])


__all__ = [
    "EXPIRY",
    "MORE_VERSIONS",
    "SOON",
    "VERSIONS",
    "EtcdFactory",
    "Figure",
    "HostFactory",
    "PeerFactory",
    "blob_of",
    "etcd34",
    "eventually",
    "figure",
    "has_loaded",
    "host_binary",
    "hosts",
    "interpreter",
    "library",
    "load_in_stock",
    "machine",
    "namespace",
    "own_etcd",
    "servers",
    "soname_directory",
    "wait_dropped",
    "wait_loaded",
]
