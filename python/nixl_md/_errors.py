# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Statuses and the exceptions made of them."""

from __future__ import annotations

import enum


class Status(enum.IntEnum):
    """The status of a call or an operation; the values of the header."""

    SUCCESS = 0
    INVALID_PARAM = -2
    BACKEND = -3
    NOT_FOUND = -4
    MISMATCH = -5
    NOT_ALLOWED = -6
    UNKNOWN = -8
    NOT_SUPPORTED = -9
    REMOTE_DISCONNECT = -10
    CANCELED = -11
    TIMED_OUT = -1001
    TOO_LARGE = -1002
    REPLACED = -1003
    SUPERSEDED = -1004
    UNAUTHENTICATED = -1005
    PERMISSION = -1006
    FORKED = -1007
    BUSY = -1008
    IN_CALLBACK = -1009
    SHUT_DOWN = -1010
    LIMIT = -1011
    NO_SPACE = -1012

    @classmethod
    def _missing_(cls, value: object) -> Status:
        # A newer library may know more.
        return cls.UNKNOWN


class NixlMDError(Exception):
    """A failure; `status` is the kind, the message has the cause and the remedy."""

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(text or status.name)
        self.status = status


class InvalidParameter(NixlMDError, ValueError):
    """An argument or an environment value is wrong."""


class BackendError(NixlMDError):
    """etcd refused, or the system did."""


class NotFound(NixlMDError, LookupError):
    """There is no such key, label, operation or watch."""


class Mismatch(NixlMDError):
    """The store contradicts the request."""


class NotAllowed(NixlMDError):
    """Not with this handle, or the agent's name is in use."""


class NotSupported(NixlMDError):
    """libcurl is too old or lacks TLS."""


class RemoteDisconnect(NixlMDError, ConnectionError):
    """No endpoint can be reached."""


class Canceled(NixlMDError):
    """By cancel, shutdown or close."""


class TimedOut(NixlMDError, TimeoutError):
    """The operation's own time-out has passed."""


class TooLarge(NixlMDError, ValueError):
    """Over a limit of the library or of etcd."""


class Replaced(NixlMDError):
    """A newer change of the label took its place."""


class Superseded(NixlMDError):
    """Another process took over the agent's name: final."""


class Unauthenticated(NixlMDError, PermissionError):
    """User or password is wrong or missing."""


class PermissionDenied(NixlMDError, PermissionError):
    """etcd's role does not allow this key."""


class Forked(NixlMDError):
    """The handle belongs to the parent process."""


class Busy(NixlMDError):
    """Another thread is inside tick or close."""


class InCallback(NixlMDError):
    """Not from inside a callback."""


class ShutDown(NixlMDError):
    """The handle is shut down or shutting down."""


class LimitReached(NixlMDError):
    """Too many open operations, watches, labels or queued bytes."""


class NoSpace(NixlMDError):
    """etcd's database is full."""


_EXCEPTIONS: dict[Status, type[NixlMDError]] = {
    Status.INVALID_PARAM: InvalidParameter,
    Status.BACKEND: BackendError,
    Status.NOT_FOUND: NotFound,
    Status.MISMATCH: Mismatch,
    Status.NOT_ALLOWED: NotAllowed,
    Status.NOT_SUPPORTED: NotSupported,
    Status.REMOTE_DISCONNECT: RemoteDisconnect,
    Status.CANCELED: Canceled,
    Status.TIMED_OUT: TimedOut,
    Status.TOO_LARGE: TooLarge,
    Status.REPLACED: Replaced,
    Status.SUPERSEDED: Superseded,
    Status.UNAUTHENTICATED: Unauthenticated,
    Status.PERMISSION: PermissionDenied,
    Status.FORKED: Forked,
    Status.BUSY: Busy,
    Status.IN_CALLBACK: InCallback,
    Status.SHUT_DOWN: ShutDown,
    Status.LIMIT: LimitReached,
    Status.NO_SPACE: NoSpace,
}


def error(status: int, text: str) -> NixlMDError:
    """The exception for a status that is not success."""
    known = Status(status)
    return _EXCEPTIONS.get(known, NixlMDError)(known, text)
