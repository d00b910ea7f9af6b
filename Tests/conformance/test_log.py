# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The log: nothing unless asked for, no secret and no blob ever."""

from __future__ import annotations

import time

import pytest

import capi
from conftest import EtcdFactory, HostFactory
from etcd_server import free_ports
from hosts import Host

LANGUAGES = ("cpp", "python")
BLOB = b"a blob that no log may hold " * 4
PASSWORD = "pass-word-that-no-log-may-hold"


def live_and_suffer(host: Host, own_etcd: EtcdFactory, **values: object) -> None:
    """Every kind of work and trouble: calls that fail, a server that dies, a lost lease."""
    etcd = own_etcd()
    host.open(etcd.endpoint, b"/ns/", agent=b"alpha", **values)
    host.succeed("start_heartbeat", interval=1000, ttl=5000)
    host.succeed("publish", label=b"l", blob=BLOB)
    host.event("SYNCED", watch=host.start("watch", agent=b"alpha"))
    host.succeed("fetch", agent=b"alpha", label=b"l")
    host.finish("publish", label=b"big", size=2_000_000)
    host.request("fetch", agent=b"a/b", label=b"l")
    etcd.kill()
    time.sleep(1.2)
    etcd.start().wait_healthy()
    etcd.gateway.revoke(host.stats()["lease_id"])
    host.event("RESTORED", within=5)
    host.do("shutdown", drain=2000)
    host.line("shut_down")
    host.close()


@pytest.mark.parametrize("language", LANGUAGES)
def test_quiet_by_default(hosts: HostFactory, own_etcd: EtcdFactory, language: str) -> None:
    """Nothing on stdout (which the fixture checks for every host) and nothing on stderr."""
    host = hosts(language)
    live_and_suffer(host, own_etcd)
    host.quit()
    assert hosts.stderr(host) == ""


def test_level_in_the_config_alone_prints_nothing(
    hosts: HostFactory, own_etcd: EtcdFactory
) -> None:
    """Without a callback only the environment does, and this one asks for nothing."""
    host = hosts(environment={"NIXL_LOG_LEVEL": "OFF"})
    live_and_suffer(host, own_etcd, log_level=1)
    host.quit()
    assert hosts.stderr(host) == ""


def test_level_in_the_environment_prints_to_stderr(
    hosts: HostFactory, own_etcd: EtcdFactory
) -> None:
    host = hosts(environment={"NIXL_LOG_LEVEL": "TRACE"}, is_quiet=False)
    live_and_suffer(host, own_etcd)
    host.quit()
    text = hosts.stderr(host)
    assert text.count("\n") > 5
    assert text.endswith("\n")
    assert BLOB[:20].decode() not in text


def test_less_severe_messages_are_not_logged(hosts: HostFactory, own_etcd: EtcdFactory) -> None:
    host = hosts(environment={"NIXL_LOG_LEVEL": "FATAL"}, is_quiet=False)
    live_and_suffer(host, own_etcd)
    host.quit()
    assert hosts.stderr(host) == ""


@pytest.mark.parametrize("language", LANGUAGES)
def test_callback_replaces_stderr(hosts: HostFactory, own_etcd: EtcdFactory, language: str) -> None:
    """It takes the place of stderr."""
    host = hosts(language, environment={"NIXL_LOG_LEVEL": "TRACE"})
    live_and_suffer(host, own_etcd, log=1, log_level=1)
    lines = host.lines("log")
    assert len(lines) > 5
    for line in lines:
        assert 1 <= line["level"] <= 6
        assert line["line"]
        assert "\n" not in line["line"]
        assert BLOB[:20].decode() not in line["line"]
    assert {line["level"] for line in lines} & {4, 5, 6}, "the trouble was not told as a warning"


def test_each_level_logs_more(hosts: HostFactory, own_etcd: EtcdFactory) -> None:
    """From INFO on to DEBUG, which has the connection's life, and TRACE, which has each request."""
    told = []
    for level in (3, 2, 1):
        host = hosts()
        live_and_suffer(host, own_etcd, log=1, log_level=level)
        lines = host.lines("log")
        assert min(line["level"] for line in lines) == level
        told.append(" | ".join(line["line"] for line in lines))
    info, debug, trace = told
    for words in ("connecting to", "the stream of watches is opened", "begins at revision"):
        assert words not in info
        assert words in debug
        assert words in trace
    for words in ("/etcdserverpb.KV/Txn, ", "answered with"):
        assert words not in debug
        assert words in trace


