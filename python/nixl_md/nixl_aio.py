# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""nixl_md.nixl on asyncio. A module of its own: asyncio takes memory that others need not spend."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from .aio import AsyncAgent
from .nixl import Exchange, take_endpoints


class AsyncNixlMetadata(Exchange):
    """The same on asyncio, with the same arguments: inside 'async with' the event loop does all
    the work. `driver` is the AsyncAgent below, for everything else to await."""

    def _open(self, name: str, options: dict[str, Any]) -> None:
        self.driver = AsyncAgent(name, **options)
        self._checks: asyncio.Task[None] | None = None

    async def __aenter__(self) -> AsyncNixlMetadata:
        await self.driver.__aenter__()
        try:
            self._start(self.driver.agent)
        except BaseException as exception:
            await self.driver.__aexit__(type(exception), exception, None)
            raise
        if self._check_interval is not None:
            self._checks = asyncio.create_task(self._check_for_ever(self._check_interval))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._checks is not None:
            self._checks.cancel()
        await self.driver.__aexit__(kind, exception, traceback)

    async def _check_for_ever(self, period: float) -> None:
        while True:
            await asyncio.sleep(period)
            try:
                self.check_if_due()
            except Exception as exception:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "registrations could not be published", "exception": exception}
                )


__all__ = ["AsyncNixlMetadata", "take_endpoints"]
