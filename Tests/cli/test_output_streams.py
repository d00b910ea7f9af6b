# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Where the answer goes: pipes that are closed early, full disks, closed descriptors, locales
without the letters, passwords that are asked for."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import PATIENCE, Answer, EtcdFactory, Plants, Tool, ToolFactory
from etcd_server import Etcd
from screen import Screen


@pytest.fixture
def etcd(etcd34: Etcd) -> Etcd:
    """The version makes no difference here."""
    return etcd34


def shell(tool: Tool, arguments: str, rest: str) -> Answer:
    """The tool with what a shell does to its streams. The status is the tool's."""
    script = f"{shlex.join(tool.command())} {arguments} {rest}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script], env=tool.environment, capture_output=True, timeout=PATIENCE
    )
    answer = Answer(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in answer.err and "Exception ignored" not in answer.err, answer
    return answer


def unread(tool: Tool, *arguments: str) -> Answer:
    """The reader of the pipe is gone before the tool is started."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            tool.command(*arguments),
            env=tool.environment,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
        )
    finally:
        os.close(writer)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done
    return Answer(done.returncode, "", done.stderr)


@pytest.mark.parametrize("command", ["ls", "get stock", "get stock --raw", "dashboard"])
def test_closedPipe_endsQuietly(tool: Tool, plants: Plants, command: str) -> None:
    """Quietly, and with 0."""
    plants.agent("stock")
    assert unread(tool, *command.split()).status == 0


def test_closedPipe_endsAWatch(tool: Tool, plants: Plants) -> None:
    """It ends at once, and not with the next event."""
    plants.agent("stock")
    assert shell(tool, "watch --labels", "| head -1").status == 0


def test_closedPipe_doctorKeepsItsStatus(tool: Tool, plants: Plants) -> None:
    plants.agent("stock")
    for options in ([], ["--json"], ["-o", "name"]):
        assert unread(tool, "doctor", *options).status == 1


def test_closedPipe_purgeRemovesNothing(tool: Tool, plants: Plants) -> None:
    """Nobody has seen what it would remove."""
    plants.agent("stock")
    answer = unread(tool, "purge", "--permanent", "--yes")
    assert answer.status == 1 and "nothing is removed" in answer.err
    assert len(plants.gateway.keys(plants.namespace)) == 2
    # A reader that leaves after the first line may be noticed or not: the report says what was
    # done.
    answer = shell(tool, "purge --permanent --yes", "| head -1")
    left = len(plants.gateway.keys(plants.namespace))
    assert (answer.status, left) in ((0, 0), (1, 2)), (answer, left)
    shell(tool, "purge --permanent --yes", "| cat")
    assert plants.gateway.keys(plants.namespace) == []


@pytest.mark.parametrize("command", ["ls", "ls --json", "doctor", "get stock", "dashboard"])
def test_fullDisk_isAnError(tool: Tool, plants: Plants, command: str) -> None:
    plants.agent("stock")
    answer = shell(tool, command, ">/dev/full")
    assert answer.status == 1 and "No space left on device" in answer.err


def test_closedDescriptors(tool: Tool, plants: Plants) -> None:
    """As some supervisors start commands: no socket takes the place of a stream."""
    plants.agent("stock")
    assert shell(tool, "ls", ">&-").status == 0
    assert "1 permanent" in shell(tool, "ls", ">&- <&-").err
    assert "stock" in shell(tool, "ls", "2>&-").out
    assert shell(tool, "doctor", "<&- >&- 2>&-").status == 1
    guarded = shell(tool, "guard --agent a -- sh -c 'echo hello'", "<&- 2>&-")
    assert guarded.out == "hello\n"


def test_localeWithoutTheLetters(tool: Tool, plants: Plants) -> None:
    plants.agent("größe")
    tool.environment["PYTHONIOENCODING"] = "ascii"
    assert "gr\\xf6\\xdfe" in tool("ls").out
    assert tool("ls", "--json").json["agents"][0]["name"] == "größe"


def test_formsOfEachCommand(tool: Tool, plants: Plants, tmp_path: Path) -> None:
    """Each answer as JSON and as names."""
    plants.agent("alive", plants.lease())
    plants.agent("stock")
    assert {a["name"] for a in tool("ls", "--json").json["agents"]} == {"alive", "stock"}
    assert tool("get", "stock", "--json").json["name"] == "stock"
    checks = {x["check"] for x in tool("doctor", "--json", status=1).json["findings"]}
    assert {"permanent", "alarms", "endpoint"} <= checks
    assert "permanent" in tool("doctor", "-o", "name", status=1).lines
    both = ("purge", "--permanent", "alive", "--force-live", "--yes", "--json")
    many = tool(*both, "--max", "1", status=1)
    assert [a["name"] for a in many.json["agents"]] == ["alive", "stock"]
    assert many.json["acted"] is False and "nothing is removed" in many.err
    assert tool("purge", "--permanent", "-o", "name", status=1).lines == ["stock"]
    file = str(tmp_path / "saved")
    removed = tool("-o", "json", "purge", "stock", "--yes", "--backup", file).json
    assert [(x["name"], x["outcome"]) for x in removed["done"]] == [("stock", "removed")]
    shown = tool("restore", file, "--json", status=1).json
    assert shown["acted"] is False and shown["agents"][0]["name"] == "stock"
    back = tool("restore", file, "--yes", "--json").json
    assert back == {"acted": True, "agents": [{"name": "stock", "outcome": "put back"}]}
    assert tool("restore", file, "--yes", "-o", "name", status=1).out == ""
    assert tool("purge", "stock", "--yes", "-o", "name").lines == ["stock"]
    assert tool("--json", "ls").json["summary"]["leased"] == 1
    process = tool.start("watch", "--labels", "-o", "name")
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["alive\n", "alive\n"]
    process.kill()
    process.communicate()


def test_topWithJson_isRefused(tool: Tool) -> None:
    assert "--top is a table" in tool("watch", "--top", "--json", status=2).err


def with_root(own_etcd: EtcdFactory) -> Etcd:
    etcd = own_etcd()
    Plants(etcd.gateway, b"/n/").agent("alpha")
    etcd.ctl("user", "add", "root:rootpass")
    etcd.ctl("user", "grant-role", "root", "root")
    etcd.ctl("auth", "enable")
    return etcd


def test_passwordIsAskedFor(
    own_etcd: EtcdFactory, tool_for: ToolFactory, screens: Callable[..., Screen]
) -> None:
    """On a terminal: it is not shown; Ctrl-D and Ctrl-C end it."""
    tool = tool_for(with_root(own_etcd), b"/n/")
    screen = screens(tool.environment, 100, 30)
    listing = tool.command("ls", "--user", "root")

    def asked(lines: list[str]) -> bool:
        return any(line.startswith("Password of root:") for line in lines)

    screen.run(*listing)
    screen.wait(asked, "it asks")
    screen.type("rootpass", "Enter")
    status, lines = screen.status()
    assert status == 0 and "rootpass" not in "".join(lines)
    assert any(line.startswith("alpha") for line in lines)
    for key, wanted in (("C-d", 2), ("C-c", 130)):
        screen.clear()
        screen.run(*listing)
        screen.wait(asked, "it asks again")
        screen.type("", key)
        status, lines = screen.status()
        assert status == wanted and "Traceback" not in "".join(lines), lines


def test_outputIsJsonWhateverTheNames(tool: Tool, plants: Plants) -> None:
    """Any byte but '/' may be in a name, and any byte in a label."""
    for number in range(1, 256):
        if number != ord("/"):
            plants.gateway.put(plants.namespace + b"/" + bytes([number]) + b"/", b"")
    plants.gateway.put(plants.namespace + b"/x/" + bytes(range(255, -1, -1)), b"x")
    listed = tool("ls", "--json")
    assert len(json.loads(listed.out)["agents"]) == 254
    assert listed.out.isascii() and len(listed.lines) == 1
    table = tool("ls")
    assert len(table.lines) == 255 and all(line.isprintable() for line in table.lines)
    shown = tool("get", "x")
    assert all(line.isprintable() for line in shown.lines)
    assert tool("get", "x", "--json").json["keys"]
    tool("doctor", "--json", status=1)
    plan = tool("purge", "--permanent", "--orphans", "--max", "300", "--json", status=1)
    assert len(plan.json["agents"]) == 254
