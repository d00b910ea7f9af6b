# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What users get wrong, and the message that each of it gets: in the words of this package."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import nixl_md
import pytest
from etcd_server import Etcd
from nixl_md import Agent
from nixl_md.aio import AsyncAgent

Options = dict[str, Any]
# Nobody listens there.
CLOSED = "127.0.0.1:1"

INVALID = nixl_md.InvalidParameter
AN_AGENT: list[tuple[Options, type[Exception], str]] = [
    (
        {"endpoints": None},
        INVALID,
        "endpoints is None and NIXL_ETCD_ENDPOINTS is not set: give one",
    ),
    ({"endpoints": ""}, INVALID, "endpoints holds no endpoint: give at least one, like 127"),
    ({"endpoints": []}, INVALID, "endpoints holds no endpoint"),
    (
        {"endpoints": 2379},
        TypeError,
        "endpoints are a text like '127.0.0.1:2379' or a list, not 2379",
    ),
    ({"endpoints": [("127.0.0.1", 2379)]}, TypeError, "or a list, not [('127.0.0.1', 2379)]"),
    (
        {"endpoints": "htp://x:1"},
        INVALID,
        "endpoint 'htp://x:1': its scheme is neither http:// nor",
    ),
    ({"endpoints": "x:99999"}, INVALID, "its port '99999' is not a number from 1 to 65535"),
    (
        {"endpoints": "x:2379/v3"},
        INVALID,
        "an endpoint has no path, query or fragment: leave it out",
    ),
    ({"endpoints": "u:secret@x"}, INVALID, "do not belong here: pass user= and password="),
    ({"endpoints": ["http://a", "https://b"]}, INVALID, "either all are https or none"),
    ({"endpoints": "::1:2379"}, INVALID, "an IPv6 address stands in brackets, like [::1]:2379"),
    ({"endpoints": "x 2379"}, INVALID, "its host is neither a host name nor an address"),
    ({"endpoints": [f"x{i}" for i in range(65)]}, INVALID, "has more than 64 endpoints"),
    (
        {"name": "a/b"},
        INVALID,
        "name 'a/b' holds a '/', which ends an agent's name in etcd: rename it",
    ),
    ({"name": ""}, INVALID, "name is empty: pass 1 to 1024 bytes"),
    ({"name": "a\0b"}, INVALID, "name 'a\\x00b' holds a NUL at byte 1: leave it out"),
    ({"name": "a" * 1025}, INVALID, "name has 1025 bytes; the limit is 1024"),
    ({"name": 7}, TypeError, "7 should be str or bytes, not int"),
    (
        {"cert_file": "c.pem"},
        INVALID,
        "cert_file is 'c.pem' but key_file is None: give both or neither",
    ),
    (
        {"key_file": "k.pem"},
        INVALID,
        "key_file is 'k.pem' but cert_file is None: give both or neither",
    ),
    ({"user": "root"}, INVALID, "user is 'root' but password is None: give both or neither"),
    ({"password": "x"}, INVALID, "password is given but user is None: give both or neither"),
    ({"log_level": 9}, INVALID, "log_level is 9: pass 0 (the default) to 7 (off)"),
    ({"log_level": "INFO"}, TypeError, "log_level is 0 (the default) to 7 (off), not 'INFO'"),
    ({"server_name": "a b", "endpoints": "https://x"}, INVALID, "give the name in the certificate"),
    ({"drain": -1}, ValueError, "a drain of -1 s is not from 0 to a day"),
    ({"drain": "2"}, TypeError, "a drain is a number of seconds, not '2'"),
    ({"on_event": 3}, TypeError, "on_event is called with each event: 3 cannot be"),
    ({"ca_path": "/etc"}, TypeError, "unexpected keyword argument 'ca_path'"),
]

Call = Callable[[Any], object]


async def coroutine(told: object) -> None:
    """Nobody awaits it."""


