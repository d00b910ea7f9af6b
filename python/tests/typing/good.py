# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What a type checker accepts, under --strict."""

from __future__ import annotations

import math

from nixl_md import Agent, Event, EventType, Operation, PresentAgent, Result, Stats, Watch
from nixl_md.aio import AsyncAgent


def done(result: Result) -> None:
    blob: bytes | None = result.blob
    print(blob, result.ttl + 1)


def event(told: Event) -> None:
    if told.type == EventType.PUT:
        name: str = told.agent + told.label
        print(name)


def use() -> None:
    endpoints = ["127.0.0.1:2379", "127.0.0.1:2380"]
    with Agent("alpha", endpoints=endpoints, on_event=event, background=True) as agent:
        operation: Operation = agent.publish(None, bytearray(b"1"), timeout=math.inf, on_done=done)
        revision: int = operation.wait(5).revision
        watch: Watch = agent.watch(b"beta", event, blobs=True)
        agents: list[PresentAgent] = agent.list().wait().agents
        names: list[str] = [each.name for each in agents]
        stats: Stats = agent.stats()
        print(revision, watch.ended, names, stats.ticks + 1)


async def use_async() -> None:
    async with AsyncAgent("alpha", endpoints="127.0.0.1:2379", drain=1) as agent:
        ttl: float = await agent.start_heartbeat(5, 15)
        revision: int = await agent.publish("a", memoryview(b"1"))
        blob: bytes = await agent.fetch("beta", wait=False, timeout=3)
        async for told in agent.watch(None):
            event(told)
        print(ttl, revision, blob, agent.stats().lease_id)
