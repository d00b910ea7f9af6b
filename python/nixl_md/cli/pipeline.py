# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Many questions about leases in little time: HTTP/1.1 pipelining on a few connections. etcd has no
call for several leases at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, BinaryIO

from .gateway import Gateway, connection_failure, is_expired, refusal
from .settings import Settings

CONNECTIONS = 4
# Requests on the way on one connection: some 15 KB, which every socket's buffers hold.
WINDOW = 100
PATH = "/v3/lease/timetolive"


@dataclass(frozen=True)
class LeaseTime:
    """Seconds, as granted and as they are left."""

    granted: int
    left: int
    """-1: the lease is gone."""


def parse_time(answer: dict[str, Any]) -> LeaseTime:
    left = int(answer.get("TTL", 0))
    return LeaseTime(int(answer.get("grantedTTL", 0)), left)


def _read(stream: BinaryIO) -> tuple[int, bytes]:
    """Status and body of one answer."""
    line = stream.readline(65536).split(None, 2)
    if len(line) < 2 or not line[0].startswith(b"HTTP/1"):
        raise ConnectionError("the connection was closed")
    length = 0
    is_chunked = False
    while True:
        header = stream.readline(65536)
        if not header.endswith(b"\n"):
            raise ConnectionError("the connection was closed")
        name, _, value = header.partition(b":")
        if not header.strip():
            break
        if name.lower() == b"content-length":
            length = int(value)
        elif name.lower() == b"transfer-encoding":
            is_chunked = b"chunked" in value.lower()
    body = _read_chunks(stream) if is_chunked else stream.read(length)
    if not is_chunked and len(body) < length:
        raise ConnectionError("the connection was closed")
    return int(line[1]), body


def _read_chunks(stream: BinaryIO) -> bytes:
    parts: list[bytes] = []
    while True:
        size = int(stream.readline(65536).split(b";")[0] or b"0", 16)
        if size == 0:
            while stream.readline(65536).strip():
                pass
            return b"".join(parts)
        parts.append(stream.read(size))
        stream.readline(65536)


class _Lane:
    """One connection, which is made again when it breaks."""

    def __init__(self, settings: Settings) -> None:
        self._gateway = Gateway(settings)

    def ask(self, leases: Sequence[int]) -> dict[int, LeaseTime]:
        found: dict[int, LeaseTime] = {}
        vain = 0
        while len(found) < len(leases):
            before = len(found)
            try:
                self._session(leases, found)
            except (OSError, ValueError) as error:
                vain = vain + 1 if len(found) == before else 0
                # A proxy may close each connection after some requests, or after each one.
                if vain == 3:
                    raise connection_failure(self._gateway.endpoint, error) from error
        return found

    def _session(self, leases: Sequence[int], found: dict[int, LeaseTime]) -> None:
        with self._gateway:
            # So that the gateway has chosen a member and has a token.
            headers = self._first(leases[len(found)], found)
            connection = self._gateway.connected()
            try:
                assert connection.sock is not None
                stream = connection.sock.makefile("rb")
                while len(found) < len(leases):
                    window = leases[len(found) : len(found) + WINDOW]
                    connection.sock.sendall(b"".join(self._request(x, headers) for x in window))
                    for lease in window:
                        status, body = _read(stream)
                        if status != 200:
                            failure = refusal(self._gateway.endpoint, status, body)
                            if is_expired(failure):
                                # The next session's first question gets another token.
                                raise ConnectionError(failure.text)
                            raise failure
                        found[lease] = parse_time(json.loads(body))
            finally:
                connection.close()

    def _first(self, lease: int, found: dict[int, LeaseTime]) -> bytes:
        found[lease] = parse_time(self._gateway.time_to_live(lease))
        headers = {"Host": str(self._gateway.endpoint).partition("://")[2]}
        headers.update(self._gateway.headers())
        return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")

    @staticmethod
    def _request(lease: int, headers: bytes) -> bytes:
        body = b'{"ID":"%d"}' % lease
        return b"POST %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (
            *(PATH.encode(), headers, len(body), body),
        )


def times_to_live(settings: Settings, leases: Sequence[int]) -> dict[int, LeaseTime]:
    """Of each lease, in the order of none."""
    distinct = list(dict.fromkeys(leases))
    if not distinct:
        return {}
    lanes = min(CONNECTIONS, (len(distinct) + WINDOW - 1) // WINDOW)
    if lanes == 1:
        return _Lane(settings).ask(distinct)
    answers: SimpleQueue[dict[int, LeaseTime] | BaseException] = SimpleQueue()

    def ask(share: Sequence[int]) -> None:
        try:
            answers.put(_Lane(settings).ask(share))
        except BaseException as error:
            answers.put(error)

    for number in range(lanes):
        # Daemons: Ctrl-C does not wait for a member that does not answer.
        threading.Thread(target=ask, args=(distinct[number::lanes],), daemon=True).start()
    found: dict[int, LeaseTime] = {}
    for _ in range(lanes):
        answer = answers.get()
        if isinstance(answer, BaseException):
            raise answer
        found.update(answer)
    return found
