# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""nixl-md, the operator's tool: `pip install nixl_md[cli]`."""

from __future__ import annotations


def main() -> None:
    """The entry point; says what is missing where the tool's own needs are not installed."""
    try:
        _run()
    except KeyboardInterrupt:
        # While modules are loaded; a command ends by itself (options.ended).
        raise SystemExit(130) from None


def _run() -> None:
    try:
        from .app import main as run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        raise SystemExit(f"nixl-md needs {error.name}: pip install 'nixl_md[cli]'") from error
    run()
