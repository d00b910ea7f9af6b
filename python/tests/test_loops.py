# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Other event loops: anyio with AsyncAgent, trio with Agent and its efd."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import anyio
import nixl_md
import pytest
import trio
from nixl_md import Agent, EventType, Result
from nixl_md.aio import AsyncAgent

Options = dict[str, Any]


async def use(options: Options) -> None:
    """Publish, fetch that waits, watch, failure, cancellation, withdrawal."""
    async with AsyncAgent("alpha", **options) as alpha, AsyncAgent("beta", **options) as beta:
        assert await alpha.start_heartbeat(2, 6) == 6
        waiting = asyncio.ensure_future(beta.fetch("alpha", "late", timeout=60))
        with pytest.raises(nixl_md.NotFound):
            await beta.fetch("alpha", wait=False)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(beta.fetch("nobody", timeout=math.inf), 0.05)
        blobs = [bytes([number]) * 100_000 for number in range(8)]
        await asyncio.gather(*(alpha.publish(f"l{i}", blob) for i, blob in enumerate(blobs)))
        assert await asyncio.gather(*(beta.fetch("alpha", f"l{i}") for i in range(8))) == blobs
        await alpha.publish("late", b"1")
        assert await waiting == b"1"
        async for event in beta.watch("alpha", blobs=False):
            if event.type == EventType.SYNCED:
                await alpha.invalidate()
            if event.type == EventType.GONE:
                break


async def use_anyio(options: Options) -> None:
    with anyio.fail_after(60):
        await use(options)
        async with AsyncAgent("gamma", **options) as agent, anyio.create_task_group() as group:
            with anyio.move_on_after(0.1) as scope:
                await agent.fetch("nobody", timeout=60)
            assert scope.cancelled_caught
            group.start_soon(agent.publish, "a", b"1")
            assert await agent.fetch("gamma", "a") == b"1"


def test_anyio_on_asyncio(options: Options) -> None:
    anyio.run(use_anyio, options, backend="asyncio")


class TrioAgent:
    """All that trio needs: a task that sleeps on the efd, and an event for each operation."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    async def tick(self) -> None:
        while not self.agent.is_shut_down:
            await trio.lowlevel.wait_readable(self.agent.fileno())
            try:
                self.agent.tick()
            except nixl_md.ShutDown:
                return

    async def complete(self, start: Any, *arguments: Any, **options: Any) -> Result:  # noqa: ANN401
        is_done = trio.Event()
        operation = start(*arguments, on_done=lambda result: is_done.set(), **options)
        try:
            await is_done.wait()
        except trio.Cancelled:
            operation.cancel()
            raise
        result: Result = operation.result()
        return result


def test_trio(options: Options) -> None:
    async def main() -> None:
        with trio.fail_after(60), Agent("alpha", **options) as agent:
            async with trio.open_nursery() as nursery:
                ours = TrioAgent(agent)
                nursery.start_soon(ours.tick)
                await ours.complete(agent.start_heartbeat, 2, 6)
                for number in range(20):
                    await ours.complete(agent.publish, "a", b"%d" % number)
                assert (await ours.complete(agent.fetch, "alpha", "a")).blob == b"19"
                with trio.move_on_after(0.1) as scope:
                    await ours.complete(agent.fetch, "nobody", timeout=60)
                assert scope.cancelled_caught
                agent.shutdown(30)
        assert agent.is_shut_down
        with Agent(**options) as observer:
            assert observer.list().wait(30).agents == []

    trio.run(main)
