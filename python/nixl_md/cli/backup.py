# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What `purge --backup` writes, and `restore` reads: one line of JSON for each agent."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from .errors import Failure, Usage
from .gateway import Gateway, b64, prefix_end, unb64
from .removal import Put, Victim

FORMAT = "nixl-md backup 1"


@dataclass(frozen=True)
class Saved:
    """An agent as it was."""

    name: bytes
    prefix: bytes
    keys: list[Put]
    """The presence key first."""


class Backup:
    """A new file; each agent is on the disk before it is removed."""

    def __init__(self, path: str) -> None:
        try:
            # Blobs say how to reach the memory of processes.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise Usage(
                f"--backup: {path}: {error.strerror}", "Name a new file in a directory of yours."
            ) from error
        self._path = path
        # Without a buffer: what could not be written is not tried again when it is closed.
        self._file: BinaryIO = os.fdopen(descriptor, "wb", buffering=0)
        self._write({"format": FORMAT})

    def _write(self, value: dict[str, Any]) -> None:
        rest = memoryview(json.dumps(value).encode() + b"\n")
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise Failure(
                f"--backup: {self._path}: {error.strerror}",
                "What is not saved is not removed. Name a file on another disk.",
            ) from error

    def close(self) -> None:
        self._file.close()

    def save(self, gateway: Gateway, victim: Victim) -> bool:
        """False: it is not what was shown any more."""
        raw = []
        start, end = victim.found.prefix, prefix_end(victim.found.prefix)
        while True:
            # A few at a time: blobs may have megabytes each.
            answer = gateway.range(start, end, limit="8")
            raw += answer.get("kvs", [])
            if not answer.get("more"):
                break
            start = unb64(raw[-1]["key"]) + b"\0"
        shown = {key.key: key.revision for key in victim.found.keys}
        if {unb64(kv["key"]): int(kv["mod_revision"]) for kv in raw} != shown:
            return False
        keys = [
            {"key": kv["key"], "value": kv.get("value", ""), "lease": str(kv.get("lease", 0))}
            for kv in raw
        ]
        prefix = b64(victim.found.prefix)
        self._write({"agent": b64(victim.found.name), "prefix": prefix, "keys": keys})
        return True


def read_backup(path: str) -> Iterator[Saved]:
    try:
        with open(path, "rb") as file:
            first = json.loads(file.readline() or b"{}")
            if first.get("format") != FORMAT:
                raise Usage(f"{path} is no backup of 'nixl-md purge --backup'")
            for line in file:
                entry = json.loads(line)
                keys = [
                    (unb64(key["key"]), unb64(key["value"]), int(key["lease"]))
                    for key in entry["keys"]
                ]
                yield Saved(unb64(entry["agent"]), unb64(entry["prefix"]), keys)
    except OSError as error:
        raise Usage(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise Usage(f"{path} is damaged: {error!r}") from error
