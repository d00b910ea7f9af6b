# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Runs a command where the name server never answers; given as a prefix of it. Needs namespaces of
its own (`unshare --net --mount`): the machine's own configuration stays as it is."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

# linux/sockios.h, linux/if.h
SIOCSIFFLAGS = 0x8914
IFF_UP = 1


def prefix(directory: Path, timeout: int) -> tuple[str, ...]:
    """The command to put before another. The resolver gives up after so many seconds."""
    (directory / "resolv.conf").write_text(
        f"nameserver 127.0.0.1\noptions timeout:{timeout} attempts:1\n"
    )
    (directory / "nsswitch.conf").write_text("hosts: files dns\n")
    unshare = ("unshare", "--user", "--map-root-user", "--net", "--mount")
    return (*unshare, sys.executable, __file__, str(directory))


def main(directory: Path, command: list[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        up = struct.pack("16sh", b"lo", IFF_UP)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, up)
    # Bound and never read: what is sent there is taken, and there is no answer.
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 53))
    silent.set_inheritable(True)
    for name in ("resolv.conf", "nsswitch.conf"):
        subprocess.run(["mount", "--bind", directory / name, f"/etc/{name}"], check=True)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
