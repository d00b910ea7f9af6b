# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Handlers of signals that raise while a tick runs: nothing is lost, and nothing comes twice."""

from __future__ import annotations

import collections
import ctypes
import gc
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from ctypes import POINTER, c_void_p
from typing import Any, Callable

import nixl_md
import pytest
from nixl_md import Agent, Event, EventType, Operation, Result, Status, _capi, _collect, _delivery

Options = dict[str, Any]

SIGNALS = 200
# Before, signals interrupt Python code between any two instructions: then also in the body of a
# handler that notes what it is given, which is no longer ours.
HAS_WHOLE_HANDLERS = sys.version_info >= (3, 11)


class Interrupt(BaseException):
    """What Ctrl-C would raise."""


class Storm:
    """Sends SIGALRM a random short time after each start of a wait, and once more soon after it in
    half of all cases."""

    def __init__(self, seed: int) -> None:
        self.sent = 0
        self._random = random.Random(seed)
        # How many are to come. Without any, one that is late does nothing.
        self._left = 0

    def _raise(self, *_: object) -> None:
        if self._left:
            self._left -= 1
            self.sent += 1
            if self._left:
                signal.setitimer(signal.ITIMER_REAL, self._random.uniform(0.00001, 0.0001))
            raise Interrupt

    def _wait(self, agent: Agent, operations: list[Operation]) -> None:
        self._left = self._random.randint(1, 2)
        signal.setitimer(signal.ITIMER_REAL, self._random.uniform(0.00005, 0.002))
        agent.run_until(lambda: all(each.done() for each in operations), 60)
        self._left = 0

    def run(self, agent: Agent, operations: list[Operation]) -> None:
        end = time.monotonic() + 60
        while not all(operation.done() for operation in operations):
            assert time.monotonic() < end, [each for each in operations if not each.done()][:5]
            self._withstand(lambda: self._wait(agent, operations))
        self.settle(agent)

    def settle(self, agent: Agent) -> None:
        """Of two signals, the next tick may raise the first."""
        while not self._withstand(agent.tick):
            pass

    def _withstand(self, call: Callable[[], object]) -> bool:
        """Whether it returned. The outer `try` is for a signal that comes amid the inner one's
        end."""
        try:
            try:
                call()
                self._left = 0
                return True
            except Interrupt:
                self._left = 0
        except Interrupt:
            self._left = 0
        return False

    def _start(self, seconds: float) -> None:
        self._left = self._random.randint(1, 2)
        signal.setitimer(signal.ITIMER_REAL, self._random.uniform(0.00001, seconds))

    def _tick(self, agent: Agent) -> None:
        self._start(0.002)
        while self._left:
            agent.tick()

    def tick(self, agent: Agent) -> None:
        """For a while, until a signal ends it."""
        self._withstand(lambda: self._tick(agent))

    def _close(self, agent: Agent) -> None:
        self._start(0.002)
        agent.close()

    def close(self, agent: Agent) -> None:
        """Calls close() until it returns."""
        while not self._withstand(lambda: self._close(agent)):
            pass


@pytest.fixture
def storm() -> Iterator[Storm]:
    storm = Storm(random.getrandbits(32))
    before = signal.signal(signal.SIGALRM, storm._raise)
    # A finalizer that is interrupted reports it, which is no matter of ours.
    gc.disable()
    yield storm
    signal.setitimer(signal.ITIMER_REAL, 0)
    gc.enable()
    signal.signal(signal.SIGALRM, before)


