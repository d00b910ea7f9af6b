# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""nixl-md guard: runs a command, and keeps its agent's keys on a lease."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from .errors import Failure, Unreachable, Usage
from .keeper import Keeper, is_pattern
from .render import say
from .settings import Settings

# Not those that stop and continue: they are for guard as well.
FORWARDED = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH),
)
# Python ignores them, and a command would inherit that.
IGNORED_HERE = (signal.SIGPIPE, signal.SIGXFSZ)
# siginfo of what the kernel sends by itself: a terminal's Ctrl-C reaches the command as well.
SI_KERNEL = 0x80
LEAST_TTL, GREATEST_TTL = 2, 86400
SAFE_TTL = 5
NOT_FOUND, NOT_EXECUTABLE = 127, 126


def run(
    settings: Settings, agents: Sequence[str], ttl: int, quiet: bool, command: Sequence[str]
) -> int:
    if not command:
        raise Usage("no command is given", "nixl-md guard --agent NAME -- COMMAND ARGUMENT...")
    _check(agents, ttl)

    def tell(text: str) -> None:
        if not quiet:
            say(f"nixl-md guard: {text}")

    if ttl < SAFE_TTL:
        tell(f"a TTL of {ttl} s does not survive a change of etcd's leader")
    keeper = Keeper(settings, agents, ttl, tell)
    try:
        keeper.prepare()
    except Unreachable as failure:
        # Whether the command can do without etcd is for the command to say; a pattern needs to
        # know what was there before it.
        if any(map(is_pattern, agents)):
            keeper.close()
            raise
        tell(f"{failure.text}: the command is started, and guarded when etcd answers")
    except Failure:
        keeper.close()
        raise
    # Who is started with it ignored would never be told that the command has ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*FORWARDED, signal.SIGCHLD})
    try:
        pid = os.posix_spawnp(
            command[0], list(command), os.environ, setsigmask=mask, setsigdef=IGNORED_HERE
        )
    except OSError as error:
        keeper.end()
        say(f"nixl-md guard: {command[0]}: {error.strerror}")
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    keeper.start()
    status = _wait(pid)
    keeper.end()
    return status


def _check(agents: Sequence[str], ttl: int) -> None:
    if not agents:
        raise Usage(
            "no agent is named",
            "--agent NAME, or a pattern such as --agent 'decode-*' where the name is not known "
            "before: etcd does not record who puts a key.",
        )
    for agent in agents:
        if not agent or "/" in agent:
            raise Usage(f"--agent: '{agent}' is no name of an agent: it is empty or holds '/'")
    if not LEAST_TTL <= ttl <= GREATEST_TTL:
        raise Usage(f"--ttl: {ttl} s is not from {LEAST_TTL} to {GREATEST_TTL}")


def _wait(pid: int) -> int:
    """Until the command has ended; as a shell reports it, 128 + the signal that ended it."""
    while True:
        info = signal.sigwaitinfo({*FORWARDED, signal.SIGCHLD})
        if info.si_signo != signal.SIGCHLD:
            if info.si_code != SI_KERNEL:
                # It may have ended just now; it is not reaped yet, so the id is still its own.
                os.kill(pid, info.si_signo)
            continue
        # In a container guard may be the process to which orphans are given.
        while True:
            try:
                ended, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if ended == 0:
                break
            if ended == pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
