# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""How much slower this machine is just now than the one on which limits of CPU time were set, by a
loop of known cost: neighbours that share its caches and cores make every instruction slower, and
that is not the library's doing."""

from __future__ import annotations

import statistics
import time

# Of `_loop`, the least of 200 runs on that machine.
_REFERENCE_MS = 3.5


def _loop() -> float:
    """Objects of all kinds, made, searched and dropped; its CPU time in ms."""
    start = time.thread_time()
    made = [(b"%d" % number, number) for number in range(10_000)]
    found = dict(made)
    for key, number in made:
        assert found[key] == number
    made.sort()
    return (time.thread_time() - start) * 1000


def slowness() -> float:
    """At least 1."""
    return max(1.0, statistics.median(_loop() for _ in range(7)) / _REFERENCE_MS)
