# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Several threads and one agent: with a thread of its own, and without."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from typing import Any

import nixl_md
import pytest
from nixl_md import Agent, Event, EventType, Result

Options = dict[str, Any]


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("nixl_md")]


def test_without_background_there_is_no_thread(options: Options) -> None:
    before = threading.active_count()
    with Agent("alpha", **options) as agent:
        agent.publish(None, b"1").wait(30)
        assert threading.active_count() == before


def test_all_calls_work_beside_its_thread(options: Options) -> None:
    events: list[Event] = []
    with Agent("alpha", background=True, **options) as agent:
        assert threads() == ["nixl_md 'alpha'"]
        assert "ticked in the background" in repr(agent)
        assert agent.start_heartbeat(2, 6).wait(30).ttl == 6
        watch = agent.watch("alpha", events.append)
        for number in range(20):
            agent.publish("a", b"%d" % number).wait(30)
        assert agent.fetch("alpha", "a").wait(30).blob == b"19"
        assert [one.name for one in agent.list().wait(30).agents] == ["alpha"]
        assert agent.tick() >= 0
        assert agent.stats().connected == 1
        agent.run_until(lambda: any(event.blob == b"19" for event in events), 30)
        watch.close()
        agent.run_until(lambda: watch.ended is not None, 30)
        with pytest.raises(nixl_md.TimedOut):
            agent.fetch("nobody", timeout=60).wait(0.1)
        agent.invalidate().wait(30)
    assert threads() == []
    assert agent.is_shut_down


@pytest.mark.parametrize("background", [True, False])
def test_threads_wait_at_once(options: Options, background: bool) -> None:
    """Each is woken when its own operation has completed, whichever of them ticks."""
    found: dict[int, bytes | None] = {}

    def use(number: int) -> None:
        for turn in range(10):
            agent.publish(f"l{number}", b"%d" % turn).wait(60)
        found[number] = agent.fetch("alpha", f"l{number}").wait(60).blob

    with Agent("alpha", background=background, **options) as agent:
        users = [threading.Thread(target=use, args=(number,)) for number in range(8)]
        for user in users:
            user.start()
        for user in users:
            user.join(120)
    assert found == {number: b"9" for number in range(8)}


def test_wait_beside_a_thread_of_the_application_that_ticks(options: Options) -> None:
    with Agent("alpha", **options) as agent:
        is_over = threading.Event()

        def tick() -> None:
            while not is_over.is_set():
                agent.tick()
                time.sleep(0.001)

        ticker = threading.Thread(target=tick)
        ticker.start()
        try:
            for number in range(10):
                agent.publish("a", b"%d" % number).wait(30)
        finally:
            is_over.set()
            ticker.join()


def test_callbacks_in_the_background(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may start operations, and may not wait; what they raise is reported, and the thread goes
    on."""
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: reported.append(told.exc_type))
    refused: list[BaseException] = []

    def done(result: Result) -> None:
        for call in (agent.tick, agent.close, lambda: agent.run_until(lambda: True)):
            with pytest.raises(nixl_md.InCallback) as refusal:
                call()
            refused.append(refusal.value)
        started.append(agent.publish("b", b"2"))
        raise KeyError("mine")

    started: list[nixl_md.Operation] = []
    with Agent("alpha", background=True, **options) as agent:
        agent.publish("a", b"1", on_done=done).wait(30)
        agent.run_until(lambda: bool(started), 30)
        started[0].wait(30)
        agent.run_until(lambda: reported == [KeyError], 30)
    assert len(refused) == 3
    assert "call it after tick() has returned" in str(refused[0])


def test_an_unclosed_agent_ends_its_thread(options: Options) -> None:
    agent = Agent("alpha", background=True, **options)
    agent.publish("a", b"1").wait(30)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.warns(ResourceWarning, match="unclosed"):
        del agent
        gc.collect()
    end = time.monotonic() + 30
    while threads() and time.monotonic() < end:
        time.sleep(0.01)
    assert threads() == []
    # The pipe, the efd and what is in it, the connection.
    assert len(os.listdir("/proc/self/fd")) <= descriptors - 6


def test_close_wakes_those_who_wait(options: Options) -> None:
    agent = Agent("alpha", background=True, **options)
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            agent.fetch("nobody", timeout=600).wait()
        except nixl_md.NixlMDError as refusal:
            ended.append(refusal)

    waiting = threading.Thread(target=wait)
    waiting.start()
    while not agent.stats().operations_open:
        time.sleep(0.01)
    agent.close()
    waiting.join(30)
    assert [type(each) for each in ended] == [nixl_md.Canceled]


def test_a_forked_child_does_not_hang(options: Options) -> None:
    with Agent("alpha", background=True, **options) as agent:
        waiting = agent.fetch("nobody", timeout=600)
        agent.publish("a", b"1").wait(30)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for call in (agent.tick, agent.list, lambda: waiting.wait(30)):
                    try:
                        call()
                    except nixl_md.Forked:
                        code = 0
                agent.close()
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        agent.publish("a", b"2").wait(30)
        waiting.cancel()


@pytest.mark.parametrize("background", ["True", "False"])
def test_the_interpreter_ends_without_close(options: Options, background: str) -> None:
    script = f"""
from nixl_md import Agent
agent = Agent("alpha", background={background}, endpoints={options["endpoints"]!r})
agent.start_heartbeat(2, 6).wait(30)
agent.watch(None, print)
agent.publish("a", bytes(100000)).wait(30)
print("published")
"""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "published" in ended.stdout


def test_events_of_a_watch_that_a_callback_closes(options: Options) -> None:
    """None follows but the end, also if the same tick has brought more."""
    seen: list[EventType] = []

    def note(event: Event) -> None:
        seen.append(event.type)
        watch.close()

    with Agent("alpha", **options) as agent:
        for number in range(20):
            agent.publish(f"l{number}", b"1").wait(30)
        watch = agent.watch("alpha", note)
        agent.run_until(lambda: watch.ended is not None, 30)
    assert seen == [EventType.PRESENT, EventType.ENDED]
