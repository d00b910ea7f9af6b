# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The agents that the pages of nixl-md show, on the etcd of $NIXL_ETCD_ENDPOINTS; or the one that
is named. Prints a line when they are there, and keeps them alive until it is killed."""

from __future__ import annotations

import sys
import time

from nixl_md import Agent

LEASED = ("decode-0", "decode-1", "decode-2", "prefill-0", "prefill-1")


def main() -> None:
    agents = []
    for name in sys.argv[1:] or (*LEASED, "bench"):
        agent = Agent(name)
        if name != "bench":
            agent.start_heartbeat().wait()
        agent.publish("metadata", b"x" * (400 if name == "bench" else 1800)).wait()
        agents.append(agent)
    print("there", flush=True)
    while True:
        for agent in agents:
            agent.tick()
        time.sleep(0.05)


main()
