# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a cluster of three members and hosts in network namespaces, and a table of what was
measured, printed after the tests."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import Protocol

import pytest

from fixtures import HostFactory, host_binary, hosts, library, soname_directory, version
from loopback import Loopback
from machine import Machine
from namespaces import Namespaces, are_allowed, remove_orphans
from world import World

__all__ = ["HostFactory", "host_binary", "hosts", "library", "soname_directory", "version"]


class Figure(Protocol):
    """Checks the time from `begin` to `end` (monotonic) against its bound and keeps it for the
    table.

    The bound is what is promised where hosts and etcd get a processor when they want one. What
    the machine withheld from them meanwhile is measured (see machine.py) and comes on top."""

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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test that has passed must have looked at all its hosts."""
    result = yield
    assert isinstance(item, pytest.Function)
    world = item.funcargs.get("world")
    if isinstance(world, World):
        world.check_observed()
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ends = [
        (report.nodeid.rpartition("::")[2], *property)
        for report in terminalreporter.getreports("")
        for property in report.user_properties
        if report.when == "teardown"
    ]
    ticks = [(value, test) for test, name, value in ends if name == "tick"]
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
    if ticks:
        longest, test = max(ticks)
        terminalreporter.write_line(f"the longest tick took {longest:.1f} ms of CPU, in {test}")
    for test, name, value in ends:
        if name == "excuse":
            terminalreporter.write_line(f"{test}: the machine was too late for: {value}")


@pytest.fixture(scope="session")
def has_namespaces() -> bool:
    """Network namespaces where root allows them, else loopback addresses."""
    if os.environ.get("NIXL_MD_FAULTS") == "loopback" or not are_allowed():
        return False
    remove_orphans()
    return True


@pytest.fixture
def network(
    has_namespaces: bool, request: pytest.FixtureRequest
) -> Iterator[Namespaces | Loopback]:
    cuts = request.node.get_closest_marker("cuts") is not None
    made = Namespaces() if has_namespaces else Loopback(cuts)
    try:
        made.create()
        yield made
    finally:
        made.close()


@pytest.fixture
def world(
    version: str,
    network: Namespaces | Loopback,
    hosts: HostFactory,
    machine: Machine,
    request: pytest.FixtureRequest,
) -> Iterator[World]:
    """A healthy cluster of this version of etcd."""
    flags = request.node.get_closest_marker("etcd")
    made = World(version, network, hosts, machine, flags.args if flags else ())
    try:
        made.start()
        yield made
    finally:
        made.close()
        made.print_logs()
        request.node.user_properties.append(("tick", made.longest_tick()))
        request.node.user_properties += [("excuse", excuse) for excuse in made.excuses]
