# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Runs the handlers of what a tick has collected. Nothing is lost if a signal's handler raises in
between, here or at the first instruction of a handler: a record is dropped after its handler has
begun, and not before. CPython up to 3.10 runs handlers of signals between any two instructions. So
C code takes the argument from a list and calls the handler, and the list tells whether it has."""

from __future__ import annotations

import ctypes
import dis
import os
import threading
from collections import deque
from itertools import starmap
from types import TracebackType
from typing import Any, Callable, Optional

from ._collect import Inbox, Record

Handler = Callable[[Any], object]
# What to run for a record, its argument, and what to do when it has run.
Prepared = tuple[Optional[Handler], Any, Optional[Callable[[], object]]]

# Ends the arguments. They are in tuples, whose comparison with it runs no Python code.
_END = object()

# How often a record is prepared. Only signals make it fail, and a defect of ours must not spin.
_ATTEMPTS = 100


class Deliveries:
    """Records in the order in which the library told them."""

    def __init__(self, prepare: Callable[[Record, Record | None], Prepared]) -> None:
        self.inbox: Inbox = deque()
        self._prepare = prepare
        # Each with the thread that it is to be raised in.
        self._raised: list[tuple[int, BaseException]] = []
        # The thread that ticks or closes.
        self.owner = threading.get_ident()
        # The first record, by identity, and the arguments that its handler has not been given yet.
        self._current: tuple[Record | None, list[Any]] = (None, [])
        # What its handler has raised, until that is judged.
        self._failure: BaseException | None = None
        self._ignored: deque[object] = deque(maxlen=0)
        self._attempts = 0
        self._process = os.getpid()

    @property
    def is_forked(self) -> bool:
        return os.getpid() != self._process

    def note(self, exception: BaseException, owner: int | None = None) -> None:
        """To be raised by `raise_first` in the thread that ticks, or in another one."""
        # No call: a signal's handler could raise after it, and this one would be lost.
        self._raised += [(self.owner if owner is None else owner, exception)]

    def run(self) -> None:
        """Runs all handlers. What they raise is noted."""
        while True:
            try:
                while self._step():
                    pass
                return
            except BaseException as exception:
                self._raised += [(self.owner, exception)]

    def _step(self) -> bool:
        """Takes one entry; whether there was any."""
        inbox = self.inbox
        # A handler has forked, and this is the child: the rest is the parent's.
        if not inbox or self.is_forked:
            return False
        record: Record | None = inbox[0]
        if record is None:
            inbox.popleft()
            return True
        self._attempts += 1
        if self._attempts > _ATTEMPTS:
            self._attempts = 0
            inbox.popleft()
            return True
        # After a record and its None there may be one that belongs to it.
        following = inbox[2] if len(inbox) > 2 else None
        handler, argument, finish = self._prepare(record, following)
        if handler is not None and not self._handle(handler, argument, record):
            return True
        if finish is not None:
            finish()
        self._attempts = 0
        inbox.popleft()
        # It may hold a blob.
        self._current = (None, [])
        return True

    def _handle(self, handler: Handler, argument: object, record: Record) -> bool:
        """Whether the handler has begun. A signal's handler may interrupt this anywhere: then it is
        done again, and goes on from what is known."""
        if self._current[0] is not record:
            self._failure = None
            self._current = (record, [_END, (argument,)])
        arguments = self._current[1]
        if len(arguments) == 2:
            self._call(handler, arguments)
        failure = self._failure
        if failure is not None:
            is_unbegun = _is_at_entry(failure.__traceback__)
            if is_unbegun:
                self._current = (None, [])
            self._raised += [(self.owner, failure)]
            self._failure = None
            return not is_unbegun
        return True

    def _call(self, handler: Handler, arguments: list[Any]) -> None:
        calls = starmap(handler, iter(arguments.pop, _END))
        try:
            self._ignored.extend(calls)
        except BaseException as exception:
            if len(arguments) == 2:
                raise
            self._failure = exception
        else:
            # An iterator takes it for its end.
            if arguments:
                self.note(RuntimeError(f"{handler!r} raised StopIteration"))

    def raise_first(self, who: object, *, is_last: bool = False) -> None:
        """Raises what was noted first for this thread, but Ctrl-C and the like before all others.
        These reach sys.unraisablehook, and those of other threads if this is the last call: a
        signal's handler may have kept a thread from raising them."""
        raised = self._take()
        first = next((each for each in raised if not isinstance(each, Exception)), None)
        first = first if first is not None or not raised else raised[0]
        others = [each for _, each in self._raised] if is_last else []
        for each in [*raised, *others]:
            if each is not first:
                report(each, who)
        if first is not None:
            raise first

    def report_all(self, who: object) -> None:
        """For a thread that nobody waits for."""
        for each in self._take():
            report(each, who)

    def _take(self) -> list[BaseException]:
        if not self._raised:
            return []
        raised = [each for owner, each in self._raised if owner == self.owner]
        self._raised = [each for each in self._raised if each[0] != self.owner]
        return raised


def _is_at_entry(traceback: TracebackType | None) -> bool:
    """Whether a handler that was called has done nothing, since the handler of a signal has raised
    before its first instruction."""
    inner = traceback.tb_next if traceback is not None else None
    return inner is not None and (inner.tb_lasti < 0 or _is_at(inner, "RESUME"))


def _is_at(traceback: TracebackType, name: str) -> bool:
    code = traceback.tb_frame.f_code.co_code
    at = traceback.tb_lasti
    return 0 <= at < len(code) and dis.opname[code[at]] == name


class _Raised:
    """What a handler has raised, for sys.unraisablehook. The default hook takes only arguments
    that the interpreter has made. It makes them for a C callback that raises, so this is one."""

    def __init__(self, exception: BaseException, who: object) -> None:
        self._exception = exception
        self._text = f"(a callback of {who!r})"

    def __repr__(self) -> str:
        return self._text

    def __call__(self) -> None:
        raise self._exception


def report(exception: BaseException, who: object) -> None:
    """As Python reports what cannot be raised."""
    ctypes.CFUNCTYPE(None)(_Raised(exception, who))()
