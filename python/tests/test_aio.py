# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The same on asyncio."""

from __future__ import annotations

import asyncio
from typing import Any

import nixl_md
import pytest
from nixl_md import EventType
from nixl_md.aio import AsyncAgent

Options = dict[str, Any]


def test_two_agents_exchange_blobs(options: Options) -> None:
    async def main() -> list[EventType]:
        seen = []
        async with AsyncAgent("alpha", **options) as alpha, AsyncAgent("beta", **options) as beta:
            assert await alpha.start_heartbeat(2, 6) == 6
            waiting = asyncio.ensure_future(beta.fetch("alpha"))
            await asyncio.sleep(0.05)
            await alpha.publish("metadata", b"blob")
            assert await waiting == b"blob"
            assert [agent.name for agent in await beta.list()] == [b"alpha"]
            async for event in beta.watch("alpha"):
                seen.append(event.type)
                if event.type == EventType.SYNCED:
                    await alpha.invalidate()
                if event.type == EventType.GONE:
                    break
        return seen

    seen = asyncio.run(asyncio.wait_for(main(), 20))
    assert seen == [EventType.PUT, EventType.PUT, EventType.SYNCED, EventType.GONE]


def test_failures_and_cancellation(options: Options) -> None:
    async def main() -> None:
        async with AsyncAgent(**options) as agent:
            with pytest.raises(nixl_md.NotFound):
                await agent.fetch("nobody", wait=False)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(agent.fetch("nobody"), 0.1)
            await asyncio.sleep(0.1)
            assert agent.stats().operations_open == 0

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_watch_ends_with_its_loop(options: Options) -> None:
    async def main() -> None:
        async with AsyncAgent(**options) as agent:
            events = agent.watch(None)
            assert (await events.__anext__()).type == EventType.SYNCED
            await events.aclose()  # type: ignore[attr-defined]
            await asyncio.sleep(0.1)
            assert agent.stats().watches_open == 0

    asyncio.run(asyncio.wait_for(main(), 20))


def test_many_fetches_wait_at_once(options: Options) -> None:
    async def main() -> None:
        async with AsyncAgent("alpha", **options) as alpha, AsyncAgent(**options) as peer:
            waiting = [asyncio.ensure_future(peer.fetch("alpha", f"l{i}")) for i in range(100)]
            await asyncio.sleep(0.1)
            await asyncio.gather(*(alpha.publish(f"l{i}", b"%d" % i) for i in range(100)))
            assert await asyncio.gather(*waiting) == [b"%d" % i for i in range(100)]

    asyncio.run(asyncio.wait_for(main(), 20))
