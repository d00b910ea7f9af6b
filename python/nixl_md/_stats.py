# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The counters of an agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import _capi


@dataclass(frozen=True)
class Stats:
    """nixl_md_stats_t, where each field is explained; times in the units of their names."""

    ticks: int
    ticks_idle: int
    tick_cpu_max_ns: int
    tick_wall_max_ns: int
    tick_cpu_total_ns: int
    ticks_tls_setup: int
    tick_tls_setup_cpu_max_ns: int
    callbacks: int
    requests: int
    requests_failed: int
    bytes_sent: int
    bytes_received: int
    connects: int
    connects_failed: int
    renewals: int
    renewals_unanswered: int
    leases_lost: int
    restores: int
    events: int
    resyncs: int
    names_left_out: int
    resolver_threads: int
    operations_open: int
    watches_open: int
    callbacks_queued: int
    connected: int
    lease_id: int
    lease_ttl_ms: int
    revision: int


def stats_of(raw: Any) -> Stats:  # noqa: ANN401 - a ctypes structure
    """A copy of a nixl_md_stats_t."""
    return Stats(**{name: getattr(raw, name) for name in [*_capi.STATS_FIELDS, "revision"]})
