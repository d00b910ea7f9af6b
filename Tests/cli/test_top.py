# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""`nixl-md watch --top` in a real terminal, and colours."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from conftest import EtcdFactory, Plants, Tool, ToolFactory
from etcd_server import Etcd
from screen import Screen


@pytest.fixture
def etcd(etcd34: Etcd) -> Etcd:
    """The version makes no difference here."""
    return etcd34


def test_top_inAPipe_isRefused(tool: Tool) -> None:
    assert "needs a terminal" in tool("watch", "--top", status=2).err


def rows_of(lines: list[str]) -> dict[str, list[str]]:
    """The lines of the live table, by name."""
    start = next((n for n, line in enumerate(lines) if line.startswith("NAME")), len(lines))
    return {line.split()[0]: line.split()[1:] for line in lines[start + 1 :] if line.strip()}


def test_top(tool: Tool, plants: Plants, screens: Callable[..., Screen]) -> None:
    lease = plants.lease(600)
    for number in range(3):
        plants.agent(f"leased{number}", lease)
    plants.agent("stock")
    plants.orphan("left")
    screen = screens(tool.environment, 120, 20)
    screen.run(*tool.command("watch", "--top", "--interval", "0.2"))
    lines = screen.wait(lambda lines: len(rows_of(lines)) == 5, "all are there")
    titles = next(line for line in lines if line.startswith("NAME")).split()
    assert titles == ["NAME", "STATE", "LEFT", "TTL", "EVENT", "AGO", "LABELS", "REVISION"]
    rows = rows_of(lines)
    assert rows["stock"][0] == "permanent" and rows["left"][0] == "orphan"
    assert rows["leased0"][0] == "leased" and re.fullmatch(r"\d+m\d\ds", rows["leased0"][1])
    assert any("3 leased, 1 permanent, 1 orphan" in line for line in lines)
    # In place: what happens is on the same screen, and no line is there twice.
    plants.gateway.call("/v3/lease/revoke", {"ID": str(lease)})
    lines = screen.wait(lambda lines: rows_of(lines).get("leased1", [""])[0] == "gone", "gone")
    assert sum(line.startswith("NAME") for line in lines) == 1
    # Narrow: no line is longer than the terminal, none is broken, the least columns are gone.
    screen.resize(36, 12)
    lines = screen.wait(lambda lines: "REVISION" not in " ".join(lines), "redrawn")
    titles = next(line for line in lines if line.startswith("NAME")).split()
    assert titles[:2] == ["NAME", "STATE"] and "LABELS" not in titles
    assert set(rows_of(lines)) >= {"stock", "left"}
    screen.resize(140, 30)
    screen.wait(lambda lines: "REVISION" in " ".join(lines), "wide again")
    screen.interrupt()
    status, lines = screen.status()
    # The screen is the shell's again.
    assert status == 130 and not any(line.startswith("NAME") for line in lines)


def test_top_more_thanFit(tool: Tool, plants: Plants, screens: Callable[..., Screen]) -> None:
    """Agents with a problem come first; the others are counted. The id of the lease is odd, as for
    nixl_md's leases that never end: etcd is asked about such leases even if they are not shown."""
    lease = plants.lease(600, 0x7001)
    for number in range(40):
        plants.agent(f"a{number:02}", lease)
    plants.agent("stock")
    screen = screens(tool.environment, 80, 15)
    screen.run(*tool.command("watch", "--top", "--interval", "0.2"))
    lines = screen.wait(lambda lines: any("more; Ctrl-C ends" in x for x in lines), "cut")
    shown = len(rows_of(lines)) - 1
    assert f"... {41 - shown} more" in "\n".join(lines)
    assert next(iter(rows_of(lines))) == "stock"
    assert "40 leased, 1 permanent" in lines
    screen.interrupt()
    assert screen.status()[0] == 130


def test_top_contactLost(
    own_etcd: EtcdFactory,
    tool_for: ToolFactory,
    screens: Callable[..., Screen],
) -> None:
    etcd = own_etcd()
    Plants(etcd.gateway, b"/w/").agent("alpha")
    screen = screens(tool_for(etcd, b"/w/").environment, 100, 20)
    screen.run(*Tool.command("watch", "--top", "--interval", "0.2"))
    screen.wait(lambda lines: "alpha" in rows_of(lines), "it is there")
    etcd.kill()
    lines = screen.wait(
        lambda lines: (
            any("CONTACT_LOST" in x for x in lines) and any("not read" in x for x in lines)
        ),
        "it says so",
    )
    assert "alpha" in rows_of(lines), "what was known stays"
    etcd.start().wait_healthy()
    screen.wait(lambda lines: "in contact" in lines, "it is back")
    screen.interrupt()
    assert screen.status()[0] == 130


@pytest.mark.parametrize("color", ["yes", "no"])
def test_noColorVariable_turnsColorsOff(
    tool: Tool, plants: Plants, screens: Callable[..., Screen], color: str
) -> None:
    """https://no-color.org: any value that is not empty."""
    plants.agent("stock")
    environment = {**tool.environment, **({} if color == "yes" else {"NO_COLOR": "1"})}
    screen = screens(environment, 100, 20)
    screen.run(*tool.command("ls"))
    assert screen.status()[0] == 0
    row = next(x for x in screen.lines(colors=True) if "permanent" in x and "stock" in x)
    assert ("\x1b[" in row) == (color == "yes")