def test_operations_amid_signals_complete_once(
    options: Options, storm: Storm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also lists, which are copied by Python code, and the calls of their handlers."""
    monkeypatch.setattr(sys, "unraisablehook", collections.deque(maxlen=0).append)
    calls: list[Result] = []

    def note(result: Result) -> None:
        calls.append(result)

    with Agent("alpha", drain=30, **options) as agent:
        agent.publish(None, b"present").wait(30)
        rounds = 0
        while storm.sent < SIGNALS:
            rounds += 1
            started = []
            for number in range(100):
                # A handler in C has no first instruction, one in Python has.
                on_done = note if number % 2 and HAS_WHOLE_HANDLERS else calls.append
                started.append(agent.publish(f"l{number}", b"%d" % rounds, on_done=on_done))
                started.append(agent.fetch("alpha", f"l{number}", on_done=on_done))
                if number % 10 == 0:
                    started.append(agent.list(on_done=on_done))
            storm.run(agent, started)
            assert {each.result().status for each in started} == {Status.SUCCESS}
        listed = [each.agents for each in calls if each.agents]
        assert len(listed) == 10 * rounds
        assert all([one.name for one in agents] == ["alpha"] for agents in listed)
        assert set(collections.Counter(each.operation for each in calls).values()) == {1}
        assert len(calls) == 210 * rounds
        assert not agent._open
    print(f"{storm.sent} signals in {rounds} rounds, {len(calls)} completions")


@pytest.mark.parametrize("background", [True, False])
def test_threads_beside_signals_go_on(
    options: Options, storm: Storm, monkeypatch: pytest.MonkeyPatch, background: bool
) -> None:
    """Whatever lock the main thread was about to take or to release."""
    monkeypatch.setattr(sys, "unraisablehook", collections.deque(maxlen=0).append)
    is_over = threading.Event()
    counts = [0, 0]

    def use(number: int) -> None:
        while not is_over.is_set():
            agent.publish(f"l{number}", b"1", timeout=60).wait(60)
            counts[number] += 1

    with Agent("alpha", background=background, drain=30, **options) as agent:
        users = [threading.Thread(target=use, args=(number,)) for number in range(2)]
        for user in users:
            user.start()
        try:
            while storm.sent < 5 * SIGNALS:
                storm.tick(agent)
            storm.settle(agent)
            before = list(counts)
            end = time.monotonic() + 30
            while any(count == old for count, old in zip(counts, before)):
                assert time.monotonic() < end, (before, counts)
                time.sleep(0.001)
        finally:
            is_over.set()
            for user in users:
                user.join(60)


def test_close_amid_signals_completes_all_once(
    options: Options, storm: Storm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And frees the handle once, whenever a handler raises out of it."""
    monkeypatch.setattr(sys, "unraisablehook", collections.deque(maxlen=0).append)
    rounds = 0
    while storm.sent < SIGNALS:
        rounds += 1
        calls: list[Result] = []

        def note(result: Result) -> None:
            calls.append(result)  # noqa: B023

        agent = Agent("alpha", **options)
        on_done = note if HAS_WHOLE_HANDLERS else calls.append
        started = [agent.fetch("nobody", on_done=on_done) for _ in range(50)]
        agent.tick()
        storm.close(agent)
        assert agent.closed
        assert repr(agent) == "<Agent 'alpha', closed, 0 open operations>"
        assert [each.status for each in calls] == [Status.CANCELED] * len(started)
        assert all(each.done() for each in started)
    print(f"{storm.sent} signals in {rounds} rounds")


def test_events_amid_signals_come_once(
    options: Options, storm: Storm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In their order, and their blobs whole."""
    monkeypatch.setattr(sys, "unraisablehook", collections.deque(maxlen=0).append)
    events: list[Event] = []

    def note(event: Event) -> None:
        events.append(event)

    def puts() -> list[Event]:
        return [each for each in events if each.type == EventType.PUT]

    with Agent("alpha", drain=30, **options) as agent, Agent(**options) as reader:
        watch = reader.watch("alpha", note if HAS_WHOLE_HANDLERS else events.append)
        reader.run_until(lambda: [each.type for each in events] == [EventType.SYNCED], 30)
        expected: list[tuple[str, bytes]] = []
        while storm.sent < SIGNALS:
            blobs = [b"%d" % len(expected) * 50 for _ in range(100)]
            writes = []
            for number, blob in enumerate(blobs):
                expected.append((f"l{number}", blob))
                writes.append(agent.publish(f"l{number}", blob, timeout=60))
            agent.run_until(lambda: all(each.done() for each in writes), 60)  # noqa: B023
            for _ in range(10):
                storm.run(reader, [reader.fetch("alpha", "l0", timeout=60)])
            reader.run_until(lambda: len(puts()) >= len(expected), 60)
        told = [(each.label, each.blob) for each in puts()]
        assert sorted(told) == sorted(expected)
        revisions = [each.revision for each in puts()]
        assert revisions == sorted(revisions)
        watch.close()
        reader.run_until(lambda: watch.ended is not None, 30)
    print(f"{storm.sent} signals, {len(events)} events")


def _result(token: int, callback: int | None) -> None:
    """Calls a callback as the library does."""
    blob = ctypes.create_string_buffer(b"a\0b", 3)
    result = _capi.Result(
        size=ctypes.sizeof(_capi.Result), op=7, status=-4, text=b"why", revision=9
    )
    result.blob.pointer = ctypes.cast(blob, c_void_p)
    result.blob.length = 3
    assert callback is not None
    ctypes.CFUNCTYPE(None, POINTER(_capi.Result), c_void_p)(callback)(ctypes.byref(result), token)
    ctypes.memset(blob, 0, 3)


@pytest.mark.parametrize("is_exact", [True, False])
def test_callbacks_copy_what_they_are_given(
    monkeypatch: pytest.MonkeyPatch, is_exact: bool
) -> None:
    """Also on machines and interpreters where a Python function does it."""
    monkeypatch.setattr(_collect, "_is_exact", is_exact)
    monkeypatch.setattr(_capi.Bytes, "copy", property(_collect._copier()))
    inbox: collections.deque[Any] = collections.deque()
    callbacks = _collect.Callbacks(inbox)
    _result(5, callbacks.on_done)
    _result(6, callbacks.on_list)
    line = ctypes.CFUNCTYPE(None, ctypes.c_int32, ctypes.c_char_p, c_void_p)(callbacks.on_log or 0)
    line(4, b"text", None)
    records = [each for each in inbox if each is not None]
    rest = (7, -4, b"why", 9)
    assert [each[:6] for each in records[:2]] == [
        (_collect.DONE, 5, *rest),
        (_collect.LISTED, 6, *rest),
    ]
    assert [each[7] for each in records[:2]] == [b"a\0b", b"a\0b"]
    assert records[2:] == [(_collect.AGENTS, []), (_collect.LOG, 4, b"text")]


def test_a_record_that_cannot_be_told_does_not_hold_up_the_others() -> None:
    """A defect of ours must not make a tick endless."""

    def prepare(record: Any, following: Any) -> _delivery.Prepared:  # noqa: ANN401
        if record == (1,):
            raise KeyError(record)
        return told.append, record, None

    told: list[Any] = []
    deliveries = _delivery.Deliveries(prepare)
    deliveries.inbox.extend([(1,), None, (2,), None])
    deliveries.run()
    assert told == [(2,)]
    with pytest.raises(KeyError), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda told: None)
        deliveries.raise_first("test")


def test_callbackRaisesStopIteration_isTold(options: Options) -> None:
    def run_out(result: Result) -> None:
        next(iter(()))

    agent = Agent("alpha", **options)
    agent.fetch("nobody", on_done=run_out)
    with pytest.raises(RuntimeError, match=r"run_out at .* raised StopIteration"):
        agent.close()
    assert agent.closed


def test_whatThreadIsOwed_isRaisedThereAlone(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second signal has kept it from being raised: another thread's tick leaves it alone, and
    close() reports what was never raised."""
    reported: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: reported.append(told.exc_value))
    agent = Agent("alpha", **options)
    mine, lost = Interrupt("mine"), Interrupt("lost")
    agent._deliveries.note(mine, threading.get_ident())
    agent._deliveries.note(lost, 1)
    raised: list[BaseException] = []

    def tick() -> None:
        try:
            agent.tick()
        except BaseException as exception:
            raised.append(exception)

    thread = threading.Thread(target=tick)
    thread.start()
    thread.join(30)
    assert raised == []
    tick()
    assert raised == [mine]
    assert reported == []
    agent.close()
    assert reported == [lost]


def test_ctrl_c_is_raised_before_what_a_callback_raised(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    others: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: others.append(told.exc_type))
    # Whoever starts the tests in the background has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def fail(result: Result) -> None:
        raise KeyError

    def interrupt(result: Result) -> None:
        signal.raise_signal(signal.SIGINT)

    agent = Agent("alpha", **options)
    for on_done in (fail, interrupt, fail):
        agent.fetch("nobody", on_done=on_done)
    with pytest.raises(KeyboardInterrupt):
        agent.close()
    assert others == [KeyError, KeyError]
    assert agent.closed
    assert nixl_md.version()
