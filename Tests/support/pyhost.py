# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A scriptable Python host of libnixl_md over plain ctypes; it speaks the protocol of
Tests/hosts/host.hpp, so that a test can use either."""

from __future__ import annotations

import ctypes
import json
import os
import select
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import capi

LARGEST_BLOB_TOLD = 4096
EVENT_NAMES = {
    capi.PUT: "PUT",
    capi.DELETE: "DELETE",
    capi.GONE: "GONE",
    capi.RESTARTED: "RESTARTED",
    capi.RETURNED: "RETURNED",
    capi.SYNCED: "SYNCED",
    capi.CONTACT_LOST: "CONTACT_LOST",
    capi.CONTACT_REGAINED: "CONTACT_REGAINED",
    capi.RESYNC: "RESYNC",
    capi.ENDED: "ENDED",
    capi.PRESENT: "PRESENT",
    capi.LOST: "LOST",
    capi.RESTORED: "RESTORED",
    capi.SUPERSEDED_EVENT: "SUPERSEDED",
    capi.WITHDRAWN: "WITHDRAWN",
}

Values = dict[str, str]


def tell(kind: str, **values: Any) -> None:
    line = json.dumps({"kind": kind, "t": time.monotonic_ns(), **values})
    data = line.encode("ascii") + b"\n"
    while data:
        data = data[os.write(1, data) :]


def own_ns() -> int:
    """The time without that in which this thread waited for a processor."""
    waited = int(Path("/proc/thread-self/schedstat").read_text().split()[1])
    return time.monotonic_ns() - waited


def hex_of(pointer: int | None, size: int) -> str | None:
    return None if pointer is None else ctypes.string_at(pointer, size).hex()


def blob_of(pointer: int | None, size: int) -> dict[str, Any]:
    if pointer is None:
        return {"blob_len": size}
    blob = ctypes.string_at(pointer, size)
    told: dict[str, Any] = {"blob_len": size, "blob_crc": zlib.crc32(blob)}
    if size <= LARGEST_BLOB_TOLD:
        told["blob"] = blob.hex()
    return told


def text_of(text: bytes | None) -> str:
    return (text or b"").decode("latin-1")


def made_blob(size: int, seed: int) -> bytes:
    return bytes((seed + i * 7) & 0xFF for i in range(size))


@dataclass
class Handle:
    """One open handle and what keeps its callbacks alive."""

    index: int
    pointer: int | None = None
    is_shut_down: bool = False
    in_tick: int = 0
    # The longest ticks that were reported, in nanoseconds of CPU.
    longest_told: int = 0
    longest_setup_told: int = 0
    keeps: list[Any] = field(default_factory=list)


class Host:
    """Reads requests, drives handles."""

    def __init__(self) -> None:
        self.library = capi.load()
        self.handles: dict[int, Handle] = {}
        self.mode = "efd"
        self.period = 0.1
        self.is_stalled = False
        self.is_quitting = False
        self.wakes: list[int] = []
        self._contexts: dict[int, tuple[Handle, str]] = {}
        self._next_context = 1
        self._on_done = capi.DoneCallback(self._done)
        self._on_event = capi.EventCallback(self._event)

    # Callbacks

    def _context(self, handle: Handle, inside: str = "") -> int:
        self._next_context += 1
        self._contexts[self._next_context] = (handle, inside)
        return self._next_context

    def _done(self, pointer: Any, user: int) -> None:
        result = pointer.contents
        handle, inside = self._contexts.pop(user)
        handle.in_tick += 1
        told: dict[str, Any] = {
            "h": handle.index,
            "op": result.op,
            "size": result.size,
            "status": result.status,
            "op_kind": result.kind,
            "text": text_of(result.text),
            "revision": result.revision,
            "ttl_ms": result.ttl_ms,
            **blob_of(result.blob, result.blob_len),
        }
        if result.agents:
            agents = (result.agents[i].contents for i in range(result.agent_count))
            told["agents"] = [
                [hex_of(a.name, a.name_len), a.incarnation, a.revision, a.lease_id] for a in agents
            ]
        tell("done", **told)
        self._inside(handle, inside, 0)

    def _event(self, pointer: Any, user: int) -> None:
        event = pointer.contents
        handle, inside = self._contexts[user]
        self._contexts[user] = (handle, "")
        if event.type == capi.ENDED:
            del self._contexts[user]
        handle.in_tick += 1
        tell(
            "event",
            h=handle.index,
            event=EVENT_NAMES.get(event.type, "?"),
            type=event.type,
            size=event.size,
            watch=event.watch,
            agent=hex_of(event.agent, event.agent_len),
            label=hex_of(event.label, event.label_len),
            revision=event.revision,
            incarnation=event.incarnation,
            status=event.status,
            text=text_of(event.text),
            **blob_of(event.blob, event.blob_len),
        )
        self._inside(handle, inside, event.watch)

    def _inside(self, handle: Handle, what: str, watch: int) -> None:
        library = self.library
        calls: dict[str, Callable[[], int]] = {
            "tick": lambda: int(library.nixl_md_tick(handle.pointer)),
            "close": lambda: int(library.nixl_md_close(handle.pointer)),
            "cancel": lambda: int(library.nixl_md_cancel(handle.pointer, watch)),
            "shutdown": lambda: int(library.nixl_md_shutdown(handle.pointer, 1000)),
        }
        if what in calls:
            rc = calls[what]()
            tell("inside", call=what, rc=rc, error=self._error() if rc < 0 else "")

    def _error(self) -> str:
        return text_of(self.library.nixl_md_last_error(None))

    # Requests

    def perform(self, line: str) -> None:
        request, command, *words = line.split()
        values = dict(word.split("=", 1) for word in words)
        handle = self.handles.setdefault(int(values.get("h", 0)), Handle(int(values.get("h", 0))))
        rc, more = self._run(command, handle, values)
        if rc < 0:
            more["error"] = self._error()
        tell("answer", id=int(request), rc=rc, **more)

    def _run(self, command: str, handle: Handle, values: Values) -> tuple[int, dict[str, Any]]:
        if command == "open":
            return self._open(handle, values), {}
        if command in STARTING:
            return self._start(command, handle, values)
        if command == "stats":
            return self._stats(handle)
        if command == "close":
            return self._close(handle)
        if command == "wakes":
            return 0, {"times": self.wakes}
        if command == "fork_beside":
            return self._fork_beside(handle, values)
        if command == "reap":
            return 0, {"child_status": os.waitpid(int(values["child"]), 0)[1]}
        if command == "drive":
            self.mode = values["mode"]
            self.period = int(values.get("period", 100)) / 1000
        elif command in ("stall", "resume"):
            self.is_stalled = command == "stall"
        elif command == "quit":
            self.is_quitting = True
        else:
            return self._simple(command, handle, values), {}
        return 0, {}

    def _fork_beside(self, handle: Handle, values: Values) -> tuple[int, dict[str, Any]]:
        """A child that goes on while the parent does; then it ends as any program does."""
        child = os.fork()
        if child != 0:
            return 0, {"child": child}
        how = values["how"]
        if how == "close":
            tell("child", call="close", rc=int(self.library.nixl_md_close(handle.pointer)))
        end = time.monotonic() + int(values["ms"]) / 1000
        ticks = 0
        rc = capi.FORKED
        while how != "exit" and time.monotonic() < end and rc == capi.FORKED:
            if how == "tick":
                rc = int(self.library.nixl_md_tick(handle.pointer))
                ticks += 1
            time.sleep(0.001)
        if how == "tick":
            tell("child", call="tick", rc=rc, error=self._error())
            tell("child_ticks", count=ticks)
        sys.exit(0)

    def _simple(self, command: str, handle: Handle, values: Values) -> int:
        library = self.library
        if command == "cancel":
            return int(library.nixl_md_cancel(handle.pointer, int(values["op"])))
        if command == "tick":
            rc = int(library.nixl_md_tick(handle.pointer))
            self._tell_long_tick(handle)
            return rc
        if command == "shutdown":
            return int(library.nixl_md_shutdown(handle.pointer, int(values.get("drain", 0))))
        raise ValueError(f"unknown command {command}")

    def _close(self, handle: Handle) -> tuple[int, dict[str, Any]]:
        before = own_ns()
        rc = int(self.library.nixl_md_close(handle.pointer))
        took = own_ns() - before
        if rc == capi.SUCCESS:
            handle.pointer = None
        return rc, {"took_ns": took}

    def _open(self, handle: Handle, values: Values) -> int:
        texts = [
            "endpoints",
            "agent",
            "ca_file",
            "cert_file",
            "key_file",
            "server_name",
            "user",
            "password",
        ]
        fields: dict[str, Any] = {
            name: bytes.fromhex(values[name]) for name in texts if name in values
        }
        if "namespace" in values:
            fields["name_space"] = bytes.fromhex(values["namespace"])
        if "agent" in values:
            fields["agent_len"] = len(fields["agent"])
        handle = self.handles[handle.index] = Handle(handle.index)
        on_log = capi.LogCallback(
            lambda level, line, _: tell("log", h=handle.index, level=level, line=text_of(line))
        )
        if values.get("log", "0") != "0":
            handle.keeps.append(on_log)
            fields["on_log"] = on_log
        config = capi.config(
            flags=int(values.get("flags", 0)),
            log_level=int(values.get("log_level", 0)),
            on_event=self._on_event,
            on_event_user=self._context(handle),
            **fields,
        )
        pointer = ctypes.c_void_p()
        rc = int(self.library.nixl_md_open(ctypes.byref(config), ctypes.byref(pointer)))
        handle.pointer = pointer.value
        return rc

    def _start(self, command: str, handle: Handle, values: Values) -> tuple[int, dict[str, Any]]:
        ops: list[int] = []
        for number in range(int(values.get("repeat", 1))):
            suffix = str(number).encode() if "repeat" in values else b""
            op = ctypes.c_uint64()
            context = self._context(handle, values.get("inside", ""))
            options = self._options(command, values, context)
            given = self._given(command, values, suffix)
            function = getattr(self.library, "nixl_md_" + command)
            rc = int(function(handle.pointer, *given, ctypes.byref(options), ctypes.byref(op)))
            if rc != capi.SUCCESS:
                del self._contexts[context]
                return rc, {"ops": ops}
            ops.append(op.value)
        return 0, {"ops": ops}

    def _options(self, command: str, values: Values, context: int) -> capi.Opts | capi.WatchOpts:
        flags = int(values.get("flags", 0))
        if command == "watch":
            return capi.watch_opts(flags=flags, user=context)
        timeout = int(values.get("timeout", 0))
        return capi.opts(flags=flags, timeout_ms=timeout, user=context, on_done=self._on_done)

    def _given(self, command: str, values: Values, suffix: bytes) -> list[Any]:
        agent = bytes.fromhex(values["agent"]) + suffix if "agent" in values else None
        label = bytes.fromhex(values["label"]) if "label" in values else None
        if label is not None and agent is None:
            label += suffix
        agent_pair: list[Any] = [agent, len(agent or b"")]
        label_pair: list[Any] = [label, len(label or b"")]
        if command == "publish":
            blob = (
                bytes.fromhex(values["blob"])
                if "blob" in values
                else made_blob(int(values.get("size", 0)), int(values.get("seed", 0)))
            )
            return [*label_pair, blob, len(blob)]
        if command == "start_heartbeat":
            return [int(values.get("interval", 0)), int(values.get("ttl", 0))]
        given: dict[str, list[Any]] = {
            "unpublish": label_pair,
            "stop_heartbeat": [int(values.get("mode", 0))],
            "fetch": [*agent_pair, *label_pair],
            "watch": [*agent_pair, self._on_event],
            "invalidate": [],
            "list": [],
        }
        return given[command]

    def _stats(self, handle: Handle) -> tuple[int, dict[str, Any]]:
        stats = capi.Stats(size=ctypes.sizeof(capi.Stats))
        rc = int(self.library.nixl_md_get_stats(handle.pointer, ctypes.byref(stats)))
        told = {name: getattr(stats, name) for name in [*capi.STATS_FIELDS, "revision"]}
        return rc, told

    # Driving

    def _driven(self) -> list[Handle]:
        return [h for h in self.handles.values() if h.pointer is not None and not h.is_shut_down]

    def tick(self, handle: Handle) -> None:
        handle.in_tick = 0
        rc = int(self.library.nixl_md_tick(handle.pointer))
        if rc == capi.SHUT_DOWN:
            handle.is_shut_down = True
            tell("shut_down", h=handle.index)
        elif rc < 0:
            tell("tick_failed", h=handle.index, rc=rc, error=self._error())
        elif rc != handle.in_tick:
            tell("fatal", text="tick told another number of callbacks than have run")
        self._tell_long_tick(handle)

    def _tell_long_tick(self, handle: Handle) -> None:
        """Reported at once: a host that is killed has then reported every tick except the last.
        Most hosts have none over a millisecond."""
        stats = capi.Stats(size=ctypes.sizeof(capi.Stats))
        if self.library.nixl_md_get_stats(handle.pointer, ctypes.byref(stats)) != capi.SUCCESS:
            return
        cpu, setup = stats.tick_cpu_max_ns, stats.tick_tls_setup_cpu_max_ns
        step = 1_000_000
        if cpu < handle.longest_told + step and setup < handle.longest_setup_told + step:
            return
        handle.longest_told, handle.longest_setup_told = cpu, setup
        tell(
            "long_tick",
            h=handle.index,
            tick_cpu_max_ns=cpu,
            tick_tls_setup_cpu_max_ns=setup,
        )

    def run(self) -> None:
        tell("ready")
        pending = b""
        next_tick = 0.0
        while not self.is_quitting:
            ready = self._wait(next_tick)
            for handle in self._driven():
                if handle.index in ready:
                    self.wakes.append(time.monotonic_ns())
                    self.tick(handle)
            if -1 in ready:
                data = os.read(0, 1 << 16)
                if not data:
                    return
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    self.perform(line.decode("ascii"))
            if self.mode == "period" and not self.is_stalled and time.monotonic() >= next_tick:
                next_tick = time.monotonic() + self.period
                for handle in self._driven():
                    self.tick(handle)

    def _wait(self, next_tick: float) -> set[int]:
        """The handles that are ready; -1 stands for stdin."""
        poll = select.poll()
        poll.register(0, select.POLLIN)
        index = {0: -1}
        timeout: float | None = None
        if not self.is_stalled and self.mode == "efd":
            for handle in self._driven():
                efd = int(self.library.nixl_md_efd(handle.pointer))
                poll.register(efd, select.POLLIN)
                index[efd] = handle.index
        elif not self.is_stalled and self.mode == "period":
            timeout = max(0.0, (next_tick - time.monotonic()) * 1000)
        return {index[fd] for fd, _ in poll.poll(timeout)}


STARTING = frozenset(
    [
        "publish",
        "unpublish",
        "start_heartbeat",
        "stop_heartbeat",
        "fetch",
        "watch",
        "invalidate",
        "list",
    ]
)

if __name__ == "__main__":
    sys.setswitchinterval(1)
    Host().run()
