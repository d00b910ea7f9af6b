# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The library as the tool uses it: an observer, which writes nothing."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
from collections.abc import Iterator

from nixl_md import Agent, NixlMDError, PresentAgent

from .errors import of_library
from .render import say
from .settings import Settings


class _Lines(logging.Handler):
    """The library's warnings, on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"nixl-md: {record.getMessage()}")


def _logger(is_quiet: bool) -> logging.Logger:
    logger = logging.getLogger("nixl_md.cli.quiet" if is_quiet else "nixl_md.cli")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler() if is_quiet else _Lines())
    return logger


def observer(settings: Settings, is_quiet: bool = False) -> Agent:
    """Opens a handle. What it needs of the environment it has from the settings."""
    return Agent(
        None,
        endpoints=[str(endpoint) for endpoint in settings.endpoints],
        namespace=os.fsencode(settings.namespace),
        ca_file=settings.cacert,
        cert_file=settings.cert,
        key_file=settings.key,
        server_name=settings.server_name,
        tls_verify=settings.verify,
        user=settings.user,
        password=settings.password,
        ignore_environment=True,
        logger=_logger(is_quiet),
    )


def present(settings: Settings) -> tuple[list[PresentAgent], int]:
    """Who is present, as the library lists it, and the revision."""
    agent = observer(settings, is_quiet=True)
    try:
        result = agent.list(timeout=settings.timeout).wait(settings.timeout + 1)
        return result.agents, result.revision
    except NixlMDError as error:
        raise of_library(error) from error
    finally:
        agent.close()


class Interruption:
    """Ctrl-C, SIGTERM and SIGHUP while callbacks run: Python would raise at any point, also within
    a callback of the library, where it is lost; or end without leaving the terminal as it was. So
    they are noted, and `wait` raises.

    `is_read`: the command is over when nobody reads its answer any more, also while there is
    nothing to write."""

    def __init__(self, handle: Agent, *, is_read: bool = False) -> None:
        self._handle = handle
        self._noted = 0
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(handle.fileno(), select.POLLIN)
        self._poll.register(self._reader, select.POLLIN)
        if is_read:
            # Of a pipe or a terminal that is gone, which needs no asking for.
            self._poll.register(1, 0)

    def _note(self, number: int, _: object) -> None:
        self._noted = number
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"!")

    def wait(self, seconds: float | None) -> None:
        """Ticks once, when there is something to do, after so many seconds at the latest."""
        ready = self._poll.poll(None if seconds is None else seconds * 1000)
        self._handle.tick()
        if any(number == 1 for number, _ in ready):
            raise BrokenPipeError
        if self._noted == signal.SIGINT:
            raise KeyboardInterrupt
        if self._noted:
            raise SystemExit(128 + self._noted)

    @contextlib.contextmanager
    def noted(self) -> Iterator[Interruption]:
        # Who is started with one ignored, in the background of a script or by nohup, keeps it so;
        # and SIGTERM may be the command's own.
        usual = (signal.SIG_DFL, signal.default_int_handler)
        before = {x: signal.getsignal(x) for x in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        ours = {number: handler for number, handler in before.items() if handler in usual}
        for number in ours:
            signal.signal(number, self._note)
        try:
            yield self
        finally:
            for number, handler in ours.items():
                signal.signal(number, handler)
            os.close(self._reader)
            os.close(self._writer)
