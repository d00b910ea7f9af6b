# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A real terminal: a shell in tmux, whose screen is read as a person sees it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 180.0


class Screen:
    """One window with a shell."""

    def __init__(self, socket: Path, environment: dict[str, str], columns: int, lines: int) -> None:
        self._socket = socket
        self._runs = 0
        wanted = {**environment, "PS1": "$ ", "TERM": "screen-256color", "LC_ALL": "C.UTF-8"}
        self._tmux(
            *("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(lines)),
            *("env", "-i", *(f"{name}={value}" for name, value in wanted.items())),
            *("sh", "-i"),
        )

    def _tmux(self, *arguments: str) -> str:
        # The socket by its path: its directory is the test's.
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def interrupt(self) -> None:
        self._tmux("send-keys", "C-c")

    def type(self, text: str, key: str) -> None:
        """Types the text, then a key."""
        if text:
            self._tmux("send-keys", "-l", text)
        self._tmux("send-keys", key)

    def terminate(self) -> None:
        """SIGTERM to what the shell has started."""
        shell = self._tmux("display-message", "-p", "#{pane_pid}").strip()
        children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        assert len(children) == 1, children
        os.kill(int(children[0]), signal.SIGTERM)

    def cursor_is_shown(self) -> bool:
        return self._tmux("display-message", "-p", "#{cursor_flag}").strip() == "1"

    def resize(self, columns: int, lines: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def lines(self, colors: bool = False) -> list[str]:
        text = self._tmux("capture-pane", "-p", *(["-e"] if colors else []))
        return text.split("\n")

    def unwrapped(self) -> list[str]:
        """As they were printed, however narrow the terminal is."""
        return self._tmux("capture-pane", "-p", "-J").split("\n")

    def wait(self, is_so: Callable[[list[str]], bool], what: str) -> list[str]:
        """The screen when it is so."""
        deadline = time.monotonic() + PATIENCE
        while True:
            lines = self.lines()
            if is_so(lines):
                return lines
            assert time.monotonic() < deadline, f"never: {what}\n" + "\n".join(lines)
            time.sleep(0.1)

    def run(self, *command: str) -> None:
        """A command, and then a line with its exit status. Who runs another waits for `status`
        first: what is typed before the prompt would stand on the screen twice, and Ctrl-C would be
        the shell's."""
        self.wait(lambda lines: "".join(lines).rstrip().endswith("$"), "the prompt")
        self._runs += 1
        self._tmux("send-keys", "-l", f"{shlex.join(command)}; echo status-{self._runs}=$?.")
        self._tmux("send-keys", "Enter")

    def clear(self) -> None:
        self.run("clear")
        self.status()

    def status(self) -> tuple[int, list[str]]:
        """The status and the screen of the command that `run` started, once it has ended."""
        pattern = re.compile(rf"^status-{self._runs}=(\d+)\.$")
        lines = self.wait(lambda lines: any(map(pattern.match, lines)), "it ends")
        found = [match for match in map(pattern.match, lines) if match]
        return int(found[-1][1]), lines

    def close(self) -> None:
        subprocess.run(
            ["tmux", "-S", str(self._socket), "kill-server"], capture_output=True, check=False
        )
