# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The handle."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import logging
import math
import select
import sys
import time
import warnings
from collections.abc import Iterator
from ctypes import byref, c_uint64, c_void_p
from types import SimpleNamespace, TracebackType
from typing import Any, Callable

from . import _capi
from ._errors import NixlMDError, ShutDown, Status, TimedOut, error
from ._events import event_of, result_of
from ._operations import DoneCallback, EventCallback, Name, Operation, Watch

_library: ctypes.CDLL | None = None

# NIXL_MD_LOG_TRACE to NIXL_MD_LOG_FATAL as logging has them.
_LOG_LEVELS = {1: 5, 2: 10, 3: 20, 4: 30, 5: 40, 6: 50}


def library() -> ctypes.CDLL:
    """libnixl_md.so, loaded at first use."""
    global _library
    if _library is None:
        _library = _capi.load()
    return _library


def _encode(name: Name) -> bytes:
    return name.encode() if isinstance(name, str) else name


def _milliseconds(seconds: float | None) -> int:
    """None: the default, 0. Anything else is at least a millisecond."""
    if seconds is None:
        return 0
    if math.isinf(seconds) and seconds > 0:
        return _capi.NEVER
    if not seconds > 0:
        raise ValueError(f"a time of {seconds} s is not greater than 0")
    # What no 64 bits hold is for the library to refuse, not for ctypes to cut off.
    return min(max(1, round(seconds * 1000)), _capi.NEVER - 1)


