# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""How a command ends when it does not end well."""

from __future__ import annotations

import enum

from nixl_md import NixlMDError, Status

from .render import readable


class Exit(enum.IntEnum):
    """The exit statuses, as the man page has them."""

    OK = 0
    FOUND = 1
    """Something was found (doctor), or failed."""
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    """etcd refused the credentials, or the role."""
    NO_GATEWAY = 5
    """etcd's JSON gateway is not there, and the command needs it."""
    NO_SPACE = 6
    """etcd's database is full, and etcd refuses the change."""
    INTERRUPTED = 130


class Failure(Exception):
    """What is wrong, and what to do about it."""

    status = Exit.FOUND

    def __init__(self, text: str, remedy: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.text}\n  {self.remedy}" if self.remedy else self.text


class Usage(Failure):
    """An argument, a variable or a file that it names is wrong."""

    status = Exit.USAGE


class Unreachable(Failure):
    """No endpoint answers."""

    status = Exit.UNREACHABLE


class Unanswered(Unreachable):
    """A request was sent and not answered: what it asked for may have been done."""


class CredentialsRefused(Failure):
    """User, password, certificate or role."""

    status = Exit.REFUSED


class NoGateway(Failure):
    """What answers is not etcd's JSON gateway."""

    status = Exit.NO_GATEWAY


class EtcdError(Failure):
    """Any other refusal of etcd's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"etcd refused: {message}")
        self.code = code
        self.message = message


class NoSpace(EtcdError):
    """The database is full. etcd then refuses puts and leases; before 3.4.20 and 3.5.7 it refuses
    every transaction while the database is over its quota, also one that only deletes
    (`Available` in server/etcdserver/quota.go). Only an unguarded delete would pass."""

    status = Exit.NO_SPACE

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.text = "etcd's database is full, and etcd refuses this change"
        self.remedy = (
            "Make room: 'etcdctl compact --physical REVISION', then 'etcdctl defrag' of each "
            "member; or raise --quota-backend-bytes. Removals then work at once, puts after "
            "'etcdctl alarm disarm'."
        )


def of_library(error: NixlMDError) -> Failure:
    """A failure of the library as one of the tool."""
    text = readable(str(error))
    if error.status in (Status.TIMED_OUT, Status.REMOTE_DISCONNECT):
        return Unreachable(f"etcd cannot be reached: {text}", "Check --endpoints.")
    if error.status in (Status.UNAUTHENTICATED, Status.PERMISSION):
        return CredentialsRefused(f"etcd refused the credentials: {text}", "Check --user.")
    if error.status == Status.INVALID_PARAM:
        return Usage(text)
    return Failure(text)