A_CALL: list[tuple[Call, type[Exception], str]] = [
    (lambda a: a.publish("m", "text"), TypeError, "a blob is bytes, not str: encode it"),
    (lambda a: a.publish("m", None), TypeError, "a blob is bytes, not NoneType"),
    (lambda a: a.publish(b"1", "m"), TypeError, "a blob is bytes, not str: encode it"),
    (lambda a: a.publish("m", b""), INVALID, "counts as absent, use unpublish()"),
    (lambda a: a.publish("", b"1"), INVALID, "label is empty: pass 1 to 1024 bytes"),
    (
        lambda a: a.publish("m\0", b"1"),
        INVALID,
        "label 'm\\x00' holds a NUL at byte 1: leave it out",
    ),
    (lambda a: a.publish("m", bytes(11 << 20)), nixl_md.TooLarge, "the limit is 10485760"),
    (
        lambda a: a.publish("m", bytes(2 << 20)).wait(30),
        nixl_md.TooLarge,
        "a blob of 2097152 bytes",
    ),
    (lambda a: a.publish("m", b"1", on_done=3), TypeError, "3 cannot be"),
    (
        lambda a: a.unpublish("nope").wait(30),
        nixl_md.NotFound,
        "label 'nope' has not been published",
    ),
    (lambda a: a.fetch("x/y"), INVALID, "agent 'x/y' holds a '/'"),
    (lambda a: a.fetch(None), TypeError, "None should be str or bytes, not NoneType"),
    (
        lambda a: a.fetch("b", wait=False).wait(30),
        nixl_md.NotFound,
        "'b' has published nothing under",
    ),
    (lambda a: a.fetch("b", timeout=0), ValueError, "a time of 0 s is not greater than 0"),
    (lambda a: a.fetch("b", timeout="5"), TypeError, "a time is a number of seconds, not '5'"),
    (
        lambda a: a.fetch("b", timeout=1e9),
        INVALID,
        "timeout is 1000000000000 ms; the limit is 86400000",
    ),
    (lambda a: a.fetch("b").wait("5"), TypeError, "a time is a number of seconds, not '5'"),
    (lambda a: a.fetch("b").wait(0.1), TimeoutError, "not within 0.1 s"),
    (lambda a: a.fetch("b", timeout=0.1).wait(30), TimeoutError, "within the fetch's time-out"),
    (lambda a: a.fetch("b").result(), RuntimeError, "the operation has not completed"),
    (lambda a: a.watch("b", None), TypeError, "on_event is called with each event: None cannot be"),
    (lambda a: a.watch("b", "c"), TypeError, "'c' cannot be"),
    (lambda a: a.watch("b", coroutine), TypeError, "nothing awaits it: <function coroutine at"),
    (lambda a: a.fetch("b", on_done=coroutine), TypeError, "is a coroutine function"),
    (lambda a: a.shutdown(-1), ValueError, "a drain of -1 s is not from 0 to a day"),
    (lambda a: a.shutdown(float("inf")), ValueError, "a drain of inf s is not from 0 to a day"),
    (lambda a: a.fetch("b").wait(float("nan")), ValueError, "a time of nan s is none"),
    (lambda a: a.start_heartbeat(5, 5), INVALID, "ttl 5000 is not greater than interval 5000"),
    (lambda a: a.start_heartbeat(0.001), INVALID, "interval is 1 ms; the least is 50"),
    (
        lambda a: a.start_heartbeat(30000, 90000),
        INVALID,
        "ttl is 90000000 ms; the limit is 86400000",
    ),
    (lambda a: a.shutdown(1e6), INVALID, "drain is 1000000000 ms; the limit is 86400000"),
]


def check(told: str, text: str) -> None:
    assert text in told, told
    # Words of the C interface are no help here.
    assert not re.search(r"NIXL_MD_(?!LIBRARY)|nixl_md_|config\.|\bNULL\b|_ms\b|_len\b", told), told


