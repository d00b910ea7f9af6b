# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C, and an etcd that dies, at each question that a command asks."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from nixl_md.cli.gateway import b64

from conftest import PATIENCE, Plants, Tool
from etcd_server import Etcd
from gateway_proxy import HoldingGateway
from proxy import Proxy
from screen import Screen

RANGE, TIMES, TXN = "/kv/range", "/lease/timetolive", "/kv/txn"
# A command, what it asks when it happens, and the how-manieth question of this kind it is.
STAGES = [
    (["ls"], RANGE, 1),
    (["ls"], RANGE, 2),
    (["ls"], TIMES, 1),
    (["ls"], TIMES, 3),
    (["get", "alive"], RANGE, 1),
    (["get", "alive"], TIMES, 1),
    (["doctor"], RANGE, 1),
    (["doctor"], "/maintenance/status", 1),
    (["doctor"], "/cluster/member/list", 1),
    (["doctor"], "/maintenance/alarm", 1),
    (["doctor"], "/auth/authenticate", 1),
    (["doctor"], TIMES, 1),
    (["doctor"], "/lease/leases", 1),
    (["purge", "--permanent", "--yes"], RANGE, 1),
    (["purge", "--permanent", "--yes"], TIMES, 1),
    (["purge", "--permanent", "--yes"], TXN, 1),
    (["purge", "--empty-leases", "--yes"], "/lease/leases", 1),
    (["restore", "FILE", "--yes"], TIMES, 1),
    (["restore", "FILE", "--yes"], TXN, 1),
    (["guard", "--agent", "a", "--", "true"], RANGE, 1),
    (["guard", "--agent", "a", "--", "true"], "/lease/grant", 1),
]
NAMES = [f"{command[0]}{path.replace('/', '-')}-{first}" for command, path, first in STAGES]


@pytest.fixture
def etcd(etcd34: Etcd) -> Etcd:
    """The version makes no difference here."""
    return etcd34


@pytest.fixture
def started(
    tool: Tool, plants: Plants, tmp_path: Path
) -> Callable[[list[str], HoldingGateway], subprocess.Popen[str]]:
    """Starts a command, and returns when it waits for the answer that is held."""
    lease = plants.lease()
    # More than one connection asks for the times left of so many.
    grants = plants.gateway.calls("/v3/lease/grant", [{"TTL": "600"}] * 110)
    puts = [
        {"key": b64(plants.key(f"a{number:03}")), "lease": granted["ID"]}
        for number, granted in enumerate(grants)
    ]
    plants.gateway.calls("/v3/kv/put", puts)
    plants.agent("alive", lease)
    plants.agent("one")
    plants.agent("two")
    file = str(tmp_path / "saved")

    def start(command: list[str], proxy: HoldingGateway) -> subprocess.Popen[str]:
        if "FILE" in command:
            tool("purge", "alive", "--force-live", "--yes", "--backup", file)
        words = [file if word == "FILE" else word for word in command]
        options = ["--gateway", proxy.endpoint, "--timeout", "60"]
        process = tool.start(words[0], *options, *words[1:])
        assert proxy.reached.wait(PATIENCE), process.communicate()
        return process

    return start


Started = Callable[[list[str], HoldingGateway], "subprocess.Popen[str]"]


@pytest.mark.parametrize(("command", "path", "first"), STAGES, ids=NAMES)
def test_interrupted(
    etcd: Etcd, started: Started, command: list[str], path: str, first: int
) -> None:
    """At once, although the answer may take a minute."""
    with HoldingGateway(etcd.own_port, path, first) as proxy:
        process = started(command, proxy)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=50)
    assert process.returncode == 130, (out, err)
    assert "Traceback" not in err and "Exception ignored" not in err
    if path == TXN:
        assert "unknown" in out


