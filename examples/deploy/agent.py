#!/usr/bin/env python3
# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""An agent for a service manager: its name comes from AGENT_NAME, it prints who comes and goes, and
SIGTERM makes it withdraw its keys before it ends.

etcd: NIXL_ETCD_ENDPOINTS, e.g. https://etcd-client:2379
"""

from __future__ import annotations

import os
import signal
import time

from nixl_md import Agent, Event

PERIOD = 0.1
# What the service manager allows for the end must be longer: terminationGracePeriodSeconds,
# stop_grace_period, TimeoutStopSec.
DRAIN = 5.0


def show(event: Event) -> None:
    # A name may hold bytes that are no UTF-8.
    agent = (event.agent or "").encode("utf-8", "backslashreplace").decode()
    print(event.type.name, agent, flush=True)


def main() -> None:
    stops: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: stops.append(number))
    name = os.environ["AGENT_NAME"]
    with Agent(name, on_event=show, drain=DRAIN) as agent:
        agent.start_heartbeat()
        agent.publish("metadata", f"metadata of {name}".encode())
        agent.watch(None, show)
        while not stops:
            agent.tick()
            time.sleep(PERIOD)


if __name__ == "__main__":
    main()
