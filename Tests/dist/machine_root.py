# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A minimal Debian to try what `make dist` has made: a copy of build/dist/root/RELEASE, entered by
chroot. It shares this machine's network, so that an etcd on loopback can be reached from it."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import time
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("NIXL_MD_BUILD", TREE / "build"))
DIST = BUILD / "dist"
SECONDS = 60.0
RELEASES = ("bookworm", "trixie")


def own_release() -> str:
    """That of this machine, for which the Debian packages are made."""
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


def made(pattern: str) -> Path:
    """The one file of build/dist with such a name."""
    found = list(DIST.glob(pattern))
    assert len(found) == 1, f"one {pattern} in {DIST}, not {found}: run make dist"
    return found[0]


class Root:
    def __init__(self, release: str, path: Path) -> None:
        self.path = path
        source = DIST / "root" / release
        subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(path)], check=True)
        self._programs: list[Program] = []

    def command(self, *words: str) -> list[str]:
        """With a /proc, in a mount namespace that ends with the process."""
        script = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
        return ["unshare", "--mount", "sh", "-c", script, str(self.path), *words]

    @staticmethod
    def environment(**values: str) -> dict[str, str]:
        path = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        return {"PATH": path, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", **values}

    def try_run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def run(self, *words: str, **environment: str) -> str:
        """The command's output; both streams if it fails."""
        done = self.try_run(*words, **environment)
        assert done.returncode == 0, f"{words}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *words: str, **environment: str) -> Program:
        program = Program(self, len(self._programs), words, environment)
        self._programs.append(program)
        return program

    def take(self, file: Path, directory: str = "root") -> str:
        """Copies a file in; its path inside."""
        (self.path / directory).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, self.path / directory)
        return f"/{directory}/{file.name}"

    def write(self, name: str, text: str) -> str:
        path = self.path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return name

    def close(self) -> None:
        for program in self._programs:
            program.close()
        shutil.rmtree(self.path)


class Program:
    """A program that runs in the root; its output goes into a file."""

    def __init__(
        self, root: Root, number: int, words: tuple[str, ...], environment: dict[str, str]
    ) -> None:
        self.name = " ".join(words)
        self._output = root.path / f"root/output-{number}"
        with self._output.open("wb") as stream:
            self._process = subprocess.Popen(
                root.command(*words),
                env=root.environment(PYTHONUNBUFFERED="1", **environment),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def expect(self, text: str, seconds: float = SECONDS) -> float:
        """Waits until it has printed this; how long that took."""
        begin = time.monotonic()
        while text not in self.output:
            assert self._process.poll() is None, f"{self.name} has ended:\n{self.output}"
            assert time.monotonic() - begin < seconds, f"no '{text}' in:\n{self.output}"
            time.sleep(0.05)
        return time.monotonic() - begin

    def kill(self) -> None:
        """The launcher has become the program: the process is its own."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
