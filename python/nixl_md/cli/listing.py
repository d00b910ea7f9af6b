# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What `ls` and the live table show: one row for each agent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nixl_md._events import name_to_bytes

from .errors import CredentialsRefused, NoGateway
from .gateway import Gateway, b64
from .model import NEVER_ENDING, Found, Namespace, Snapshot, State, counts, is_permanent, state_of
from .observer import present
from .pipeline import LeaseTime, times_to_live
from .render import Column, amount, duration, plural, printable
from .settings import Settings
from .store import OtherSpelling, namespaces_elsewhere, other_spellings, read

COLUMNS = (
    Column("NAME"),
    Column("STATE"),
    Column("LEASE", 4),
    Column("TTL", 3, True),
    Column("LEFT", 1, True),
    Column("LABELS", 5),
    Column("BYTES", 6, True),
    Column("REVISION", 7, True),
)
WIDE = (
    *COLUMNS,
    Column("CREATED", 8, True),
    Column("KEYS", 9, True),
    Column("NAMESPACE", 10),
)
_LABELS_SHOWN = 40


@dataclass(frozen=True)
class Row:
    """An agent, as it is shown. None: not known."""

    namespace: bytes
    name: bytes
    state: State | None
    lease: int | None
    time: LeaseTime | None
    labels: tuple[bytes, ...] | None
    size: int | None
    keys: int | None
    created: int | None
    revision: int

    @property
    def ttl_text(self) -> str:
        if self.lease == 0:
            return "none"
        if self.time is None:
            return "-"
        if self.time.left < 0:
            return "-"
        return "never" if self.time.granted >= NEVER_ENDING else duration(self.time.granted)

    @property
    def left_text(self) -> str:
        if self.lease == 0 or self.time is None or self.time.granted >= NEVER_ENDING:
            return "-"
        return "gone" if self.time.left < 0 else duration(self.time.left)

    @property
    def cells(self) -> list[str]:
        labels = "-"
        if self.labels is not None:
            labels = ",".join(map(printable, self.labels))
            if len(labels) > _LABELS_SHOWN:
                labels = plural(len(self.labels), "label")
        return [
            printable(self.name),
            self.state.value if self.state else "-",
            "-" if self.lease is None else f"{self.lease:x}" if self.lease else "none",
            self.ttl_text,
            self.left_text,
            labels or "none",
            amount(self.size),
            str(self.revision),
        ]

    @property
    def wide_cells(self) -> list[str]:
        return [
            *self.cells,
            "-" if self.created is None else str(self.created),
            "-" if self.keys is None else str(self.keys),
            printable(self.namespace),
        ]

    def as_json(self) -> dict[str, Any]:
        is_timed = self.time is not None and self.time.granted < NEVER_ENDING
        return {
            **name_json("name", self.name),
            "namespace": printable(self.namespace),
            "state": self.state.value if self.state else None,
            "lease": None if self.lease is None else f"{self.lease:x}",
            "ttl": self.time.granted if self.time and is_timed else None,
            "left": self.time.left if self.time and is_timed else None,
            "labels": None if self.labels is None else [printable(label) for label in self.labels],
            "bytes": self.size,
            "keys": self.keys,
            "created": self.created,
            "revision": self.revision,
        }


def name_json(field: str, name: bytes) -> dict[str, str]:
    """As text, and as it is where that is no UTF-8."""
    try:
        return {field: name.decode()}
    except UnicodeDecodeError:
        return {field: printable(name), f"{field}_base64": b64(name)}


def row_of(namespace: bytes, found: Found, times: Mapping[int, LeaseTime]) -> Row:
    lease = found.leases[0]
    return Row(
        namespace=namespace,
        name=found.name,
        state=state_of(found, times),
        lease=lease,
        time=times.get(lease),
        labels=tuple(found.labels),
        size=found.size,
        keys=len(found.keys),
        created=(found.presence or found.keys[0]).created,
        revision=found.revision,
    )


