# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""nixl-md watch --top: a live table, redrawn in place."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from nixl_md import Event, EventType, Status
from nixl_md._errors import error
from nixl_md._events import name_to_bytes

from .errors import Failure, Usage, of_library
from .gateway import Gateway
from .listing import Row, row_of
from .model import Namespace, State, counts
from .observer import Interruption, observer
from .options import Output
from .pipeline import LeaseTime, times_to_live
from .render import Column, cut, duration, is_terminal, printable, styled, table
from .settings import Settings
from .store import read
from .watch import moment

COLUMNS = (
    Column("NAME"),
    Column("STATE", 1),
    Column("LEFT", 2, True),
    Column("TTL", 5, True),
    Column("EVENT", 3),
    Column("AGO", 4, True),
    Column("LABELS", 6, True),
    Column("REVISION", 7, True),
)
# How long one that has gone is shown.
GONE_SECONDS = 30.0
# Agents whose last event is remembered; more than any screen has lines.
REMEMBERED = 10_000
# Of the time between readings, this part at most is spent reading.
READING_PART = 0.2
# The alternate screen, no cursor, no wrapping of long lines; and back (xterm, ECMA-48).
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"


@dataclass
class Board:
    """What is known; the reader's thread replaces `rows`, the watch adds events."""

    rows: list[Row] = field(default_factory=list)
    trouble: str = ""
    read_at: float = 0.0
    last: dict[bytes, tuple[EventType, float]] = field(default_factory=dict)
    totals: Counter[str] = field(default_factory=Counter)
    contact: str = "waiting for etcd"
    ended: Event | None = None
    lines: int = 24
    is_new: bool = True

    def take(self, event: Event) -> None:
        """Of the watch."""
        self.is_new = True
        self.totals[event.type.name] += 1
        if event.agent:
            name = name_to_bytes(event.agent)
            self.last.pop(name, None)
            self.last[name] = (event.type, time.monotonic())
            if len(self.last) > REMEMBERED:
                del self.last[next(iter(self.last))]
        elif event.type == EventType.ENDED:
            self.ended = event
        elif event.type == EventType.CONTACT_LOST:
            self.contact = "CONTACT LOST: what is shown may be out of date"
        elif event.type == EventType.RESYNC:
            self.contact = "RESYNC: the differences follow"
        elif event.type in (EventType.SYNCED, EventType.CONTACT_REGAINED):
            self.contact = "in contact"

    def gone(self) -> list[bytes]:
        """Those that have left lately."""
        now = time.monotonic()
        return [
            name
            for name, (kind, at) in list(self.last.items())
            if kind == EventType.GONE and now - at < GONE_SECONDS
        ]

    def importance(self, row: Row) -> tuple[int, float, bytes]:
        """What changed last comes first, then what is not as it should be."""
        kind, at = self.last.get(row.name, (None, 0.0))
        is_old = kind is None or kind == EventType.PRESENT or time.monotonic() - at > 60
        rank = 1 if row.state is State.LEASED else 0
        return (1, 0.0, row.name) if is_old and rank else (0, -at if not is_old else 0.0, row.name)


class Reader(threading.Thread):
    """Reads the namespace again and again: what hangs on what, and how long it has."""

    def __init__(
        self, settings: Settings, agent: bytes | None, board: Board, interval: float
    ) -> None:
        super().__init__(daemon=True)
        self._settings = settings
        self._agent = agent
        self._board = board
        self._interval = interval
        self._guessed: dict[int, LeaseTime] = {}
        """Leases whose id looks like one of nixl_md's that never end: somebody else may have
        granted them, so each is asked once."""

    def run(self) -> None:
        while True:
            started = time.monotonic()
            try:
                self._read()
                self._board.trouble = ""
            except Failure as failure:
                self._board.trouble = failure.text.split("\n")[0]
            self._board.is_new = True
            took = time.monotonic() - started
            time.sleep(max(self._interval - took, took / READING_PART - took, 0.1))

    def _read(self) -> None:
        board = self._board
        with Gateway(self._settings) as gateway:
            snapshot = read(gateway, Namespace(self._settings.namespace), budget=1)
        agents = [
            found
            for name, found in snapshot.agents.items()
            if self._agent is None or name == self._agent
        ]
        held = dict.fromkeys(lease for found in agents for lease in found.leases if lease & 1)
        unknown = [lease for lease in held if lease not in self._guessed]
        known = {**self._guessed, **times_to_live(self._settings, unknown)}
        self._guessed = {lease: known[lease] for lease in held}
        # What was left of them then says nothing now.
        rows = [
            replace(row_of(self._settings.namespace, found, self._guessed), time=None)
            for found in agents
        ]
        order = sorted(range(len(rows)), key=lambda number: board.importance(rows[number]))
        seen = order[: board.lines]
        leases = [lease for number in seen for lease in agents[number].leases if lease]
        times = {**self._guessed, **times_to_live(self._settings, leases)}
        for number in seen:
            rows[number] = row_of(self._settings.namespace, agents[number], times)
        board.rows = rows
        board.read_at = time.monotonic()


