# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""`nixl-md ls`"""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable

from conftest import EtcdFactory, Plants, Tool, ToolFactory
from etcd_server import Etcd
from gateway_proxy import ForgetfulGateway
from screen import Screen


def planted(plants: Plants) -> dict[str, str]:
    """One agent of each state; name and state."""
    lease = plants.lease(600)
    plants.agent("leased", lease, b"x" * 1000)
    plants.agent("stock")
    plants.agent("kept", plants.never_ending())
    plants.orphan("left")
    plants.mixed("mixed", lease)
    return {
        "kept": "permanent",
        "leased": "leased",
        "left": "orphan",
        "mixed": "mixed",
        "stock": "permanent",
    }


def test_states(tool: Tool, plants: Plants) -> None:
    wanted = planted(plants)
    answer = tool("ls")
    header, *rows = answer.lines
    titles = ["NAME", "STATE", "LEASE", "TTL", "LEFT", "LABELS", "BYTES", "REVISION"]
    assert header.split() == titles
    assert {row.split()[0]: row.split()[1] for row in rows} == wanted
    # In a pipe the summary is beside the answer.
    assert answer.err == "1 leased, 2 permanent, 1 orphan, 1 mixed\n"
    assert "\x1b" not in answer.out + answer.err


def test_json(tool: Tool, plants: Plants) -> None:
    wanted = planted(plants)
    answer = tool("ls", "--json").json
    agents = {agent["name"]: agent for agent in answer["agents"]}
    assert {name: agent["state"] for name, agent in agents.items()} == wanted
    assert answer["summary"] == {"leased": 1, "permanent": 2, "orphan": 1, "mixed": 1}
    leased = agents["leased"]
    assert leased["ttl"] == 600 and 500 < leased["left"] <= 600
    assert leased["bytes"] == 1000 and leased["labels"] == ["metadata"]
    assert leased["lease"] == f"{plants.gateway.range(plants.key('leased'))[0].lease:x}"
    assert agents["kept"]["ttl"] is None and agents["stock"]["lease"] == "0"
    again = tool("ls", "-o", "json").json
    assert [agent["name"] for agent in again["agents"]] == list(agents)


def test_names_and_filters(tool: Tool, plants: Plants) -> None:
    planted(plants)
    assert tool("ls", "-o", "name").lines == ["kept", "leased", "left", "mixed", "stock"]
    assert tool("ls", "-o", "name", "--state", "orphan,mixed").lines == ["left", "mixed"]
    assert tool("ls", "-o", "name", "le*").lines == ["leased", "left"]
    assert tool("ls", "-o", "name", "nobody", status=1).out == ""
    assert "orphan" in tool("ls", "--state", "dead", status=2).err


def test_wide_hasMoreColumns(tool: Tool, plants: Plants) -> None:
    plants.agent("stock")
    header = tool("ls", "-o", "wide").lines[0].split()
    assert header[-3:] == ["CREATED", "KEYS", "NAMESPACE"]


def test_oddLeaseWithAShortTtl_isNotPermanent(tool: Tool, plants: Plants) -> None:
    """etcd chooses ids by chance: the lowest bit is a hint, the granted TTL decides."""
    plants.agent("guarded", plants.lease(600, int.from_bytes(os.urandom(7), "big") | 1))
    assert tool("ls", "--json").json["agents"][0]["state"] == "leased"


def test_otherSpelling_isCountedAndShownByAll(
    tool_for: ToolFactory, etcd: Etcd, plants: Plants, namespace: bytes
) -> None:
    """The footer counts those under another spelling, and -A shows them."""
    plants.agent("ours")
    other = Plants(etcd.gateway, namespace.rstrip(b"/"))
    other.agent("theirs")
    other.agent("others")
    tool = tool_for(etcd, namespace)
    spelled = namespace.rstrip(b"/").decode()
    answer = tool("ls")
    assert [row.split()[0] for row in answer.lines[1:]] == ["ours"]
    assert answer.err == f"1 permanent, 2 under {spelled} (another spelling)\n"
    rows = tool("ls", "-A", "--json").json["agents"]
    assert [(row["name"], row["namespace"]) for row in rows] == [
        ("ours", namespace.decode()),
        ("others", spelled),
        ("theirs", spelled),
    ]


def test_namespaceBelow_isNoAgent(tool: Tool, plants: Plants, namespace: bytes) -> None:
    """Agents of NAMESPACE/prod look like labels of an agent 'prod'."""
    plants.agent("ours")
    Plants(plants.gateway, namespace + b"/prod").agent("alpha")
    answer = tool("ls")
    assert [row.split()[0] for row in answer.lines[1:]] == ["ours"]
    assert "1 namespace below this one" in answer.err and "//prod" in answer.err
    # A label that ends so hides nobody who is present.
    plants.gateway.put(plants.key("ours", "label/"), b"x")
    assert tool("ls", "-o", "name").lines == ["ours"]