class Agent:
    """A handle of libnixl_md. Nothing happens but inside `tick`, `wait` and `run_until`.

    `name` None makes an observer, which publishes nothing. As a context manager it withdraws what
    it published, within `drain` seconds, and closes; after an exception it only closes.

    A handle does not survive a fork: in the child every call raises Forked, but close().
    """

    def __init__(
        self,
        name: Name | None = None,
        *,
        endpoints: str | None = None,
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
        logger: logging.Logger | None = None,
        log_level: int = 0,
        drain: float = 2.0,
    ) -> None:
        self._handle: c_void_p | None = None
        self._library = library()
        self._tokens = itertools.count(1)
        # By the token that the library hands back as user data.
        self._open: dict[int, Operation | Watch] = {}
        # For whoever has the efd in a loop: it is closed, and its number may be another's soon.
        self._on_close: Callable[[], None] | None = None
        self._raised: list[BaseException] = []
        self._own_event = on_event
        self._logger = logger
        self._drain = drain
        self._is_shut_down = False
        # Kept here: the library calls them for as long as the handle is open.
        self._done_callback = _capi.DoneCallback(self._on_done)
        self._event_callback = _capi.EventCallback(self._on_event)
        self._log_callback = _capi.LogCallback(self._on_log)
        config = _capi.Config(size=ctypes.sizeof(_capi.Config))
        flags = (
            (refuse_takeover, _capi.CONFIG_REFUSE_TAKEOVER),
            (resolve_in_open, _capi.CONFIG_RESOLVE_IN_OPEN),
            (ignore_environment, _capi.CONFIG_IGNORE_ENVIRONMENT),
            (not tls_verify, _capi.CONFIG_TLS_NO_VERIFY),
        )
        config.flags = sum(bit for wanted, bit in flags if wanted)
        if name is not None:
            encoded = _encode(name)
            config.agent = encoded
            config.agent_len = len(encoded)
        if namespace is not None:
            config.name_space = _encode(namespace)
        for field, value in (
            ("endpoints", endpoints),
            ("ca_file", ca_file),
            ("cert_file", cert_file),
            ("key_file", key_file),
            ("server_name", server_name),
            ("user", user),
            ("password", password),
        ):
            if value is not None:
                setattr(config, field, value.encode())
        config.on_event = self._event_callback
        if logger is not None:
            config.on_log = self._log_callback
        config.log_level = log_level
        handle = c_void_p()
        self._check(self._library.nixl_md_open(byref(config), byref(handle)))
        self._handle = handle

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
            if exception is None and self._handle is not None:
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
        self._raised += raised

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def shutdown(self, drain: float) -> None:
        """Begins the shutdown: finish what is queued, withdraw, within `drain` seconds (0: at
        once). Ticks do it; one raises ShutDown when it is done."""
        self._check(self._library.nixl_md_shutdown(self._pointer, round(drain * 1000)))

    def close(self) -> None:
        """Frees the handle; open operations complete as CANCELED. Harmless when repeated."""
        if self._handle is None:
            return
        self._check(self._library.nixl_md_close(self._handle))
        self._handle = None
        self._open.clear()
        if self._on_close is not None:
            self._on_close()
        self._raise()

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._handle is None

    @property
    def is_shut_down(self) -> bool:
        """Whether a tick has found the shutdown done."""
        return self._is_shut_down

    # Driving

    def tick(self) -> int:
        """Does what is due and returns the number of callbacks run. Never blocks. An exception
        that a callback raised is raised here; of several, the others go to sys.unraisablehook."""
        count: int = self._library.nixl_md_tick(self._pointer)
        # Before the end is noted: the next tick tells of that again.
        self._raise()
        if count == Status.SHUT_DOWN:
            self._is_shut_down = True
        return count if count >= 0 else self._check(count)

    def fileno(self) -> int:
        """The efd: readable exactly when a tick has something to do."""
        return self._check(self._library.nixl_md_efd(self._pointer))

    def deadline(self) -> float | None:
        """Seconds until a tick has something to do that no peer causes; None: never."""
        milliseconds = c_uint64()
        self._check(self._library.nixl_md_deadline_ms(self._pointer, byref(milliseconds)))
        return None if milliseconds.value == _capi.NEVER else milliseconds.value / 1000

    def run_until(
        self,
        condition: Callable[[], bool],
        timeout: float | None = None,
        *,
        until_shut_down: bool = False,
    ) -> None:
        """Sleeps on the efd and ticks until the condition holds; raises TimedOut after `timeout`
        seconds. `until_shut_down`: the end of a shutdown ends it too."""
        end = None if timeout is None else time.monotonic() + timeout
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        while not condition():
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                raise TimedOut(Status.TIMED_OUT, f"not within {timeout} s")
            poll.poll(None if left is None else math.ceil(left * 1000))
            try:
                self.tick()
            except ShutDown:
                # A callback may have raised it as well, before the end.
                if until_shut_down and self._is_shut_down:
                    return
                raise

    # Operations

    def publish(
        self,
        label: Name,
        blob: bytes | bytearray | memoryview,
        *,
        timeout: float | None = None,
        on_done: DoneCallback | None = None,
    ) -> Operation:
        """Publishes a blob, bytes or what is like them, under a label. `timeout` here and below:
        seconds, None for the library's default, math.inf for never."""
        encoded = _encode(label)
        if not isinstance(blob, bytes):
            # ctypes would take a str too, and give the library its wide characters.
            blob = bytes(memoryview(blob))
        return self._start(
            self._library.nixl_md_publish,
            (encoded, len(encoded), blob, len(blob)),
            timeout=timeout,
            on_done=on_done,
        )

    def unpublish(
        self, label: Name, *, timeout: float | None = None, on_done: DoneCallback | None = None
    ) -> Operation:
        """Removes one label."""
        encoded = _encode(label)
        return self._start(
            self._library.nixl_md_unpublish,
            (encoded, len(encoded)),
            timeout=timeout,
            on_done=on_done,
        )

    def start_heartbeat(
        self,
        interval: float | None = None,
        ttl: float | None = None,
        *,
        timeout: float | None = None,
        on_done: DoneCallback | None = None,
    ) -> Operation:
        """Puts this agent's keys under a lease and renews it; seconds, None for the defaults."""
        return self._start(
            self._library.nixl_md_start_heartbeat,
            (_milliseconds(interval), _milliseconds(ttl)),
            timeout=timeout,
            on_done=on_done,
        )

    def stop_heartbeat(
        self, *, keep: bool, timeout: float | None = None, on_done: DoneCallback | None = None
    ) -> Operation:
        """Stops the heartbeat; the keys become permanent (`keep`) or are withdrawn."""
        mode = _capi.HEARTBEAT_KEEP if keep else _capi.HEARTBEAT_WITHDRAW
        return self._start(
            self._library.nixl_md_stop_heartbeat, (mode,), timeout=timeout, on_done=on_done
        )

    def fetch(
        self,
        agent: Name,
        label: Name = "metadata",
        *,
        wait: bool = True,
        timeout: float | None = None,
        on_done: DoneCallback | None = None,
    ) -> Operation:
        """Gets one label of an agent; if it is not there, waits for it unless told not to."""
        name, encoded = _encode(agent), _encode(label)
        return self._start(
            self._library.nixl_md_fetch,
            (name, len(name), encoded, len(encoded)),
            timeout=timeout,
            on_done=on_done,
            flags=0 if wait else _capi.FETCH_NO_WAIT,
        )

    def invalidate(
        self, *, timeout: float | None = None, on_done: DoneCallback | None = None
    ) -> Operation:
        """Withdraws everything this agent published, now."""
        return self._start(self._library.nixl_md_invalidate, (), timeout=timeout, on_done=on_done)

    def list(
        self, *, timeout: float | None = None, on_done: DoneCallback | None = None
    ) -> Operation:
        """Lists who is present: `agents` of the result."""
        return self._start(self._library.nixl_md_list, (), timeout=timeout, on_done=on_done)

    def watch(
        self,
        agent: Name | None,
        on_event: EventCallback,
        *,
        blobs: bool | None = None,
    ) -> Watch:
        """Watches one agent, or the namespace (None). `blobs`: whether labels and blobs are told;
        None for the default: yes for one agent, presence only for the namespace."""
        name = None if agent is None else _encode(agent)
        flags = 0
        if blobs is not None:
            flags = _capi.WATCH_BLOBS if blobs else _capi.WATCH_PRESENCE_ONLY
        # Blobs of one agent are the default, and no flag says so.
        if agent is not None and blobs:
            flags = 0
        watch = Watch(self, on_event)
        token = next(self._tokens)
        options = _capi.Opts(size=ctypes.sizeof(_capi.Opts), flags=flags, user=token)
        identity = c_uint64()
        with self._entered(token, watch):
            self._check(
                self._library.nixl_md_watch(
                    self._pointer,
                    name,
                    0 if name is None else len(name),
                    self._event_callback,
                    byref(options),
                    byref(identity),
                )
            )
        watch.id = identity.value
        return watch

    def stats(self) -> SimpleNamespace:
        """The counters of nixl_md_stats_t, by the names of its fields."""
        stats = _capi.Stats(size=ctypes.sizeof(_capi.Stats))
        self._check(self._library.nixl_md_get_stats(self._pointer, byref(stats)))
        names = [*_capi.STATS_FIELDS, "revision"]
        return SimpleNamespace(**{name: getattr(stats, name) for name in names})

    # Inside

    @property
    def _pointer(self) -> c_void_p:
        if self._handle is None:
            raise ShutDown(Status.SHUT_DOWN, "the agent is closed")
        return self._handle

    def _check(self, status: int) -> int:
        if status < 0:
            text = self._library.nixl_md_last_error(None).decode("utf-8", "backslashreplace")
            raise error(status, text)
        return status

    def _start(
        self,
        function: Callable[..., int],
        arguments: tuple[Any, ...],
        *,
        timeout: float | None,
        on_done: DoneCallback | None,
        flags: int = 0,
    ) -> Operation:
        operation = Operation(self, on_done)
        token = next(self._tokens)
        options = _capi.Opts(
            size=ctypes.sizeof(_capi.Opts),
            flags=flags,
            timeout_ms=_milliseconds(timeout),
            on_done=self._done_callback,
            user=token,
        )
        identity = c_uint64()
        with self._entered(token, operation):
            self._check(function(self._pointer, *arguments, byref(options), byref(identity)))
        operation.id = identity.value
        return operation

    @contextlib.contextmanager
    def _entered(self, token: int, started: Operation | Watch) -> Iterator[None]:
        """Around a starting call. The entry is made before it: where another thread ticks, the
        completion may come before the call returns. What was refused, by the library or by ctypes
        already, leaves none."""
        self._open[token] = started
        try:
            yield
        except BaseException:
            self._open.pop(token, None)
            raise

    def _cancel(self, identity: int) -> None:
        status = self._library.nixl_md_cancel(self._pointer, identity)
        # It may have completed in the library and not yet been told.
        if status != Status.NOT_FOUND:
            self._check(status)

    def _unwatch(self, identity: int) -> None:
        status = self._library.nixl_md_unwatch(self._pointer, identity)
        if status != Status.NOT_FOUND:
            self._check(status)

    def _raise(self) -> None:
        if not self._raised:
            return
        first, *others = self._raised
        self._raised = []
        for other in others:
            _report(other, self)
        raise first

    # Called by the library. Nothing may be raised into it.

    def _on_done(self, raw: Any, token: int) -> None:  # noqa: ANN401 - ctypes pointers
        try:
            operation = self._open.pop(token, None)
            if isinstance(operation, Operation):
                operation._complete(result_of(raw.contents))
        except BaseException as exception:
            self._raised.append(exception)

    def _on_event(self, raw: Any, token: int | None) -> None:  # noqa: ANN401 - as above
        try:
            event = event_of(raw.contents)
            watch = self._open.get(token) if token else None
            if isinstance(watch, Watch) and token:
                if event.type.name == "ENDED":
                    del self._open[token]
                    watch.ended = event
                watch._on_event(event)
            elif self._own_event is not None:
                self._own_event(event)
        except BaseException as exception:
            self._raised.append(exception)

    def _on_log(self, level: int, line: bytes, user: Any) -> None:  # noqa: ANN401 - as above
        try:
            if self._logger is not None:
                text = line.decode("utf-8", "backslashreplace")
                self._logger.log(_LOG_LEVELS.get(level, logging.ERROR), "%s", text)
        except BaseException as exception:
            self._raised.append(exception)


def _report(exception: BaseException, agent: Agent) -> None:
    """As Python reports what cannot be raised."""
    arguments = SimpleNamespace(
        exc_type=type(exception),
        exc_value=exception,
        exc_traceback=exception.__traceback__,
        err_msg="Exception ignored in a callback of",
        object=agent,
    )
    sys.unraisablehook(arguments)


__all__ = ["Agent", "DoneCallback", "EventCallback", "Name", "NixlMDError", "Operation", "Watch"]
