# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""nixl-md get"""

from __future__ import annotations

import os
import sys
from typing import Any

from nixl_md import Event, EventType, NotFound
from nixl_md._events import name_to_bytes

from .errors import Exit, Failure, NoGateway, Usage
from .gateway import Gateway
from .listing import name_json, row_of
from .model import MARK, Found, Key, Namespace
from .observer import observer
from .options import Output
from .pipeline import LeaseTime, parse_time
from .render import Column, amount, is_terminal, printable, put_json, say, table, width
from .settings import Settings
from .store import HEAD, read_agent

_COLUMNS = (
    Column("LABEL"),
    Column("LEASE", 2),
    Column("BYTES", 0, True),
    Column("REVISION", 1, True),
    Column("CREATED", 4, True),
    Column("VERSION", 5, True),
    Column("HEAD", 3),
)
_HEAD_SHOWN = 32


def head_text(head: bytes) -> str:
    """How a blob begins, readable: dots for what is not."""
    return "".join(chr(b) if 32 <= b < 127 else "." for b in head[:_HEAD_SHOWN])


def run(settings: Settings, agent: str, label: str | None, raw: bool, output: Output) -> int:
    name = os.fsencode(agent)
    if not name or b"/" in name or b"\0" in name:
        raise Usage(f"'{agent}' is no name of an agent: it is empty or holds '/'")
    if raw:
        return _raw(settings, name, label)
    try:
        with Gateway(settings) as gateway:
            found, _ = read_agent(gateway, Namespace(settings.namespace), name)
            times = {
                lease: parse_time(gateway.time_to_live(lease)) for lease in found.leases if lease
            }
    except NoGateway as missing:
        found, times = _of_library(settings, name), {}
        say(f"nixl-md: {missing}\n  Leases and versions are not known; the rest is the library's.")
        _show(settings, found, times, label, output)
        return Exit.NO_GATEWAY
    _show(settings, found, times, label, output)
    return Exit.OK


def _raw(settings: Settings, name: bytes, label: str | None) -> int:
    if is_terminal(sys.stdout):
        raise Usage("--raw writes bytes that a terminal may obey", "Redirect it: > FILE, or | xxd.")
    handle = observer(settings, is_quiet=True)
    try:
        wanted = None if label is None else os.fsencode(label)
        operation = handle.fetch(name, wanted, wait=False, timeout=settings.timeout)
        blob = operation.wait(settings.timeout + 1).blob or b""
    except NotFound as error:
        raise _not_found(settings, name, label) from error
    finally:
        handle.close()
    sys.stdout.buffer.write(blob)
    sys.stdout.buffer.flush()
    return Exit.OK


def _not_found(settings: Settings, name: bytes, label: str | None) -> Failure:
    what = f"agent '{printable(name)}'" + (f" with a label '{label}'" if label else "")
    return Failure(
        f"there is no {what} under {printable(settings.namespace)}",
        "'nixl-md ls -A' lists all, also under other spellings of the namespace.",
    )


def _of_library(settings: Settings, name: bytes) -> Found:
    """Its labels, as a watch reports them at its start."""
    prefix = Namespace(settings.namespace).prefix(name)
    found = Found(name, prefix)
    events: list[Event] = []
    handle = observer(settings, is_quiet=True)
    try:
        handle.watch(name, events.append, blobs=True)
        handle.run_until(
            lambda: any(e.type in (EventType.SYNCED, EventType.ENDED) for e in events),
            settings.timeout,
        )
    finally:
        handle.close()
    for event in events:
        blob = event.blob or b""
        if event.type == EventType.PRESENT:
            found.presence = Key(prefix, 0, 0, event.revision, 0, 0)
        elif event.type == EventType.PUT:
            label = name_to_bytes(event.label)
            key = Key(prefix + label, 0, 0, event.revision, 0, len(blob), blob[:HEAD])
            found.labels[label] = key
    return found


def _show(
    settings: Settings,
    found: Found,
    times: dict[int, LeaseTime],
    label: str | None,
    output: Output,
) -> None:
    keys = found.keys
    if label is not None:
        only = found.labels.get(os.fsencode(label))
        keys = [] if only is None else [only]
    if not keys:
        raise _not_found(settings, found.name, label)
    if output is Output.json:
        put_json(_as_json(settings, found, keys, times))
    elif output is Output.name:
        print("\n".join(printable(key.key[len(found.prefix) :]) for key in found.labels.values()))
    else:
        _print(settings, found, keys, times, output)


def _label_text(found: Found, key: Key) -> str:
    label = key.key[len(found.prefix) :]
    if not label:
        return "(presence)"
    return "(mark of a newcomer)" if label == MARK else printable(label)


def _print(
    settings: Settings,
    found: Found,
    keys: list[Key],
    times: dict[int, LeaseTime],
    output: Output,
) -> None:
    row = row_of(settings.namespace, found, times)
    print(f"agent    {printable(found.name)}")
    print(f"prefix   {printable(found.prefix)}")
    if row.state is not None and (times or row.lease == 0):
        print(f"state    {row.state.value}")
    if row.lease:
        print(f"lease    {row.lease:x}, TTL {row.ttl_text}, left {row.left_text}")
    print()
    cells = [
        [
            _label_text(found, key),
            f"{key.lease:x}" if key.lease else "none",
            amount(key.size),
            str(key.revision),
            str(key.created),
            str(key.version),
            head_text(key.head),
        ]
        for key in keys
    ]
    room = None if output is Output.wide else width(sys.stdout)
    print("\n".join(table(_COLUMNS, cells, sys.stdout, room)))


def _as_json(
    settings: Settings, found: Found, keys: list[Key], times: dict[int, LeaseTime]
) -> dict[str, Any]:
    answer = row_of(settings.namespace, found, times).as_json()
    answer["keys"] = [
        {
            **name_json("key", key.key),
            **name_json("label", key.key[len(found.prefix) :]),
            "lease": f"{key.lease:x}",
            "bytes": key.size,
            "revision": key.revision,
            "created": key.created,
            "version": key.version,
            "head": head_text(key.head),
        }
        for key in keys
    ]
    return answer
