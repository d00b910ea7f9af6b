# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures for promises in seconds: what was measured is held to them, and printed after the tests
in a table. The conftest.py of a suite names those that it uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import pytest

from machine import Machine


class Figure(Protocol):
    """Checks the time from `begin` to `end` (monotonic) against its bound and keeps it for the
    table.

    The bound is the promise for hosts and etcd that get a processor when they want one. The time
    that the machine withheld from them is measured (see machine.py) and added."""

    def __call__(self, what: str, begin: float, end: float, bound: float) -> None: ...


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    with Machine() as looking:
        yield looking


@pytest.fixture
def figure(request: pytest.FixtureRequest, machine: Machine) -> Figure:
    def keep(what: str, begin: float, end: float, bound: float) -> None:
        seconds = end - begin
        withheld = machine.withheld(begin, end)
        request.node.user_properties.append(("figure", (what, seconds, bound, withheld)))
        assert seconds <= bound + withheld, (
            f"{what}: {seconds:.2f} s, promised are {bound:.2f} s, held up {withheld:.2f} s"
        )

    return keep


def print_figures(terminalreporter: pytest.TerminalReporter) -> None:
    """The table; for the pytest_terminal_summary of a suite."""
    rows = []
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        if report.when == "call":
            test = report.nodeid.rpartition("::")[2]
            rows += [(test, *value) for name, value in report.user_properties if name == "figure"]
    if rows:
        terminalreporter.section("figures")
        for test, what, seconds, bound, withheld in sorted(rows):
            terminalreporter.write_line(
                f"{test:52} {what:44} {seconds:6.2f} of {bound:5.2f} s, held up {withheld:5.2f} s"
            )
