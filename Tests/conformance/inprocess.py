# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A handle in the test's own process, for what is wrong on purpose: all arguments are its own."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any

import capi
import contract
from hosts import check_ticks


class Local:
    """One handle; `call` passes its arguments to the library untouched."""

    def __init__(self, **fields: Any) -> None:
        self.library = capi.load()
        self.done: list[tuple[int, int, str]] = []
        self.events: list[tuple[int, int, bytes]] = []
        # Kinds and statuses of completions that the header does not name.
        self.unnamed: list[tuple[int, int]] = []
        self.on_done = capi.DoneCallback(self._done)
        self.on_event = capi.EventCallback(self._event)
        self.pointer = ctypes.c_void_p()
        self.config = capi.config(on_event=self.on_event, **fields)
        rc = self.library.nixl_md_open(ctypes.byref(self.config), ctypes.byref(self.pointer))
        assert rc == capi.SUCCESS, self.error()

    def _done(self, pointer: Any, _: Any) -> None:
        result = pointer.contents
        # Nothing can be raised from here.
        if result.status not in contract.completions(result.kind):
            self.unnamed.append((result.kind, result.status))
        self.done.append((result.op, result.status, (result.text or b"").decode("latin-1")))

    def _event(self, pointer: Any, _: Any) -> None:
        event = pointer.contents
        agent = ctypes.string_at(event.agent, event.agent_len) if event.agent else b""
        self.events.append((event.type, event.status, agent))

    def error(self) -> str:
        text: bytes = self.library.nixl_md_last_error(None)
        return text.decode("latin-1")

    def call(self, name: str, *arguments: Any) -> int:
        rc = int(getattr(self.library, "nixl_md_" + name)(self.pointer, *arguments))
        contract.check_returned(name, rc)
        return rc

    def opts(self, **fields: Any) -> Any:
        """Options that tell their completion here."""
        return ctypes.byref(capi.opts(on_done=self.on_done, **fields))

    def tick_until(self, is_reached: Callable[[], bool], seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not is_reached():
            assert time.monotonic() < deadline, f"told so far: {self.done} {self.events}"
            rc = self.call("tick")
            assert rc >= 0, self.error()
            time.sleep(0.001)

    def finish(self, name: str, *arguments: Any) -> tuple[int, str]:
        """A call whose last two arguments are made here, and its completion."""
        op = ctypes.c_uint64()
        rc = self.call(name, *arguments, self.opts(), ctypes.byref(op))
        assert rc == capi.SUCCESS, self.error()
        self.tick_until(lambda: any(done[0] == op.value for done in self.done))
        return next((status, text) for found, status, text in self.done if found == op.value)

    def stats(self) -> dict[str, int]:
        stats = capi.Stats(size=ctypes.sizeof(capi.Stats))
        assert self.call("get_stats", ctypes.byref(stats)) == capi.SUCCESS
        return {name: getattr(stats, name) for name in [*capi.STATS_FIELDS, "revision"]}

    def close(self) -> None:
        assert self.unnamed == []
        if self.pointer:
            check_ticks(self.stats())
            assert self.call("close") == capi.SUCCESS
            self.pointer = ctypes.c_void_p()
