# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Agent metadata in etcd, under a lease, without a thread: libnixl_md for Python.

    with Agent("alpha", endpoints="127.0.0.1:2379") as agent:
        agent.start_heartbeat().wait()
        agent.publish("metadata", b"...").wait()
        peer = agent.fetch("beta").wait(10).blob

All work happens inside `Agent.tick` (also called by `wait` and `run_until`). ctypes releases
the interpreter lock for the length of a tick and takes it for callbacks. `nixl_md.aio` has the same
for asyncio. The rules are those of include/nixl_md.h.
"""

from __future__ import annotations

from ._agent import Agent, Operation, Watch, library
from ._errors import (
    BackendError,
    Busy,
    Canceled,
    Forked,
    InCallback,
    InvalidParameter,
    LimitReached,
    Mismatch,
    NixlMDError,
    NoSpace,
    NotAllowed,
    NotFound,
    NotSupported,
    PermissionDenied,
    RemoteDisconnect,
    Replaced,
    ShutDown,
    Status,
    Superseded,
    TimedOut,
    TooLarge,
    Unauthenticated,
)
from ._events import Event, EventType, PresentAgent, Result
from ._stats import Stats


def version() -> str:
    """The version of the library, e.g. "0.1.0"."""
    text: bytes = library().nixl_md_version_string()
    return text.decode()


__all__ = [
    "Agent",
    "BackendError",
    "Busy",
    "Canceled",
    "Event",
    "EventType",
    "Forked",
    "InCallback",
    "InvalidParameter",
    "LimitReached",
    "Mismatch",
    "NixlMDError",
    "NoSpace",
    "NotAllowed",
    "NotFound",
    "NotSupported",
    "Operation",
    "PermissionDenied",
    "PresentAgent",
    "RemoteDisconnect",
    "Replaced",
    "Result",
    "ShutDown",
    "Stats",
    "Status",
    "Superseded",
    "TimedOut",
    "TooLarge",
    "Unauthenticated",
    "Watch",
    "version",
]
