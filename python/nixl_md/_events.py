# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What callbacks are given: copies, valid for as long as they are kept."""

from __future__ import annotations

import ctypes
import enum
from dataclasses import dataclass
from typing import Any

from . import _capi
from ._errors import Status, error


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
    LOST = 101
    RESTORED = 102
    SUPERSEDED = 103
    WITHDRAWN = 104


@dataclass(frozen=True)
class Event:
    """An event of a watch, or about this agent's own keys (`watch` 0). Names are bytes: those in a
    store may hold anything."""

    type: EventType
    watch: int
    agent: bytes
    label: bytes
    blob: bytes | None
    revision: int
    incarnation: int
    status: Status
    text: str


@dataclass(frozen=True)
class PresentAgent:
    """One agent of a list."""

    name: bytes
    incarnation: int
    revision: int


@dataclass(frozen=True)
class Result:
    """How an operation ended."""

    operation: int
    status: Status
    text: str
    revision: int
    blob: bytes | None
    agents: list[PresentAgent]
    ttl: float
    """Seconds, as etcd granted it; of a started heartbeat, else 0."""

    def check(self) -> Result:
        """This result if it is a success, else its exception."""
        if self.status != Status.SUCCESS:
            raise error(self.status, self.text)
        return self


def _bytes(pointer: int | None, length: int) -> bytes:
    return ctypes.string_at(pointer, length) if pointer else b""


def _text(text: bytes | None) -> str:
    return (text or b"").decode("utf-8", "backslashreplace")


def event_of(raw: Any) -> Event:  # noqa: ANN401 - a ctypes structure
    """A copy of a nixl_md_event_t."""
    return Event(
        type=EventType(raw.type),
        watch=raw.watch,
        agent=_bytes(raw.agent, raw.agent_len),
        label=_bytes(raw.label, raw.label_len),
        blob=_bytes(raw.blob, raw.blob_len) if raw.blob else None,
        revision=raw.revision,
        incarnation=raw.incarnation,
        status=Status(raw.status),
        text=_text(raw.text),
    )


def result_of(raw: Any) -> Result:  # noqa: ANN401 - a ctypes structure
    """A copy of a nixl_md_result_t."""
    agents = []
    for index in range(raw.agent_count):
        agent: _capi.Agent = raw.agents[index].contents
        agents.append(
            PresentAgent(_bytes(agent.name, agent.name_len), agent.incarnation, agent.revision)
        )
    return Result(
        operation=raw.op,
        status=Status(raw.status),
        text=_text(raw.text),
        revision=raw.revision,
        blob=_bytes(raw.blob, raw.blob_len) if raw.blob else None,
        agents=agents,
        ttl=raw.ttl_ms / 1000,
    )
