# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures: real etcd servers, real host processes, and what is asserted about each of them.

For every suite that runs hosts against etcd; the conftest.py of each names those that it uses.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import capi
import libcurl
import memcheck
from etcd_server import VERSIONS, Etcd
from hosts import Host, check_host, python_command

HERE = Path(__file__).resolve().parent
TREE = HERE.parents[1]


@pytest.fixture(scope="session")
def library() -> Path:
    path = capi.library_path()
    assert path.is_file(), f"{path} is missing: run make, or set NIXL_MD_LIBRARY"
    return path


@pytest.fixture(scope="session")
def host_binary(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C++ host, built once for all workers of a run."""
    base = tmp_path_factory.getbasetemp()
    # With pytest-xdist each worker's base is a directory in the run's own.
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    binary = shared / "host"
    with (shared / "host.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            _build_host(library, binary)
    return binary


def _build_host(library: Path, binary: Path) -> None:
    include = os.environ.get("NIXL_MD_INCLUDE", str(TREE / "include"))
    temporary = binary.with_suffix(".new")
    command = [
        os.environ.get("CXX", "c++"),
        *("-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-I", include),
        *memcheck.build_flags(),
        *(str(source) for source in sorted((HERE.parent / "hosts").glob("*.cpp"))),
        *("-o", str(temporary), str(library)),
        *libcurl.link_flags(),
    ]
    subprocess.run(command, check=True)
    temporary.rename(binary)


class HostFactory:
    """Starts hosts; each is checked and ended when the test ends."""

    def __init__(self, binary: Path, directory: Path, soname_directory: Path) -> None:
        self._binary = binary
        self._directory = directory
        self._soname_directory = soname_directory
        self._started: list[tuple[Host, bool, Path]] = []

    def __call__(
        self,
        language: str = "cpp",
        *,
        environment: dict[str, str] | None = None,
        prefix: tuple[str, ...] = (),
        is_quiet: bool = True,
    ) -> Host:
        number = len(self._started)
        if language == "cpp":
            command = [*memcheck.prefix(number, self._directory.name), str(self._binary)]
        else:
            command = python_command()
            environment = {**memcheck.python_environment(), **(environment or {})}
        stderr = self._directory / f"stderr-{number}"
        host = Host(
            [*prefix, *command],
            {"LD_LIBRARY_PATH": str(self._soname_directory), **(environment or {})},
            stderr,
        )
        self._started.append((host, is_quiet, stderr))
        return host

    def stderr(self, host: Host) -> str:
        """Its output so far."""
        path = next(path for started, _, path in self._started if started is host)
        return path.read_text(errors="replace")

    def end(self) -> None:
        for host, _, _ in self._started:
            host.quit()

    def check(self) -> None:
        for number, (host, is_quiet, stderr) in enumerate(self._started):
            check_host(host, is_quiet, stderr)
            memcheck.check(number, self._directory.name)


@pytest.fixture(scope="session")
def soname_directory(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the loader finds the library under its soname, installed or not."""
    directory = tmp_path_factory.mktemp("soname")
    (directory / "libnixl_md.so.0").symlink_to(library)
    return directory


@pytest.fixture
def hosts(host_binary: Path, soname_directory: Path, tmp_path: Path) -> Iterator[HostFactory]:
    factory = HostFactory(host_binary, tmp_path, soname_directory)
    try:
        yield factory
    finally:
        factory.end()
    factory.check()


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[str], Etcd]]:
    """One server of each version for the tests that leave it as it is."""
    running: dict[str, Etcd] = {}

    def server(version: str) -> Etcd:
        if version not in running:
            running[version] = Etcd(version)
            running[version].start().wait_healthy()
        return running[version]

    yield server
    for etcd in running.values():
        etcd.close()


@pytest.fixture(params=VERSIONS)
def etcd(request: pytest.FixtureRequest, servers: Callable[[str], Etcd]) -> Etcd:
    """A server shared with other tests; use a namespace of your own. One of each version."""
    return servers(request.param)


@pytest.fixture
def etcd34(servers: Callable[[str], Etcd]) -> Etcd:
    """As `etcd`, where the version makes no difference."""
    return servers(VERSIONS[0])


class EtcdFactory:
    """Starts servers that a test may kill, freeze, wipe or configure."""

    def __init__(self) -> None:
        self._started: list[Etcd] = []

    def __call__(self, version: str = VERSIONS[0], *flags: str, **options: Any) -> Etcd:
        etcd = self.unstarted(version, *flags, **options)
        etcd.start().wait_healthy()
        return etcd

    def unstarted(self, version: str = VERSIONS[0], *flags: str, **options: Any) -> Etcd:
        etcd = Etcd(version, *flags, **options)
        self._started.append(etcd)
        return etcd

    def close(self) -> None:
        for etcd in self._started:
            etcd.close()


@pytest.fixture
def own_etcd() -> Iterator[EtcdFactory]:
    factory = EtcdFactory()
    try:
        yield factory
    finally:
        factory.close()


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def namespace() -> bytes:
    """A namespace that no other test uses."""
    return f"/test-{uuid.uuid4().hex[:12]}/".encode()