@pytest.mark.parametrize(("given", "kind", "text"), AN_AGENT)
def test_agent(options: Options, given: Options, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as refusal:
        Agent(**{"name": "alpha", **options, **given})
    check(str(refusal.value), text)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(("call", "kind", "text"), A_CALL)
def test_call(options: Options, call: Call, kind: type[Exception], text: str) -> None:
    with Agent("alpha", drain=30, **options) as agent:
        with pytest.raises(kind) as refusal:
            call(agent)
        check(str(refusal.value), text)


def test_an_observer_publishes(options: Options) -> None:
    with Agent(**options) as observer, pytest.raises(nixl_md.NotAllowed) as refusal:
        observer.publish("m", b"1")
    check(str(refusal.value), "the handle is an observer, which writes nothing: give it a name")


def test_after_close(options: Options) -> None:
    with Agent("alpha", **options) as agent:
        pass
    with pytest.raises(nixl_md.ShutDown) as refusal:
        agent.publish("m", b"1")
    check(str(refusal.value), "the agent is closed")


def last_failure(agent: Agent, seconds: float = 3) -> str:
    """Of a publish that waits for etcd, and of a wait for it."""
    with pytest.raises(nixl_md.TimedOut) as refusal:
        agent.publish("m", b"1").wait(seconds)
    with pytest.raises(nixl_md.TimedOut) as ended:
        agent.publish("m", b"1", timeout=seconds).wait(60)
    # A connection may fail in more than one way: the two need not be the same.
    assert "the last failure: " in str(refusal.value)
    trouble = re.search(r"last failure, \d+ s ago: (.+)", str(ended.value))
    assert trouble
    return trouble[1]


def test_nobody_listens_there() -> None:
    with Agent("alpha", endpoints=CLOSED, drain=0.1) as agent:
        check(last_failure(agent), f"http://{CLOSED}: connection refused")


def test_the_peers_port(etcd: Etcd, options: Options) -> None:
    """No mistake: etcd answers clients there, too."""
    with Agent("alpha", **{**options, "endpoints": f"127.0.0.1:{etcd.peer_port}"}) as agent:
        agent.publish("m", b"1").wait(30)


def test_a_name_that_is_none() -> None:
    with Agent("alpha", endpoints="no-such-host.invalid", drain=0.1) as agent:
        check(last_failure(agent), "the name 'no-such-host.invalid' could not be resolved")


def test_https_where_there_is_none(etcd: Etcd) -> None:
    with Agent("alpha", endpoints=f"https://127.0.0.1:{etcd.port}", drain=0.1) as agent:
        check(last_failure(agent), f"https://127.0.0.1:{etcd.port}: ")


def test_a_ca_file_that_is_none(tmp_path: Path) -> None:
    """It is told before anything is sent. Who listens there says nothing, and so nothing else."""
    file = str(tmp_path / "none.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with Agent("alpha", endpoints=endpoint, ca_file=file, drain=0.1) as agent:
            check(last_failure(agent), file)


def test_two_agents_of_one_name(options: Options, caplog: pytest.LogCaptureFixture) -> None:
    with Agent("alpha", **options) as first, Agent("alpha", **options) as second:
        first.publish(None, b"1").wait(30)
        second.publish(None, b"2").wait(30)
        with pytest.raises(nixl_md.Superseded) as refusal:
            first.publish(None, b"3").wait(30)
        check(str(refusal.value), "another process")


def test_an_async_agent_that_was_not_entered(options: Options) -> None:
    agent = AsyncAgent("alpha", **options)
    with pytest.raises(RuntimeError, match="use it in 'async with'"):
        asyncio.run(agent.publish("m", b"1"))


def test_a_log_level_in_the_environment_that_is_none(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIXL_LOG_LEVEL", "LOUD")
    with pytest.raises(INVALID) as refusal:
        Agent("alpha", **options)
    check(str(refusal.value), "NIXL_LOG_LEVEL is 'LOUD': set it to TRACE, DEBUG, INFO, WARN")


@pytest.mark.parametrize("library", ["/no/such/libnixl_md.so", "libc.so.6"])
def test_a_library_that_is_none(library: str) -> None:
    """Missing, or another one."""
    ended = subprocess.run(
        [sys.executable, "-c", "import nixl_md; nixl_md.version()"],
        env={**os.environ, "NIXL_MD_LIBRARY": library},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    told = ended.stderr.splitlines()[-1]
    assert told.startswith("ImportError: ")
    assert library in told
    text = "it is not libnixl_md" if library == "libc.so.6" else "build it with `make`, install it"
    assert text in told
