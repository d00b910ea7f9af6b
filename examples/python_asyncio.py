#!/usr/bin/env python3
# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The same agent on asyncio: the event loop sleeps on the efd (loop.add_reader).

etcd: NIXL_ETCD_ENDPOINTS, e.g. 127.0.0.1:2379
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import signal

from nixl_md import Event
from nixl_md.aio import AsyncAgent


def show(event: Event) -> None:
    size = len(event.blob or b"")
    # A name may hold bytes that are no UTF-8.
    names = f"{event.agent} {event.label}".encode("utf-8", "backslashreplace").decode()
    print(event.type.name, names, size, flush=True)


async def follow(agent: AsyncAgent, peer: str) -> None:
    async for event in agent.watch(peer):
        show(event)


async def fetch(agent: AsyncAgent, peer: str) -> None:
    blob = await agent.fetch(peer, timeout=math.inf)
    print("fetched", blob.decode("utf-8", "replace"), flush=True)


async def run(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncAgent(arguments.name, on_event=show) as agent:
        tasks = [
            asyncio.ensure_future(follow(agent, arguments.peer)),
            asyncio.ensure_future(fetch(agent, arguments.peer)),
        ]
        await agent.start_heartbeat(arguments.interval, arguments.ttl, timeout=math.inf)
        await agent.publish("metadata", f"metadata of {arguments.name}".encode(), timeout=math.inf)
        await stop.wait()
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--interval", type=float, help="of the heartbeat, seconds")
    parser.add_argument("--ttl", type=float, help="of the lease, seconds")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
