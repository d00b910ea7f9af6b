# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""nixl-md watch: one line for each event."""

from __future__ import annotations

import datetime
import os
import sys
from typing import Any

from nixl_md import Event, EventType, Status
from nixl_md._errors import error
from nixl_md._events import name_to_bytes

from .errors import Exit, of_library
from .listing import name_json
from .observer import Interruption, observer
from .options import Output
from .render import amount, printable, put_json, styled
from .settings import Settings

STYLES = {
    EventType.GONE: "red",
    EventType.CONTACT_LOST: "bold red",
    EventType.RESYNC: "yellow",
    EventType.PRESENT: "green",
    EventType.RETURNED: "green",
    EventType.RESTARTED: "yellow",
}


def moment() -> datetime.datetime:
    return datetime.datetime.now().astimezone()


def line(event: Event, at: datetime.datetime) -> str:
    """For people."""
    kind = f"{event.type.name:<16}"
    kind = styled(kind, STYLES[event.type], sys.stdout) if event.type in STYLES else kind
    parts = [at.strftime("%H:%M:%S.%f")[:-3], kind]
    if event.agent:
        names = [printable(name_to_bytes(name)) for name in (event.agent, event.label) if name]
        parts.append(" ".join(names))
    if event.blob is not None:
        parts.append(f"{amount(len(event.blob))} bytes")
    if event.incarnation:
        parts.append(f"process {event.incarnation:x}")
    if event.revision:
        parts.append(f"revision {event.revision}")
    if event.type == EventType.ENDED:
        parts.append(event.status.name)
    if event.text:
        parts.append(printable(event.text.encode()))
    return "  ".join(parts)


def as_json(event: Event, at: datetime.datetime) -> dict[str, Any]:
    answer: dict[str, Any] = {"time": at.isoformat(), "event": event.type.name}
    if event.agent:
        answer.update(name_json("agent", name_to_bytes(event.agent)))
    if event.label:
        answer.update(name_json("label", name_to_bytes(event.label)))
    if event.blob is not None:
        answer["bytes"] = len(event.blob)
    if event.revision:
        answer["revision"] = event.revision
    if event.incarnation:
        answer["incarnation"] = f"{event.incarnation:x}"
    if event.type == EventType.ENDED:
        answer["status"] = event.status.name
    if event.text:
        answer["text"] = event.text
    return answer


def _put(event: Event, output: Output) -> None:
    at = moment()
    if output is Output.json:
        put_json(as_json(event, at))
    elif output is Output.name:
        if event.agent:
            print(printable(name_to_bytes(event.agent)), flush=True)
    else:
        print(line(event, at), flush=True)


def run(settings: Settings, agent: str | None, labels: bool, output: Output) -> int:
    ended: list[Event] = []
    # Why nothing can be printed any more: a callback is no place to raise it.
    failed: list[OSError] = []

    def tell(event: Event) -> None:
        if event.type == EventType.ENDED:
            ended.append(event)
            if event.status == Status.CANCELED:
                return
        try:
            if not failed:
                _put(event, output)
        except OSError as error:
            failed.append(error)

    handle = observer(settings, is_quiet=output is Output.json)
    try:
        # The first contact is bounded: what cannot be reached at all shows in the exit status.
        handle.list(timeout=settings.timeout).wait(settings.timeout + 1)
        name = None if agent is None else os.fsencode(agent)
        handle.watch(name, tell, blobs=True if agent or labels else None)
        with Interruption(handle, is_read=True).noted() as interruption:
            while not ended and not failed:
                interruption.wait(None)
    finally:
        handle.close()
    if failed:
        raise failed[0]
    if ended[0].status != Status.CANCELED:
        raise of_library(error(ended[0].status, ended[0].text))
    return Exit.OK
