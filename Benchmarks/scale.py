# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What a fleet costs etcd: a model from the costs of one of each, checked with fleets.

scale.py measure    fleets of several sizes on a real etcd, into Benchmarks/scale.json
scale.py model      the tables of docs/scale.md
scale.py pictures   docs/pictures/load.txt and fleet.txt, which tools/pictures draws

`pictures` takes the curves of the fleet after a stall from the simulator. --earlier names the
simulator of the library that closed a silent connection and made another."""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import capi
from etcd_server import Etcd
from fleets import TREE, Fleet, Plan, build
from procfs import cpu_seconds

HERE = Path(__file__).parent
MEASURED = HERE / "scale.json"
COSTS: dict[str, float] = json.loads((HERE / "etcd_costs.json").read_text())
PICTURES = TREE / "docs/pictures"
SIMULATOR = TREE / ".build/simulate/release/simulate"
SIZES = (1_000, 10_000, 100_000)
MEASURED_SIZES = (500, 1000, 2000)
TTL = 30.0
SETTLE, AT_REST = 60.0, 20.0
# Of the library: a renewal comes 0 to 20 % before a third of the TTL is over.
EARLY = 0.1
# Costs of a renewal.
ALONE, AT_ONCE = "renewal, alone", "renewal"


@dataclass(frozen=True)
class Load:
    """CPU seconds."""

    agents: int
    ttl: float = TTL
    tls: bool = False
    # Agents that each of them watches; the self-watch comes on top.
    watches: int = 1

    def at_rest(self, renewal: str) -> float:
        """Each second: renewals. The library needs no other sign of life up to a TTL of 30 s. They
        come alone, or so many at once that etcd does not sleep between them."""
        return self.agents / (self.ttl / 3 * (1 - EARLY)) * COSTS[renewal] / 1e6

    @property
    def reconnect(self) -> float:
        """All of them, once."""
        one = COSTS["connection, TLS, ecdsa" if self.tls else "connection"]
        one += COSTS["renewal"] + COSTS["watch"] * (1 + self.watches)
        return self.agents * one / 1e6

    @property
    def start(self) -> float:
        """All of them: a lease, the claim of the name, 4 KB, and the list of what they watch."""
        one = COSTS["grant"] + 2 * COSTS["publish"] + COSTS["hello"] * self.watches
        return self.reconnect + self.agents * one / 1e6

    @property
    def fanout(self) -> float:
        """All of them restart once, and all watch the namespace: GONE and PRESENT to each."""
        return self.agents**2 * 2 * COSTS["event"] / 1e6

    @property
    def needed(self) -> float:
        """The share of a CPU with which a full reconnect fits into a third of the TTL."""
        return self.reconnect / (self.ttl / 3)


def measure_one(binary: Path, agents: int) -> dict[str, float]:
    """CPU seconds of etcd: each second at rest, and for the reconnect after a restart; and KiB of
    memory for each agent."""
    etcd = Etcd("3.5")
    try:
        etcd.start().wait_healthy()
        empty, bare = spent(etcd, 5.0), resident(etcd)
        plan = Plan(binary, etcd.endpoint, None, agents, 1, TTL, TTL / 3)
        fleet = Fleet(plan, agents, 2)
        try:
            assert fleet.wait(lambda: fleet.served_since() is not None, SETTLE)
            time.sleep(TTL / 3)
            at_rest = spent(etcd, AT_REST) - empty
            memory = (resident(etcd) - bare) / agents
            etcd.kill()
            time.sleep(1.0)
            # What a restart without clients takes.
            began = time.monotonic()
            etcd.start().wait_healthy()
            assert fleet.wait(lambda: (fleet.served_since() or 0) > began, SETTLE)
            time.sleep(1.0)
            restart = cpu_seconds(etcd.pid)
        finally:
            fleet.kill()
        etcd.kill()
        etcd.start().wait_healthy()
        time.sleep(3.0)
        alone = cpu_seconds(etcd.pid)
        return {
            "agents": agents,
            "at_rest": at_rest,
            "reconnect": restart - alone,
            "memory": memory,
        }
    finally:
        etcd.close()


def resident(etcd: Etcd) -> float:
    """KiB of memory."""
    status = Path(f"/proc/{etcd.pid}/status").read_text()
    return float(status.partition("VmRSS:")[2].split()[0])


def spent(etcd: Etcd, seconds: float) -> float:
    begin = cpu_seconds(etcd.pid)
    time.sleep(seconds)
    return (cpu_seconds(etcd.pid) - begin) / seconds


def measure() -> None:
    with tempfile.TemporaryDirectory() as directory:
        binary = build(capi.library_path(), Path(directory) / "members")
        found = [measure_one(binary, agents) for agents in MEASURED_SIZES]
    MEASURED.write_text(json.dumps(found, indent=2) + "\n")
    for point in found:
        model = Load(int(point["agents"]))
        print(
            f"{model.agents:6,} agents: at rest {point['at_rest']:.4f} of a CPU, model "
            f"{model.at_rest(ALONE):.4f}; reconnect {point['reconnect']:.2f} CPU s, model "
            f"{model.reconnect:.2f}; {point['memory']:.0f} KiB of memory for each"
        )


def print_model() -> None:
    print(
        "| agents | at rest | start, CPU s | reconnect, CPU s | with TLS | CPU needed | with TLS |"
    )
    print("|---|---|---|---|---|---|---|")
    for agents in SIZES:
        plain, secure = Load(agents), Load(agents, tls=True)
        print(
            f"| {agents:,} | {plain.at_rest(AT_ONCE):.2g} to {plain.at_rest(ALONE):.2g} "
            f"| {plain.start:.2g} | {plain.reconnect:.2g} "
            f"| {secure.reconnect:.2g} | {plain.needed:.2g} | {secure.needed:.2g} |"
        )
    print("all restart once, all watch the namespace (CPU s):")
    print(", ".join(f"{agents:,}: {Load(agents).fanout:,.0f}" for agents in SIZES))


def curve(simulator: Path) -> list[tuple[float, float]]:
    """Seconds since the fault, and agents served, of 2,000 on 10 % of a CPU."""
    done = subprocess.run(
        [str(simulator), "--fleet", "2000", "--curve"], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    return [(float(row[0]), float(row[1])) for row in rows if float(row[0]) <= 40]


def points(found: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:.4g}" for x, y in found)


def draw(earlier: Path | None) -> None:
    measured: list[dict[str, Any]] = json.loads(MEASURED.read_text())
    sizes = [100, 1000, 10_000, 100_000]
    loads = {
        "line reconnect, TLS": [(n, Load(n, tls=True).needed) for n in sizes],
        "line reconnect": [(n, Load(n).needed) for n in sizes],
        "line at rest, at most": [(n, Load(n).at_rest(ALONE)) for n in sizes],
        "line at rest, at least": [(n, Load(n).at_rest(AT_ONCE)) for n in sizes],
        "dots reconnect, measured": [(p["agents"], p["reconnect"] / (TTL / 3)) for p in measured],
        "dots at rest, measured": [(p["agents"], p["at_rest"]) for p in measured],
    }
    lines = [
        "plot Share of a CPU that etcd needs, TTL 30 s",
        "x agents",
        "y CPUs",
        "log x",
        "log y",
    ]
    lines += [f"{name}: {points(found)}" for name, found in loads.items()]
    (PICTURES / "load.txt").write_text("\n".join(lines) + "\n")
    if earlier is None:
        return
    lines = [
        "plot 2,000 agents; an etcd with 10 % of a CPU stands still for 8 s (simulated)",
        "x seconds",
        "y agents served",
        "band 0 8: stopped",
        f"line nine rules: {points(curve(SIMULATOR))}",
        f"line before: {points(curve(earlier))}",
    ]
    (PICTURES / "fleet.txt").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["measure", "model", "pictures"])
    parser.add_argument("--earlier", type=Path, help="another simulator")
    arguments = parser.parse_args()
    if arguments.what == "measure":
        measure()
    elif arguments.what == "model":
        print_model()
    else:
        draw(arguments.earlier)


if __name__ == "__main__":
    main()
