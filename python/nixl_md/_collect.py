# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What the library calls: it copies what it is given to the end of a deque, and does no more.

CPython runs the handlers of signals between the instructions of Python code, also at the entry of
a function, before its first `try`. An exception raised there would leave a callback of ours before
it has taken anything, and what a result points to is gone when the callback returns. So no Python
code runs in a callback. The callable is `deque.extend`. Its argument is a structure that can be
iterated: `__iter__` is a property made of `operator.attrgetter`, which reads the fields, and ctypes
copies strings and blobs while they are read. All of that is C.

Two arguments of a callback are declared as one structure of two words, so that there is one object
to iterate. Both are passed in the same two registers (System V x86-64, 3.2.3; AAPCS64, 6.8.2).
Elsewhere, and for interpreters other than CPython, a Python function takes the two arguments.

A list of agents has no fixed length and is copied by Python code, after the rest was noted. If a
signal interrupts that, the list is asked for again.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
from collections import deque
from collections.abc import Iterator
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int32, c_void_p
from operator import attrgetter
from typing import Any

from . import _capi
from ._events import PresentAgent, name_of

# What is in the first place of each record.
DONE, LISTED, AGENTS, EVENT, LOG = range(5)

Record = tuple[Any, ...]
# Beside each record lies a None: attrgetter makes a tuple of two names, not of one.
Inbox = deque[Any]

_is_exact = sys.implementation.name == "cpython" and os.uname().machine in ("x86_64", "aarch64")


def _copier() -> Any:  # noqa: ANN401 - what makes bytes of a _capi.Bytes
    if not _is_exact:
        return lambda it: ctypes.string_at(it.pointer, it.length) if it.pointer else b""
    return ctypes.PYFUNCTYPE(ctypes.py_object, _capi.Bytes)(
        ("PyBytes_FromStringAndSize", ctypes.pythonapi)
    )


_capi.Bytes.copy = property(_copier())  # type: ignore[attr-defined]


def _fields(prefix: str, *names: str) -> list[str]:
    return [f"{prefix}.contents.{name}" for name in names]


_RESULT = _fields(
    "result", "op", "status", "text", "revision", "blob.pointer", "blob.copy", "ttl_ms"
)
_EVENT = _fields(
    "event",
    "type",
    "watch",
    "agent.copy",
    "label.copy",
    "blob.pointer",
    "blob.copy",
    "revision",
    "incarnation",
    "status",
    "text",
)


class _Done(Structure):
    """The arguments of nixl_md_done_cb."""

    _fields_ = [("result", POINTER(_capi.Result)), ("token", c_void_p)]
    what, nothing = DONE, None
    record = property(attrgetter("what", "token", *_RESULT))
    records = property(attrgetter("record", "nothing"))
    __iter__ = property(attrgetter("records.__iter__"))


class _Event(Structure):
    """The arguments of nixl_md_event_cb."""

    _fields_ = [("event", POINTER(_capi.Event)), ("token", c_void_p)]
    what, nothing = EVENT, None
    record = property(attrgetter("what", "token", *_EVENT))
    records = property(attrgetter("record", "nothing"))
    __iter__ = property(attrgetter("records.__iter__"))


class _Line(Structure):
    """The first two arguments of nixl_md_log_cb."""

    _fields_ = [("level", c_int32), ("line", c_char_p)]
    what, nothing = LOG, None
    record = property(attrgetter("what", "level", "line"))
    records = property(attrgetter("record", "nothing"))
    __iter__ = property(attrgetter("records.__iter__"))


class _Parts(Structure):
    """As _Done, and then the agents."""

    _fields_ = [("result", POINTER(_capi.Result)), ("token", c_void_p)]
    what, nothing = LISTED, None

    def _copies(self) -> Iterator[Record]:
        yield AGENTS, _agents(self.result.contents)

    record = property(attrgetter("what", "token", *_RESULT))
    records = property(attrgetter("record", "nothing"))
    # A generator: nothing of it runs before the record has been taken.
    copies = property(_copies)
    parts = property(attrgetter("records", "copies"))
    __iter__ = property(attrgetter("parts.__iter__"))
    chained = property(itertools.chain.from_iterable)


class _Listed(Structure):
    """The arguments of nixl_md_done_cb, for a list."""

    _fields_ = [("both", _Parts)]
    __iter__ = property(attrgetter("both.chained.__iter__"))


def _agents(result: Any) -> list[PresentAgent]:  # noqa: ANN401 - a _capi.Result
    agents = []
    for index in range(result.agent_count):
        agent = result.agents[index].contents
        agents.append(
            PresentAgent(
                name=name_of(agent.name.copy),
                incarnation=agent.incarnation,
                revision=agent.revision,
                lease_id=agent.lease_id,
            )
        )
    return agents


def _callback(arguments: Any, inbox: Inbox) -> Any:  # noqa: ANN401 - ctypes types
    if _is_exact:
        return CFUNCTYPE(None, arguments)(inbox.extend)
    words = _Parts if arguments is _Listed else arguments
    pair = [field[1] for field in words._fields_]

    def take(*both: Any) -> None:  # noqa: ANN401 - the two words
        inbox.extend(words(*both) if words is arguments else arguments(words(*both)))

    return CFUNCTYPE(None, *pair)(take)


# Those of open handles. PyPy frees the parts of a cycle in any order, also code that close() of an
# agent in it still needs.
_in_use: set[Callbacks] = set()


class Callbacks:
    """The addresses to give to the library. This must live for as long as the handle is open."""

    def __init__(self, inbox: Inbox) -> None:
        # What keeps the code at the addresses alive.
        self._kept = [_callback(kind, inbox) for kind in (_Done, _Listed, _Event, _Line)]
        addresses = [ctypes.cast(each, c_void_p).value for each in self._kept]
        self.on_done, self.on_list, self.on_event, self.on_log = addresses

    def hold(self) -> None:
        """Before the handle is opened."""
        _in_use.add(self)

    def release(self) -> None:
        """After it was closed."""
        _in_use.discard(self)