def test_wrongNamespace_namesThoseWithAgents(
    tool_for: ToolFactory, etcd: Etcd, plants: Plants, namespace: bytes
) -> None:
    """A namespace of the other spelling, and any other."""
    plants.agent("ours")
    spelled = namespace.rstrip(b"/").decode()
    answer = tool_for(etcd, spelled.encode())("ls")
    assert answer.out == "" and namespace.decode() in answer.err
    assert "set --namespace or NIXL_ETCD_NAMESPACE" in answer.err


def test_elsewhere_isNamed(tool_for: ToolFactory, own_etcd: EtcdFactory, version: str) -> None:
    etcd = own_etcd(version)
    Plants(etcd.gateway, b"/nixl/agents/").agent("ours")
    answer = tool_for(etcd, b"/nixl/agentz/")("ls")
    assert "no agent under /nixl/agentz/" in answer.err
    assert "Agents are under /nixl/agents/: set --namespace" in answer.err


def test_hostileNames_doNotReachTheTerminal(tool: Tool, plants: Plants) -> None:
    """A store may hold what a terminal obeys, and what is no UTF-8."""
    names = [b"\x1b[2Jboo", b"\xff\xfe", "größe".encode(), b"a\nb"]
    for name in names:
        plants.gateway.put(plants.namespace + b"/" + name + b"/", b"")
    answer = tool("ls")
    shown = {row.split()[0] for row in answer.lines[1:]}
    assert shown == {"\\x1b[2Jboo", "\\xff\\xfe", "größe", "a\\nb"}
    agents = tool("ls", "--json").json["agents"]
    raw = {base64.b64decode(a["name_base64"]) for a in agents if "name_base64" in a}
    assert raw == {b"\xff\xfe"}


def test_hugeNames_doNotMakeAllLinesLong(tool: Tool, plants: Plants) -> None:
    """etcd takes a key of more than a megabyte; the library leaves such an agent out."""
    plants.agent("alpha")
    plants.gateway.put(plants.key("n" * 200_000), b"")
    lines = tool("ls").lines
    assert [line.split()[1] for line in lines] == ["STATE", "permanent", "permanent"]
    assert len(lines[1]) < 400 and lines[2].startswith("n" * 200_000)
    assert all(len(line) < 500 for line in tool("doctor", status=1).lines)
    tool("get", "n" * 100_000, status=1)


def test_tokensForgottenMeanwhile(tool: Tool, plants: Plants, etcd: Etcd) -> None:
    """Between questions about leases: another token is fetched, and each lease is asked for."""
    for number in range(30):
        plants.agent(f"a{number:02}", plants.lease())
    with ForgetfulGateway(etcd.own_port, "/lease/timetolive", 7) as proxy:
        agents = tool("ls", "--json", "--gateway", proxy.endpoint).json["agents"]
    assert len(agents) == 30 and all(500 < agent["left"] <= 600 for agent in agents)
    assert proxy.count > 30


def test_narrowTerminals(tool: Tool, plants: Plants, screens: Callable[..., Screen]) -> None:
    """No line is longer than the terminal; name and state are there to the last."""
    plants.agent("a-name-that-is-longer-than-the-terminal-is-wide", plants.lease())
    plants.agent("stock")
    screen = screens(tool.environment, 100, 30)
    for columns in (100, 60, 40, 24):
        screen.resize(columns, 30)
        screen.clear()
        screen.run(*tool.command("ls"))
        status, _ = screen.status()
        # Joined as tmux has wrapped them: what is as long as it was printed.
        lines = [line for line in screen.unwrapped() if line.startswith(("NAME", "a-n", "stock"))]
        assert status == 0 and len(lines) == 3, lines
        assert all(len(line) <= columns for line in lines), (columns, lines)
        assert "permanent" in lines[2]


def test_largeBlobs_areNotAllRead(
    own_etcd: EtcdFactory, tool_for: ToolFactory, version: str
) -> None:
    """Values are read for their sizes only, up to 64 MiB; all agents are listed."""
    etcd = own_etcd(version)
    plants = Plants(etcd.gateway, b"/big/")
    lease = plants.lease()
    for number in range(70):
        plants.agent(f"a{number:02}", lease, b"x" * 1_200_000)
    tool = tool_for(etcd, b"/big/")
    agents = tool("ls", "--json").json["agents"]
    assert [agent["name"] for agent in agents] == [f"a{number:02}" for number in range(70)]
    assert {agent["state"] for agent in agents} == {"leased"}
    assert agents[0]["bytes"] == 1_200_000 and agents[-1]["bytes"] is None


def test_headOfAPipe_endsQuietly(tool: Tool, plants: Plants) -> None:
    for number in range(3000):
        if number % 60 == 0:
            pairs = [(plants.key(f"agent{number + n:05}"), b"") for n in range(60)]
            plants.gateway.put_all(pairs)
    command = " ".join(Tool.command("ls")) + " | head -1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        env=tool.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith("NAME") and "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