def _event_cells(board: Board, name: bytes) -> tuple[str, str]:
    kind, at = board.last.get(name, (None, 0.0))
    if kind is None:
        return "-", "-"
    return kind.name, duration(int(time.monotonic() - at))


def _cells(board: Board, row: Row) -> list[str]:
    kind, ago = _event_cells(board, row.name)
    return [
        printable(row.name),
        row.state.value if row.state else "-",
        row.left_text,
        row.ttl_text,
        kind,
        ago,
        "-" if row.labels is None else str(len(row.labels)),
        str(row.revision),
    ]


def frame(board: Board, settings: Settings, columns: int, lines: int) -> list[str]:
    """All lines of the screen."""
    board.lines = lines
    clock = moment().strftime("%H:%M:%S")
    states = counts(row.state for row in board.rows if row.state)
    events = ", ".join(f"{name} {count}" for name, count in sorted(board.totals.items()))
    summary = ", ".join(f"{count} {state.value}" for state, count in states.items())
    age = time.monotonic() - board.read_at if board.read_at else 0.0
    contact = board.contact
    if board.trouble:
        contact = f"not read for {duration(int(age))}: {board.trouble}"
    is_well = contact == "in contact"
    head = [
        styled(
            cut(f"nixl-md {clock} {printable(settings.namespace)}", columns), "bold", sys.stdout
        ),
        styled(cut(contact, columns), "green" if is_well else "bold red", sys.stdout),
        cut(summary or "no agent", columns),
        cut(f"events: {events or 'none'}", columns),
        "",
    ]
    shown = {row.name for row in board.rows}
    gone = [name for name in board.gone() if name not in shown]
    rows = [
        [printable(name), "gone", "-", "-", *_event_cells(board, name), "-", "-"] for name in gone
    ]
    ordered = sorted(board.rows, key=board.importance)
    # The column's titles and the line that says what is not shown.
    room = max(0, lines - len(head) - 2)
    rows += [_cells(board, row) for row in ordered[: max(0, room - len(rows))]]
    rows = rows[:room]
    body = table(COLUMNS, rows, sys.stdout, columns) if rows else []
    hidden = len(board.rows) + len(gone) - len(rows)
    if hidden > 0:
        body.append(cut(f"... {hidden} more; Ctrl-C ends", columns))
    return [*head, *body][:lines]


@contextmanager
def _screen(board: Board) -> Iterator[None]:
    """Takes the screen; gives it back, also for as long as Ctrl-Z stops us."""

    def stop(*_: object) -> None:
        os.write(1, _LEAVE.encode())
        os.kill(os.getpid(), signal.SIGSTOP)
        os.write(1, _ENTER.encode())
        board.is_new = True

    sys.stdout.write(_ENTER)
    before = signal.signal(signal.SIGTSTP, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, before)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()


def _draw(board: Board, settings: Settings, size: os.terminal_size) -> None:
    lines = frame(board, settings, size.columns, size.lines)
    # Each line is cleared behind its text, and the screen behind the last.
    sys.stdout.write("\x1b[H" + "\x1b[K\r\n".join(lines) + "\x1b[K\x1b[J")
    sys.stdout.flush()


def _size() -> os.terminal_size:
    """A terminal that does not know its own is taken for one of 80 by 24."""
    size = os.get_terminal_size(sys.stdout.fileno())
    return os.terminal_size((size.columns or 80, size.lines or 24))


def _loop(interruption: Interruption, board: Board, settings: Settings) -> None:
    drawn: tuple[os.terminal_size, int] | None = None
    while board.ended is None:
        interruption.wait(0.2)
        size = _size()
        # Once a second for the clock and the ages, at once for what is new.
        now = (size, int(time.monotonic()))
        if board.is_new or now != drawn:
            board.is_new = False
            drawn = now
            _draw(board, settings, size)


def run(settings: Settings, agent: str | None, interval: float, output: Output) -> int:
    if output in (Output.json, Output.name):
        raise Usage(f"--top is a table, and not {output.value}", "Leave --top away, or the form.")
    if not is_terminal(sys.stdout):
        raise Usage("--top needs a terminal", "In a pipe: 'nixl-md watch', or with --json.")
    name = None if agent is None else os.fsencode(agent)
    board = Board()
    handle = observer(settings, is_quiet=True)
    try:
        handle.list(timeout=settings.timeout).wait(settings.timeout + 1)
        # What the gateway has to say is heard before the screen is taken.
        with Gateway(settings) as gateway:
            gateway.range(settings.namespace + b"/", keys_only=True)
        handle.watch(name, board.take)
        Reader(settings, name, board, interval).start()
        with Interruption(handle).noted() as interruption, _screen(board):
            _loop(interruption, board, settings)
    finally:
        handle.close()
    assert board.ended is not None
    if board.ended.status != Status.CANCELED:
        raise of_library(error(board.ended.status, board.ended.text))
    return 0
