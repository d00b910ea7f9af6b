# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Agents under the other spelling of the namespace never meet ours: the library warns."""

from __future__ import annotations

import time

import pytest

import capi
from conftest import EtcdFactory, HostFactory
from hosts import Host, Line

WARN = 4
SPELLINGS = (
    (b"/nixl/agents/", b"/nixl/agents"),
    (b"/nixl/agents", b"/nixl/agents/"),
    (b"/elsewhere", b"/elsewhere/"),
)


def warnings(host: Host) -> list[Line]:
    return [line for line in host.lines("log") if line["level"] >= WARN]


def wait_for_warning(host: Host, within: float = 5) -> Line:
    return host.line("log", within=within, level=WARN)


@pytest.mark.parametrize(("ours", "other"), SPELLINGS)
def test_warning_when_the_other_spelling_holds_agents(
    hosts: HostFactory, own_etcd: EtcdFactory, ours: bytes, other: bytes
) -> None:
    etcd = own_etcd()
    etcd.gateway.put(other + b"/alpha/", b"")
    etcd.gateway.put(other + b"/alpha/metadata", b"blob")
    host = hosts()
    host.open(etcd.endpoint, ours, agent=b"beta", log=1, log_level=WARN)
    host.succeed("publish", label=b"metadata", blob=b"b")
    text = wait_for_warning(host)["line"]
    for word in ("alpha", f"'{ours.decode()}'", f"'{other.decode()}'"):
        assert word in text
    # The warning comes once, and the two spellings still do not meet.
    assert [bytes.fromhex(agent[0]) for agent in host.succeed("list")["agents"]] == [b"beta"]
    assert host.finish("fetch", agent=b"alpha", timeout=500)["status"] == capi.TIMED_OUT
    time.sleep(0.5)
    assert len(warnings(host)) == 1


@pytest.mark.parametrize(("ours", "other"), SPELLINGS)
def test_warning_when_a_fetch_finds_nothing(
    hosts: HostFactory, own_etcd: EtcdFactory, ours: bytes, other: bytes
) -> None:
    """The peer with the other spelling came later than this handle."""
    etcd = own_etcd()
    host = hosts()
    host.open(etcd.endpoint, ours, log=1, log_level=WARN)
    host.succeed("list")
    time.sleep(0.5)
    assert not warnings(host)
    etcd.gateway.put(other + b"/alpha/", b"")
    assert host.finish("fetch", agent=b"alpha", timeout=500)["status"] == capi.TIMED_OUT
    assert "alpha" in wait_for_warning(host)["line"]


@pytest.mark.parametrize("ours", [b"/nixl/agents/", b"/nixl/agents"])
@pytest.mark.parametrize(
    "key",
    [b"/nixl/agents", b"/nixl/agentsx/alpha/", b"/nixl/agents/team//alpha/", b"/nixl/agents///"],
)
def test_no_warning_for_keys_of_others(
    hosts: HostFactory, own_etcd: EtcdFactory, ours: bytes, key: bytes
) -> None:
    etcd = own_etcd()
    etcd.gateway.put(key, b"")
    host = hosts()
    host.open(etcd.endpoint, ours, agent=b"beta", log=1, log_level=WARN)
    host.succeed("publish", label=b"metadata", blob=b"b")
    host.finish("fetch", agent=b"alpha", timeout=500)
    time.sleep(0.5)
    assert not warnings(host)
