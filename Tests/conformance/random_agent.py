# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A handle that is given calls by chance, and checks what comes back."""

from __future__ import annotations

import ctypes
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import capi
from followed import Followed, Told
from hosts import is_too_long

NAMES = [b"alpha", b"beta", b"g-a", b"g"]
LABELS = [b"metadata", b"a", b"b/c", b"\xff\xfe"]
TIMEOUTS = [0, 0, 0, 50, 500, 3000, capi.NEVER]
LEASES = [(0, 2000), (500, 0), (1000, 3000), (0, 5000)]
WATCHES = 12


@dataclass
class Chance:
    """State that all agents of a run share."""

    seed: int
    endpoint: bytes
    problems: list[str] = field(default_factory=list)
    is_calm: bool = False
    longest_tick_ns: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.library = capi.load()


class RandomAgent:
    """One open handle; without a name an observer."""

    def __init__(self, chance: Chance, name: bytes | None) -> None:
        self.chance = chance
        self.random = chance.random
        self.name = name
        self.operations: dict[int, str] = {}
        self.ids: dict[int, int] = {}
        self.watches: dict[int, Followed] = {}
        self.log: deque[str] = deque(maxlen=12)
        self.is_ending = self.is_shut_down = False
        self._users = 0
        self._on_done = capi.DoneCallback(self._done)
        self._on_event = capi.EventCallback(self._event)
        self._on_own_event = capi.EventCallback(lambda event, _: None)
        self._on_log = capi.LogCallback(lambda level, text, _: self.log.append(repr(text)))
        self.pointer = ctypes.c_void_p()
        config = capi.config(
            endpoints=chance.endpoint,
            name_space=b"/random/",
            agent=name,
            agent_len=len(name or b""),
            flags=self.random.choice([0, 0, 0, capi.CONFIG_REFUSE_TAKEOVER]),
            on_event=self._on_own_event,
            on_log=self._on_log,
            log_level=3,
        )
        rc = chance.library.nixl_md_open(ctypes.byref(config), ctypes.byref(self.pointer))
        assert rc == capi.SUCCESS, self._error()
        self._watch(None, capi.WATCH_BLOBS, is_kept=True)
        self._watch(None, 0, is_kept=True)
        for peer in NAMES[:2]:
            self._watch(peer, 0, is_kept=True)
            self._watch(peer, capi.WATCH_PRESENCE_ONLY, is_kept=True)

    def problem(self, text: str) -> None:
        told = f"{self.name!r}: {text}; log: {list(self.log)}"
        print("PROBLEM", told, flush=True)
        self.chance.problems.append(told)

    def _error(self) -> str:
        return repr(self.chance.library.nixl_md_last_error(None))

    def _call(self, function: str, *arguments: Any) -> int:
        return int(getattr(self.chance.library, "nixl_md_" + function)(self.pointer, *arguments))

    # Events and completions

    def _done(self, pointer: Any, user: int) -> None:
        result = pointer.contents
        kind = self.operations.pop(user, None)
        if kind is None:
            self.problem(f"a completion of no operation, or a second one: {result.op}")
            return
        if self.ids.pop(user, result.op) != result.op:
            self.problem(f"{kind} completes with another id")
        if result.status == capi.UNKNOWN:
            self.problem(f"{kind}: {result.text}")
        if kind == "fetch" and result.status == capi.SUCCESS and not result.blob:
            self.problem("a fetch succeeds without a blob")
        if not self.chance.is_calm and self.random.random() < 0.1:
            self.act()

    def _event(self, pointer: Any, user: int) -> None:
        told = Told.of(pointer.contents)
        watch = self.watches.get(user)
        if watch is None:
            self.problem(f"an event of a watch that has ended: {told}")
            return
        watch.take(told)
        if told.type == capi.ENDED:
            del self.watches[user]
            is_wanted = watch.is_canceled or self.is_ending or told.status == capi.CANCELED
            if not is_wanted:
                self.problem(f"a watch has ended by itself: {told}")
        elif not self.chance.is_calm and not watch.is_kept and self.random.random() < 0.02:
            self._end(watch)

    # Calls

    def act(self) -> None:
        """Some call."""
        if self.is_ending:
            return
        if self.name is None:
            self.random.choice([self._fetch, self._list])()
            return
        actions: list[tuple[float, Callable[[], None]]] = [
            (0.35, self._publish),
            (0.07, lambda: self._start("unpublish", *self._label())),
            (0.10, lambda: self._start("start_heartbeat", *self.random.choice(LEASES))),
            (0.05, lambda: self._start("stop_heartbeat", self.random.choice([1, 2]))),
            (0.15, self._fetch),
            (0.07, lambda: self._start("invalidate")),
            (0.05, self._list),
            (0.06, self._watch_somebody),
            (0.05, self._end_a_watch),
            (0.05, self._cancel),
        ]
        weights, functions = zip(*actions, strict=True)
        self.random.choices(functions, weights)[0]()

    def _label(self) -> tuple[bytes, int]:
        label = self.random.choice(LABELS)
        return label, len(label)

    def _start(self, function: str, *arguments: Any, flags: int = 0) -> None:
        self._users += 1
        user, op = self._users, ctypes.c_uint64()
        timeout = self.random.choice(TIMEOUTS)
        options = capi.opts(on_done=self._on_done, user=user, timeout_ms=timeout, flags=flags)
        self.operations[user] = function
        rc = self._call(function, *arguments, ctypes.byref(options), ctypes.byref(op))
        if rc == capi.SUCCESS:
            self.ids[user] = op.value
            return
        del self.operations[user]
        if rc != capi.LIMIT:
            self.problem(f"{function} is refused: {rc} {self._error()}")

    def _publish(self) -> None:
        blob = self.random.randbytes(self.random.choice([1, 8, 100, 100, 5000, 200_000]))
        self._start("publish", *self._label(), blob, len(blob))

    def _fetch(self) -> None:
        peer = self.random.choice([*NAMES, b"nobody"])
        flags = self.random.choice([0, capi.FETCH_NO_WAIT])
        self._start("fetch", peer, len(peer), *self._label(), flags=flags)

    def _list(self) -> None:
        self._start("list")

    def _cancel(self) -> None:
        if self.ids and (rc := self._call("cancel", self.random.choice([*self.ids.values()]))):
            self.problem(f"cancel: {rc}")

    def _watch(self, peer: bytes | None, flags: int, is_kept: bool = False) -> None:
        self._users += 1
        user, op = self._users, ctypes.c_uint64()
        options = capi.watch_opts(user=user, flags=flags)
        has_blobs = flags & capi.WATCH_BLOBS if peer is None else not flags
        watch = Followed(self.problem, peer, not has_blobs, is_kept)
        self.watches[user] = watch
        given = (peer, len(peer or b""), self._on_event, ctypes.byref(options), ctypes.byref(op))
        if rc := self._call("watch", *given):
            self.problem(f"watch: {rc} {self._error()}")
        watch.op = op.value

    def _watch_somebody(self) -> None:
        if len(self.watches) < WATCHES:
            peer = self.random.choice([*NAMES, None])
            self._watch(peer, self.random.choice([0, capi.WATCH_PRESENCE_ONLY]))

    def _end_a_watch(self) -> None:
        loose = [w for w in self.watches.values() if not w.is_kept and not w.is_canceled]
        if loose:
            self._end(self.random.choice(loose))

    def _end(self, watch: Followed) -> None:
        if not watch.is_canceled:
            watch.is_canceled = True
            if rc := self._call("cancel", watch.op):
                self.problem(f"cancel of a watch: {rc}")

    def tick(self) -> None:
        rc = self._call("tick")
        if rc == capi.SHUT_DOWN and self.is_ending:
            self.is_shut_down = True
        elif rc < 0:
            self.problem(f"tick: {rc} {self._error()}")

    # Its end

    def shut_down(self, drain_ms: int, tick_others: Callable[[], None]) -> None:
        """Shuts down cleanly, within the time given."""
        self.is_ending = True
        if rc := self._call("shutdown", drain_ms):
            self.problem(f"shutdown: {rc}")
        begin = time.monotonic()
        while not self.is_shut_down:
            self.tick()
            tick_others()
            time.sleep(0.001)
            if time.monotonic() - begin > drain_ms / 1000 + 2:
                self.problem(f"a shutdown in {drain_ms} ms is not done")
                break
        self._check_ended("shutdown")

    def close(self) -> None:
        self.is_ending = True
        stats = capi.Stats(size=ctypes.sizeof(capi.Stats))
        self._call("get_stats", ctypes.byref(stats))
        longest = stats.tick_cpu_max_ns
        self.chance.longest_tick_ns = max(self.chance.longest_tick_ns, longest)
        if is_too_long(longest):
            self.problem(f"a tick took {longest / 1e6:.1f} ms of CPU")
        if rc := self._call("close"):
            self.problem(f"close: {rc}")
        self._check_ended("close")

    def _check_ended(self, how: str) -> None:
        if self.operations or self.watches:
            left = sorted(self.operations.values())
            self.problem(f"left after {how}: {left} and {len(self.watches)} watches")
