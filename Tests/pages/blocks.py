# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Code blocks of the pages, and what the comment before each says about running it.

    <!-- file NAME -->                  later blocks of the page find it as this file
    <!-- run -->                        a shell or Python block: it must end with 0
    <!-- run until PATTERN -->          it must print the pattern; it runs on until the page is done
    <!-- shows -->                      '$ COMMAND' and its output, compared without numbers and ids
    <!-- targets -->                    commands of make; each target must be there
    <!-- frame NAME -->                 a part of a program; frames/NAME has the rest
    <!-- test PATH -->                  that test takes the block from the page and runs it
    <!-- not run: REASON -->            it cannot run here

`run` takes options, in this order: `in the checkout`, `to status N`, `beside NAME` (an agent that
publishes), `until`.
`shows` takes `at N columns`: on a terminal so wide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fixtures import TREE

PAGES = sorted(
    {TREE / "README.md", TREE / "CONTRIBUTING.md", TREE / "SECURITY.md"}
    | {TREE / "python" / "README.md"}
    | set((TREE / "docs").rglob("*.md"))
    | set((TREE / "examples").rglob("*.md"))
)
FENCE = re.compile(r"(?ms)^( *)```([^\n]*)\n(.*?)^\1```$")
MARKER = re.compile(r"<!-- ([^>]*?) -->\n+ *\Z")
RUN = re.compile(r"run( in the checkout)?(?: to status (\d+))?(?: beside (\w+))?(?: until (.+))?")
SHOWS = re.compile(r"shows(?: at (\d+) columns)?")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str
    marker: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(TREE)}:{self.line}"

    @property
    def word(self) -> str:
        """How the block is run: the first word of its marker."""
        return "not run" if self.marker.startswith("not run: ") else self.marker.split(" ")[0]

    @property
    def rest(self) -> str:
        return self.marker[len(self.word) :].lstrip(": ")

    @property
    def is_code(self) -> bool:
        """Not a picture in text."""
        return self.language not in ("", "text") or self.text.startswith("$ ")


def blocks(page: Path) -> list[Block]:
    """In the order of the page."""
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        before = text[: match.start()]
        marker = MARKER.search(before)
        indent = match[1]
        body = "\n".join(line.removeprefix(indent) for line in match[3].splitlines()) + "\n"
        found.append(
            Block(
                page,
                before.count("\n") + 1,
                match[2].split(" ")[0],
                body,
                marker[1] if marker else "",
            )
        )
    return found
