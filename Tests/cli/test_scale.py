# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""10,000 agents, each on a lease of its own."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator

import pytest
from nixl_md.cli.gateway import b64

from conftest import Answer, Figure, Plants, ToolFactory
from etcd_server import VERSIONS, Etcd

AGENTS = 10_000
# In one transaction; etcd takes 128 operations.
BATCH = 50
LIST_SECONDS = 2.0
LIST_WITH_TIMES_SECONDS = 5.0
# The tool's processor time, in so many starts of the tool.
STARTS = {LIST_SECONDS: 4.0, LIST_WITH_TIMES_SECONDS: 7.0}
BLOB = bytes(range(256)) * 4


@pytest.fixture(scope="module", params=VERSIONS)
def fleet(request: pytest.FixtureRequest) -> Iterator[Plants]:
    etcd = Etcd(request.param)
    try:
        etcd.start().wait_healthy()
        plants = Plants(etcd.gateway, b"/many/")
        identities = [2 * number for number in range(1, AGENTS + 1)]
        bodies = [{"TTL": "3600", "ID": str(lease)} for lease in identities]
        etcd.gateway.calls("/v3/lease/grant", bodies)
        requests = []
        for first in range(0, AGENTS, BATCH):
            operations = []
            for number in range(first, first + BATCH):
                name, lease = f"agent{number:05}", identities[number]
                operations += [
                    put(plants.key(name), b"", lease),
                    put(plants.key(name, "metadata"), BLOB, lease),
                ]
            requests.append({"success": operations})
        etcd.gateway.calls("/v3/kv/txn", requests)
        yield plants
    finally:
        etcd.close()


def put(key: bytes, value: bytes, lease: int) -> dict[str, object]:
    return {"request_put": {"key": b64(key), "value": b64(value), "lease": str(lease)}}


def processor_seconds(run: Callable[[], object]) -> float:
    """Counts the children that end meanwhile, all of which are this process's."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(
    ("arguments", "bound"),
    [(["--no-ttl"], LIST_SECONDS), ([], LIST_WITH_TIMES_SECONDS)],
    ids=["names", "times-left"],
)
def test_ls(
    fleet: Plants,
    tool_for: ToolFactory,
    figure: Figure,
    request: pytest.FixtureRequest,
    arguments: list[str],
    bound: float,
) -> None:
    """As an operator waits for it: the interpreter's start and all else counted. The second figure
    is the tool's processor time, in starts of the same interpreter with the same modules: how busy
    the machine is and how fast it is makes them alike slower."""
    tool = tool_for(None, b"/many/")
    tool.environment["NIXL_ETCD_ENDPOINTS"] = f"127.0.0.1:{fleet.gateway._port}"
    start = min(processor_seconds(lambda: tool("ls", "--help")) for _ in range(3))
    begin = time.monotonic()
    answers: list[Answer] = []
    used = processor_seconds(lambda: answers.append(tool("ls", *arguments)))
    what = f"ls of {AGENTS} agents {' '.join(arguments)}"
    figure(what, begin, time.monotonic(), bound)
    (answer,) = answers
    most = STARTS[bound] * start
    request.node.user_properties.append(("figure", (f"{what}: processor", used, most, 0.0)))
    assert used <= most, f"{used:.2f} s of processor, a start takes {start:.2f} s"
    assert len(answer.lines) == AGENTS + 1 and answer.err == f"{AGENTS} leased\n"
    row = answer.lines[1].split()
    assert row[:3] == ["agent00000", "leased", "2"]
    assert row[3:5] == (["-", "-"] if arguments else ["60m00s", row[4]])
    assert row[4] == "-" or row[4].startswith("5")


def test_json(fleet: Plants, tool_for: ToolFactory) -> None:
    tool = tool_for(None, b"/many/")
    tool.environment["NIXL_ETCD_ENDPOINTS"] = f"127.0.0.1:{fleet.gateway._port}"
    agents = json.loads(tool("ls", "--json").out)["agents"]
    assert len(agents) == AGENTS
    assert [agent["lease"] for agent in agents] == [f"{2 * n:x}" for n in range(1, AGENTS + 1)]
    assert all(3000 < agent["left"] <= 3600 and agent["bytes"] == len(BLOB) for agent in agents)
