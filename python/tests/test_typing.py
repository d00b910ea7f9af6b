# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Type checkers accept what is right and find what is wrong in programs that use the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest

PYTHON = Path(__file__).resolve().parents[1]
PROGRAMS = PYTHON / "tests" / "typing"


def copied(program: Path, directory: Path) -> Path:
    copy = directory / f"{program.stem}.py"
    copy.write_bytes(program.read_bytes())
    return copy


def run_mypy(program: Path, cache: Path) -> set[int]:
    """The lines in which it finds a mistake."""
    program = copied(program, cache)
    ended = subprocess.run(
        # Without the settings of this repository, as a user has it.
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary"),
            *("--cache-dir", str(cache), "--show-absolute-path", str(program)),
        ],
        env={**os.environ, "MYPYPATH": str(PYTHON)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    found = [line.split(":") for line in ended.stdout.splitlines() if ": error:" in line]
    assert ended.returncode == bool(found), ended.stdout + ended.stderr
    assert {name for name, *_ in found} <= {str(program)}, ended.stdout
    return {int(line) for _, line, *_ in found}


def run_pyright(program: Path, cache: Path) -> set[int]:
    # It takes only what lies beside its settings.
    program = copied(program, cache)
    settings = cache / "pyrightconfig.json"
    settings.write_text(
        json.dumps(
            {
                "include": [program.name],
                "extraPaths": [str(PYTHON)],
                "typeCheckingMode": "strict",
                # Expressions without a use are how the mistakes are written.
                "reportUnusedExpression": False,
                "reportUnusedCoroutine": False,
            }
        )
    )
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "pyright", "--outputjson", "--project", str(settings)),
            # Else it runs the shell's python to learn where modules are.
            *("--pythonpath", sys.executable),
        ],
        stdin=subprocess.DEVNULL,
        # Nor does it ask whether there is a newer one.
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    told = json.loads(ended.stdout)
    assert told["summary"]["filesAnalyzed"] == 1, ended.stdout
    errors = [each for each in told["generalDiagnostics"] if each["severity"] == "error"]
    assert {each["file"] for each in errors} <= {str(program)}, ended.stdout
    return {each["range"]["start"]["line"] + 1 for each in errors}


CHECKERS = [run_mypy, run_pyright]


@pytest.mark.parametrize("checker", CHECKERS)
def test_what_is_right(tmp_path: Path, checker: Callable[[Path, Path], set[int]]) -> None:
    assert checker(PROGRAMS / "good.py", tmp_path) == set()


@pytest.mark.parametrize("checker", CHECKERS)
def test_what_is_wrong(tmp_path: Path, checker: Callable[[Path, Path], set[int]]) -> None:
    program = PROGRAMS / "mistakes.txt"
    planted = {
        number
        for number, line in enumerate(program.read_text().splitlines(), 1)
        if line.endswith("# MISTAKE")
    }
    assert len(planted) >= 25
    assert checker(program, tmp_path) == planted
