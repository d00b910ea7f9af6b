# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Every code block of README, docs and examples runs, or says in the page why it cannot."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from blocks import PAGES, RUN, SHOWS, Block, blocks

from conftest import HERE, Place
from fixtures import TREE

WORDS = {"file", "run", "shows", "targets", "frame", "test", "not run"}
EXECUTED = {"file", "run", "shows", "frame"}
# A block that cannot run here costs its reader trust: mend one before you add one.
NOT_RUN_AT_MOST = 17
WARNINGS = ("-Wall", "-Wextra", "-Werror")

ALL = [block for page in PAGES for block in blocks(page)]
CODE = [block for block in ALL if block.is_code]
RUNNING = [page for page in PAGES if any(b.word in EXECUTED for b in ALL if b.page == page)]


@pytest.mark.parametrize("block", CODE, ids=lambda block: block.place)
def test_block_saysHowItIsRun(block: Block) -> None:
    assert block.word in WORDS, f"{block.place}: no comment before it, see Tests/pages/blocks.py"
    if block.word == "test":
        path = TREE / block.rest.split()[0]
        assert block.page.name in path.read_text(), f"{path} does not read {block.page.name}"
    if block.word == "not run":
        assert len(block.rest) > 20, f"{block.place}: no reason"


def test_notRun_areCounted() -> None:
    left_out = [block for block in CODE if block.word == "not run"]
    counts = Counter(block.word for block in CODE)
    print("".join(f"\n{block.place}: {block.rest}" for block in left_out), dict(counts))
    assert len(left_out) <= NOT_RUN_AT_MOST


@pytest.fixture(scope="session")
def targets() -> set[str]:
    """The targets of the Makefile."""
    command = ["make", "--print-data-base", "--question", "help"]
    told = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=False).stdout
    return set(re.findall(r"(?m)^([a-z][a-z-]*):", told))


@pytest.mark.parametrize("block", [b for b in CODE if b.word == "targets"], ids=lambda b: b.place)
def test_targets_areThere(block: Block, targets: set[str]) -> None:
    for line in block.text.splitlines():
        command = line.split("#")[0].split()
        assert command[0] == "make", f"{block.place}: {line}"
        named = {word for word in command[1:] if "=" not in word}
        assert named <= targets, f"{block.place}: {line}"


def masked(text: str) -> list[str]:
    """Its words, without what differs from run to run: numbers, ids, where lines are folded, and
    when stderr comes between them."""
    text = re.sub(r"\b[0-9a-f]{9,16}\b", "ID", text)
    text = re.sub(r"\b\d+(\.\d+)*", "N", text)
    return sorted(text.split())


def show(place: Place, block: Block) -> None:
    options = SHOWS.fullmatch(block.marker)
    assert options, f"{block.place}: '{block.marker}'"
    command, _, expected = block.text.removeprefix("$ ").partition("\n")
    shell = ["sh", "-c", place.written(command)]
    if options[1]:
        shell = ["script", "-qec", f"stty cols {options[1]}; {place.written(command)}", "/dev/null"]
    told = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", place.run(shell, status=None))
    assert masked(told) == masked(expected), f"{block.place} shows another output:\n{told}"


def run(place: Place, block: Block, number: int) -> None:
    options = RUN.fullmatch(block.marker)
    assert options, f"{block.place}: '{block.marker}'"
    checkout, status = options[1] is not None, int(options[2] or 0)
    companion, pattern = options[3], options[4]
    text = place.written(block.text)
    if block.language == "python":
        script = place.directory / f"block_{number}.py"
        script.write_text(text)
        command = [sys.executable, str(script)]
    else:
        assert block.language in ("sh", ""), f"{block.place}: cannot run {block.language}"
        if not block.language:
            text = text.removeprefix("$ ").partition("\n")[0]
        command = ["sh", "-eu", "-c", text]
    if companion:
        place.companions(companion)
    if pattern:
        place.start(command, pattern, checkout=checkout)
    else:
        place.run(command, checkout=checkout, status=status)


def run_in_frame(place: Place, block: Block, number: int) -> None:
    """A part of a program in C or Python, in what frames/ has of it."""
    name, *definitions = block.rest.split()
    (frame,) = (HERE / "frames").glob(f"{name}.*")
    language = frame.name.split(".")[1]
    mark = "/* @@ */" if language == "c" else "# @@"
    indent = re.search(rf"(?m)^( *){re.escape(mark)}", frame.read_text())
    assert indent, f"{frame} has no '{mark}'"
    text = "".join(
        indent[1] + line if line.strip() else line for line in block.text.splitlines(True)
    )
    source = place.directory / f"framed_{number}.{language}"
    source.write_text(frame.read_text().replace(indent[0], text))
    if language == "py":
        place.run([sys.executable, str(source)])
        return
    program = source.with_suffix("")
    flags = place.run(["pkg-config", "--cflags", "--libs", "nixl_md"]).split()
    defines = [f"-D{definition}" for definition in definitions]
    place.run(["cc", *WARNINGS, *defines, str(source), "-o", str(program), *flags])
    place.run([str(program)])


@pytest.mark.parametrize("page", RUNNING, ids=lambda page: str(page.relative_to(TREE)))
def test_page_runs(page: Path, places: Callable[[], Place]) -> None:
    place = places()
    if any(block.word == "shows" or "nixl-md " in block.text for block in blocks(page)):
        place.fleet()
    for number, block in enumerate(blocks(page)):
        match block.word:
            case "file":
                file = place.directory / block.rest
                file.parent.mkdir(exist_ok=True)
                file.write_text(place.written(block.text))
            case "run":
                run(place, block, number)
            case "shows":
                show(place, block)
            case "frame":
                run_in_frame(place, block, number)
