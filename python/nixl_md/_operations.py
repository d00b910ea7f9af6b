# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What a starting call gives: an operation or a watch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Union

from ._events import Event, Result

if TYPE_CHECKING:
    from ._agent import Agent

Name = Union[str, bytes]
DoneCallback = Callable[[Result], None]
EventCallback = Callable[[Event], None]


class Operation:
    """A started operation. It completes inside a tick."""

    def __init__(self, agent: Agent, on_done: DoneCallback | None) -> None:
        self._agent = agent
        self._on_done = on_done
        self._result: Result | None = None
        self.id = 0

    def done(self) -> bool:
        """Whether it has completed."""
        return self._result is not None

    def result(self) -> Result:
        """How it ended; raises the exception of a failure, and RuntimeError while it is open."""
        if self._result is None:
            raise RuntimeError("the operation has not completed")
        return self._result.check()

    def cancel(self) -> None:
        """It completes as CANCELED in a later tick; one that has completed stays as it is."""
        if not self.done():
            self._agent._cancel(self.id)

    def wait(self, timeout: float | None = None) -> Result:
        """Ticks until it has completed; see Agent.run_until."""
        self._agent.run_until(self.done, timeout)
        return self.result()

    def _complete(self, result: Result) -> None:
        self._result = result
        self.id = result.operation
        if self._on_done is not None:
            self._on_done(result)


class Watch:
    """An open watch. Its callback is given ENDED as the last event."""

    def __init__(self, agent: Agent, on_event: EventCallback) -> None:
        self._agent = agent
        self._on_event = on_event
        self.id = 0
        self.ended: Event | None = None

    def close(self) -> None:
        """Ends it; ENDED follows in a tick."""
        if self.ended is None:
            self._agent._unwatch(self.id)


__all__ = ["DoneCallback", "EventCallback", "Name", "Operation", "Watch"]
