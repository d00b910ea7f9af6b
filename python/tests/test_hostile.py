# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What threads, signals, the collector, forks and the interpreter's end may do to an agent."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from typing import Any

import nixl_md
import pytest
from nixl_md import Agent, Operation, Result
from nixl_md.aio import AsyncAgent

Options = dict[str, Any]


def run_script(script: str, options: Options, seconds: float = 60) -> str:
    """In an interpreter of its own, which ends in an orderly way; what it has printed."""
    ended = subprocess.run(
        # That an agent is left open is what is tried.
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", f"options = {options!r}\n{script}"],
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout + ended.stderr
    return ended.stdout


# Copies


def test_copy_isRefused(options: Options) -> None:
    """It would free the same handle."""
    with Agent("alpha", **options) as agent:
        for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot be copied or pickled"):
                duplicate(agent)
        agent.publish(None, b"1").wait(30)


# Locks and signals


def test_lockLeftBySignal_tickReleasesIt(options: Options) -> None:
    """Else a thread that starts something would wait for ever."""
    with Agent("alpha", **options) as agent:
        agent._handle_lock.acquire()
        agent.tick()
        started: list[Operation] = []
        thread = threading.Thread(target=lambda: started.append(agent.fetch("nobody")))
        thread.start()
        thread.join(30)
        is_stuck = thread.is_alive()
        if is_stuck:
            agent._handle_lock.release()
            thread.join()
        assert not is_stuck
        assert len(started) == 1


def test_closeBySignal_amidCall_isRefused(options: Options) -> None:
    """The call has the handle already, which close() would free."""
    refused: list[BaseException] = []

    def close(*_: object) -> None:
        try:
            agent.close()
        except nixl_md.InCallback as refusal:
            refused.append(refusal)

    def call(pointer: object) -> int:
        signal.raise_signal(signal.SIGUSR1)
        return 0

    agent = Agent("alpha", **options)
    before = signal.signal(signal.SIGUSR1, close)
    try:
        agent._call(call)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not agent.closed
    assert "close() was called by a signal's handler amid another call" in str(refused[0])
    agent.publish(None, b"1").wait(30)
    agent.close()


def test_closeBySignal_amidWait_endsIt(options: Options) -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: agent.close())
    agent = Agent("alpha", **options)
    waiting = agent.fetch("nobody", timeout=600)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises((nixl_md.ShutDown, nixl_md.Canceled)):
            waiting.wait(60)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert agent.closed
    with pytest.raises(nixl_md.Canceled):
        waiting.result()


@pytest.mark.parametrize("background", [True, False])
def test_callbackClosesAgent_isRefused(options: Options, background: bool) -> None:
    refused: list[BaseException] = []

    def close(result: Result) -> None:
        with pytest.raises(nixl_md.InCallback) as refusal:
            agent.close()
        refused.append(refusal.value)

    with Agent("alpha", background=background, **options) as agent:
        agent.publish(None, b"1", on_done=close).wait(30)
        agent.run_until(lambda: bool(refused), 30)
    assert agent.closed


def test_callbackClosesAnotherAgent(options: Options) -> None:
    with Agent("alpha", **options) as alpha:
        beta = Agent("beta", **options)
        waiting = beta.fetch("nobody", timeout=600)
        alpha.publish(None, b"1", on_done=lambda result: beta.close()).wait(30)
        assert beta.closed
        assert waiting.done()


def test_longWait_isNoOverflow(options: Options) -> None:
    """poll(2) takes 24 days at most."""
    with Agent("alpha", **options) as agent:
        for timeout in (1e7, 1e300, float("inf")):
            agent.publish(None, b"1").wait(timeout)
        with pytest.raises(ValueError, match="nan"):
            agent.fetch("nobody").wait(float("nan"))


# The collector


@pytest.mark.parametrize("background", [True, False])
def test_cycleThroughCallbacks_isCollected(options: Options, background: bool) -> None:
    def make() -> weakref.ref[Agent]:
        agent = Agent("alpha", background=background, **options)
        holder: list[Any] = [agent]
        holder.append(agent.fetch("nobody", timeout=600, on_done=lambda result: holder.clear()))
        holder.append(agent.watch(None, lambda event: holder.append(event)))
        agent.publish(None, b"1").wait(30)
        return weakref.ref(agent)

    with pytest.warns(ResourceWarning, match="unclosed"):
        gone = make()
        end = time.monotonic() + 30
        while gone() is not None and time.monotonic() < end:
            gc.collect()
            time.sleep(0.01)
    assert gone() is None


