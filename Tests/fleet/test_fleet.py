# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A fleet on a real etcd that is short of CPU: it always comes back, and no lease is lost.

NIXL_MD_FLEET_AGENTS has the number of agents, by default 2,000. With fewer the share of CPU is as
much smaller."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from limiter import Limiter

from conftest import Figure, Transport
from etcd_server import Etcd, Place
from fleets import Fleet, Members, Plan
from procfs import cpu_seconds

AGENTS = int(os.environ.get("NIXL_MD_FLEET_AGENTS", "2000"))
FULL = 2000
PROCESSES = 4
VICTIMS = AGENTS // 10
TTL = 30.0
# etcd gets its share before its neighbours, where that is allowed.
PREFERRED = Place(prefix=("nice", "-n", "-10"))
# A run in which etcd had less or more of its share than this says nothing.
HAD = (0.7, 1.3)
ATTEMPTS = 3
SETTLE = 60.0
# So long all must have been served without a break.
FOR_GOOD = 5.0
BUSY_SECONDS = float(os.environ.get("NIXL_MD_FLEET_BUSY_SECONDS", "180"))


class World:
    """An etcd with a limit, and a fleet that has found it."""

    def __init__(self, binary: Path, transport: Transport) -> None:
        self.etcd = Etcd("3.5", *transport.flags, tls=transport.context, place=PREFERRED)
        self.etcd.start().wait_healthy()
        self.idle = self._idle_share()
        self.limiter = Limiter(self.etcd.pid)
        self.limiter.start()
        of_all = AGENTS + VICTIMS
        self.plan = Plan(
            binary, self.etcd.endpoint, transport.ca_file, of_all, AGENTS, TTL, TTL / 3
        )
        self.fleet = Fleet(self.plan, AGENTS, PROCESSES)

    def _idle_share(self) -> float:
        """What etcd takes of a CPU for itself."""
        begin, used = time.monotonic(), cpu_seconds(self.etcd.pid)
        time.sleep(2.0)
        return (cpu_seconds(self.etcd.pid) - used) / (time.monotonic() - begin)

    def share(self, of_full: float) -> float:
        """The share of a CPU for as many agents as there are."""
        part = AGENTS / FULL
        return of_full * part + self.idle * (1 - part)

    def settle(self) -> None:
        """All agents live; their renewals are spread over the period."""
        assert self.fleet.wait(self._is_settled, SETTLE), (
            f"{self.fleet.total('served')} of {AGENTS} agents are served before the fault"
        )

    def _is_settled(self) -> bool:
        since = self.fleet.served_since()
        return since is not None and time.monotonic() > since + 1.0

    def close(self) -> None:
        self.fleet.kill()
        self.limiter.end()
        self.etcd.close()


@contextmanager
def running(binary: Path, transport: Transport) -> Iterator[World]:
    world = World(binary, transport)
    try:
        yield world
    finally:
        world.close()


def stall(world: World, share: float) -> float:
    """Stops etcd for 8 s; the time of the end."""
    world.limiter.hold(True)
    time.sleep(8.0)
    world.limiter.limit(share)
    world.limiter.hold(False)
    return time.monotonic()


def restart(world: World, share: float) -> float:
    """Kills etcd, and starts it after 2 s."""
    world.etcd.kill()
    time.sleep(2.0)
    world.etcd.start()
    world.limiter.follow(world.etcd.pid)
    world.limiter.limit(share)
    return time.monotonic()


Fault = Callable[[World, float], float]


@pytest.mark.parametrize("transport", ["http", "tls"], indirect=True)
@pytest.mark.parametrize(
    ("fault", "of_full", "bounds"),
    [
        pytest.param(stall, 0.1, {"http": 15.0, "tls": 20.0}, id="stall"),
        pytest.param(restart, 0.2, {"http": 20.0, "tls": 20.0}, id="restart"),
    ],
)
def test_fault_allComeBack(
    binary: Path,
    transport: Transport,
    fault: Fault,
    of_full: float,
    bounds: dict[str, float],
    figure: Figure,
) -> None:
    bound = bounds["tls" if transport.ca_file else "http"]
    for _ in range(ATTEMPTS):
        outcome = outcome_of(fault, binary, transport, of_full, 2 * bound)
        print(outcome)
        if HAD[0] <= outcome.had <= HAD[1]:
            break
    else:
        pytest.fail(f"void {ATTEMPTS} times: etcd had {outcome.had:.2f} of its share")
    assert outcome.back is not None, f"{outcome.served} of {AGENTS} agents came back"
    figure("all back", outcome.ended, outcome.back, bound)
    assert outcome.lost == 0, f"{outcome.lost} leases were lost"


@dataclass(frozen=True)
class Outcome:
    share: float
    # The part of its share that etcd got afterwards.
    had: float
    ended: float
    # When all were served again; None: not all were.
    back: float | None
    served: int
    lost: int
    # Attempts to connect, for each agent.
    connections: float


def outcome_of(
    fault: Fault, binary: Path, transport: Transport, of_full: float, patience: float
) -> Outcome:
    with running(binary, transport) as world:
        world.settle()
        fleet, share = world.fleet, world.share(of_full)
        world.limiter.limit(share)
        fleet.watch(3.0)
        before = fleet.total("connects") + fleet.total("failed")
        ended = fault(world, share)
        back = wait_until_back(fleet, ended, patience)
        had = world.limiter.had(share, ended, back or time.monotonic())
        connections = (fleet.total("connects") + fleet.total("failed") - before) / AGENTS
        return Outcome(
            share, had, ended, back, fleet.total("served"), fleet.total("lost"), connections
        )


def wait_until_back(fleet: Fleet, ended: float, seconds: float) -> float | None:
    """When all were served again for good; None: not within so many seconds."""

    def is_over() -> bool:
        since = fleet.served_since()
        return since is not None and time.monotonic() > max(since, ended) + FOR_GOOD

    if not fleet.wait(is_over, seconds + FOR_GOOD):
        return None
    since = fleet.served_since()
    return None if since is None else max(since, ended)


@contextmanager
def busy_machine() -> Iterator[None]:
    """Twice as many processes as processors that want one all the time."""
    spinning = [
        subprocess.Popen(["sh", "-c", "while :; do :; done"])
        for _ in range(2 * (os.cpu_count() or 1))
    ]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


@pytest.mark.parametrize("transport", ["http"], indirect=True)
def test_busyMachine_noLeaseIsLost(binary: Path, transport: Transport) -> None:
    with running(binary, transport) as world:
        world.settle()
        with busy_machine():
            world.fleet.watch(BUSY_SECONDS)
            lost = world.fleet.total("lost")
    assert lost == 0, f"{lost} leases were lost"


@pytest.mark.parametrize("transport", ["http"], indirect=True)
def test_processKilled_itsPeersAreTold(binary: Path, transport: Transport, figure: Figure) -> None:
    """A tenth more agents in a process of their own. Each is watched by another process."""
    with running(binary, transport) as world:
        fleet, victims = world.fleet, Members(world.plan, AGENTS, VICTIMS)
        try:
            world.settle()
            assert fleet.wait(lambda: victims.served_since() is not None, SETTLE)
            fleet.watch(3.0)
            killed = time.monotonic()
        finally:
            victims.kill()
        all_told = fleet.wait(lambda: fleet.total("gone") >= VICTIMS, TTL + 30.0)
        told = time.monotonic()
        assert all_told, f"{fleet.total('gone')} of {VICTIMS} were told"
        figure("all peers are told GONE", killed, told, TTL + 2.0)
        assert fleet.total("lost") == 0
