# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Publishes under a lease or not at all."""

from __future__ import annotations

import contextlib
import math

from ._agent import Agent
from ._errors import NixlMDError, Status
from ._events import Result
from ._operations import DoneCallback, Operation

# An operation that ends only when it is done: etcd may be down for longer than any time-out.
NEVER = math.inf


class _Waiting(Operation):
    """A publication that waits for the lease, and then the one that the library was given."""

    def __init__(self, agent: Agent, on_done: DoneCallback | None, blob: bytes) -> None:
        super().__init__(agent, on_done)
        self.blob = blob
        self.given: Operation | None = None

    def cancel(self) -> None:
        if self.given is not None:
            self.given.cancel()
        elif not self.done():
            self.end(Status.CANCELED, "")

    def end(self, status: Status, text: str) -> None:
        self._complete(
            Result(operation=0, status=status, text=text, revision=0, blob=None, agents=[], ttl=0.0)
        )

    def give(self, label: str) -> None:
        try:
            self.given = self._agent.publish(
                label, self.blob, timeout=NEVER, on_done=self._complete
            )
        except NixlMDError as refusal:
            self.end(refusal.status, str(refusal))


class LeasedPublisher:
    """To the library a heartbeat that etcd refuses is over, and what is published then permanent.
    Here it waits until the lease is granted, or ends as the heartbeat did; the next publication, or
    `start_again`, asks for the heartbeat again."""

    def __init__(
        self, agent: Agent, interval: float | None, ttl: float | None, on_heartbeat: DoneCallback
    ) -> None:
        self._agent = agent
        self._interval = interval
        self._ttl = ttl
        self._on_heartbeat = on_heartbeat
        self._heartbeat: Operation | None = None
        self._is_granted = False
        # By label, in the order of their publication.
        self._waiting: dict[str, _Waiting] = {}

    def start(self) -> None:
        """Asks for the lease, unless that is done."""
        if self._heartbeat is None:
            self._heartbeat = self._agent.start_heartbeat(
                self._interval, self._ttl, timeout=NEVER, on_done=self._started
            )

    def start_again(self) -> None:
        """The same, after a refusal. What is refused at once is asked for the next time."""
        with contextlib.suppress(NixlMDError):
            self.start()

    def publish(self, label: str, blob: bytes, on_done: DoneCallback) -> Operation:
        """What is refused is told by the operation, not raised: it may be refused later as well."""
        publication = _Waiting(self._agent, on_done, blob)
        if self._is_granted:
            publication.give(label)
            return publication
        try:
            self.start()
        except NixlMDError as refusal:
            publication.end(refusal.status, str(refusal))
            return publication
        replaced = self._waiting.pop(label, None)
        self._waiting[label] = publication
        if replaced is not None and not replaced.done():
            replaced.end(Status.REPLACED, "a newer publication of the label took its place")
        return publication

    def withdraw(self) -> None:
        """What waits is not published."""
        self._end_waiting(Status.REPLACED, "everything was withdrawn")

    def _started(self, result: Result) -> None:
        self._is_granted = result.status == Status.SUCCESS
        if not self._is_granted:
            self._heartbeat = None
        try:
            self._on_heartbeat(result)
        finally:
            if self._is_granted:
                waiting, self._waiting = self._waiting, {}
                for label, publication in waiting.items():
                    if not publication.done():
                        publication.give(label)
            else:
                self._end_waiting(result.status, result.text)

    def _end_waiting(self, status: Status, text: str) -> None:
        waiting, self._waiting = self._waiting, {}
        for publication in waiting.values():
            if not publication.done():
                publication.end(status, text)