def test_callback_without_a_level_gets_warnings(hosts: HostFactory, own_etcd: EtcdFactory) -> None:
    host = hosts()
    live_and_suffer(host, own_etcd, log=1)
    lines = host.lines("log")
    assert lines
    assert min(line["level"] for line in lines) >= 4


def test_an_outage_is_logged_once(hosts: HostFactory, own_etcd: EtcdFactory) -> None:
    """Then it is tried on without a word, until the debug level asks for it."""
    etcd = own_etcd()
    host = hosts()
    host.open(etcd.endpoint, b"/ns/", agent=b"alpha", log=1, log_level=3)
    host.succeed("publish", label=b"l", blob=BLOB)
    etcd.kill()
    time.sleep(1.5)
    told = len(host.lines("log"))
    failed = host.stats()["connects_failed"]
    time.sleep(3)
    assert host.stats()["connects_failed"] >= failed + 4, "nothing was tried"
    lines = [line["line"] for line in host.lines("log")]
    assert len(lines) == told, lines
    trouble = [line["line"] for line in host.lines("log") if line["level"] >= 4]
    assert len(trouble) == 2, trouble
    assert etcd.endpoint in trouble[0]
    assert "no etcd can be reached" in trouble[1]
    etcd.start().wait_healthy()
    host.succeed("fetch", agent=b"alpha", label=b"l")
    assert "connected to" in host.lines("log")[-1]["line"]


def test_no_etcd_is_logged_once_for_each_endpoint(hosts: HostFactory) -> None:
    """Three that refuse, a name that is none: a line for each, and one that it is tried on."""
    host = hosts()
    endpoints = [f"http://127.0.0.1:{port}" for port in free_ports(3)]
    named = "no-such-host.invalid"
    host.open(",".join([*endpoints, f"http://{named}:2379"]), b"/ns/", log=1, log_level=3)
    host.start("watch", agent=b"alpha")

    def trouble() -> list[str]:
        return [line["line"] for line in host.lines("log") if line["level"] >= 4]

    # A resolver that cannot be reached takes its time to say so.
    end = time.monotonic() + 30
    while len(trouble()) < 5 and time.monotonic() < end:
        time.sleep(0.1)
    failed = host.stats()["connects_failed"]
    time.sleep(2)
    assert host.stats()["connects_failed"] > failed, "not tried on"
    told = trouble()
    assert len(told) == 5, told
    for each in (*endpoints, f"{named}:2379 cannot be resolved"):
        assert sum(line.startswith(each) for line in told) == 1, told
    assert sum(line.startswith("no etcd can be reached") for line in told) == 1


def test_level_off_logs_nothing(hosts: HostFactory, own_etcd: EtcdFactory) -> None:
    host = hosts()
    live_and_suffer(host, own_etcd, log=1, log_level=7)
    assert host.lines("log") == []


def test_secrets_are_not_logged(hosts: HostFactory, own_etcd: EtcdFactory) -> None:
    """Neither the password nor the token, right or wrong."""
    etcd = own_etcd()
    etcd.gateway.enable_auth("root-password")
    etcd.gateway.add_user("alice", PASSWORD, b"/ns/", "READWRITE")
    texts = []
    for password in (PASSWORD, PASSWORD + "-wrong"):
        host = hosts(environment={"NIXL_LOG_LEVEL": "TRACE"}, is_quiet=False)
        host.open(etcd.endpoint, b"/ns/", agent=b"alpha", user=b"alice", password=password.encode())
        done = host.finish("publish", label=b"l", blob=BLOB, timeout=3000)
        expected = capi.SUCCESS if password == PASSWORD else capi.UNAUTHENTICATED
        assert done["status"] == expected
        assert PASSWORD not in done["text"]
        host.quit()
        texts.append(hosts.stderr(host))
    # etcd's simple tokens are 16 letters, a dot and an index.
    for text in texts:
        assert text
        assert PASSWORD not in text
        assert "token:" not in text
        assert BLOB[:20].decode() not in text
