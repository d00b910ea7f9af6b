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
    """Ctrl-C while callbacks run: Python would raise at any point, also within a callback of the
    library, where it is lost. So it is noted, and `wait` raises it."""

    def __init__(self, handle: Agent) -> None:
        self._handle = handle
        self._is_wanted = False
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(handle.fileno(), select.POLLIN)
        self._poll.register(self._reader, select.POLLIN)

    def _note(self, *_: object) -> None:
        self._is_wanted = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"!")

    def wait(self, seconds: float | None) -> None:
        """Ticks once, when there is something to do, after so many seconds at the latest."""
        self._poll.poll(None if seconds is None else seconds * 1000)
        self._handle.tick()
        if self._is_wanted:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def noted(self) -> Iterator[Interruption]:
        # Who is started with it ignored, in the background of a script, keeps it so.
        is_ours = signal.getsignal(signal.SIGINT) == signal.default_int_handler
        if is_ours:
            signal.signal(signal.SIGINT, self._note)
        try:
            yield self
        finally:
            if is_ours:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            os.close(self._reader)
            os.close(self._writer)
