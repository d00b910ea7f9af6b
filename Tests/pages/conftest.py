# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A place where the commands of a page run: what its reader has, and an etcd of the page's own."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import pytest

from etcd_server import VERSIONS, Etcd, control_binary
from fixtures import TREE

HERE = Path(__file__).resolve().parent
# Only a block that hangs takes so long. Beside 20 busy processes one took more than 2 minutes.
PATIENCE = 900.0
# The endpoints that pages use for etcd.
NAMED = re.compile(r"etcd-0:2379,etcd-1:2379,etcd-2:2379|127\.0\.0\.1:2379")


def clean_environment() -> dict[str, str]:
    ours = ("NIXL_", "ETCD", "MAKE", "MFLAGS", "PYTHON", "PYTEST", "COLUMNS", "LINES")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


class Place:
    """The directory in which a page's reader works."""

    def __init__(self, directory: Path, prefix: Path) -> None:
        self.directory = directory
        self.prefix = prefix
        self._etcd: Etcd | None = None
        self._running: list[subprocess.Popen[bytes]] = []
        self._outputs = 0
        for name in ("build", "include", "python", "examples"):
            (directory / name).symlink_to(TREE / name)
        programs = directory / "bin"
        programs.mkdir()
        (programs / "etcdctl").symlink_to(control_binary(VERSIONS[-1]))
        python = shlex.quote(sys.executable)
        for program, arguments in (("python3", ""), ("nixl-md", " -m nixl_md.cli")):
            (programs / program).write_text(f'#!/bin/sh\nexec {python}{arguments} "$@"\n')
            (programs / program).chmod(0o755)

    @cached_property
    def endpoint(self) -> str:
        """The etcd is started for the first block that needs it."""
        self._etcd = Etcd(VERSIONS[-1])
        self._etcd.start().wait_healthy()
        return f"127.0.0.1:{self._etcd.port}"

    @property
    def etcd(self) -> Etcd:
        assert self.endpoint
        assert self._etcd is not None
        return self._etcd

    @cached_property
    def environment(self) -> dict[str, str]:
        libraries = next(self.prefix.glob("lib*/**/libnixl_md.so")).parent
        return {
            **clean_environment(),
            "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(TREE / "python"),
            "NIXL_ETCD_ENDPOINTS": self.endpoint,
            "ETCDCTL_API": "3",
            "ETCDCTL_ENDPOINTS": self.endpoint,
            "PKG_CONFIG_PATH": str(libraries / "pkgconfig"),
            "CMAKE_PREFIX_PATH": str(self.prefix),
            "LD_LIBRARY_PATH": str(libraries),
            # Of Go.
            "GOCACHE": str(self.prefix.parent / "go-cache"),
            "GOFLAGS": "-mod=mod",
            "GOPROXY": "off",
        }

    def written(self, text: str) -> str:
        """With this place's etcd, files and patience instead of those that the page names. A
        command whose status is printed may fail."""
        text = NAMED.sub(self.endpoint, text).replace("/var/tmp/", "./")
        return text.replace("--observe 60s", "--observe 1s").replace("; echo $?\n", " || echo $?\n")

    def run(self, command: list[str], *, checkout: bool = False, status: int | None = 0) -> str:
        """Runs it to its end; what it printed."""
        done = subprocess.run(
            command,
            cwd=TREE if checkout else self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert status in (None, done.returncode), f"{command}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def start(self, command: list[str], pattern: str, *, checkout: bool = False) -> str:
        """Waits until it prints this; it runs on until the page is done. Returns the output."""
        self._outputs += 1
        output = self.directory / f"output-{self._outputs}"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                # As on a terminal, a line at a time.
                ["stdbuf", "-oL", *command],
                cwd=TREE if checkout else self.directory,
                env={**self.environment, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        self._running.append(process)
        deadline = time.monotonic() + PATIENCE
        while not re.search(pattern, told := output.read_text(errors="replace")):
            assert process.poll() is None, f"{command} has ended: {told}"
            assert time.monotonic() < deadline, f"no '{pattern}' from {command}: {told}"
            time.sleep(0.05)
        return told

    def companions(self, *names: str) -> None:
        """Starts agents of these names; without any, the fleet of the pages of nixl-md."""
        self.start([sys.executable, str(HERE / "fleet.py"), *names], "there")

    def fleet(self) -> None:
        """Agents in each state that the pages show."""
        gateway = self.etcd.gateway
        self.companions()
        base = b"/nixl/agents//"
        head = b"....nixlSerDes|.7t|<......i...tZ".replace(b".", b"\x01")
        for name in (b"decode-old", b"router"):
            gateway.put(base + name + b"/", b"")
            gateway.put(base + name + b"/metadata", head.ljust(416, b"z"))
        gateway.put(base + b"prefill-7/metadata", b"x" * 400)
        gateway.put(b"/nixl/agents/stray/", b"")
        (self.directory / "router").symlink_to(HERE / "frames" / "router")

    def close(self) -> None:
        for process in self._running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if self._etcd is not None:
            self._etcd.close()


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library as `make install` leaves it, once for all workers of a run."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    place = shared / "installed"
    with (shared / "installed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            command = ["make", "-C", str(TREE), "install", f"PREFIX={place}", "DESTDIR="]
            done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.fixture
def places(tmp_path: Path, prefix: Path) -> Iterator[Callable[[], Place]]:
    place = Place(tmp_path, prefix)
    try:
        yield lambda: place
    finally:
        place.close()
