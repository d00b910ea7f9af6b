# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""nixl-md ls"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase

from .errors import Exit, Usage
from .listing import COLUMNS, WIDE, Row, listing
from .model import State
from .options import Output
from .render import folded, is_terminal, printable, put_json, say, table, width
from .settings import Settings


def _states(text: str | None) -> set[State]:
    if text is None:
        return set(State)
    try:
        return {State(word.strip()) for word in text.split(",")}
    except ValueError as error:
        known = ", ".join(state.value for state in State)
        raise Usage(f"--state: '{text}' is not of {known}") from error


def matches(name: bytes, patterns: Sequence[str]) -> bool:
    """As the shell has it; without patterns anything."""
    text = os.fsdecode(name)
    return not patterns or any(fnmatchcase(text, pattern) for pattern in patterns)


def run(
    settings: Settings,
    patterns: Sequence[str],
    state: str | None,
    all_spellings: bool,
    no_ttl: bool,
    output: Output,
) -> int:
    states = _states(state)
    found = listing(settings, all_spellings=all_spellings, with_times=not no_ttl)
    found.rows = [
        row
        for row in found.rows
        if (row.state is None or row.state in states) and matches(row.name, patterns)
    ]
    if output is Output.json:
        put_json(found.as_json())
    elif output is Output.name:
        print("\n".join(printable(row.name) for row in found.rows), end="\n" if found.rows else "")
    else:
        _print_table(found.rows, output)
    if output in (Output.table, Output.wide):
        stream = sys.stdout if is_terminal(sys.stdout) else sys.stderr
        print("\n".join(folded(found.summary, stream)), file=stream)
    if found.advice:
        say(f"nixl-md: {found.advice}")
    if found.is_partial:
        say(
            "nixl-md: only what the library sees: etcd's JSON gateway is not there, so that "
            "labels, sizes, orphans and times left are not known. --gateway names where it is."
        )
        return Exit.NO_GATEWAY
    return Exit.FOUND if patterns and not found.rows else Exit.OK


def _print_table(rows: Sequence[Row], output: Output) -> None:
    if not rows:
        return
    is_wide = output is Output.wide
    cells = [row.wide_cells if is_wide else row.cells for row in rows]
    columns = WIDE if is_wide else COLUMNS
    room = None if is_wide else width(sys.stdout)
    print("\n".join(table(columns, cells, sys.stdout, room)))
