# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The thread of `Agent(background=True)`."""

from __future__ import annotations

import atexit
import os
import select
import threading
import time
import weakref
from typing import TYPE_CHECKING

from ._delivery import report
from ._errors import NixlMDError

if TYPE_CHECKING:
    from ._agent import Agent

# After a tick that failed, say for want of memory.
_PAUSE_SECONDS = 0.1
# How long the end of the interpreter waits for callbacks. A tick of the library takes some 20 ms.
_EXIT_SECONDS = 5.0

_running: weakref.WeakSet[Background] = weakref.WeakSet()


class Background:
    """Sleeps on the efd and ticks. It holds the agent only while it ticks, so that one that is
    forgotten is freed."""

    def __init__(self, agent: Agent, name: str) -> None:
        self._process = os.getpid()
        self._ear, self._mouth = os.pipe()
        self._is_stopping = False
        try:
            self._thread = threading.Thread(
                target=_run,
                args=(weakref.ref(agent), agent.fileno(), self._ear, weakref.ref(self)),
                name=name,
                # Python waits for all others when it ends.
                daemon=True,
            )
            self._thread.start()
        except BaseException:
            self._hang_up()
            raise
        _running.add(self)

    @property
    def is_own_thread(self) -> bool:
        return threading.current_thread() is self._thread

    @property
    def is_stopping(self) -> bool:
        return self._is_stopping

    @property
    def is_running(self) -> bool:
        """Whether it ticks from now on."""
        return self._thread.is_alive() and not self._is_stopping

    def stop(self, seconds: float | None = None) -> None:
        """Ends the thread, which may be inside a callback, and waits for it. It may be called again
        if a signal has interrupted it."""
        self._is_stopping = True
        if self._ear < 0:
            return
        if os.getpid() == self._process:
            os.write(self._mouth, b"x")
            if not self.is_own_thread:
                self._thread.join(seconds)
                if self._thread.is_alive():
                    return
        self._hang_up()

    def _hang_up(self) -> None:
        ear, self._ear = self._ear, -1
        os.close(ear)
        os.close(self._mouth)


def _run(
    agent: weakref.ref[Agent], efd: int, ear: int, background: weakref.ref[Background]
) -> None:
    poll = select.poll()
    poll.register(efd, select.POLLIN)
    poll.register(ear, select.POLLIN)
    # The second: the tick may have held the last reference, and the efd is closed.
    while _tick(agent, poll.poll(), ear, background) and agent() is not None:
        pass


def _tick(
    reference: weakref.ref[Agent],
    ready: list[tuple[int, int]],
    ear: int,
    background: weakref.ref[Background],
) -> bool:
    """Whether to go on. Nothing is held when it returns."""
    agent, thread = reference(), background()
    if agent is None or thread is None or thread.is_stopping or any(fd == ear for fd, _ in ready):
        return False
    try:
        agent._tick_in_background()
    except NixlMDError as failure:
        report(failure, agent)
        # A lasting failure must not take a processor.
        select.select([ear], [], [], _PAUSE_SECONDS)
    return not agent.is_shut_down


@atexit.register
def _stop_all() -> None:
    """Before the interpreter ends: a thread inside the library could not come back into it. A
    callback that does not return does not keep the process from ending."""
    end = time.monotonic() + _EXIT_SECONDS
    for background in list(_running):
        background.stop(max(0.1, end - time.monotonic()))
