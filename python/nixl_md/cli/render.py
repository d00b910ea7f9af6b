# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""How answers look: tables that fit the terminal, plain lines in a pipe, JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

# Of the words of a state or a finding.
STYLES = {
    "leased": "green",
    "permanent": "yellow",
    "orphan": "magenta",
    "mixed": "red",
    "gone": "red",
    "GONE": "red",
    "RESTARTED": "yellow",
    "OK": "green",
    "WARN": "yellow",
    "FAIL": "bold red",
}
_HEADER = "bold"
_GAP = 2
# Of a column in a pipe, as far as others are moved by it.
GREATEST_WIDTH = 200


def printable(name: bytes) -> str:
    """For people: what a store holds may be any byte, and a terminal obeys some of them."""
    return readable(name.decode("utf-8", "backslashreplace"))


def readable(text: str) -> str:
    """The same of what a server says."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def discard_output() -> None:
    """From now on: nobody reads it, or it cannot be written."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def has_color(stream: TextIO) -> bool:
    """https://no-color.org"""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def width(stream: TextIO) -> int | None:
    """Columns of the terminal; None: it is none, and nothing is to be cut off."""
    if not is_terminal(stream):
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80


def styled(text: str, style: str, stream: TextIO) -> str:
    if not has_color(stream):
        return text
    # Here, as below: in a pipe rich is not needed, and loading it takes time.
    from rich.color import ColorSystem
    from rich.style import Style

    return Style.parse(style).render(text, color_system=ColorSystem.STANDARD)


def word(text: str, stream: TextIO) -> str:
    """In its colour, where it has one."""
    style = STYLES.get(text.strip())
    return styled(text, style, stream) if style else text


@dataclass(frozen=True)
class Column:
    """`rank`: those of the greatest go first where the terminal is narrow; 0 never goes."""

    title: str
    rank: int = 0
    right: bool = False


def cells(text: str) -> int:
    """How wide it is on a terminal; of what is printable."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, columns: int) -> str:
    """Not longer than so many cells."""
    if cells(text) <= columns:
        return text
    kept = ""
    for character in text:
        if cells(kept + character) >= columns:
            break
        kept += character
    return kept + "…"


def _pad(text: str, columns: int, right: bool) -> str:
    # Counts characters, some of which take two cells, or none.
    columns += len(text) - cells(text)
    return text.rjust(columns) if right else text.ljust(columns)


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], stream: TextIO, room: int | None
) -> list[str]:
    """Lines. On a terminal of `room` columns the least important go, then the first is cut. In a
    pipe nothing is cut, and what is very long stands out: one name does not make all lines long."""
    widths = [
        max([cells(column.title), *(cells(row[number]) for row in rows)])
        for number, column in enumerate(columns)
    ]
    if room is None:
        widths = [min(each, GREATEST_WIDTH) for each in widths]
    kept = list(range(len(columns)))

    def total() -> int:
        return sum(widths[number] for number in kept) + _GAP * (len(kept) - 1)

    if room is not None:
        while total() > room:
            number = max(kept, key=lambda number: columns[number].rank)
            if columns[number].rank == 0:
                widths[0] = max(8, widths[0] - (total() - room))
                break
            kept.remove(number)
    is_cut = room is not None
    shown = [_column(columns[n], widths[n], rows, n, stream, is_cut) for n in kept]
    return [(" " * _GAP).join(line).rstrip() for line in zip(*shown)]


def _column(
    column: Column,
    columns: int,
    rows: Sequence[Sequence[str]],
    number: int,
    stream: TextIO,
    is_cut: bool,
) -> Iterator[str]:
    """Its title and cells, all of one width. A table may have 100,000 rows."""
    colored = has_color(stream)
    yield styled(_pad(column.title, columns, column.right), _HEADER, stream)
    for row in rows:
        cell = cut(row[number], columns) if is_cut else row[number]
        text = _pad(cell, columns, column.right)
        yield word(text, stream) if colored else text


def say(text: str) -> None:
    """To people, beside the answer."""
    lines = [part for line in text.split("\n") for part in folded(line, sys.stderr)]
    print("\n".join(lines), file=sys.stderr, flush=True)


def folded(line: str, stream: TextIO) -> list[str]:
    """In lines that fit the terminal, if it is one, between words; what follows is indented."""
    text = line.lstrip(" ")
    space = " " * (len(line) - len(text))
    return wrap(text, space, space or "  ", width(stream))


def put_json(value: Any) -> None:  # noqa: ANN401 - anything that JSON has
    print(json.dumps(value, ensure_ascii=True), flush=True)


def wrap(text: str, first: str, rest: str, room: int | None) -> list[str]:
    """Words in lines, the first of which begins with `first` and all others with `rest`."""
    if room is None:
        return [first + text]
    lines = [first]
    is_empty = True
    for each in text.split():
        if not is_empty and cells(lines[-1]) + 1 + cells(each) > room:
            lines.append(rest)
            is_empty = True
        lines[-1] += each if is_empty else " " + each
        is_empty = False
    return lines


def duration(seconds: int) -> str:
    """Short: 12s, 3m20s, 5h10m, 9d."""
    if seconds < 120:
        return f"{seconds}s"
    if seconds < 7200:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < 172_800:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"{seconds // 86400}d"


def amount(size: int | None) -> str:
    """Bytes, short."""
    if size is None:
        return "-"
    if size < 10_000:
        return str(size)
    for unit in "KMG":
        size = (size + 512) // 1024
        if size < 10_000 or unit == "G":
            return f"{size}{unit}i"
    raise AssertionError


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
