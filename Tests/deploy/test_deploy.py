# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""examples/deploy against the schemas of Kubernetes, compose and systemd, and what these do not
say; its agent is run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from etcd_server import Etcd

TREE = Path(__file__).resolve().parents[2]
DEPLOY = TREE / "examples/deploy"
BIN = Path(sys.executable).parent
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
UNIT = DEPLOY / "systemd/nixl-md-agent@.service"
SECONDS = 60.0


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


def kubernetes(manifest: Path, version: str) -> subprocess.CompletedProcess[str]:
    return run(BIN / "kubernetes-validate", "--strict", "-k", version, manifest)


def compose(file: Path) -> subprocess.CompletedProcess[str]:
    return run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", file)


def systemd(unit: Path) -> subprocess.CompletedProcess[str]:
    return run("systemd-analyze", "verify", unit)


def drain() -> float:
    found = re.search(r"^DRAIN = ([\d.]+)$", (DEPLOY / "agent.py").read_text(), re.MULTILINE)
    assert found
    return float(found[1])


def edited(source: Path, directory: Path, before: str, after: str) -> Path:
    text = source.read_text()
    assert before in text
    path = directory / source.name
    path.write_text(text.replace(before, after))
    return path


@pytest.mark.parametrize("version", ["1.30", "1.37"])
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_kubernetes_accepts(manifest: Path, version: str) -> None:
    done = kubernetes(manifest, version)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("passed") + done.stderr.count("passed") == len(resources(manifest))


def test_kubernetes_refuses_an_unknown_field(tmp_path: Path) -> None:
    wrong = edited(MANIFESTS[0], tmp_path, "terminationGracePeriodSeconds", "terminationGrace")
    assert kubernetes(wrong, "1.30").returncode != 0


def test_compose_accepts() -> None:
    done = compose(DEPLOY / "compose.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_refuses_an_unknown_field(tmp_path: Path) -> None:
    wrong = edited(DEPLOY / "compose.yaml", tmp_path, "stop_grace_period", "stop_grace")
    assert compose(wrong).returncode != 0


def test_systemd_accepts() -> None:
    done = systemd(UNIT)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_refuses_an_unknown_setting(tmp_path: Path) -> None:
    done = systemd(edited(UNIT, tmp_path, "TimeoutStopSec=", "TimeoutStop="))
    assert "TimeoutStop" in done.stdout + done.stderr


def resources(manifest: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(manifest.read_text()))


def test_termination_grace_is_above_the_drain() -> None:
    manifest = resources(DEPLOY / "kubernetes/agents.yaml")
    (agents,) = [each for each in manifest if "template" in each["spec"]]
    seconds = [agents["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]]
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    seconds += [int(services[name]["stop_grace_period"].rstrip("s")) for name in ("alpha", "beta")]
    found = re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert found
    seconds.append(int(found[1]))
    assert min(seconds) >= 2 * drain()


@pytest.fixture
def etcd() -> Iterator[Etcd]:
    server = Etcd("3.4").start()
    try:
        server.wait_healthy()
        yield server
    finally:
        server.close()


def wait_for(output: Path, line: str) -> None:
    deadline = time.monotonic() + SECONDS
    while line not in output.read_text().splitlines():
        assert time.monotonic() < deadline, f"no '{line}' in:\n{output.read_text()}"
        time.sleep(0.05)


def test_agent_withdraws_on_sigterm_within_its_drain(etcd: Etcd, tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "agent.py", tmp_path)
    agents = {}
    try:
        for name in ("alpha", "beta"):
            environment = {
                **os.environ,
                "PYTHONPATH": str(TREE / "python"),
                "AGENT_NAME": name,
                "NIXL_ETCD_ENDPOINTS": etcd.endpoint,
            }
            with (tmp_path / name).open("wb") as stream:
                command = [sys.executable, str(tmp_path / "agent.py")]
                agents[name] = subprocess.Popen(
                    command, env=environment, stdout=stream, stderr=stream
                )
        for name in agents:
            wait_for(tmp_path / name, "PRESENT alpha")
            wait_for(tmp_path / name, "PRESENT beta")
        begin = time.monotonic()
        agents["alpha"].send_signal(signal.SIGTERM)
        assert agents["alpha"].wait(SECONDS) == 0, (tmp_path / "alpha").read_text()
        assert time.monotonic() - begin < 2 * drain()
        wait_for(tmp_path / "beta", "GONE alpha")
        assert not [key for key in etcd.gateway.keys(b"/nixl/agents/") if b"alpha" in key]
    finally:
        for process in agents.values():
            process.kill()
            process.wait()
