# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The example of nixl_md.nixl keeps its promises; what it says about the environment holds too."""

from __future__ import annotations

import functools
import json
import os
import pickle
import signal
import subprocess
from pathlib import Path

import pytest

import capi
from conftest import MORE_VERSIONS, SOON, VERSIONS, PeerFactory, blob_of, eventually, interpreter
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


@pytest.mark.parametrize("version", [*VERSIONS, *MORE_VERSIONS])
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
            status = process.wait(300)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    text = log.read_text(errors="replace")
    assert status == 0, text
    assert "called nothing but its loop" in text
    assert text.rstrip().endswith("done")


class Touch:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, (f"touch {self._marker}",))


def hostile(marker: Path) -> list[bytes]:
    """Metadata in etcd by a writer that owns no buffer."""
    pickled = pickle.dumps(Touch(marker))
    digest = "0" * 64
    return [
        pickled,
        json.dumps({"descriptors": pickled.hex(), "sha256": digest}).encode(),
        b"",
        b"[]",
        b"\xff",
        json.dumps({"region": [1, 1 << 20, 0]}).encode(),
        json.dumps({"region": ["1", 1 << 20, 0], "sha256": digest}).encode(),
        json.dumps({"region": [1 << 70, 1 << 20, 0], "sha256": digest}).encode(),
        json.dumps({"region": [1, -1, 0], "sha256": digest}).encode(),
    ]


@functools.cache
def orderly_ends(version: str) -> set[int]:
    """0, and how an agent ends that has nothing to do with us: beside the system's ibverbs the
    wheel's own libnl-route crashes in the process's last moment."""
    script = """
try:
    from nixl_cu12._api import nixl_agent, nixl_agent_config
except ImportError:
    from nixl_cu13._api import nixl_agent, nixl_agent_config
agent = nixl_agent("alpha", nixl_agent_config(enable_prog_thread=False))
"""
    ended = subprocess.run(
        [interpreter(version), "-c", script], env=environment(), check=False, timeout=120
    )
    return {0, ended.returncode}


def test_metadata_is_never_unpickled(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes, tmp_path: Path
) -> None:
    """The reader says that it is no description, and goes on."""
    marker = tmp_path / "executed"
    log = tmp_path / "log"
    owner = peers("plain", "owner")
    key = namespace + b"/owner/"
    variables = environment(
        NIXL_ETCD_ENDPOINTS=etcd34.endpoint, NIXL_ETCD_NAMESPACE=namespace.decode()
    )
    with log.open("wb") as output:
        reader = subprocess.Popen(
            [interpreter(peers.version), EXAMPLE, "reader"],
            env=variables,
            stdout=output,
            stderr=output,
        )
    try:
        refusals = 0
        for blob in hostile(marker):
            etcd34.gateway.delete_prefix(key)
            pairs = [(key, b""), (key + b"metadata", blob_of(owner))]
            etcd34.gateway.put_all([*pairs, (key + b"example/buffer", blob)])
            # An empty value is not there.
            refusals += blob != b""
            eventually(
                lambda: log.read_text(errors="replace").count("not a desc") >= refusals,  # noqa: B023
                SOON,
                f"the reader tells of {blob!r}",
            )
            assert reader.poll() is None
        assert not marker.exists()
        reader.terminate()
        assert reader.wait(SOON) in orderly_ends(peers.version)
    finally:
        reader.kill()
        reader.wait()


def test_environment_that_starts_both_layers_is_refused(peers: PeerFactory, etcd34: Etcd) -> None:
    """And take_endpoints() is the way out."""
    script = """
from nixl_md.nixl import NixlMetadata, take_endpoints
try:
    from nixl_cu12._api import nixl_agent, nixl_agent_config
except ImportError:
    from nixl_cu13._api import nixl_agent, nixl_agent_config
agent = nixl_agent("alpha", nixl_agent_config(enable_prog_thread=False))
try:
    NixlMetadata(agent)
except ValueError as error:
    print("refused:", error)
with NixlMetadata(agent, endpoints=take_endpoints(), namespace="/refused/") as metadata:
    metadata.run_until(lambda: metadata.is_published, 60)
    print("published")
"""
    process = subprocess.run(
        [interpreter(peers.version), "-c", script],
        env=environment(NIXL_ETCD_ENDPOINTS=etcd34.endpoint),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert process.returncode in orderly_ends(peers.version), process.stderr
    lines = [line for line in process.stdout.splitlines() if line.startswith(("refused", "publ"))]
    assert lines[0].startswith("refused: NIXL_ETCD_ENDPOINTS is set")
    assert lines[1] == "published"
