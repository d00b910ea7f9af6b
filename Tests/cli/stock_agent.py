# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Puts keys as a stock agent of NIXL does, on no lease, then does what its lines of input say, and
prints the signals it gets. Run as a command of `nixl-md guard`.

Usage: stock_agent.py PORT NAMESPACE NAME"""

from __future__ import annotations

import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from gateway import Gateway

port, namespace, name = int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3].encode()
gateway = Gateway("127.0.0.1", port)
prefix = namespace + b"/" + name + b"/"


def tell(text: str) -> None:
    os.write(1, text.encode() + b"\n")


for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda got, _: tell(f"signal {got}"))

gateway.put(prefix, b"")
gateway.put(prefix + b"metadata", b"blob")
tell(f"ready {os.getpid()}")
while line := sys.stdin.readline():
    words = line.split()
    if words[0] == "put":
        gateway.put(prefix + words[1].encode(), words[2].encode())
    elif words[0] == "many":
        for count in range(int(words[1])):
            gateway.put(prefix + b"part%03d" % count, b"x" * int(words[2]))
    elif words[0] == "storm":
        for count in range(int(words[1])):
            gateway.put(prefix + b"metadata", b"%d" % count)
            time.sleep(0.01)
    elif words[0] == "invalidate":
        gateway.delete_prefix(prefix)
    elif words[0] == "exit":
        sys.exit(int(words[1]))
    tell("done " + words[0])
