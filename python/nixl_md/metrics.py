# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The counters of agents for Prometheus. It needs prometheus_client: pip install prometheus-client.

    from prometheus_client import REGISTRY
    REGISTRY.register(StatsCollector({"alpha": agent}))

Reading them takes a lock for some microseconds and waits for no tick. An agent that is closed is
left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ._errors import NixlMDError
from ._stats import Stats


class HasStats(Protocol):
    """An Agent, an AsyncAgent."""

    def stats(self) -> Stats: ...


# The field, what Prometheus is told, and whether it only grows. Times are seconds there.
_FIELDS = (
    ("ticks", "Ticks", True),
    ("ticks_idle", "Ticks with nothing to do", True),
    ("tick_cpu_max_ns", "CPU time of the longest tick", False),
    ("tick_wall_max_ns", "Wall time of the longest tick", False),
    ("tick_cpu_total_ns", "CPU time of all ticks", True),
    ("ticks_tls_setup", "Ticks that may have loaded a TLS trust store", True),
    ("tick_tls_setup_cpu_max_ns", "CPU time of the longest of these", False),
    ("callbacks", "Callbacks run", True),
    ("requests", "Requests sent to etcd", True),
    ("requests_failed", "Requests answered with an error or not at all", True),
    ("bytes_sent", "Payload bytes sent", True),
    ("bytes_received", "Payload bytes received", True),
    ("connects", "Connections that answered", True),
    ("connects_failed", "Connections that were lost or never answered", True),
    ("renewals", "Renewals of the lease that were answered", True),
    ("renewals_unanswered", "Silences in which a renewal of the lease was owed", True),
    ("leases_lost", "Leases that ran out while the process lived", True),
    ("restores", "Times that everything was put back", True),
    ("events", "Events of watches", True),
    ("resyncs", "Times that a watch was read again", True),
    ("names_left_out", "Keys left out because a name is over its limit", True),
    ("resolver_threads", "Helper threads started to resolve a name", True),
    ("operations_open", "Open operations, watches included", False),
    ("watches_open", "Open watches", False),
    ("callbacks_queued", "Callbacks that wait for a tick", False),
    ("connected", "1 while an etcd member answers", False),
    ("lease_ttl_ms", "TTL of the lease as granted; 0: there is none", False),
    ("revision", "Highest revision of etcd seen", False),
)
_UNITS = {"_ns": 1e9, "_ms": 1e3}


class StatsCollector(Collector):
    """Exports `stats()` of some agents, by the label `agent`. The mapping may change later."""

    def __init__(self, agents: Mapping[str, HasStats], prefix: str = "nixl_md") -> None:
        self._agents = agents
        self._prefix = prefix

    def describe(self) -> Iterator[Metric]:
        """The names of the metrics, so that a registry need not read an agent."""
        return iter([self._family(*field) for field in _FIELDS])

    def collect(self) -> Iterator[Metric]:
        found: dict[str, Stats] = {}
        for name, agent in list(self._agents.items()):
            try:
                found[name] = agent.stats()
            except (NixlMDError, RuntimeError):
                # It is closed, or not entered yet.
                continue
        for field, text, is_counter in _FIELDS:
            family = self._family(field, text, is_counter)
            divisor = _UNITS.get(field[-3:], 1)
            for name, stats in found.items():
                family.add_metric([name], getattr(stats, field) / divisor)
            yield family

    def _family(
        self, field: str, text: str, is_counter: bool
    ) -> CounterMetricFamily | GaugeMetricFamily:
        kind = CounterMetricFamily if is_counter else GaugeMetricFamily
        name = f"{self._prefix}_{field}"
        if field[-3:] in _UNITS:
            name = f"{name[:-3]}_seconds"
        return kind(name, text, labels=["agent"])


__all__ = ["HasStats", "StatsCollector"]
