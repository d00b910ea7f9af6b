# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The same work with etcd-client-py (PyPI: a Rust client behind asyncio).

Usage: etcd_client_bench.py ENDPOINT NAMESPACE publish|fetch|event SIZE COUNT"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import etcd_client

WARM_UP = 20


def print_figures(cpu: int, latencies: list[int]) -> None:
    print(json.dumps({"cpu_ns": cpu, "latency_ns": latencies}))


async def timed(once: Any, count: int) -> None:
    for _ in range(WARM_UP):
        await once()
    latencies = []
    before = time.process_time_ns()
    for _ in range(count):
        start = time.monotonic_ns()
        await once()
        latencies.append(time.monotonic_ns() - start)
    print_figures(time.process_time_ns() - before, latencies)


async def events(client: Any, key: bytes, count: int) -> None:
    """A blob begins with the time at which it was written."""
    ready = etcd_client.CondVar()
    watch = client.watch(key, ready_event=ready)

    async def tell() -> None:
        await ready.wait()
        print("ready", flush=True)

    telling = asyncio.create_task(tell())
    latencies: list[int] = []
    before = seen = 0
    async for event in watch:
        now = time.monotonic_ns()
        seen += 1
        if seen > WARM_UP:
            latencies.append(now - int.from_bytes(event.value[:8], "little"))
        elif seen == WARM_UP:
            before = time.process_time_ns()
        if len(latencies) == count:
            break
    await telling
    print_figures(time.process_time_ns() - before, latencies)


async def main(endpoint: str, namespace: str, work: str, size: int, count: int) -> None:
    async with etcd_client.Client([endpoint]).connect() as client:
        key = f"{namespace}/bench/l".encode()
        blob = bytes(size)
        if work == "publish":
            await timed(lambda: client.put(key, blob), count)
        elif work == "fetch":
            await client.put(key, blob)
            await timed(lambda: client.get(key), count)
        else:
            await events(client, f"{namespace}/writer/l".encode(), count)


if __name__ == "__main__":
    endpoint, namespace, work, size, count = sys.argv[1:]
    asyncio.run(main(endpoint, namespace, work, int(size), int(count)))
