# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The example of nixl_md.nixl keeps its promises; what it says about the environment holds too."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import capi
from conftest import PeerFactory, interpreter
from etcd_server import Etcd
from fixtures import TREE

EXAMPLE = TREE / "examples" / "nixl_transfer.py"


def environment(**more: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(TREE / "python"),
        "NIXL_MD_LIBRARY": str(capi.library_path()),
        **more,
    }


def test_transfer(peers: PeerFactory, etcd34: Etcd, tmp_path: Path) -> None:
    """It kills the owner twice, checks every byte that was read, and ends with an error if not."""
    log = tmp_path / "log"
    with log.open("wb") as output:
        # A session of its own: whatever goes wrong, what it started can be ended with it.
        process = subprocess.Popen(
            [interpreter(peers.version), EXAMPLE],
            env=environment(NIXL_ETCD_ENDPOINTS=etcd34.endpoint),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            status = process.wait(120)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    text = log.read_text(errors="replace")
    assert status == 0, text
    assert "called nothing but its loop" in text
    assert text.rstrip().endswith("done")


def test_environment_that_starts_both_layers_is_refused(peers: PeerFactory, etcd34: Etcd) -> None:
    """And take_endpoints() is the way out."""
    script = """
from nixl_md.nixl import NixlMetadata, take_endpoints
from nixl_cu12._api import nixl_agent, nixl_agent_config
agent = nixl_agent("alpha", nixl_agent_config(enable_prog_thread=False))
try:
    NixlMetadata(agent)
except ValueError as error:
    print("refused:", error)
with NixlMetadata(agent, endpoints=take_endpoints(), namespace="/refused/") as metadata:
    metadata.run_until(lambda: metadata.is_published, 10)
    print("published")
"""
    process = subprocess.run(
        [interpreter(peers.version), "-c", script],
        env=environment(NIXL_ETCD_ENDPOINTS=etcd34.endpoint),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert process.returncode == 0, process.stderr
    lines = [line for line in process.stdout.splitlines() if line.startswith(("refused", "publ"))]
    assert lines[0].startswith("refused: NIXL_ETCD_ENDPOINTS is set")
    assert lines[1] == "published"
