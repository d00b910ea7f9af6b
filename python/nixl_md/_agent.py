# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The handle."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import math
import select
import threading
import time
import warnings
from _thread import _count
from collections.abc import Sequence
from ctypes import byref, c_uint64, c_void_p
from types import TracebackType
from typing import TYPE_CHECKING, Callable, SupportsIndex

from . import _capi, _collect
from ._calls import (
    _HOLDERS,
    Calls,
    check_callback,
    check_time,
    drain_milliseconds,
    endpoints_as_text,
    library,
)
from ._collect import Record
from ._decode import LOG_LEVELS, event_of, result_of
from ._delivery import Deliveries, Prepared
from ._errors import InCallback, NixlMDError, ShutDown, Status, TimedOut
from ._events import EventType, name_to_bytes
from ._operations import DoneCallback, EventCallback, Name, Operation, Watch
from ._stats import Stats, stats_of
from ._words import in_words

if TYPE_CHECKING:
    from ._background import Background

LOGGER = logging.getLogger("nixl_md")

# How long `run_until` sleeps where another thread may tick, and so take the wake-up for itself.
_SHARED_SECONDS = 0.1
# And where the background's thread does, which wakes it.
_TOLD_SECONDS = 1.0
# And otherwise, at a time.
_MAX_SECONDS = 3600.0