def test_warningsAreErrors_unclosedAgentIsFreed(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: told.append(raised.exc_type))
    before = len(os.listdir("/proc/self/fd"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent = Agent("alpha", **options)
        agent.publish(None, b"1").wait(30)
        del agent
        gc.collect()
    assert told == [ResourceWarning]
    assert len(os.listdir("/proc/self/fd")) == before


# The interpreter's end


@pytest.mark.parametrize("turn", range(3))
def test_exit_daemonThreadTicks(options: Options, turn: int) -> None:
    """One that the application has started, which the interpreter does not wait for."""
    script = """
import threading, time
from nixl_md import Agent
agent = Agent("alpha", **options)
seen = []
agent.watch("alpha", seen.append)
def tick():
    number = 0
    while True:
        number += 1
        agent.publish(f"l{number % 50}", bytes(20000))
        agent.tick()
threading.Thread(target=tick, daemon=True).start()
while len(seen) < 200:
    time.sleep(0.01)
print("seen")
"""
    assert run_script(script, options) == "seen\n"


def test_exit_callbackDoesNotReturn(options: Options) -> None:
    """In the background: the process ends all the same, as with any daemon thread."""
    script = """
import threading
from nixl_md import Agent
agent = Agent("alpha", background=True, **options)
entered = threading.Event()
def stay(result):
    entered.set()
    threading.Event().wait()
agent.publish(None, b"1", on_done=stay)
entered.wait(30)
print("entered")
"""
    assert run_script(script, options) == "entered\n"


def test_exit_handlerRegisteredEarlierWaits(options: Options) -> None:
    """It runs after the background's thread has ended, and ticks for itself."""
    script = """
import atexit
atexit.register(lambda: print("withdrawn", agent.invalidate().wait(30).status.name, agent.close()))
from nixl_md import Agent
agent = Agent("alpha", background=True, **options)
agent.publish(None, b"1").wait(30)
"""
    assert run_script(script, options) == "withdrawn SUCCESS None\n"


def test_exit_asyncAgentIsLeftOpen(options: Options) -> None:
    script = """
import asyncio
from nixl_md.aio import AsyncAgent
async def main():
    agent = AsyncAgent("alpha", **options)
    await agent.__aenter__()
    await agent.publish(None, b"1")
    watch = agent.watch(None)
    print((await watch.__anext__()).type.name)
    return agent
agent = asyncio.run(main())
"""
    assert run_script(script, options) == "PRESENT\n"


# Forks


@pytest.mark.parametrize("background", [True, False])
def test_forkedChild_hasAgentOfItsOwn_andExits(options: Options, background: bool) -> None:
    """Through the interpreter's end, with both agents open."""
    script = f"""
import os, sys
from nixl_md import Agent
agent = Agent("alpha", background={background}, **options)
agent.publish(None, b"1").wait(30)
sys.stdout.flush()
child = os.fork()
if child == 0:
    own = Agent("beta", background={background}, **options)
    own.publish(None, b"2").wait(30)
    sys.exit(len(own.list().wait(30).agents))
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(code, agent.publish(None, b"3").wait(30).status.name)
"""
    assert run_script(script, options) == "2 SUCCESS\n"


# asyncio


def test_asyncio_anotherLoop_isRefused(options: Options) -> None:
    """Whose caller no tick would wake."""

    async def main() -> None:
        async with AsyncAgent("alpha", **options) as agent:
            await agent.publish(None, b"1")

            async def watch() -> None:
                async for _ in agent.watch(None):
                    pass

            def use() -> list[str]:
                told = []
                for call in (lambda: agent.fetch("alpha"), watch):
                    with pytest.raises(RuntimeError) as refusal:
                        asyncio.run(call())
                    told.append(str(refusal.value))
                return told

            told = await asyncio.get_running_loop().run_in_executor(None, use)
            assert all("it belongs to another event loop" in text for text in told)

            loop = asyncio.get_running_loop()

            def use_safely() -> bytes:
                return asyncio.run_coroutine_threadsafe(agent.fetch("alpha"), loop).result(30)

            assert await loop.run_in_executor(None, use_safely) == b"1"

    asyncio.run(asyncio.wait_for(main(), 60))


def test_asyncio_enteredTwice_isRefused(options: Options) -> None:
    async def main() -> None:
        agent = AsyncAgent("alpha", **options)
        async with agent:
            with pytest.raises(RuntimeError, match="'async with' already"):
                await agent.__aenter__()
            await agent.publish(None, b"1")
        # Once more, after it was left.
        async with agent:
            await agent.publish(None, b"2")

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.01, 0.1])
def test_asyncio_cancelledWhileLeaving_isClosed(options: Options, delay: float) -> None:
    async def main() -> None:
        agent = AsyncAgent("alpha", drain=30, **options)
        before = len(os.listdir("/proc/self/fd"))

        async def use() -> None:
            async with agent:
                # Nobody ticks from here on: leaving does not end by itself.
                await agent.publish(None, b"1")
                asyncio.get_running_loop().remove_reader(agent.agent.fileno())

        task = asyncio.ensure_future(use())
        while not (agent._agent is not None and agent.stats().callbacks and not task.done()):
            await asyncio.sleep(0.001)
            assert not task.done()
        await asyncio.sleep(delay)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert agent.agent.closed
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(asyncio.wait_for(main(), 60))


def test_asyncio_cancelledCalls_leaveNothing(options: Options) -> None:
    """Whenever it comes, also in the turn of the loop in which the call completes."""

    async def main() -> None:
        async with AsyncAgent("alpha", **options) as agent:
            for turn in range(100):
                call = asyncio.ensure_future(agent.publish("a", b"%d" % turn))
                end = time.monotonic() + 0.0001 * (turn % 20)
                while time.monotonic() < end:
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
            await agent.publish("b", b"1")
            end = time.monotonic() + 30
            while agent.stats().operations_open:
                assert time.monotonic() < end
                await asyncio.sleep(0.01)
            assert not agent.agent._open

    asyncio.run(asyncio.wait_for(main(), 60))


def test_threadCannotBeStarted_leavesNothing(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RuntimeError, match="can't start"):
        Agent("alpha", background=True, **options)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
