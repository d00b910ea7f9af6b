#!/usr/bin/env python3
# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""An agent with a plain tick loop: it does its own work and ticks in between.

etcd: NIXL_ETCD_ENDPOINTS, e.g. 127.0.0.1:2379
"""

from __future__ import annotations

import argparse
import math
import signal
import time

from nixl_md import Agent, Event, Result, ShutDown

PERIOD = 0.1


def show(event: Event) -> None:
    size = len(event.blob or b"")
    # A name may hold bytes that are no UTF-8.
    names = f"{event.agent} {event.label}".encode("utf-8", "backslashreplace").decode()
    print(event.type.name, names, size, flush=True)


def fetched(result: Result) -> None:
    if result.blob is not None:
        print("fetched", result.blob.decode("utf-8", "replace"), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--interval", type=float, help="of the heartbeat, seconds")
    parser.add_argument("--ttl", type=float, help="of the lease, seconds")
    arguments = parser.parse_args()

    stops: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: stops.append(number))

    agent = Agent(arguments.name, on_event=show)
    try:
        agent.start_heartbeat(arguments.interval, arguments.ttl)
        agent.publish("metadata", f"metadata of {arguments.name}".encode())
        agent.watch(arguments.peer, show)
        agent.fetch(arguments.peer, timeout=math.inf, on_done=fetched)
        while not stops:
            agent.tick()
            time.sleep(PERIOD)
        agent.shutdown(2)
        while True:
            agent.tick()
            time.sleep(PERIOD)
    except ShutDown:
        pass
    finally:
        agent.close()


if __name__ == "__main__":
    main()
