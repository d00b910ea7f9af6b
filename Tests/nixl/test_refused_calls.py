# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Refused calls of nixl_md.nixl, updates of peers, blobs that name another agent, and the settings
of NIXL."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from agents import LONG_TTL, SIZE, check_read, is_refused, start, told, wait_published
from conftest import (
    SOON,
    EtcdFactory,
    PeerFactory,
    blob_of,
    eventually,
    has_loaded,
    interpreter,
)
from etcd_server import Etcd
from hosts import Refused, made_blob
from test_example import environment, orderly_ends


def test_refused_want_changes_nothing(peers: PeerFactory, etcd34: Etcd, namespace: bytes) -> None:
    reader = peers("tick", "beta", etcd34, namespace)
    for _ in range(2):
        with pytest.raises(Refused, match="InvalidParameter"):
            reader.do("want", agent="al%2Fpha")
        with pytest.raises(Refused, match="KeyError"):
            reader.do("failure", agent="al%2Fpha")
    alpha = start(peers, "tick", "alpha", etcd34, namespace)
    reader.do("want", agent="alpha")
    told(reader, True)
    check_read(reader, alpha, 1)


def test_refused_label_leaves_the_others(
    peers: PeerFactory, own_etcd: EtcdFactory, namespace: bytes
) -> None:
    """At once, by the library: it changes nothing. Later, by etcd: it can be taken back."""
    etcd = own_etcd("3.4", "--max-request-bytes", "20000")
    alpha = start(peers, "tick", "alpha", etcd, namespace, ttl=LONG_TTL)
    wait_published(alpha)
    with pytest.raises(Refused, match="InvalidParameter"):
        alpha.do("publish_partial", registration=0, label="a%00b")
    wait_published(alpha)
    large = alpha.do("register", size=64, count=3000)["registration"]
    eventually(lambda: is_refused(alpha, "TooLarge"), SOON, "all of it is too large")
    alpha.do("deregister", registration=large)
    eventually(lambda: not is_refused(alpha, "TooLarge"), SOON, "the rest is published")
    wait_published(alpha)
    large = alpha.do("register", size=64, count=3000)["registration"]
    alpha.do("publish_partial", registration=large, label="large")
    alpha.do("publish_partial", registration=0, label="metadata", conn=1)
    eventually(lambda: is_refused(alpha, "TooLarge"), SOON, "that part is too large")
    with pytest.raises(Refused, match="ValueError"):
        alpha.do("unpublish_partial", label="nothing")
    alpha.do("unpublish_partial", label="large")
    wait_published(alpha)
    alpha.do("publish_partial", registration=0, label="part")
    wait_published(alpha)
    key = namespace + b"/alpha/"
    assert etcd.gateway.keys(namespace) == [key, key + b"metadata", key + b"part"]
    alpha.do("unpublish_partial", label="part")
    eventually(lambda: len(etcd.gateway.keys(namespace)) == 2, SOON, "it is taken back")
    wait_published(alpha)


def test_updates_reach_only_interested_readers(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes
) -> None:
    """And nobody else."""
    alpha = start(peers, "tick", "alpha", etcd34, namespace, ttl=LONG_TTL)
    reader, other = (peers("tick", name, etcd34, namespace) for name in ("beta", "gamma"))
    reader.do("want", agent="alpha", updates=1)
    other.do("want", agent="alpha")
    for each in (reader, other):
        told(each, True)
    for number in range(5):
        more = alpha.do("register", size=SIZE, seed=70 + number)
        where = {"agent": "alpha", "address": more["address"], "size": SIZE}
        eventually(lambda: reader.do("check", **where)["is_there"], SOON, "it is known")  # noqa: B023
        read = reader.do("read", **where)
        assert bytes.fromhex(read["bytes"]) == made_blob(SIZE, 70 + number)
        assert not other.do("check", **where)["is_there"]
    assert not reader.lines("peer", is_loaded=False)


def test_a_blob_that_names_another_peer(peers: PeerFactory, etcd34: Etcd, namespace: bytes) -> None:
    """NIXL adds it to what it has of that one, which is therefore loaded again."""
    gamma = start(peers, "tick", "gamma", etcd34, namespace, seed=80, ttl=LONG_TTL)
    wait_published(gamma)
    reader = peers("tick", "beta", etcd34, namespace)
    reader.do("want", agent="gamma")
    told(reader, True, name="gamma")
    mark = reader.mark()
    # Metadata of the living gamma, with more in it than gamma has published.
    more = gamma.do("register", size=SIZE, seed=82, count=1)
    blob = blob_of(gamma)
    gamma.do("deregister", registration=more["registration"])
    # Its loop may have looked between the two and have published more.
    gamma.do("check_registrations")
    wait_published(gamma)
    key = namespace + b"/alpha/"
    etcd34.gateway.put_all([(key, b""), (key + b"metadata", blob)])
    reader.do("want", agent="alpha")
    told(reader, False, since=mark, name="gamma")
    told(reader, True, since=mark, name="gamma")
    assert "Mismatch" in reader.do("failure", agent="alpha")["failure"]
    assert "names another agent, gamma" in peers.log(reader)
    check_read(reader, gamma, 80, "gamma")
    where = {"agent": "gamma", "address": more["address"], "size": SIZE}
    assert not reader.do("check", **where)["is_there"]
    assert not has_loaded(reader, "alpha")


