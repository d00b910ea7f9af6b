# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The starting calls of an agent."""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import sys
import threading
from collections import deque
from collections.abc import Sequence
from ctypes import byref, c_uint64, c_void_p
from types import FrameType
from typing import TYPE_CHECKING, Any, Callable, cast

from . import _capi
from ._collect import Callbacks
from ._errors import NixlMDError, ShutDown, Status, error
from ._events import name_to_bytes
from ._operations import DoneCallback, EventCallback, Name, Operation, Watch
from ._words import in_words

if TYPE_CHECKING:
    from ._agent import Agent

# CO_COROUTINE and CO_ASYNC_GENERATOR of inspect, which takes memory from every host.
_COROUTINE = 0x80 | 0x200

_library: ctypes.CDLL | None = None


def library() -> ctypes.CDLL:
    """libnixl_md.so, loaded at first use."""
    global _library
    if _library is None:
        _library = _capi.load()
    return _library


def _label(label: Name | None) -> tuple[bytes | None, int]:
    """As the library takes it; None is its default, "metadata"."""
    encoded = None if label is None else name_to_bytes(label)
    return encoded, 0 if encoded is None else len(encoded)


def check_callback(what: str, callback: object) -> None:
    """Before it is too late to tell who has passed it."""
    if not callable(callback):
        raise TypeError(f"{what}: {callback!r} cannot be")
    code = getattr(callback, "__code__", None)
    # What `async def` makes is only called here, and nobody would await what that gives.
    if code is not None and code.co_flags & _COROUTINE:
        raise TypeError(f"{what}, and nothing awaits it: {callback!r} is a coroutine function")


def milliseconds(seconds: float | None) -> int:
    """None: the default, 0. Anything else is at least a millisecond."""
    if seconds is None:
        return 0
    if not isinstance(seconds, (int, float)):
        raise TypeError(f"a time is a number of seconds, not {seconds!r}")
    if math.isinf(seconds) and seconds > 0:
        return _capi.NEVER
    if not seconds > 0:
        raise ValueError(f"a time of {seconds} s is not greater than 0")
    # What no 64 bits hold is for the library to refuse, not for ctypes to cut off.
    return min(max(1, round(seconds * 1000)), _capi.NEVER - 1)


def check_time(seconds: float | None) -> None:
    """Before it is counted with."""
    if seconds is not None and not isinstance(seconds, (int, float)):
        raise TypeError(f"a time is a number of seconds, not {seconds!r}")
    if seconds is not None and math.isnan(seconds):
        raise ValueError("a time of nan s is none")


def drain_milliseconds(seconds: float) -> int:
    if not isinstance(seconds, (int, float)):
        raise TypeError(f"a drain is a number of seconds, not {seconds!r}")
    if not 0 <= seconds < math.inf:
        raise ValueError(f"a drain of {seconds} s is not from 0 to a day")
    return round(seconds * 1000)


def endpoints_as_text(endpoints: str | Sequence[str] | None) -> str | None:
    """One text, as the library takes it, which separates endpoints by a comma."""
    if endpoints is None or isinstance(endpoints, str):
        return endpoints
    if not isinstance(endpoints, Sequence) or not all(isinstance(each, str) for each in endpoints):
        raise TypeError(f"endpoints are a text like '127.0.0.1:2379' or a list, not {endpoints!r}")
    return ",".join(endpoints)


