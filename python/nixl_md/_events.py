# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What callbacks are given: copies, valid for as long as they are kept."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ._errors import Status, error


def name_of(name: bytes) -> str:
    """A name as the store has it. Bytes that are no UTF-8 become surrogates, as in os.fsdecode():
    what comes out of an event is taken by every call."""
    return name.decode("utf-8", "surrogateescape")


def name_to_bytes(name: str | bytes) -> bytes:
    """The way back."""
    if isinstance(name, str):
        return name.encode("utf-8", "surrogateescape")
    if not isinstance(name, bytes):
        raise TypeError(f"{name!r} should be str or bytes, not {type(name).__name__}")
    return name


class EventType(enum.IntEnum):
    """The types of event, as in the header."""

    PUT = 1
    DELETE = 2
    GONE = 3
    RESTARTED = 4
    RETURNED = 5
    SYNCED = 6
    CONTACT_LOST = 7
    CONTACT_REGAINED = 8
    RESYNC = 9
    ENDED = 10
    PRESENT = 11
    LOST = 101
    RESTORED = 102
    SUPERSEDED = 103
    WITHDRAWN = 104


@dataclass(frozen=True)
class Event:
    """An event of a watch, or of this agent's own keys (`watch` 0). `agent` and `label` are "" if
    the event has none; `name_of` explains names that are not UTF-8."""

    type: EventType
    watch: int
    agent: str
    label: str
    blob: bytes | None
    revision: int
    incarnation: int
    status: Status
    text: str


@dataclass(frozen=True)
class PresentAgent:
    """One agent of a list."""

    name: str
    incarnation: int
    revision: int
    lease_id: int
    """Of its presence key; 0: none, or etcd did not tell it."""


@dataclass(frozen=True)
class Result:
    """The outcome of an operation."""

    operation: int
    status: Status
    text: str
    revision: int
    blob: bytes | None
    agents: list[PresentAgent]
    ttl: float
    """Seconds, as etcd granted it; of a started heartbeat, else 0."""

    def check(self) -> Result:
        """Returns this result if it is a success, otherwise raises its exception."""
        if self.status != Status.SUCCESS:
            raise error(self.status, self.text)
        return self