class Agent(Calls):
    """A handle of libnixl_md. All work happens inside `tick`, `wait` and `run_until`, or, with
    `background`, in a thread that does nothing but tick.

    `name` None makes an observer, which cannot publish. As a context manager it withdraws its
    keys within `drain` seconds and closes; after an exception it only closes.

    `endpoints` is a list, or one text in the library's format. The library's log goes to
    `logger`, by default the logger "nixl_md": warnings (SUPERSEDED, LOST, WITHDRAWN, no contact
    with etcd) and worse, or the levels that `log_level` and $NIXL_LOG_LEVEL select. None: to
    stderr, if $NIXL_LOG_LEVEL is set.

    Callbacks run one at a time and in order, on the thread that ticks, after the library's part
    of the tick. They may start operations; they must not tick, wait or close. With
    `background`, exceptions of callbacks go to sys.unraisablehook.

    A handle does not survive a fork: in the child every call except close() raises Forked."""

    def __init__(
        self,
        name: Name | None = None,
        *,
        endpoints: str | Sequence[str] | None = None,
        namespace: Name | None = None,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        server_name: str | None = None,
        tls_verify: bool = True,
        user: str | None = None,
        password: str | None = None,
        refuse_takeover: bool = False,
        resolve_in_open: bool = False,
        ignore_environment: bool = False,
        on_event: EventCallback | None = None,
        logger: logging.Logger | None = LOGGER,
        log_level: int = 0,
        drain: float = 2.0,
        background: bool = False,
    ) -> None:
        super().__init__()
        # For whoever has the efd in a loop: it is closed, and its number may be another's soon.
        self._on_close: Callable[[], None] | None = None
        self._own_event = on_event
        self._logger = logger
        if on_event is not None:
            check_callback("on_event is called with each event", on_event)
        drain_milliseconds(drain)
        self._drain = drain
        self._name = name
        self._is_shut_down = False
        # The last line of the log that told of trouble, and when.
        self._trouble: tuple[float, str] | None = None
        # Counts ticks, for those who wait while another thread ticks.
        self._rounds = 0
        self._deliveries = Deliveries(self._prepare)
        self._background: Background | None = None
        # Kept here: the library calls them for as long as the handle is open.
        self._callbacks = _collect.Callbacks(self._deliveries.inbox)
        config = _capi.Config(size=ctypes.sizeof(_capi.Config))
        flags = (
            (refuse_takeover, _capi.CONFIG_REFUSE_TAKEOVER),
            (resolve_in_open, _capi.CONFIG_RESOLVE_IN_OPEN),
            (ignore_environment, _capi.CONFIG_IGNORE_ENVIRONMENT),
            (not tls_verify, _capi.CONFIG_TLS_NO_VERIFY),
        )
        config.flags = sum(bit for wanted, bit in flags if wanted)
        if name is not None:
            encoded = name_to_bytes(name)
            config.agent = encoded
            config.agent_len = len(encoded)
        listed = endpoints_as_text(endpoints)
        if ca_file is None and tls_verify and _capi.has_own_libcurl(self._library):
            from ._authorities import default_file

            ca_file = default_file(listed, ignore_environment)
        for field, value in (
            ("name_space", namespace),
            ("endpoints", listed),
            ("ca_file", ca_file),
            ("cert_file", cert_file),
            ("key_file", key_file),
            ("server_name", server_name),
            ("user", user),
            ("password", password),
        ):
            if value is not None:
                setattr(config, field, name_to_bytes(value))
        config.on_event = self._callbacks.on_event
        if logger is not None:
            config.on_log = self._callbacks.on_log
        if not isinstance(log_level, int):
            raise TypeError(f"log_level is 0 (the default) to 7 (off), not {log_level!r}")
        config.log_level = log_level
        self._open_handle(config)
        try:
            self._deliveries.run()
            if background:
                from ._background import Background

                self._background = Background(self, f"nixl_md {name!r}")
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        who = "observer" if self._name is None else repr(self._name)
        opened = "shut down" if self._is_shut_down else "open"
        state = opened if self._is_open else "closed"
        background = ", ticked in the background" if self._background is not None else ""
        return f"<Agent {who}, {state}, {len(self._open)} open operations{background}>"

    # Life

    def __enter__(self) -> Agent:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if exception is None and self._is_open:
                # The application may have begun it.
                with contextlib.suppress(ShutDown):
                    self.shutdown(self._drain)
                self._end()
        finally:
            self.close()

    def _end(self) -> None:
        """Ticks until the shutdown is done. What callbacks raise meanwhile does not keep it from
        that: close() raises it."""
        # The drain is bounded by the library; the second is for a host that is held up.
        end = time.monotonic() + self._drain + 1
        raised: list[BaseException] = []
        while not self._is_shut_down:
            try:
                self.run_until(lambda: False, end - time.monotonic(), until_shut_down=True)
            except Exception as exception:
                if time.monotonic() >= end:
                    raise
                raised.append(exception)
        for each in raised:
            self._deliveries.note(each, threading.get_ident())

    def __del__(self) -> None:
        # Not if __init__ has raised before there was a handle.
        if getattr(self, "_handle", None) is None:
            return
        try:
            if self._is_open:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        finally:
            # Where warnings are errors, too.
            self.close()

    def __reduce_ex__(self, protocol: SupportsIndex) -> str:
        # A copy would close the same handle once more.
        raise TypeError("an agent cannot be copied or pickled: it is a connection")

    def shutdown(self, drain: float) -> None:
        """Begins a clean shutdown: writes queued blobs, then withdraws, within `drain` seconds (0:
        at once). Keep ticking; a tick raises ShutDown when it is complete."""
        self._call(self._library.nixl_md_shutdown, drain_milliseconds(drain))

    def close(self) -> None:
        """Frees the handle; open operations complete as CANCELED. May be repeated, and must be if
        a signal's handler has raised out of it. Waits for a tick of another thread to end."""
        self._check_is_outside("close")
        if self._handle_lock._is_owned():  # type: ignore[attr-defined]
            text = "close() was called by a signal's handler amid another call: note it there"
            raise InCallback(Status.IN_CALLBACK, f"{text}, and close in the loop")
        if self._background is not None:
            self._background.stop()
        with self._turn, self._handle_lock:
            if self._handle is None:
                return
            self._deliveries.owner = threading.get_ident()
            if not self._ends:
                self._free(self._handle)
            self._deliveries.run()
            self._open.clear()
            on_close, self._on_close = self._on_close, None
            if on_close is not None:
                on_close()
            self._callbacks.release()
            self._handle = None
            self._tell_round()
            self._deliveries.raise_first(self, is_last=True)

    def _free(self, handle: c_void_p) -> None:
        """Once, whenever a signal's handler raises: no instruction of Python's lies between the
        call and the note of its answer."""
        while not self._ends:
            try:
                self._ends.extend(map(self._library.nixl_md_close, (handle,)))
            except BaseException as exception:
                self._deliveries.note(exception)
        if self._ends[0] < 0:
            raise self._failure(self._ends.pop())

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return not self._is_open

    @property
    def is_shut_down(self) -> bool:
        """Whether the shutdown is complete."""
        return self._is_shut_down

    # Driving

    def tick(self) -> int:
        """Does all work that is due and returns the number of callbacks. Blocks only for a tick of
        another thread. If callbacks raise, it raises the first exception, or the one that is
        not an Exception, such as Ctrl-C; the others go to sys.unraisablehook."""
        self._check_is_outside("tick")
        with self._turn:
            count, failure = self._tick()
            # Before the end is noted: the next tick tells of that again.
            self._deliveries.raise_first(self)
            if count == Status.SHUT_DOWN:
                self._is_shut_down = True
                self._tell_round()
            if failure is not None:
                raise failure
            return count

    def _tick(self) -> tuple[int, NixlMDError | None]:
        pointer = self._pointer
        self._deliveries.owner = threading.get_ident()
        count, failure = 0, None
        try:
            count = self._library.nixl_md_tick(pointer)
            if count < 0:
                # Now: callbacks may make calls that fail.
                failure = self._failure(count)
        except BaseException as exception:
            # Of a signal's handler. What the library has told is in the inbox all the same.
            self._deliveries.note(exception)
        self._deliveries.run()
        if self._deliveries.is_forked:
            # By a callback, and this is the child.
            self._check_locks()
            count = self._library.nixl_md_tick(pointer)
            failure = self._failure(count)
        self._tell_round()
        return count, failure

    def _tick_in_background(self) -> None:
        with self._turn:
            if not self._is_open:
                return
            count, failure = self._tick()
            self._deliveries.report_all(self)
            if count == Status.SHUT_DOWN:
                self._is_shut_down = True
                self._tell_round()
            elif failure is not None:
                raise failure

    def _tell_round(self) -> None:
        """Wakes those who wait. This thread holds the turn."""
        self._rounds += 1
        for waiter in self._waiters.copy():
            try:
                waiter.release()
            except RuntimeError:
                # It was told before. Who waited may have been interrupted.
                self._waiters.discard(waiter)

    def _check_is_outside(self, call: str) -> None:
        self._check_locks(3)
        if self._heal(self._turn, 3):
            text = f"{call}() was called from inside a callback: call it after tick() has returned"
            raise InCallback(Status.IN_CALLBACK, text)

    def fileno(self) -> int:
        """The efd: readable exactly when a tick has work to do."""
        return self._call(self._library.nixl_md_efd)

    def deadline(self) -> float | None:
        """Seconds until the library's next deadline; None: none."""
        if self._deliveries.inbox:
            return 0.0
        due = c_uint64()
        self._call(self._library.nixl_md_deadline_ms, byref(due))
        return None if due.value == _capi.NEVER else due.value / 1000

    def run_until(
        self,
        condition: Callable[[], bool],
        timeout: float | None = None,
        *,
        until_shut_down: bool = False,
    ) -> None:
        """Sleeps on the efd and ticks until the condition holds; with `background` it sleeps until
        the thread's ticks have made it true. Raises TimedOut after `timeout` seconds.
        `until_shut_down`: returns at the end of a shutdown too."""
        self._check_is_outside("run_until")
        check_time(timeout)
        begun = time.monotonic()
        end = math.inf if timeout is None else begun + timeout
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        while True:
            rounds = self._rounds
            if condition():
                return
            if self._is_shut_down and self._background is not None:
                if until_shut_down:
                    return
                raise ShutDown(Status.SHUT_DOWN, "the agent is shut down")
            left = end - time.monotonic()
            if left <= 0:
                raise TimedOut(
                    Status.TIMED_OUT, f"not within {timeout} s{self._trouble_since(begun)}"
                )
            try:
                # Poll and locks refuse what they cannot count.
                self._sleep(poll, rounds, min(left, _MAX_SECONDS))
            except ShutDown:
                # A callback may have raised it as well, before the end. And another thread may have
                # closed the agent, which completes what is waited for.
                if (until_shut_down and self._is_shut_down) or (self.closed and condition()):
                    return
                raise

    def _sleep(self, poll: select.poll, rounds: int, left: float) -> None:
        # The thread ends before the interpreter does: what runs later ticks for itself.
        if self._background is None or not self._background.is_running:
            self._sleep_and_tick(poll, left)
        else:
            self._sleep_until_told(rounds, left)

    def _sleep_and_tick(self, poll: select.poll, left: float) -> None:
        # Not by `threading`: a signal's handler may leave the lock of its count locked.
        if _count() > 0:
            left = min(left, _SHARED_SECONDS)
        # A handler of a signal may have kept a tick from its callbacks.
        if not self._deliveries.inbox:
            poll.poll(math.ceil(left * 1000))
        self.tick()

    def _sleep_until_told(self, rounds: int, left: float) -> None:
        self.fileno()  # Refuses if it was closed, or in a forked child, where nobody ticks.
        waiter = threading.Lock()
        waiter.acquire()
        self._waiters.add(waiter)
        try:
            is_told = self._rounds != rounds or waiter.acquire(timeout=min(left, _TOLD_SECONDS))
        finally:
            self._waiters.discard(waiter)
        # A signal's handler has kept a tick of another thread from its callbacks.
        if not is_told and self._deliveries.inbox:
            self._tick_in_background()

    def _trouble_since(self, begun: float) -> str:
        """What the log last told that may be why nothing came; for the message of a time-out."""
        if self._trouble is None:
            return ""
        at, text = self._trouble
        is_over = at < begun and self.stats().connected
        return "" if is_over else f"; the last failure: {text}"

    def stats(self) -> Stats:
        """The counters of nixl_md_stats_t, by the names of its fields."""
        raw = _capi.Stats(size=ctypes.sizeof(_capi.Stats))
        self._call(self._library.nixl_md_get_stats, byref(raw))
        return stats_of(raw)

    def _new_locks(self) -> None:
        super()._new_locks()
        # Held during a tick and its callbacks.
        self._turn = threading.RLock()
        # A condition is Python code: a signal's handler that raises there leaves its lock locked.
        self._waiters: set[threading.Lock] = set()

    # Records of the library's callbacks. Each may be prepared again.

    def _prepare(self, record: Record, following: Record | None) -> Prepared:
        what, token = record[0], record[1]
        if what == _collect.LOG:
            return self._prepare_line(record)
        if what == _collect.EVENT:
            return self._prepare_event(record)
        if what == _collect.AGENTS:
            return None, None, None
        operation = self._open.get(token)
        if not isinstance(operation, Operation):
            return None, None, None
        agents = []
        if what == _collect.LISTED:
            if following is not None and following[0] == _collect.AGENTS:
                agents = following[1]
            elif operation._ask_again():
                return None, None, None
        result = operation._complete(result_of(record, agents))
        return operation._on_done, result, lambda: self._open.pop(token, None)

    def _prepare_event(self, record: Record) -> Prepared:
        token = record[1]
        event = event_of(record)
        watch = self._open.get(token) if token else None
        if event is None:
            return None, None, None
        if not isinstance(watch, Watch):
            return self._own_event, event, None
        if event.type == EventType.ENDED:
            watch.ended = event
            return watch._on_event, event, lambda: self._open.pop(token, None)
        # A callback of this very tick may have ended it.
        return None if watch.is_closing else watch._on_event, event, None

    def _prepare_line(self, record: Record) -> Prepared:
        _, level, line = record
        text = in_words(line)
        logging_level = LOG_LEVELS.get(level, logging.ERROR)
        if logging_level >= logging.WARNING:
            self._trouble = (time.monotonic(), text)
        logger = self._logger
        if logger is None:
            return None, None, None
        return lambda text: logger.log(logging_level, "%s", text), text, None


_HOLDERS.update(
    function.__code__ for function in (Agent.tick, Agent._tick_in_background, Agent.close)
)

__all__ = [
    "Agent",
    "DoneCallback",
    "EventCallback",
    "Name",
    "NixlMDError",
    "Operation",
    "Stats",
    "Watch",
    "library",
]
