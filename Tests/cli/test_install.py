# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The extra `cli` installs the command, its man page and completion."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from nixl_md.cli.app import app
from nixl_md.cli.manpage import STATES, page

from conftest import TREE, Tool, ToolFactory, clean_environment

PAGES = TREE / "docs" / "nixl-md"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prefix of an installation from a copy of the sources."""
    directory = tmp_path_factory.mktemp("install")
    ignored = shutil.ignore_patterns("__pycache__", "build", "*.egg-info", "tests")
    shutil.copytree(TREE / "python", directory / "source", ignore=ignored)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--no-index", "--prefix", str(directory / "prefix"), str(directory / "source")],
        check=True,
        timeout=300,
        capture_output=True,
        env=clean_environment(PYTHONPATH=""),
    )
    return directory / "prefix"


def test_commandAndManPage(installed: Path, library: Path) -> None:
    packages = next(installed.glob("lib/python3*/site-packages"))
    environment = clean_environment(NIXL_MD_LIBRARY=str(library))
    environment["PYTHONPATH"] = str(packages)
    done = subprocess.run(
        [str(installed / "bin" / "nixl-md"), "--version"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert re.match(r"nixl-md \d+\.\d+\.\d+, libnixl_md \d+\.\d+\.\d+\n$", done.stdout), done
    dashboard = subprocess.run(
        [str(installed / "bin" / "nixl-md"), "dashboard"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert '"panels"' in dashboard.stdout, dashboard
    manual = (installed / "share" / "man" / "man1" / "nixl-md.1").read_text()
    assert manual == page()


def test_manPage_isUpToDate() -> None:
    """`make man` makes it."""
    assert (TREE / "python" / "nixl-md.1").read_text() == page()


def test_manPage_isWellFormed() -> None:
    """As man(1) formats it, without a warning."""
    groff = shutil.which("groff")
    assert groff, "groff is missing: apt-get install groff-base"
    done = subprocess.run(
        [groff, "-man", "-Tascii", "-ww", "-P", "-cbou"],
        input=page(),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for command in names():
        assert f"nixl-md {command}" in done.stdout
    for number, _ in STATES:
        assert re.search(rf"^ +{number} ", done.stdout, re.MULTILINE)


def names() -> list[str]:
    return [str(command.name) for command in app.registered_commands]


def test_everyCommandHasAPage() -> None:
    text = "".join(file.read_text() for file in PAGES.glob("*.md"))
    for command in names():
        assert f"nixl-md {command}" in text, command
    for number, _ in STATES:
        assert f"| {number} |" in (PAGES / "README.md").read_text()


def test_completion(tool_for: ToolFactory) -> None:
    """Completes commands and options."""
    tool: Tool = tool_for()
    variables = {"_NIXL_MD_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    assert tool(COMP_WORDS="nixl-md pu", status=None, **variables).out.split() == ["purge"]
    variables["COMP_CWORD"] = "2"
    answer = tool(COMP_WORDS="nixl-md ls --name", status=None, **variables)
    assert answer.out.split() == ["--namespace"]


def test_completion_isInstalled(tool_for: ToolFactory, tmp_path: Path) -> None:
    tool: Tool = tool_for()
    command = " ".join([*tool.command("--install-completion"), "; true"])
    environment = {**tool.environment, "HOME": str(tmp_path)}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True)
    assert "completion installed" in done.stdout, done
    assert "nixl-md" in (tmp_path / ".bashrc").read_text()


def test_help(tool_for: ToolFactory) -> None:
    """Each command has one, with the common options."""
    for command in names():
        text = tool_for()(command, "--help", COLUMNS="120").out
        assert command == "dashboard" or "--endpoints" in text
