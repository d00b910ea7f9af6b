# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""`make demo`: what it shows, with an etcd of its own and with one that is given."""

from __future__ import annotations

import re
import socket
import subprocess

import pytest

from conftest import TREE, Restricted, clean_environment
from etcd_server import Etcd

TTL = 5
SLACK = 10.0
# In this order, each line begins with its time.
TIMELINE = [
    r"etcd    (.+)",
    r"beta    Python, pid (\d+): publishes, watches alpha",
    r"alpha   C\+\+, pid (\d+): publishes under a lease of 5 s",
    r"beta    has alpha's metadata, (\d+\.\d+) s",
    r"alpha   has beta's metadata",
    r"both    live on past the TTL",
    r"alpha   SIGKILL to pid (\d+)",
    r"beta    gets GONE, (\d+\.\d+) s after the kill \(promised: 7 s\)",
    r"alpha   starts again, pid (\d+)",
    r"beta    gets RESTARTED, (\d+\.\d+) s",
    r"beta    gets GONE (\d+\.\d+) s after SIGTERM",
    r"done",
]


def demonstrate(environment: dict[str, str]) -> list[re.Match[str]]:
    """The lines of its timeline."""
    done = subprocess.run(
        ["make", "demo"], cwd=TREE, env=environment, capture_output=True, text=True, timeout=600
    )
    print(done.stdout)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if re.match(r" *\d+\.\d{3} s  ", line)]
    assert len(lines) == len(TIMELINE), done.stdout
    times = [float(line.split()[0]) for line in lines]
    assert times == sorted(times)
    found = []
    for line, pattern in zip(lines, TIMELINE, strict=True):
        match = re.match(r" *\d+\.\d{3} s  " + pattern, line)
        assert match, f"'{line}' is not '{pattern}'"
        found.append(match)
    assert found[6][1] == found[2][1], "another process was killed"
    gone = float(found[7][1])
    # The machine may be busy with something else.
    assert 1 < gone <= TTL + 2 + SLACK
    assert times[7] - times[6] == pytest.approx(gone, abs=SLACK / 2)
    return found


def test_demo_with_a_private_etcd() -> None:
    found = demonstrate(clean_environment())
    private = re.fullmatch(r"private, at http://127\.0\.0\.1:(\d+)", found[0][1])
    assert private, found[0][1]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(private[1]))) != 0, "its etcd is still there"


def test_demo_with_a_given_etcd(etcd: Etcd, restricted: Restricted) -> None:
    """On a machine that has no etcd of its own."""
    path = restricted("etcd", "apt-get", "sudo")
    before = etcd.gateway.keys(b"/")
    environment = clean_environment(NIXL_ETCD_ENDPOINTS=etcd.endpoint, PATH=str(path))
    found = demonstrate(environment)
    assert found[0][1] == f"{etcd.endpoint} (NIXL_ETCD_ENDPOINTS)"
    assert etcd.gateway.keys(b"/") == before, "it has left something behind"
