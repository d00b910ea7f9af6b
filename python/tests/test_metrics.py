# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What Prometheus is told, read by the parser of prometheus_client."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
from typing import Any

import nixl_md
from nixl_md import Agent
from nixl_md.aio import AsyncAgent
from nixl_md.metrics import _FIELDS, HasStats, StatsCollector
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.parser import text_string_to_metric_families

Options = dict[str, Any]


def read_openmetrics(registry: CollectorRegistry) -> Any:  # noqa: ANN401 - it has no types
    write: Any = exposition.generate_latest
    read: Any = parser.text_string_to_metric_families
    return read(write(registry).decode())


class Collected:
    """What was collected once: an agent that ticks in the background goes on counting."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.families = list(registry.collect())

    def collect(self) -> list[Any]:
        return self.families


def samples(live: CollectorRegistry) -> dict[tuple[str, str], float]:
    """In both formats the same."""
    registry = CollectorRegistry()
    registry.register(Collected(live))
    found = [
        {
            (each.name, each.labels["agent"]): each.value
            for family in families
            for each in family.samples
        }
        for families in (
            text_string_to_metric_families(generate_latest(registry).decode()),
            read_openmetrics(registry),
        )
    ]
    assert found[0] == found[1]
    return found[0]


def test_counters_of_two_agents(options: Options) -> None:
    agents: dict[str, HasStats] = {}
    registry = CollectorRegistry()
    registry.register(StatsCollector(agents))
    assert samples(registry) == {}
    with Agent("alpha", **options) as alpha, Agent(background=True, **options) as observer:
        agents.update({"alpha": alpha, 'b"\\\n': observer})
        alpha.start_heartbeat(2, 6).wait(30)
        alpha.publish(None, b"1").wait(30)
        observer.list().wait(30)
        told = samples(registry)
        stats = alpha.stats()
        assert told["nixl_md_ticks_total", "alpha"] == stats.ticks > 0
        assert told["nixl_md_connected", 'b"\\\n'] == 1
        assert told["nixl_md_lease_ttl_seconds", "alpha"] == 6
        assert (
            told["nixl_md_tick_cpu_total_seconds_total", "alpha"] == stats.tick_cpu_total_ns / 1e9
        )
        assert told["nixl_md_revision", "alpha"] == stats.revision
        assert len(told) == 2 * len(_FIELDS)
    # Closed.
    assert samples(registry) == {}


def test_every_counter_is_told() -> None:
    """But the number of a lease, which measures nothing."""
    names = {field.name for field in dataclasses.fields(nixl_md.Stats)}
    assert names - {"lease_id"} == {field for field, *_ in _FIELDS}


def test_of_an_async_agent(options: Options) -> None:
    async def main() -> None:
        agent = AsyncAgent("alpha", **options)
        registry = CollectorRegistry()
        registry.register(StatsCollector({"alpha": agent}, prefix="mine"))
        assert samples(registry) == {}
        async with agent:
            await agent.publish(None, b"1")
            assert samples(registry)["mine_connected", "alpha"] == 1
        assert samples(registry) == {}

    asyncio.run(asyncio.wait_for(main(), 60))


def test_the_package_does_not_need_it() -> None:
    script = (
        "import sys, nixl_md, nixl_md.aio, nixl_md.nixl; print('prometheus_client' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "False\n"
