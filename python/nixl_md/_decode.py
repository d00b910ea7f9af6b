# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What the records of _collect mean."""

from __future__ import annotations

from ._collect import Record
from ._errors import Status
from ._events import Event, EventType, PresentAgent, Result, name_of
from ._words import in_words

# NIXL_MD_LOG_TRACE to NIXL_MD_LOG_FATAL as logging has them.
LOG_LEVELS = {1: 5, 2: 10, 3: 20, 4: 30, 5: 40, 6: 50}


def result_of(record: Record, agents: list[PresentAgent]) -> Result:
    """Of a DONE or LISTED."""
    _, _, operation, status, text, revision, pointer, blob, ttl = record
    return Result(
        operation=operation,
        status=Status(status),
        text=in_words(text),
        revision=revision,
        blob=blob if pointer else None,
        agents=agents,
        ttl=ttl / 1000,
    )


def event_of(record: Record) -> Event | None:
    """Of an EVENT; None: of a type that only a newer library has."""
    _, _, kind, watch, agent, label, pointer, blob, revision, incarnation, status, text = record
    if kind not in EventType._value2member_map_:
        return None
    return Event(
        type=EventType(kind),
        watch=watch,
        agent=name_of(agent),
        label=name_of(label),
        blob=blob if pointer else None,
        revision=revision,
        incarnation=incarnation,
        status=Status(status),
        text=in_words(text),
    )
