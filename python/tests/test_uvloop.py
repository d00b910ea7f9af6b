# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""uvloop, which CPython alone has, with AsyncAgent, and with anyio between them."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import uvloop
from test_loops import use, use_anyio

Options = dict[str, Any]


def test_uvloop(options: Options) -> None:
    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(use(options), 60))
    finally:
        loop.close()


def test_anyio_on_uvloop(options: Options) -> None:
    anyio.run(use_anyio, options, backend="asyncio", backend_options={"use_uvloop": True})
