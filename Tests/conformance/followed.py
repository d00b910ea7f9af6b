# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The state that a host derives from one watch by the header's rules, and whether each event may
come."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import capi

Agents = dict[bytes, dict[bytes, bytes]]


@dataclass(frozen=True)
class Told:
    """An event, copied."""

    type: int
    agent: bytes
    label: bytes
    blob: bytes
    revision: int
    status: int

    @staticmethod
    def of(event: Any) -> Told:
        def copy(pointer: int | None, size: int) -> bytes:
            return ctypes.string_at(pointer, size) if pointer else b""

        return Told(
            event.type,
            copy(event.agent, event.agent_len),
            copy(event.label, event.label_len),
            copy(event.blob, event.blob_len),
            event.revision,
            event.status,
        )


@dataclass
class Followed:
    """One watch: its selection, and its events so far."""

    problem: Callable[[str], None]
    agent: bytes | None
    is_presence_only: bool
    # Not ended before its handle.
    is_kept: bool
    op: int = 0
    view: Agents = field(default_factory=dict)
    # Labels from before a restart; their DELETE may still come.
    stale: dict[bytes, set[bytes]] = field(default_factory=dict)
    recent: deque[Told] = field(default_factory=lambda: deque(maxlen=8))
    revision: int = 0
    is_synced: bool = False
    is_resyncing: bool = False
    is_out_of_contact: bool = False
    is_canceled: bool = False

    def take(self, told: Told) -> None:
        self.recent.append(told)
        if self.is_canceled and told.type != capi.ENDED:
            self._wrong("an event after cancel")
        if told.type <= capi.RETURNED or told.type == capi.PRESENT:
            self._order(told)
            self._change(told)
        elif told.type == capi.SYNCED:
            self.is_synced, self.is_resyncing = True, False
        elif told.type == capi.RESYNC:
            self.is_resyncing, self.revision = True, 0
        elif told.type in (capi.CONTACT_LOST, capi.CONTACT_REGAINED):
            is_lost = told.type == capi.CONTACT_LOST
            if is_lost == self.is_out_of_contact:
                self._wrong("contact lost or regained twice")
            self.is_out_of_contact = is_lost

    def expected(self, store: Agents) -> Agents:
        """The state that a host should have when the store holds this."""
        seen = {a: labels for a, labels in store.items() if self.agent in (None, a)}
        return {a: {} for a in seen} if self.is_presence_only else seen

    def _wrong(self, what: str) -> None:
        self.problem(f"watch of {self.agent!r}: {what}: {[*self.recent]}")

    def _order(self, told: Told) -> None:
        if self.is_synced and not self.is_resyncing:
            if told.revision < self.revision:
                self._wrong("a revision went back")
            self.revision = max(self.revision, told.revision)

    def _change(self, told: Told) -> None:
        is_known = told.agent in self.view
        if told.type == capi.PUT:
            if self.is_presence_only:
                self._wrong("a label where only presence was asked for")
            if not is_known:
                self._wrong("a label of an agent that is not present")
            self.view.setdefault(told.agent, {})[told.label] = told.blob
        elif told.type == capi.DELETE:
            known = self.view.get(told.agent, {})
            if told.label not in known and told.label not in self.stale.get(told.agent, ()):
                self._wrong("the end of a label that was not told")
            known.pop(told.label, None)
        elif told.type == capi.GONE:
            if not is_known:
                self._wrong("an agent that was not present is gone")
            self.view.pop(told.agent, None)
        else:
            if told.type == capi.RESTARTED:
                self.stale[told.agent] = set(self.view.get(told.agent, ()))
            elif is_known:
                self._wrong("an agent that is present comes")
            self.view[told.agent] = {}