class Calls:
    """The calls that any thread and any callback may make. `Agent` adds life and ticks."""

    def __init__(self) -> None:
        self._library = library()
        self._handle: c_void_p | None = None
        # What nixl_md_close() has answered. Filled in C, see Agent.close().
        self._ends: deque[int] = deque()
        self._tokens = itertools.count(1)
        # By the token that the library hands back as user data.
        self._open: dict[int, Operation | Watch] = {}
        self._callbacks: Callbacks
        self._process = os.getpid()
        self._new_locks()

    # Operations

    def publish(
        self,
        label: Name | None,
        blob: bytes | bytearray | memoryview,
        *,
        timeout: float | None = None,
        on_done: DoneCallback | None = None,
    ) -> Operation:
        """Publishes a blob (bytes or a buffer) under a label, None for "metadata". With the
        heartbeat on, it is written on the heartbeat's lease only. `timeout` here and below:
        seconds, None for the library's default, math.inf for none; the operation waits that
        long for etcd, a lease, or space in a full database."""
        if not isinstance(blob, bytes):
            # ctypes would take a str too, and give the library its wide characters.
            if isinstance(blob, str):
                raise TypeError("a blob is bytes, not str: encode it")
            try:
                blob = bytes(memoryview(blob))
            except TypeError:
                raise TypeError(f"a blob is bytes, not {type(blob).__name__}") from None
        return self._start(
            self._library.nixl_md_publish,
            (*_label(label), blob, len(blob)),
            timeout=timeout,
            on_done=on_done,
        )

    def unpublish(
        self,
        label: Name | None = None,
        *,
        timeout: float | None = None,
        on_done: DoneCallback | None = None,
    ) -> Operation:
        """Removes one label, None for "metadata"."""
        return self._start(
            self._library.nixl_md_unpublish, _label(label), timeout=timeout, on_done=on_done
        )

    def start_heartbeat(
        self,
        interval: float | None = None,
        ttl: float | None = None,
        *,
        timeout: float | None = None,
        on_done: DoneCallback | None = None,
    ) -> Operation:
        """Turns the heartbeat on: the library attaches all keys of this agent to a lease that it
        renews, until `stop_heartbeat`, however this operation ends. Seconds, None for the
        defaults. While it is on, a call changes them, or waits for the lease."""
        return self._start(
            self._library.nixl_md_start_heartbeat,
            (milliseconds(interval), milliseconds(ttl)),
            timeout=timeout,
            on_done=on_done,
        )

    def stop_heartbeat(
        self, *, keep: bool, timeout: float | None = None, on_done: DoneCallback | None = None
    ) -> Operation:
        """Turns the heartbeat off. The keys move onto a lease that never ends (`keep`), which
        peers do not see, or are withdrawn."""
        mode = _capi.HEARTBEAT_KEEP if keep else _capi.HEARTBEAT_WITHDRAW
        return self._start(
            self._library.nixl_md_stop_heartbeat, (mode,), timeout=timeout, on_done=on_done
        )

    def fetch(
        self,
        agent: Name,
        label: Name | None = None,
        *,
        wait: bool = True,
        timeout: float | None = None,
        on_done: DoneCallback | None = None,
    ) -> Operation:
        """Reads one label of an agent, None for "metadata", and waits for it if it is absent,
        unless `wait` is False."""
        name = name_to_bytes(agent)
        return self._start(
            self._library.nixl_md_fetch,
            (name, len(name), *_label(label)),
            timeout=timeout,
            on_done=on_done,
            flags=0 if wait else _capi.FETCH_NO_WAIT,
        )

    def invalidate(
        self, *, timeout: float | None = None, on_done: DoneCallback | None = None
    ) -> Operation:
        """Withdraws everything this agent published, now, by revoking its lease. The heartbeat
        stays on; the next publish gets the next lease."""
        return self._start(self._library.nixl_md_invalidate, (), timeout=timeout, on_done=on_done)

    def list(
        self, *, timeout: float | None = None, on_done: DoneCallback | None = None
    ) -> Operation:
        """Lists the agents that are present: `agents` of the result."""
        return self._start(
            self._library.nixl_md_list, (), timeout=timeout, on_done=on_done, is_list=True
        )

    def watch(
        self,
        agent: Name | None,
        on_event: EventCallback,
        *,
        blobs: bool | None = None,
    ) -> Watch:
        """Watches one agent, or the namespace (None). `blobs`: whether to deliver labels and
        blobs; None for the default: yes for one agent, presence only for the namespace."""
        name = None if agent is None else name_to_bytes(agent)
        flags = 0
        if blobs is not None:
            flags = _capi.WATCH_BLOBS if blobs else _capi.WATCH_PRESENCE_ONLY
        # Blobs of one agent are the default, and no flag says so.
        if agent is not None and blobs:
            flags = 0
        check_callback("on_event is called with each event", on_event)
        watch = Watch(cast("Agent", self), on_event)
        token = next(self._tokens)
        options = _capi.WatchOpts(size=ctypes.sizeof(_capi.WatchOpts), flags=flags, user=token)
        length = 0 if name is None else len(name)
        arguments = (name, length, self._callbacks.on_event, byref(options))
        self._enter(token, watch, self._library.nixl_md_watch, arguments)
        return watch

    # Inside

    def _open_handle(self, config: _capi.Config) -> None:
        handle = c_void_p()
        self._callbacks.hold()
        try:
            status = self._library.nixl_md_open(byref(config), byref(handle))
            if status < 0:
                raise self._failure(status)
            self._handle = handle
        except BaseException:
            # Of a signal's handler, after it was opened: nobody else would close it.
            if handle:
                self._library.nixl_md_close(handle)
                self._handle = None
            self._callbacks.release()
            raise

    @property
    def _is_open(self) -> bool:
        return self._handle is not None and not self._ends

    @property
    def _pointer(self) -> c_void_p:
        if self._handle is None or self._ends:
            raise ShutDown(Status.SHUT_DOWN, "the agent is closed")
        return self._handle

    def _new_locks(self) -> None:
        # Around each call of the library that is given the handle, but a tick: close() frees it.
        self._handle_lock = threading.RLock()

    def _check_locks(self, depth: int = 2) -> None:
        """In a forked child the locks may be held by threads that do not exist there. And a handler
        of a signal may have raised at the end of a `with`, before the lock was released: then
        nothing of ours is on the stack of the thread that holds it. `depth`: how far up the stack
        the caller of the call is that asks."""
        process = os.getpid()
        if process != self._process:
            self._process = process
            self._new_locks()
        self._heal(self._handle_lock, depth + 1)

    def _heal(self, lock: Any, depth: int) -> bool:  # noqa: ANN401 - not in the type's description
        """Whether this thread still holds the lock after that, so is inside a call of ours."""
        if not lock._is_owned():
            return False
        frame: FrameType | None = sys._getframe()
        # Not at once: a call may have no caller, say at the interpreter's exit.
        while frame is not None and depth:
            frame, depth = frame.f_back, depth - 1
        while frame is not None:
            if frame.f_code in _HOLDERS and frame.f_locals.get("self") is self:
                return True
            frame = frame.f_back
        while lock._is_owned():
            lock.release()
        return False

    def _failure(self, status: int) -> NixlMDError:
        """Of the last call of this thread."""
        return error(status, in_words(self._library.nixl_md_last_error(None)))

    def _call(self, function: Callable[..., int], *arguments: Any) -> int:  # noqa: ANN401
        """A function of the library that takes the handle first."""
        self._check_locks()
        with self._handle_lock:
            status = function(self._pointer, *arguments)
            if status < 0:
                raise self._failure(status)
        return status

    def _start(
        self,
        function: Callable[..., int],
        arguments: tuple[Any, ...],
        *,
        timeout: float | None,
        on_done: DoneCallback | None,
        flags: int = 0,
        is_list: bool = False,
    ) -> Operation:
        if on_done is not None:
            check_callback("on_done is called with the result", on_done)
        operation = Operation(cast("Agent", self), on_done)
        token = next(self._tokens)
        options = _capi.Opts(
            size=ctypes.sizeof(_capi.Opts),
            flags=flags,
            timeout_ms=milliseconds(timeout),
            on_done=self._callbacks.on_list if is_list else self._callbacks.on_done,
            user=token,
        )
        if is_list:
            # The entry stays, whatever becomes of the call.
            operation._again = lambda: self._call(function, byref(options), None)
        self._enter(token, operation, function, (*arguments, byref(options)))
        return operation

    def _enter(
        self,
        token: int,
        started: Operation | Watch,
        function: Callable[..., int],
        arguments: tuple[Any, ...],
    ) -> None:
        """The entry is made before the call: where another thread ticks, the completion may come
        before it returns. What was refused, by the library or by ctypes already, leaves none."""
        identity = c_uint64()
        self._open[token] = started
        try:
            self._call(function, *arguments, byref(identity))
        except BaseException:
            # Else it was taken, and a signal's handler has raised.
            if not identity.value:
                self._open.pop(token, None)
            raise
        finally:
            if not started.id:
                started.id = identity.value

    def _cancel(self, identity: int) -> None:
        try:
            self._call(self._library.nixl_md_cancel, identity)
        except NixlMDError as refusal:
            # It may have completed in the library and not yet been told.
            if refusal.status != Status.NOT_FOUND:
                raise


# Functions that hold a lock of an agent while they call others.
_HOLDERS = {Calls._call.__code__}
