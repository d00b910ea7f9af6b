# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a cluster of three members and hosts in network namespaces, and a table of what was
measured, printed after the tests."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

from figures import Figure, figure, machine, print_figures
from fixtures import HostFactory, host_binary, hosts, library, soname_directory, version
from loopback import Loopback
from machine import Machine
from namespaces import Namespaces, are_allowed, remove_orphans
from world import World

__all__ = [
    "Figure",
    "HostFactory",
    "figure",
    "host_binary",
    "hosts",
    "library",
    "machine",
    "soname_directory",
    "version",
]


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
    print_figures(terminalreporter)
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
