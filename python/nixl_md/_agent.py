# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The handle."""

from __future__ import annotations

import ctypes
import itertools
import logging
import math
import select
import sys
import time
import warnings
from ctypes import byref, c_uint64, c_void_p
from types import SimpleNamespace, TracebackType
from typing import Any, Callable, Union

from . import _capi
from ._errors import NixlMDError, ShutDown, Status, TimedOut, error
from ._events import Event, Result, event_of, result_of

Name = Union[str, bytes]
DoneCallback = Callable[[Result], None]
EventCallback = Callable[[Event], None]

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
    return max(1, round(seconds * 1000))


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
        self._raised: list[BaseException] = []
        self._own_event = on_event
        self._logger = logger
        self._drain = drain
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
                self.shutdown(self._drain)
                # The drain is bounded by the library; the second is for a host that is held up.
                self.run_until(lambda: False, self._drain + 1, until_shut_down=True)
        finally:
            self.close()

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
        self._raise()

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._handle is None

    # Driving

    def tick(self) -> int:
        """Does what is due and returns the number of callbacks run. Never blocks. An exception
        that a callback raised is raised here; of several, the others go to sys.unraisablehook."""
        count: int = self._library.nixl_md_tick(self._pointer)
        self._raise()
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
                if until_shut_down:
                    return
                raise

    # Operations

    def publish(
        self,
        label: Name,
        blob: bytes,
        *,
        timeout: float | None = None,
        on_done: DoneCallback | None = None,
    ) -> Operation:
        """Publishes a blob under a label. `timeout` here and below: seconds, None for the
        library's default, math.inf for never."""
        encoded = _encode(label)
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
        self._open[token] = watch
        status = self._library.nixl_md_watch(
            self._pointer,
            name,
            0 if name is None else len(name),
            self._event_callback,
            byref(options),
            byref(identity),
        )
        if status < 0:
            del self._open[token]
            self._check(status)
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
        # Before the call: where another thread ticks, the completion may come before it returns.
        self._open[token] = operation
        status = function(self._pointer, *arguments, byref(options), byref(identity))
        if status < 0:
            del self._open[token]
            self._check(status)
        operation.id = identity.value
        return operation

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
            operation = self._open.pop(token)
            if isinstance(operation, Operation):
                operation._result = result_of(raw.contents)
                operation.id = operation._result.operation
                if operation._on_done is not None:
                    operation._on_done(operation._result)
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


__all__ = ["Agent", "NixlMDError", "Operation", "Watch"]
