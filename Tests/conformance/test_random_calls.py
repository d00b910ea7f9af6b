# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Calls by chance from several agents to one etcd that is killed, frozen, cut off and compacted.

A seed gives the calls and the faults in the same order again, not at the same microsecond: one that
failed fails again most times. NIXL_MD_SEEDS=7,8 runs others, NIXL_MD_SECONDS=600 longer ones."""

from __future__ import annotations

import contextlib
import os
import time

import pytest

from conftest import EtcdFactory
from etcd_server import Etcd
from followed import Agents
from gateway import GatewayError
from proxy import Proxy
from random_agent import NAMES, Chance, RandomAgent

SEEDS = [int(seed) for seed in os.environ.get("NIXL_MD_SEEDS", "1,2,3").split(",")]
SECONDS = float(os.environ.get("NIXL_MD_SECONDS", "20"))
# A default time-out, a lease of 5 s that runs out, and a new connection.
CALM_SECONDS = 25.0
KINDS = ["kill", "freeze", "cut", "silence", "gap", "compact"]


class Faults:
    """Befall the server or the way to it, one after the other."""

    def __init__(self, chance: Chance, etcd: Etcd, proxy: Proxy) -> None:
        self.random = chance.random
        self.etcd = etcd
        self.proxy = proxy
        self.seen: list[str] = []
        self._coming: list[str] = []
        self._until = 0.0
        self._is_on = False
        self._next = time.monotonic() + self.random.uniform(1, 3)

    def step(self) -> None:
        now = time.monotonic()
        if self._is_on and now >= self._until:
            self.heal()
            self._next = now + self.random.uniform(0.3, 1.5)
        elif not self._is_on and now >= self._next:
            self._is_on = True
            self._until = now + self.random.choice([0.05, 0.3, 1.5, 3])
            if not self._coming:
                self._coming = self.random.sample(KINDS, len(KINDS))
            self.seen.append(self._coming.pop())
            self._begin(self.seen[-1])

    def _begin(self, kind: str) -> None:
        if kind == "kill":
            self.etcd.kill()
        elif kind == "freeze":
            self.etcd.freeze()
        elif kind == "silence":
            self.proxy.silence()
        elif kind == "compact":
            # It may have started a moment ago.
            with contextlib.suppress(OSError, GatewayError):
                self.etcd.gateway.compact(self.etcd.gateway.revision(timeout=1.0))
        else:
            self.proxy.cut()
            if kind == "gap":
                self.proxy.heal()

    def heal(self) -> None:
        self._is_on = False
        if self.etcd.is_running:
            self.etcd.thaw()
        else:
            self.etcd.start()
        self.proxy.heal()


class Run:
    """Some agents, and what becomes of them."""

    def __init__(self, seed: int, etcd: Etcd, proxy: Proxy) -> None:
        self.chance = Chance(seed, proxy.endpoint.encode())
        self.random = self.chance.random
        self.etcd = etcd
        self.faults = Faults(self.chance, etcd, proxy)
        self.agents = [RandomAgent(self.chance, name) for name in [*NAMES, None]]
        # Agents whose name another handle has taken.
        self.old: list[RandomAgent] = []

    def tick_all(self) -> None:
        for agent in [*self.agents, *self.old]:
            if not agent.is_ending:
                agent.tick()

    def storm(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(self.faults.seen) < len(KINDS):
            self.tick_all()
            if self.random.random() < 0.15:
                self.random.choice(self.agents).act()
            if self.random.random() < 0.002:
                self._take_over()
            if self.random.random() < 0.001:
                time.sleep(self.random.choice([0.3, 2.5]))  # a host that hangs
            if self.old and self.random.random() < 0.005:
                self.old.pop().close()
            self.faults.step()
            time.sleep(0.0005)

    def _take_over(self) -> None:
        """A new handle takes the name while the old one still exists."""
        at = self.random.randrange(len(NAMES))
        old = self.agents[at]
        self.agents[at] = RandomAgent(self.chance, old.name)
        how = self.random.random()
        if how < 0.7:
            if how < 0.3:
                old.shut_down(self.random.choice([0, 100, 2000]), self.tick_all)
            old.close()
        else:
            self.old.append(old)

    def store(self) -> Agents:
        """Who is present, with what, as the server has it."""
        found: Agents = {}
        for kv in self.etcd.gateway.range(b"/random//"):
            agent, _, label = kv.key.removeprefix(b"/random//").partition(b"/")
            if label and not kv.value:
                continue  # As good as absent: a late write must not bring a removed one back.
            labels = found.setdefault(agent, {})
            if label:
                labels[label] = kv.value
        return found

    def calm_down(self) -> None:
        """Without faults all operations end, except fetches that may wait, and every watch reaches
        the state of the store."""
        self.chance.is_calm = True
        self.faults.heal()
        self.etcd.wait_healthy()
        deadline = time.monotonic() + CALM_SECONDS
        while wrong := self._unsettled():
            if time.monotonic() > deadline:
                self.chance.problems.append(f"after {CALM_SECONDS} s: {wrong}")
                return
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                self.tick_all()
                time.sleep(0.002)

    def _unsettled(self) -> list[str]:
        store = self.store()
        wrong = []
        for agent in [*self.agents, *self.old]:
            left = [kind for kind in agent.operations.values() if kind != "fetch"]
            wrong += [f"{agent.name!r}: {left}"] if left else []
            for watch in agent.watches.values():
                is_up = watch.is_synced and not watch.is_out_of_contact
                if not is_up or watch.view != watch.expected(store):
                    knows, there = (
                        {name: sorted(labels) for name, labels in view.items()}
                        for view in (watch.view, watch.expected(store))
                    )
                    wrong.append(
                        f"{agent.name!r}: {watch.agent!r} knows {knows}, there is {there}: "
                        f"{list(watch.recent)}"
                    )
        return wrong

    def end(self) -> None:
        for agent in self.old:
            agent.close()
        for agent in self.agents:
            agent.shut_down(3000, self.tick_all)
            agent.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_random_operations(own_etcd: EtcdFactory, version: str, seed: int) -> None:
    etcd = own_etcd(version)
    proxy = Proxy(etcd.port)
    try:
        run = Run(seed, etcd, proxy)
        try:
            run.storm(SECONDS)
        finally:
            run.faults.heal()
        run.calm_down()
        run.end()
    finally:
        proxy.close()
    longest = run.chance.longest_tick_ns / 1e6
    print(f"seed {seed}, etcd {version}: {run.faults.seen}, longest tick {longest:.1f} ms")
    assert not run.chance.problems, f"seed {seed}:\n" + "\n".join(run.chance.problems)
