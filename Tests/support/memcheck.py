# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Runs the C++ hosts of a suite under valgrind's memcheck where NIXL_MD_MEMCHECK names a directory
for its reports (`make memcheck`), or builds them with a sanitizer (`make sanitize`). The one place
that knows of it: what goes before a command, how much longer things take, which tests run, what a
report must say and, as a program, their sum.

Python hosts run natively: memcheck would report the interpreter and ctypes, and the library that
they load is the same."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

_LEAKS = "definite,indirect,possible"


def _directory() -> Path | None:
    given = os.environ.get("NIXL_MD_MEMCHECK")
    return Path(given).resolve() if given else None


# The sanitizer of hosts and library (`make sanitize`): they are some three times slower.
SANITIZER = os.environ.get("NIXL_MD_SANITIZER")
IS_ON = _directory() is not None or SANITIZER is not None
# The processor emulated by memcheck is 20 to 50 times slower. A host mostly waits, for an etcd that
# is as fast as ever, so that what a test measures with a clock takes some ten times longer at most.
WALL_FACTOR = 10 if _directory() else 4 if SANITIZER else 1
CPU_FACTOR = 60 if _directory() else 15 if SANITIZER else 1


# An operation's own time-out, where a test leaves it at its default of 10 s.
TIMEOUT_MS = 100_000 if IS_ON else None


def scaled(limit: float) -> float:
    """An upper limit of time, for an assertion."""
    return limit * WALL_FACTOR


def chosen(items: list[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """The tests that run under memcheck, and those that do not: they start no C++ host, or
    measure what memcheck replaces and are marked as `native`, with the reason."""
    run: list[pytest.Item] = []
    rest: list[pytest.Item] = []
    for item in items:
        assert isinstance(item, pytest.Function)
        language = item.callspec.params.get("language") if hasattr(item, "callspec") else None
        is_fit = "hosts" in item.fixturenames and language != "python"
        (run if is_fit and not item.get_closest_marker("native") else rest).append(item)
    return run, rest


def build_flags() -> tuple[str, ...]:
    """For the C++ hosts."""
    if SANITIZER is None:
        return ()
    more = os.environ.get("NIXL_MD_SANITIZER_FLAGS", "").split()
    return (f"-fsanitize={SANITIZER}", "-fno-sanitize-recover=all", "-g", *more)


def python_environment() -> dict[str, str]:
    """An interpreter cannot load what was built with a sanitizer: it gets the library as it is."""
    plain = os.environ.get("NIXL_MD_PLAIN_LIBRARY")
    return {"NIXL_MD_LIBRARY": plain} if plain else {}


def _name(number: int, test: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", f"{test}-{number}")


def prefix(number: int, test: str) -> tuple[str, ...]:
    """The command to put before a host's; nothing where memcheck is off."""
    directory = _directory()
    if directory is None:
        return ()
    return (
        "valgrind",
        "--tool=memcheck",
        "--leak-check=full",
        f"--show-leak-kinds={_LEAKS}",
        f"--errors-for-leak-kinds={_LEAKS}",
        f"--suppressions={Path(__file__).with_suffix('.supp')}",
        "--num-callers=40",
        "--vgdb=no",
        f"--log-file={directory}/{_name(number, test)}-%p.log",
    )


@dataclass
class Report:
    """memcheck's report of one process."""

    path: Path
    text: str

    @property
    def parent(self) -> str:
        return str(re.findall(r"Parent PID: (\d+)", self.text)[0])

    @property
    def is_complete(self) -> bool:
        """It is not when the process was killed."""
        return "ERROR SUMMARY: " in self.text

    def errors(self, is_forked: bool) -> list[str]:
        """Leaks included. Of a process that was killed, those seen until then."""
        records = re.split(r"(?m)^==\d+== \n", self.text)
        wrong = [record for record in records if re.search(r"==\d+==    (?:at|by) 0x", record)]
        if is_forked:
            wrong = [record for record in wrong if not _is_left_in_a_child(record)]
        return wrong


def _is_left_in_a_child(record: str) -> bool:
    """A forked child gives back the library's own memory. Not libcurl's, which may not be called
    there: it would speak on the parent's connection; nor what a resolver's thread was working with,
    which is not there. The host's is its own affair."""
    others = ("libcurl", "csystem_mailbox_", "start_thread")
    is_ours = "libnixl_md" in record and not any(other in record for other in others)
    return "lost in loss record" in record and not is_ours


def lost(record: str) -> int:
    """The bytes that a record counts; blocks that hang on them have their own record."""
    found = re.search(r"==\d+== ([\d,]+) (?:\(([\d,]+) direct,.*\) )?bytes in .* lost in", record)
    return int((found[2] or found[1]).replace(",", "")) if found else 0


def reports(directory: Path, pattern: str = "*.log") -> list[tuple[Report, bool]]:
    """Each with whether it is of a forked child: one whose parent has a report, too."""
    found = [Report(path, path.read_text()) for path in sorted(directory.glob(pattern))]
    hosts = {report.path.stem.rpartition("-")[2] for report in found}
    return [(report, report.parent in hosts) for report in found]


def check(number: int, test: str) -> None:
    """The host of that number must have done nothing wrong, nor its children."""
    directory = _directory()
    if directory is None:
        return
    for report, is_forked in reports(directory, f"{_name(number, test)}-*.log"):
        wrong = report.errors(is_forked)
        assert not wrong, f"{report.path}: {len(wrong)} errors, the first:\n{wrong[0]}"


def main(directory: Path) -> int:
    found = reports(directory)
    wrong = [(r, record) for r, is_forked in found for record in r.errors(is_forked)]
    for report, record in wrong:
        print(f"{report.path}:\n{record}")
    killed = sum(not report.is_complete for report, _ in found)
    print(
        f"memcheck: {len(found)} hosts run, {len(wrong)} errors, "
        f"{sum(lost(record) for _, record in wrong)} bytes lost "
        f"({killed} of the hosts were killed by their tests, before memcheck looks for leaks)"
    )
    return 0 if found and not wrong else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