SCRIPT = """
import os, sys
from nixl_md.nixl import NixlMetadata, take_endpoints
try:
    import nixl_cu12 as nixl
except ImportError:
    import nixl_cu13 as nixl

class Named:
    name = "alpha"
    def get_agent_metadata(self): return b"x"

try:
    NixlMetadata(Named())
except ValueError as error:
    print("refused:", error)
endpoints = take_endpoints()
agent = nixl._api.nixl_agent("alpha", nixl._api.nixl_agent_config(enable_prog_thread=False))
buffer = bytearray(4096)
import ctypes
address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
agent.register_memory([(address, 4096, 0, "")], "DRAM")
try:
    agent.send_local_metadata()
except Exception as error:
    print("NIXL's own layer:", type(error).__name__)
with NixlMetadata(agent, endpoints=endpoints) as metadata:
    metadata.run_until(lambda: metadata.is_published, 60)
    print("published", metadata.agent.list().wait(30).agents[0].name)
    if "WAIT" in os.environ:
        sys.stdin.readline()
"""


@pytest.mark.parametrize("place", ["NIXL_CONFIG_FILE", "HOME"])
def test_endpoints_in_nixls_configuration(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes, tmp_path: Path, place: str
) -> None:
    """They are used, and NIXL's own layer does not start, which would write keys without lease."""
    file = tmp_path / ".nixl.cfg"
    file.write_text(
        "# Of this machine.\n"
        f'NIXL_ETCD_ENDPOINTS = "{etcd34.endpoint}"\n'
        f'NIXL_ETCD_NAMESPACE = "{namespace.decode()}"\n'
        "[other]\nvalue = 1\n"
    )
    variables = environment(**{place: str(file if place == "NIXL_CONFIG_FILE" else tmp_path)})
    ended = subprocess.run(
        [interpreter(peers.version), "-c", SCRIPT],
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode in orderly_ends(peers.version), ended.stderr
    lines = [line for line in ended.stdout.splitlines() if line.startswith(("ref", "NIXL", "publ"))]
    assert lines[0].startswith(f"refused: NIXL_ETCD_ENDPOINTS is set in {file}: NIXL's own etcd")
    assert lines[1].startswith("NIXL's own layer: ")
    assert lines[2] == "published alpha"
    assert etcd34.gateway.keys(namespace) == []
    assert "NIXL_ETCD_ENDPOINTS" in file.read_text()


@pytest.mark.parametrize("level", ["", "LOUD"])
def test_unknown_log_level_warns_and_takes_warn(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes, level: str
) -> None:
    """As NIXL itself does, it warns and takes WARN."""
    alpha = peers("tick", "alpha", etcd34, namespace, NIXL_LOG_LEVEL=level)
    wait_published(alpha)
    assert f"NIXL_LOG_LEVEL is '{level}', which is none of" in peers.log(alpha)
    assert os.environ.get("NIXL_LOG_LEVEL") is None


def test_load_isInterrupted_isLoadedLater(
    peers: PeerFactory, etcd34: Etcd, namespace: bytes
) -> None:
    """The loop loads it, within `check_interval`."""
    beta = peers("tick", "beta", etcd34, namespace)
    beta.do("interrupt_load")
    beta.do("want", agent="alpha")
    peers("tick", "alpha", etcd34, namespace)
    raised = beta.line("raised", within=SOON)
    assert raised["text"] == "amid a load"
    told(beta, True)
    assert has_loaded(beta, "alpha")
    wait_published(beta)
    expected = "<NixlMetadata 'beta', open, 1 of 1 labels published, 1 of 1 peers loaded>"
    assert beta.do("shown")["text"] == expected


def test_userOfTheEnvironment(
    peers: PeerFactory, own_etcd: EtcdFactory, namespace: bytes, tmp_path: Path
) -> None:
    """And its password from a file, as NIXL's settings name both."""
    etcd = own_etcd()
    etcd.gateway.enable_auth("root-password")
    etcd.gateway.add_user("alice", "secret", namespace, "READWRITE")
    password = tmp_path / "password"
    password.write_text("secret\n")
    variables = {"NIXL_ETCD_USER": "alice", "NIXL_ETCD_PASSWORD_FILE": str(password)}
    alpha = peers("tick", "alpha", etcd, namespace, **variables)
    wait_published(alpha)
    assert etcd.gateway.keys(namespace) == [namespace + b"/alpha/", namespace + b"/alpha/metadata"]
