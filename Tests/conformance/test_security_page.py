# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""docs/security.md: its commands do what the page says, run as they stand."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
from pathlib import Path

import capi
from conftest import EtcdFactory, HostFactory
from etcd_server import control_binary
from fixtures import TREE

PAGE = TREE / "docs" / "security.md"
NS = b"/nixl/agents/"
AGENT = {"user": b"agent", "password": b"agents-password"}
OBSERVER = {"user": b"observer", "password": b"observers-password"}


def run(name: str, directory: Path, **environment: str) -> None:
    """Runs the block that the page calls `name`."""
    found = re.search(rf"<!-- test \S+ {name} -->\n```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found, f"{PAGE} has no block '{name}'"
    subprocess.run(
        ["sh", "-eu", "-c", found[1]],
        cwd=directory,
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )


def test_roles(hosts: HostFactory, own_etcd: EtcdFactory, tmp_path: Path, version: str) -> None:
    etcd = own_etcd(version)
    (tmp_path / "etcdctl").symlink_to(control_binary(version))
    path = f"{tmp_path}:{os.environ['PATH']}"
    run("roles", tmp_path, PATH=path, ETCDCTL_API="3", ETCDCTL_ENDPOINTS=etcd.endpoint)
    agent, observer, stranger = hosts(), hosts(), hosts()
    agent.open(etcd.endpoint, NS, agent=b"alpha", **AGENT)
    agent.succeed("start_heartbeat", interval=1000, ttl=5000)
    agent.succeed("publish", label=b"l", blob=b"b")
    observer.open(etcd.endpoint, NS, agent=b"beta", **OBSERVER)
    assert observer.succeed("fetch", agent=b"alpha", label=b"l")["blob"] == b"b".hex()
    refused = observer.finish("publish", label=b"l", blob=b"b")
    assert refused["status"] == capi.PERMISSION
    stranger.open(etcd.endpoint, b"/other/", agent=b"gamma", **AGENT)
    refused = stranger.finish("publish", label=b"l", blob=b"b")
    assert refused["status"] == capi.PERMISSION
    agent.succeed("invalidate")


def test_certificates(
    hosts: HostFactory, own_etcd: EtcdFactory, tmp_path: Path, version: str
) -> None:
    run("certificates", tmp_path)
    context = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
    context.load_cert_chain(str(tmp_path / "agent.pem"), str(tmp_path / "agent.key"))
    flags = [
        *("--cert-file", str(tmp_path / "etcd.pem"), "--key-file", str(tmp_path / "etcd.key")),
        *("--client-cert-auth", "--trusted-ca-file", str(tmp_path / "authority.pem")),
    ]
    etcd = own_etcd(version, *flags, tls=context)
    with_certificate, without = hosts(), hosts()
    files = {
        "ca_file": str(tmp_path / "authority.pem").encode(),
        "cert_file": str(tmp_path / "agent.pem").encode(),
        "key_file": str(tmp_path / "agent.key").encode(),
    }
    with_certificate.open(etcd.endpoint, NS, agent=b"alpha", **files)
    with_certificate.succeed("publish", label=b"l", blob=b"b")
    without.open(etcd.endpoint, NS, agent=b"beta", ca_file=files["ca_file"])
    refused = without.finish("fetch", agent=b"alpha", label=b"l", timeout=1000)
    assert refused["status"] == capi.TIMED_OUT


def test_everyRow_namesATestThatExists() -> None:
    """SECURITY.md: what is said to hold is shown. Where nothing holds there is nothing to show."""
    names = {
        name
        for pattern in ("*.py", "*.swift")
        for path in (TREE / "Tests").rglob(pattern)
        for name in re.findall(r"\b(?:def|func) (\w+)", path.read_text())
    }
    rows = []
    for line in (TREE / "SECURITY.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 3 or not line.startswith("| ") or cells[2] == "test":
            continue
        rows.append(cells)
        if cells[1].startswith("nothing:"):
            continue
        told = re.findall(r"`([\w./]+)`", cells[2])
        assert told, f"no test: {line}"
        for name in told:
            is_place = (TREE / name).exists() or (TREE / "Tests/conformance" / name).exists()
            assert is_place or name in names, f"there is no {name}: {line}"
    assert len(rows) > 15
