# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The same on asyncio: the event loop sleeps on the efd."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Callable

from ._agent import LOGGER, Agent, EventCallback, Name, Operation
from ._errors import NixlMDError, ShutDown, error
from ._events import Event, EventType, PresentAgent, Result
from ._stats import Stats


class AsyncAgent:
    """An Agent whose ticks are the event loop's. It takes the same arguments.

    async with AsyncAgent("alpha") as agent:
        await agent.start_heartbeat()
        await agent.publish("metadata", blob)
        async for event in agent.watch("beta"): ...
    """

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
    ) -> None:
        self._name = name
        self._make = functools.partial(
            Agent,
            name,
            endpoints=endpoints,
            namespace=namespace,
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
            server_name=server_name,
            tls_verify=tls_verify,
            user=user,
            password=password,
            refuse_takeover=refuse_takeover,
            resolve_in_open=resolve_in_open,
            ignore_environment=ignore_environment,
            on_event=on_event,
            logger=logger,
            log_level=log_level,
            drain=drain,
        )
        self._drain = drain
        self._agent: Agent | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_over: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        who = "observer" if self._name is None else repr(self._name)
        inside = f"{who}, not entered" if self._agent is None else repr(self._agent)
        return f"<AsyncAgent {inside}>"

    @property
    def agent(self) -> Agent:
        """The Agent below, for calls that need no await."""
        if self._agent is None:
            raise RuntimeError("use it in 'async with'")
        return self._agent

    async def __aenter__(self) -> AsyncAgent:
        if self._agent is not None and not self._agent.closed:
            raise RuntimeError("it is in 'async with' already")
        self._loop = asyncio.get_running_loop()
        self._is_over = self._loop.create_future()
        self._agent = self._make()
        efd = self._agent.fileno()
        self._loop.add_reader(efd, self._tick)
        self._agent._on_close = functools.partial(self._closed, efd)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        agent, is_over = self.agent, self._is_over
        assert is_over is not None
        try:
            # The application may have closed it, or begun the shutdown.
            if exception is None and not agent.closed:
                with contextlib.suppress(ShutDown):
                    agent.shutdown(self._drain)
                await asyncio.wait_for(asyncio.shield(is_over), self._drain + 1)
        finally:
            agent.close()
            is_over.cancel()

    def _tick(self) -> None:
        assert self._loop is not None
        try:
            self.agent.tick()
        except Exception as exception:
            if not isinstance(exception, ShutDown) or not self.agent.is_shut_down:
                self._loop.call_exception_handler(
                    {"message": "a callback of nixl_md raised", "exception": exception}
                )
        finally:
            # A handler of a signal has kept it from its callbacks; the efd does not tell of them.
            if self.agent._deliveries.inbox:
                self._loop.call_soon(self._tick)
        if self.agent.is_shut_down:
            # The efd stays readable from here on.
            self._loop.remove_reader(self.agent.fileno())
            self._end()

    def _closed(self, efd: int) -> None:
        """However it was closed. Now, for the next descriptor that is opened may get its number."""
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.remove_reader(efd)
            self._end()

    def _end(self) -> None:
        assert self._is_over is not None
        if not self._is_over.done():
            self._is_over.set_result(None)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """That of the caller, whom a tick in another loop would not wake."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop and self._agent is not None:
            raise RuntimeError(
                "it belongs to another event loop: use asyncio.run_coroutine_threadsafe() there"
            )
        return loop

    async def _complete(
        self,
        start: Callable[..., Operation],
        *args: Any,  # noqa: ANN401 - those of the method of Agent
        **options: Any,  # noqa: ANN401
    ) -> Result:
        future: asyncio.Future[Result] = self._running_loop().create_future()

        def done(result: Result) -> None:
            if not future.done():
                future.set_result(result)

        operation = start(*args, on_done=done, **options)
        try:
            return (await future).check()
        except asyncio.CancelledError:
            if not self.agent.closed:
                operation.cancel()
            raise

    async def publish(
        self,
        label: Name | None,
        blob: bytes | bytearray | memoryview,
        *,
        timeout: float | None = None,
    ) -> int:
        """Publishes; returns the revision of the write."""
        result = await self._complete(self.agent.publish, label, blob, timeout=timeout)
        return result.revision

    async def unpublish(self, label: Name | None = None, *, timeout: float | None = None) -> int:
        """Removes one label; returns the revision of the write."""
        result = await self._complete(self.agent.unpublish, label, timeout=timeout)
        return result.revision

    async def start_heartbeat(
        self,
        interval: float | None = None,
        ttl: float | None = None,
        *,
        timeout: float | None = None,
    ) -> float:
        """Starts the heartbeat; returns the granted TTL in seconds."""
        start = self.agent.start_heartbeat
        return (await self._complete(start, interval, ttl, timeout=timeout)).ttl

    async def stop_heartbeat(self, *, keep: bool, timeout: float | None = None) -> None:
        """Stops the heartbeat."""
        await self._complete(self.agent.stop_heartbeat, keep=keep, timeout=timeout)

    async def fetch(
        self,
        agent: Name,
        label: Name | None = None,
        *,
        wait: bool = True,
        timeout: float | None = None,
    ) -> bytes:
        """Returns the blob of one label."""
        start = self.agent.fetch
        result = await self._complete(start, agent, label, wait=wait, timeout=timeout)
        return result.blob or b""

    async def invalidate(self, *, timeout: float | None = None) -> int:
        """Withdraws everything; returns the revision of the write."""
        return (await self._complete(self.agent.invalidate, timeout=timeout)).revision

    async def list(self, *, timeout: float | None = None) -> list[PresentAgent]:
        """Returns the agents that are present."""
        return (await self._complete(self.agent.list, timeout=timeout)).agents

    async def watch(self, agent: Name | None, *, blobs: bool | None = None) -> AsyncIterator[Event]:
        """Iterates over the events of a watch. Leaving the loop ends it; if the watch ends, it
        raises."""
        self._running_loop()
        queue: asyncio.Queue[Event] = asyncio.Queue()
        callback: EventCallback = queue.put_nowait
        watch = self.agent.watch(agent, callback, blobs=blobs)
        try:
            while True:
                event = await queue.get()
                if event.type == EventType.ENDED:
                    raise error(event.status, event.text)
                yield event
        finally:
            if not self.agent.closed:
                watch.close()

    def stats(self) -> Stats:
        """See Agent.stats."""
        return self.agent.stats()


__all__ = ["AsyncAgent", "NixlMDError"]
