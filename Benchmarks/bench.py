# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Measures nixl_md beside other clients on one etcd, in interleaved runs: compare within a run.

Prints a table; writes bench.json and plots into build/bench."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etcd_server import Etcd

OUTPUT = Path(os.environ["NIXL_MD_BUILD"]) / "bench"
SIZES = {256: 400, 4096: 400, 65536: 150, 1 << 20: 40}
WATCHES = (0, 16, 1000, 10_000)
HANDLES = (1, 100, 1000)
AGENTS = (1000, 10_000, 50_000)
FLAGS = ("--max-request-bytes", str(4 << 20))
Figures = dict[str, Any]

HERE = Path(__file__).parent
LIBRARY = Path(os.environ["NIXL_MD_LIBRARY"])

# nghttp2 is the floor: what HTTP/2 alone costs. etcd-client is a Rust client from PyPI. apiv3 is
# etcd-cpp-apiv3, which NIXL links; only where CMake finds it.
PEERS = {
    "nixl_md": [str(OUTPUT / "nixl_md_bench")],
    "etcd-client": [sys.executable, str(HERE / "etcd_client_bench.py")],
    "nghttp2": [str(OUTPUT / "nghttp2_bench")],
}


def build() -> None:
    OUTPUT.mkdir(parents=True, exist_ok=True)
    compiler = [os.environ.get("CC", "cc"), "-O2", "-Wall", "-Wextra", "-Werror"]
    include = ["-I", str(HERE.parent / "include")]
    libraries = {
        "nixl_md_bench": ("nixl_md_bench.c", [str(LIBRARY), f"-Wl,-rpath,{LIBRARY.parent}"]),
        "nghttp2_bench": ("floor.c", ["-lnghttp2"]),
    }
    for name, (source, more) in libraries.items():
        command = [*compiler, *include, str(HERE / source), "-o", str(OUTPUT / name), *more]
        subprocess.run(command, check=True)
    build_apiv3()


def build_apiv3() -> None:
    directory = OUTPUT / "apiv3"
    cmake = shutil.which("cmake")
    if not cmake:
        return
    configure = [cmake, "-S", str(HERE / "apiv3"), "-B", str(directory)]
    found = subprocess.run([*configure, "-DCMAKE_BUILD_TYPE=Release"], capture_output=True)
    if found.returncode:
        print("etcd-cpp-apiv3 is not installed: ratios are to etcd-client")
        return
    subprocess.run([cmake, "--build", str(directory)], check=True, stdout=subprocess.DEVNULL)
    PEERS["apiv3"] = [str(directory / "apiv3_bench")]


