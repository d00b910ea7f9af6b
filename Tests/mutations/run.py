# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Makes the mistakes of mutations.py in a copy of the sources and lets the simulator look for each.

Usage: run.py DIRECTORY [SEEDS [WORDS]]: builds in DIRECTORY, prints a line for each mutation whose
name or rule holds WORDS, and ends with 1 if one was not found: by the exploration of the
registration, else within SEEDS seeds. Those of fleet_rules.py by fleets, within FLEET_SEEDS seeds.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from fleet_rules import FLEETS
from mutations import MUTATIONS as OTHERS

MUTATIONS = [*OTHERS, *FLEETS]
ROOT = Path(__file__).resolve().parents[2]
# Seeds that are run before it is looked whether one of them has failed.
PORTION = 20
# Seeds that show that nothing fails without a mistake.
FIRST_SEEDS = 100
# Of one run: it never ends otherwise.
CPU_SECONDS = 600
# The same of fleets, and how many agents each has.
FLEET_SEEDS = 120
AGENTS = 200
# States of each bound set of the exploration.
STATES = 100_000
SWITCH = """import Glibc

/// The mistake that is made; 0: none.
let mutant = getenv("NIXL_MD_MUTANT").flatMap { Int(String(cString: $0)) } ?? 0
"""


def copy_sources(to: Path) -> None:
    for name in ("Package.swift", "Sources", "Tests", "include"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, dirs_exist_ok=True)
        else:
            shutil.copy2(source, to / name)


def make_mistakes(directory: Path) -> None:
    core = directory / "Sources/MetadataCore"
    (core / "Mutant.swift").write_text(SWITCH)
    for number, mutation in enumerate(MUTATIONS, 1):
        for edit in mutation.edits:
            (path,) = core.rglob(edit.file)
            text = path.read_text()
            if text.count(edit.old) != 1:
                count = text.count(edit.old)
                sys.exit(f"{mutation.name}: {edit.file} holds {edit.old!r} {count} times")
            new = edit.new.replace("MUTANT", f"(mutant == {number})")
            path.write_text(text.replace(edit.old, new))


def build(directory: Path, product: str) -> Path:
    command = ["swift", "build", "-c", "release", "--product", product]
    command += ["-Xswiftc", "-assert-config", "-Xswiftc", "Debug"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"the mutated core does not build:\n{done.stdout}{done.stderr}")
    return directory / ".build/release" / product


def run(command: list[str], number: int) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"NIXL_MD_MUTANT": str(number)}
    return subprocess.run(
        ["prlimit", f"--cpu={CPU_SECONDS}", *command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def first_failure(
    simulate: Path, number: int, seeds: range, more: tuple[str, ...] = ()
) -> str | None:
    for first in seeds[::PORTION]:
        command = [str(simulate), *more, "--first", str(first), "--seeds", str(PORTION)]
        done = run(command, number)
        if done.returncode == -signal.SIGXCPU:
            return f"seed {first} or a later one never ended"
        if found := re.search(r"^seed \d+ failed .*$", done.stdout, re.MULTILINE):
            return found[0]
        if done.returncode != 0:
            return f"seed {first} or a later one ended the simulator"
    return None


def fleet_failure(simulate: Path, number: int) -> str | None:
    seeds = range(1, FLEET_SEEDS + 1)
    return first_failure(simulate, number, seeds, ("--fleet", str(AGENTS)))


def explored_failure(explore: Path, number: int) -> str | None:
    command = [str(explore), "--until-failure", "--limit", str(STATES)]
    done = run(command, number)
    if done.returncode == -signal.SIGXCPU:
        return "the exploration never ended"
    found = re.search(r"^(.*) \(.*states.*$\n +FAILED: (.*)$", done.stdout, re.MULTILINE)
    if found:
        return f"explored, {found[1]}: {found[2]}"
    return None if done.returncode == 0 else "it ended the exploration"


def main() -> None:
    directory = Path(sys.argv[1])
    shutil.rmtree(directory / "Sources", ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    words = sys.argv[3] if len(sys.argv) > 3 else ""
    copy_sources(directory)
    make_mistakes(directory)
    simulate = build(directory, "simulate")
    explore = build(directory, "explore")
    first = range(1, min(seeds, FIRST_SEEDS) + 1)
    found = (
        explored_failure(explore, 0)
        or first_failure(simulate, 0, first)
        or fleet_failure(simulate, 0)
    )
    if found:
        sys.exit(f"without any mistake: {found}")
    count = missed = 0
    for number, mutation in enumerate(MUTATIONS, 1):
        if words not in mutation.name and words not in mutation.rule:
            continue
        if mutation in FLEETS:
            found = fleet_failure(simulate, number)
        else:
            found = explored_failure(explore, number) or first_failure(
                simulate, number, range(1, seeds + 1)
            )
        count += 1
        missed += not found
        rule = f" [{mutation.rule}]" if mutation.rule else ""
        print(f"{'found    ' if found else 'NOT FOUND'} {mutation.name}{rule}: {found}", flush=True)
    print(f"{count - missed} of {count} found")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
