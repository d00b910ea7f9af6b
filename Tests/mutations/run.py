# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Makes each mistake of mutations.py in a copy of the sources and lets the simulator look for it.

Usage: run.py DIRECTORY [SEEDS [WORDS]]: builds in DIRECTORY, prints a line for each mutation (whose
name holds WORDS), and ends with 1 if one was not found within SEEDS seeds.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from mutations import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[2]
# Seeds that are run before it is looked whether one of them has failed.
PORTION = 20


def copy_sources(to: Path) -> None:
    for name in ("Package.swift", "Sources", "Tests", "include"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, dirs_exist_ok=True)
        else:
            shutil.copy2(source, to / name)


def build(directory: Path) -> Path:
    command = ["swift", "build", "-c", "release", "--product", "simulate"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"the mutated core does not build:\n{done.stdout}{done.stderr}")
    return directory / ".build/release/simulate"


def first_failure(simulate: Path, seeds: int) -> str | None:
    for first in range(1, seeds + 1, PORTION):
        command = [str(simulate), "--first", str(first), "--seeds", str(PORTION)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        except subprocess.TimeoutExpired:
            return f"seed {first} or a later one never ended"
        if found := re.search(r"^seed \d+ failed .*$", done.stdout, re.MULTILINE):
            return found[0]
        if done.returncode != 0:
            return f"seed {first} or a later one ended the simulator"
    return None


def check(mutation: Mutation, directory: Path, seeds: int) -> bool:
    path = directory / "Sources/MetadataCore" / mutation.file
    original = path.read_text()
    if original.count(mutation.old) != 1:
        sys.exit(f"{mutation.file} holds {mutation.old!r} {original.count(mutation.old)} times")
    path.write_text(original.replace(mutation.old, mutation.new))
    try:
        found = first_failure(build(directory), seeds)
    finally:
        path.write_text(original)
    print(f"{'found    ' if found else 'NOT FOUND'} {mutation.name}: {found}", flush=True)
    return found is not None


def main() -> None:
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    copy_sources(directory)
    words = sys.argv[3] if len(sys.argv) > 3 else ""
    found = [check(each, directory, seeds) for each in MUTATIONS if words in each.name]
    print(f"{sum(found)} of {len(found)} found")
    sys.exit(0 if all(found) else 1)


if __name__ == "__main__":
    main()
