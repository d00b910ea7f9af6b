# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What doctor says: a level, a check, a text and a remedy."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from .render import cut, printable

_NAMED = 5
# Of each name.
_SHOWN = 80


class Level(str, enum.Enum):
    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Finding:
    level: Level
    check: str
    text: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        return {
            "level": self.level.value,
            "check": self.check,
            "text": self.text,
            "remedy": self.remedy,
        }


def ok(check: str, text: str) -> Finding:
    return Finding(Level.OK, check, text)


def warn(check: str, text: str, remedy: str) -> Finding:
    return Finding(Level.WARN, check, text, remedy)


def fail(check: str, text: str, remedy: str) -> Finding:
    return Finding(Level.FAIL, check, text, remedy)


def names(all_names: Sequence[bytes]) -> str:
    """The first few."""
    shown = ", ".join(cut(printable(name), _SHOWN) for name in sorted(all_names)[:_NAMED])
    more = len(all_names) - _NAMED
    return f"{shown} and {more} more" if more > 0 else shown
