# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""`nixl-md get`"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conftest import Plants, Tool
from etcd_server import Etcd
from screen import Screen

BLOB = bytes(range(256)) * 20


@pytest.fixture
def etcd(etcd34: Etcd) -> Etcd:
    """The version makes no difference here."""
    return etcd34


def test_keys(tool: Tool, plants: Plants) -> None:
    lease = plants.lease(600)
    plants.agent("alpha", lease, b"nixl\x00\x1b[2J" + BLOB)
    answer = tool("get", "alpha")
    assert "state    leased" in answer.out and f"lease    {lease:x}, TTL 10m00s, left" in answer.out
    rows = [line.split() for line in answer.lines[answer.lines.index("") + 2 :]]
    assert rows[0][:3] == ["(presence)", f"{lease:x}", "0"]
    assert rows[1][:3] == ["metadata", f"{lease:x}", str(len(BLOB) + 9)]
    assert "nixl..[2J" in rows[1][-1] and "\x1b" not in answer.out


def test_json(tool: Tool, plants: Plants) -> None:
    revision = plants.agent("alpha", 0, b"blob")
    plants.gateway.put(plants.key("alpha", "part/1"), b"partial")
    answer = tool("get", "alpha", "--json").json
    assert answer["name"] == "alpha" and answer["state"] == "permanent"
    keys = {key["label"]: key for key in answer["keys"]}
    assert set(keys) == {"", "metadata", "part/1"}
    assert keys["metadata"]["head"] == "blob" and keys["metadata"]["revision"] == revision
    one = tool("get", "alpha", "part/1", "--json").json
    assert [key["label"] for key in one["keys"]] == ["part/1"]
    assert tool("get", "alpha", "-o", "name").lines == ["metadata", "part/1"]


def test_raw(tool: Tool, plants: Plants) -> None:
    plants.agent("alpha", 0, BLOB)
    plants.gateway.put(plants.key("alpha", "part"), b"other")
    assert tool("get", "alpha", "--raw").out.encode("utf-8", "surrogateescape") == BLOB
    assert tool("get", "alpha", "part", "--raw").out == "other"


def test_absentAgentOrLabel_isAnError(tool: Tool, plants: Plants) -> None:
    plants.agent("alpha")
    for arguments in (["nobody"], ["alpha", "nothing"], ["nobody", "--raw"]):
        answer = tool("get", *arguments, status=1)
        assert answer.out == "" and "there is no agent" in answer.err and "ls -A" in answer.err
    assert "no name of an agent" in tool("get", "a/b", status=2).err


def test_raw_neverToATerminal(tool: Tool, plants: Plants, screens: Callable[..., Screen]) -> None:
    plants.agent("alpha", 0, b"\x1b[2Jboo")
    screen = screens(tool.environment)
    screen.run(*tool.command("get", "alpha", "--raw"))
    status, lines = screen.status()
    assert status == 2 and any("Redirect it" in line for line in lines)