@dataclass
class Listing:
    """The answer of `ls`."""

    namespace: bytes
    revision: int
    rows: list[Row]
    others: Sequence[OtherSpelling] = ()
    nested: Sequence[bytes] = ()
    elsewhere: Sequence[bytes] = ()
    is_partial: bool = False
    """Of the library alone: the gateway is not there."""

    @property
    def summary(self) -> str:
        """One line: how many of which."""
        states = counts(row.state for row in self.rows if row.state)
        parts = [f"{count} {state.value}" for state, count in states.items()]
        parts = parts or [f"no agent under {printable(self.namespace)}"]
        parts += [
            f"{other.agents}{'' if other.is_all else '+'} under {printable(other.namespace)} "
            "(another spelling)"
            for other in self.others
        ]
        if self.nested:
            names = ", ".join(
                printable(self.namespace + b"/" + name) for name in sorted(self.nested)[:3]
            )
            parts.append(f"{plural(len(self.nested), 'namespace')} below this one ({names})")
        return ", ".join(parts)

    @property
    def advice(self) -> str:
        """For who has found nothing."""
        if self.rows or not (self.others or self.elsewhere):
            return ""
        names = [other.namespace for other in self.others] or self.elsewhere
        shown = ", ".join(map(printable, names))
        return f"Agents are under {shown}: set --namespace or NIXL_ETCD_NAMESPACE."

    def as_json(self) -> dict[str, Any]:
        states = counts(row.state for row in self.rows if row.state)
        return {
            "namespace": printable(self.namespace),
            "revision": self.revision,
            "partial": self.is_partial,
            "agents": [row.as_json() for row in self.rows],
            "summary": {state.value: states.get(state, 0) for state in State},
            "other_spellings": {printable(other.namespace): other.agents for other in self.others},
            "namespaces_below": [printable(name) for name in self.nested],
        }


def ask_others(gateway: Gateway, namespace: Namespace) -> list[OtherSpelling]:
    """A role that reaches only its own namespace may not look elsewhere: that is no failure."""
    try:
        return other_spellings(gateway, namespace)
    except CredentialsRefused:
        return []


def ask_elsewhere(gateway: Gateway) -> list[bytes]:
    try:
        return namespaces_elsewhere(gateway)
    except CredentialsRefused:
        return []


def times_of(settings: Settings, snapshots: Iterable[Snapshot]) -> dict[int, LeaseTime]:
    """One batch of questions for all of them."""
    return times_to_live(settings, [lease for each in snapshots for lease in each.leases])


def listing(settings: Settings, *, all_spellings: bool = False, with_times: bool = True) -> Listing:
    """All agents. Without the gateway, those that the library lists."""
    namespace = Namespace(settings.namespace)
    try:
        with Gateway(settings) as gateway:
            snapshots = [read(gateway, namespace)]
            others = ask_others(gateway, namespace)
            if all_spellings:
                snapshots += [read(gateway, Namespace(other.namespace)) for other in others]
            elsewhere = [] if snapshots[0].agents or others else ask_elsewhere(gateway)
    except NoGateway:
        return _of_library(settings)
    times = times_of(settings, snapshots) if with_times else {}
    rows = [
        row_of(each.namespace.spelled, found, times)
        for each in snapshots
        for _, found in sorted(each.agents.items())
    ]
    return Listing(
        namespace=settings.namespace,
        revision=snapshots[0].revision,
        rows=rows,
        others=() if all_spellings else others,
        nested=snapshots[0].nested,
        elsewhere=elsewhere,
    )


def _of_library(settings: Settings) -> Listing:
    agents, revision = present(settings)
    rows = [
        Row(
            namespace=settings.namespace,
            name=name_to_bytes(agent.name),
            state=State.PERMANENT if is_permanent(agent.lease_id, {}) else State.LEASED,
            lease=agent.lease_id,
            time=None,
            labels=None,
            size=None,
            keys=None,
            created=None,
            revision=agent.revision,
        )
        for agent in agents
    ]
    return Listing(settings.namespace, revision, rows, is_partial=True)
