# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What a starting call gives: an operation or a watch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Union

from ._errors import NixlMDError
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
        self._again: Callable[[], object] | None = None
        self.id = 0

    def __repr__(self) -> str:
        state = "open" if self._result is None else self._result.status.name
        return f"<{type(self).__name__} {self.id}, {state}>"

    @classmethod
    def refused(cls, agent: Agent, refusal: NixlMDError, on_done: DoneCallback | None) -> Operation:
        """One that has completed as a starting call was refused."""
        operation = cls(agent, on_done)
        result = operation._complete(_refusal(refusal))
        if on_done is not None:
            on_done(result)
        return operation

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

    def _complete(self, result: Result) -> Result:
        """Its end is known; the first stays."""
        if self._result is None:
            self._result = result
            self.id = result.operation
        return self._result

    def _ask_again(self) -> bool:
        """For a list whose agents a signal has kept from being copied; whether it is on its way."""
        if self._result is not None or self._again is None:
            return False
        try:
            self._again()
        except NixlMDError as refusal:
            self._complete(_refusal(refusal))
            return False
        return True


def _refusal(refusal: NixlMDError) -> Result:
    return Result(
        operation=0,
        status=refusal.status,
        text=str(refusal),
        revision=0,
        blob=None,
        agents=[],
        ttl=0.0,
    )


class Watch:
    """An open watch. Its callback is given ENDED as the last event."""

    def __init__(self, agent: Agent, on_event: EventCallback) -> None:
        self._agent = agent
        self._on_event = on_event
        self.id = 0
        self.ended: Event | None = None
        # No event but the end is told any more.
        self.is_closing = False

    def __repr__(self) -> str:
        state = "open" if self.ended is None else f"ended: {self.ended.status.name}"
        return f"<{type(self).__name__} {self.id}, {state}>"

    def close(self) -> None:
        """Ends it; ENDED follows in a tick."""
        if self.ended is None:
            self.is_closing = True
            self._agent._cancel(self.id)


__all__ = ["DoneCallback", "EventCallback", "Name", "Operation", "Watch"]
