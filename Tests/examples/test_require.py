# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A machine that lacks something, and cannot install it: what is missing is named, and what to do
about it, and nothing else is."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from conftest import TREE, Restricted, clean_environment

INSTALLERS = ("apt-get", "sudo")
NO_SWIFT = (
    "missing: Swift 6.3 or newer. Install the toolchain for this system from "
    "https://www.swift.org/install/linux/ and put its usr/bin into PATH.\n"
)
NO_ETCD = "missing: etcd. On Debian: apt-get install etcd-server\n"


def run(path: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Ended with all that it has started when it does not refuse, as it must, at once."""
    process = subprocess.Popen(
        command,
        cwd=TREE,
        env=clean_environment(PATH=str(path), **environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def told(done: subprocess.CompletedProcess[str]) -> str:
    """Its complaints, without make's own lines."""
    return re.sub(r"(?m)^make.*\n", "", done.stderr)


@pytest.mark.parametrize("target", ["demo", "test", "unit"])
def test_without_swift(restricted: Restricted, target: str) -> None:
    done = run(restricted("swift", *INSTALLERS), "make", target)
    assert done.returncode != 0
    assert told(done) == NO_SWIFT


def test_demo_without_etcd(restricted: Restricted) -> None:
    done = run(restricted("etcd", *INSTALLERS), "make", "demo")
    assert done.returncode != 0
    assert told(done) == "apt-get could not install: etcd-server\n" + NO_ETCD


def test_demo_itself_without_etcd(restricted: Restricted) -> None:
    done = run(restricted("etcd"), "python3", "examples/demo.py", PYTHONPATH="python")
    assert done.returncode == 1
    assert done.stderr == (
        "demo: etcd is missing. Install it (Debian: apt-get install etcd-server), or set "
        "NIXL_ETCD_ENDPOINTS to one that runs\n"
    )


def test_tests_without_etcd(restricted: Restricted) -> None:
    done = run(restricted("etcd", *INSTALLERS), "make", "test")
    assert done.returncode != 0
    assert told(done) == (
        "apt-get could not install: etcd-client etcd-server\n"
        "missing: etcdctl etcd. On Debian: apt-get install etcd-client etcd-server\n"
    )


def test_without_swift_and_etcd_names_both(restricted: Restricted) -> None:
    """Both at once; and nothing is installed where the command cannot succeed."""
    path = restricted("swift", "etcd")
    done = run(path, "tools/require", "--install", "swift", "etcd")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == NO_SWIFT + NO_ETCD


def test_swift_that_is_too_old(restricted: Restricted) -> None:
    path = restricted("swift", *INSTALLERS)
    (path / "swift").write_text("#!/bin/sh\necho 'Swift version 5.9.2 (swift-5.9.2-RELEASE)'\n")
    (path / "swift").chmod(0o755)
    done = run(path, "tools/require", "swift")
    assert done.returncode == 1
    assert done.stderr == (
        f"too old: {path}/swift is Swift 5.9.2, needed is 6.3 or newer: "
        "https://www.swift.org/install/linux/\n"
    )


def test_swift_that_does_not_start(restricted: Restricted) -> None:
    """The output has Swift's own words and the packages that it needs."""
    path = restricted("swift", *INSTALLERS)
    error = "swift: error while loading shared libraries: libncurses.so.6: cannot open"
    (path / "swift").write_text(f"#!/bin/sh\necho '{error}' >&2\nexit 127\n")
    (path / "swift").chmod(0o755)
    done = run(path, "tools/require", "--install", "swift")
    assert done.returncode == 1
    packages = "libncurses6 libsqlite3-0 libxml2"
    assert done.stderr == (
        f"apt-get could not install: {packages}\n"
        f"missing: what Swift itself needs. On Debian: apt-get install {packages}. "
        f"{path}/swift says:\n{error}\n"
    )
