# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Somebody who writes to etcd all the time, so that a fault always falls between two changes."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence

from etcd_server import Etcd
from gateway import GatewayError


class Writer:
    """Writes numbered values to one key through whichever member takes them."""

    def __init__(self, members: Sequence[Etcd], key: bytes, pause: float = 0.005) -> None:
        self.key = key
        self._members = members
        self._pause = pause
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        # When etcd had taken a value (monotonic): what can be had of it while faults last.
        self.times: list[float] = []

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def longest_pause(self, begin: float, end: float) -> float:
        """For how long nothing could be written; pauses that only begin or end in between
        included."""
        times = [begin, *self.times, end]
        pauses = [b - a for a, b in itertools.pairwise(sorted(times)) if b >= begin and a <= end]
        return max(pauses)

    def _run(self) -> None:
        number = 0
        position = 0
        while not self._stopping.wait(self._pause):
            number += 1
            member = self._members[position % len(self._members)]
            try:
                member.gateway.put(self.key, b"%d" % number, timeout=1.0)
                self.times.append(time.monotonic())
            except (GatewayError, OSError):
                # It may have been written or not: etcd's history tells.
                position += 1