@pytest.mark.parametrize(("command", "path", "first"), STAGES, ids=NAMES)
def test_etcdDies(etcd: Etcd, started: Started, command: list[str], path: str, first: int) -> None:
    """It ends with a text, and what it says of changes is true."""
    with HoldingGateway(etcd.own_port, path, first) as proxy:
        process = started(command, proxy)
        proxy.die()
        out, err = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in err and "Exception ignored" not in err
    if command[0] == "doctor":
        # Its earlier findings are there.
        assert process.returncode in (1, 3, 5) and "FAIL" in out
    elif path == TXN:
        # Each that was asked for is in doubt; nothing is called done.
        assert process.returncode == 1 and "unknown: etcd did not answer" in out
        assert "removed\n" not in out and "put back\n" not in out
    elif command[0] == "guard" and first == 1:
        # Whether the command can do without etcd is for the command to say.
        assert process.returncode == 0 and "guarded when etcd answers" in err
    else:
        assert process.returncode == 3 and "--endpoints" in err, (out, err)


def test_interruptedWhileModulesLoad_endsWith130(tool: Tool, tmp_path: Path) -> None:
    """Without a traceback, whatever was being loaded."""
    slow = "import time; print('loading', flush=True); time.sleep(600)"
    (tmp_path / "typer.py").write_text(slow)
    python = tool.environment["PYTHONPATH"]
    process = tool.start("ls", PYTHONPATH=f"{tmp_path}:{python}")
    assert process.stdout is not None and process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    # A shell shows it as 130.
    assert process.returncode == -signal.SIGINT and err == ""


def test_purge_interrupted_saysWhatIsDone(etcd: Etcd, started: Started) -> None:
    """The first is removed, the second is asked for, of the others nothing is said."""
    with HoldingGateway(etcd.own_port, TXN, 2) as proxy:
        process = started(["purge", "one", "two", "--yes", "--json"], proxy)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=50)
    assert process.returncode == 130, err
    done = [(each["name"], each["outcome"]) for each in json.loads(out)["done"]]
    assert done == [("one", "removed"), ("two", "unknown")]


def test_watch_interruptedAtItsStart(tool: Tool, etcd: Etcd) -> None:
    """No endpoint answers yet."""
    proxy = Proxy(etcd.own_port)
    proxy.silence()
    try:
        for command in (["watch"], ["get", "alpha", "--raw"]):
            seen = proxy.accepted
            process = tool.start(*command, "--endpoints", proxy.endpoint, "--timeout", "60")
            while proxy.accepted == seen:
                assert process.poll() is None, process.communicate()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=50)
            assert process.returncode == 130 and "Traceback" not in err
    finally:
        proxy.close()


@pytest.mark.parametrize("command", [["watch"], ["exporter", "--listen", "127.0.0.1:0"]])
def test_terminated(tool: Tool, plants: Plants, command: list[str]) -> None:
    """As a supervisor ends it: exporter by 0, watch as by the signal."""
    plants.agent("stock")
    process = tool.start(*command)
    assert process.stdout is not None and process.stderr is not None
    (process.stdout if command == ["watch"] else process.stderr).readline()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == (143 if command == ["watch"] else 0) and "Traceback" not in err


def test_top_givesTheScreenBack(tool: Tool, plants: Plants, screens: Callable[..., Screen]) -> None:
    """Terminated, and while Ctrl-Z stops it."""
    plants.agent("stock")
    screen = screens(tool.environment, 100, 20)
    top = tool.command("watch", "--top", "--interval", "0.2")

    def is_shown(lines: list[str]) -> bool:
        return any(line.startswith("NAME") for line in lines)

    screen.run(*top)
    screen.wait(is_shown, "it is shown")
    screen.type("", "C-z")
    screen.wait(lambda lines: not is_shown(lines), "the shell's screen")
    screen.run("fg")
    screen.wait(is_shown, "it is shown again")
    screen.terminate()
    status, lines = screen.status()
    assert status == 143 and not is_shown(lines)
    assert screen.cursor_is_shown()