class Bench:
    def __init__(self, etcd: Etcd, repetitions: int) -> None:
        self._etcd, self._repetitions = etcd, repetitions
        self._next = 0

    def namespace(self) -> str:
        self._next += 1
        return f"/bench{self._next}/"

    def start(self, peer: str, namespace: str, *words: object) -> subprocess.Popen[str]:
        command = [*PEERS[peer], self._etcd.endpoint, namespace, *map(str, words)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def finish(self, process: subprocess.Popen[str]) -> Figures:
        out, _ = process.communicate()
        assert process.returncode == 0, process.args
        found: Figures = json.loads(out.splitlines()[-1])
        return found

    def one(self, peer: str, *words: object, namespace: str | None = None) -> Figures:
        return self.finish(self.start(peer, namespace or self.namespace(), *words))

    def event(self, peer: str, size: int, count: int) -> Figures:
        """A neutral writer puts the time of writing into each blob."""
        namespace = self.namespace()
        watcher = self.start(peer, namespace, "event", size, count)
        assert watcher.stdout and watcher.stdout.readline() == "ready\n"
        self.one("nghttp2", "write", size, count, namespace=namespace)
        return self.finish(watcher)

    def pairs(self, measure: Callable[[str], Figures]) -> dict[str, Figures]:
        """Every peer in turn, so often; the median of the repetitions."""
        runs: dict[str, list[Figures]] = {peer: [] for peer in PEERS}
        for _ in range(self._repetitions):
            for peer in PEERS:
                runs[peer].append(summary(measure(peer)))
        return {
            peer: {name: statistics.median(run[name] for run in found) for name in found[0]}
            for peer, found in runs.items()
        }


def summary(figures: Figures) -> Figures:
    """Microseconds of one operation."""
    latencies = sorted(ns / 1000 for ns in figures["latency_ns"])
    return {
        "p50": statistics.median(latencies),
        "p99": latencies[len(latencies) * 99 // 100],
        "cpu": figures["cpu_ns"] / 1000 / len(latencies),
    }


def measure_all(bench: Bench, only: set[str]) -> Figures:
    results: Figures = {}

    def wanted(work: str) -> bool:
        return not only or work in only

    for work in ("publish", "fetch", "event"):
        for size, count in SIZES.items() if wanted(work) else ():

            def measure(peer: str, work: str = work, size: int = size, n: int = count) -> Figures:
                return (
                    bench.event(peer, size, n)
                    if work == "event"
                    else bench.one(peer, work, size, n)
                )

            results[f"{work} {size}"] = bench.pairs(measure)
    for work, numbers in (("watches", WATCHES), ("handles", HANDLES)):
        for number in numbers if wanted(work) else ():
            results[f"{work} {number}"] = {"nixl_md": bench.one("nixl_md", work, number)}
    for work, arguments in (("cold", ()), ("idle", (100_000,)), ("rest", (10,))):
        if wanted(work):
            results[work] = {"nixl_md": bench.one("nixl_md", work, *arguments)}
    for number in AGENTS if wanted("namespace") else ():
        namespace = bench.namespace()
        bench.one("nghttp2", "fill", 100, number, namespace=namespace)
        for work in ("list", "namespace"):
            found = bench.one("nixl_md", work, namespace=namespace)
            results[f"{work} {number}"] = {"nixl_md": found}
    return results


def ratio(results: Figures, work: str, peer: str, name: str) -> float:
    found = results[work]
    return float(found["nixl_md"][name] / found[peer][name])


def plot(results: Figures) -> None:
    """For each kind of work the latency and the CPU of each client, by size."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    for work in ("publish", "fetch", "event"):
        sizes = [size for size in SIZES if f"{work} {size}" in results]
        if not sizes:
            continue
        figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.5))
        for axis, name in zip(axes, ("p50", "cpu"), strict=True):
            for at, peer in enumerate(PEERS):
                values = [results[f"{work} {size}"][peer][name] for size in sizes]
                places = [i + (at - 1) * 0.27 for i in range(len(sizes))]
                axis.bar(places, values, width=0.25, label=peer)
            axis.set_yscale("log")
            axis.set_xticks(range(len(sizes)), [f"{size:,} B" for size in sizes])
            axis.set_title(f"{work}: {'median latency' if name == 'p50' else 'CPU'}, µs")
        axes[0].legend()
        figure.tight_layout()
        figure.savefig(OUTPUT / f"{work}.svg")
        pyplot.close(figure)


def print_table(results: Figures) -> None:
    for work, peers in results.items():
        for peer, figures in peers.items():
            told = "  ".join(f"{name} {value:,.1f}" for name, value in figures.items())
            print(f"{work:<16} {peer:<12} {told}")
        for peer in sorted(set(peers) - {"nixl_md"}):
            told = "  ".join(
                f"{name} {ratio(results, work, peer, name):.2f}" for name in ("p50", "cpu")
            )
            print(f"{work:<16} {'/ ' + peer:<12} {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--only", nargs="*", default=[])
    arguments = parser.parse_args()
    build()
    etcd = Etcd("3.5", *FLAGS)
    try:
        etcd.start().wait_healthy()
        results = measure_all(Bench(etcd, arguments.repetitions), set(arguments.only))
    finally:
        etcd.close()
    (OUTPUT / "bench.json").write_text(json.dumps(results, indent=2) + "\n")
    print_table(results)
    plot(results)


if __name__ == "__main__":
    main()
