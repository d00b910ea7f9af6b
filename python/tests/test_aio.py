# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The same on asyncio."""

from __future__ import annotations

import asyncio
import functools
import math
import os
import socket
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
            assert [agent.name for agent in await beta.list()] == ["alpha"]
            async for event in beta.watch("alpha"):
                seen.append(event.type)
                if event.type == EventType.SYNCED:
                    await alpha.invalidate()
                if event.type == EventType.GONE:
                    break
        return seen

    seen = asyncio.run(asyncio.wait_for(main(), 60))
    assert seen == [EventType.PRESENT, EventType.PUT, EventType.SYNCED, EventType.GONE]


def test_failures_and_cancellation(options: Options) -> None:
    async def main() -> None:
        async with AsyncAgent(**options) as agent:
            with pytest.raises(nixl_md.NotFound):
                await agent.fetch("nobody", wait=False)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(agent.fetch("nobody"), 0.1)
            await asyncio.sleep(0.1)
            assert agent.stats().operations_open == 0

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_watch_ends_with_its_loop(options: Options) -> None:
    async def main() -> None:
        async with AsyncAgent(**options) as agent:
            events = agent.watch(None)
            assert (await events.__anext__()).type == EventType.SYNCED
            await events.aclose()  # type: ignore[attr-defined]
            await asyncio.sleep(0.1)
            assert agent.stats().watches_open == 0

    asyncio.run(asyncio.wait_for(main(), 60))


def test_many_fetches_wait_at_once(options: Options) -> None:
    async def main() -> None:
        async with AsyncAgent("alpha", **options) as alpha, AsyncAgent(**options) as peer:
            waiting = [
                asyncio.ensure_future(peer.fetch("alpha", f"l{i}", timeout=50)) for i in range(100)
            ]
            await asyncio.sleep(0.1)
            publish = functools.partial(alpha.publish, timeout=50)
            await asyncio.gather(*(publish(f"l{i}", b"%d" % i) for i in range(100)))
            assert await asyncio.gather(*waiting) == [b"%d" % i for i in range(100)]

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("how", ["close", "shutdown"])
def test_ended_by_the_application(options: Options, how: str) -> None:
    """Inside 'async with': leaving it is no error, and what has the efd's number next is let be."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        async with AsyncAgent("alpha", **options) as agent:
            await agent.publish("a", b"1")
            waiting = asyncio.ensure_future(agent.fetch("nobody", timeout=math.inf))
            await asyncio.sleep(0)
            number = agent.agent.fileno()
            if how == "close":
                agent.agent.close()
                os.dup2(ours.fileno(), number)
                is_readable = asyncio.Event()
                loop.add_reader(number, is_readable.set)
            else:
                agent.agent.shutdown(30)
            with pytest.raises(nixl_md.Canceled):
                await waiting
        assert agent.agent.closed
        if how == "close":
            theirs.send(b"x")
            await asyncio.wait_for(is_readable.wait(), 30)
            assert loop.remove_reader(number)
            os.close(number)
        ours.close()
        theirs.close()
        async with AsyncAgent(**options) as observer:
            assert [one.name for one in await observer.list()] == ["alpha"] * (how == "close")

    asyncio.run(asyncio.wait_for(main(), 60))


def test_closed_while_it_is_left(options: Options) -> None:
    """By another task: the one that leaves does not wait for what will not come."""

    async def main() -> None:
        agent = AsyncAgent("alpha", drain=3600, **options)
        async with agent:
            loop = asyncio.get_running_loop()
            # Nobody ticks: the shutdown does not end.
            loop.remove_reader(agent.agent.fileno())
            loop.call_later(0.1, agent.agent.close)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_callback_that_raises_shut_down_does_not_end_it(options: Options) -> None:
    """As one does that starts something while the agent is ending: it is reported, and what was
    published is withdrawn all the same."""
    reported: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, told: reported.append(told))
        async with AsyncAgent("alpha", **options) as agent:
            await agent.publish("a", b"1")
            agent.agent.fetch("nobody", on_done=lambda result: print(agent.agent.list()))
        async with AsyncAgent(**options) as observer:
            assert await observer.list() == []

    asyncio.run(asyncio.wait_for(main(), 60))
    assert [type(told["exception"]) for told in reported] == [nixl_md.ShutDown]
