# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""nixl-md, the operator's tool. It needs typer and rich: the extra `cli` of the package."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable


def _open_standard_streams() -> None:
    """Python has None for those that were closed before it was started, and a socket would get
    their numbers. In order: each gets the lowest number that is free, which is its own."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY)
            setattr(sys, name, open(nowhere, mode, closefd=False))  # noqa: SIM115 - to the end
    # What a locale has no letters for is shown with escapes, and does not end the command.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def main() -> None:
    """The entry point; says what is missing where the tool's own needs are not installed."""
    _open_standard_streams()
    # While modules are loaded Ctrl-C ends the process at once: Python would show where it was, or
    # lose it. A command ends by itself (options.ended).
    is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_usual:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    run = _loaded()
    if is_usual:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _loaded() -> Callable[[], None]:
    try:
        from .app import main as run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        raise SystemExit(f"nixl-md needs {error.name}: pip install typer rich") from error
    return run
