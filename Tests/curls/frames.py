# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A proxy that knows the frames of HTTP/2. It refuses and resets streams, and sends GOAWAY, as
proxies and servers do. Cleartext towards etcd; cleartext or TLS towards the host."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import hpack

DATA, HEADERS, RST_STREAM, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 7, 8
END_STREAM, END_HEADERS = 1, 4
PREFACE = 24
FRAME_HEADER = 9
LARGEST_STREAM = 2**31 - 1
CANCEL = 8
# Linux's struct linger: on, no time. close() sends RST.
RESET = struct.pack("ii", 1, 0)


@dataclass
class Fault:
    """Happens to the first streams on which more than `after` bytes of body go in one direction."""

    upward: bool
    act: Callable[[Link, int], None]
    after: int = 100_000
    times: int = 1
    # How often it has happened.
    hits: int = 0

    def strikes(self, upward: bool, passed: int) -> bool:
        return self.upward == upward and passed > self.after and self.hits < self.times


class Link:
    """One connection of a host, and the one to etcd that belongs to it."""

    def __init__(self, host: asyncio.StreamWriter, etcd: asyncio.StreamWriter) -> None:
        self.host, self.etcd = host, etcd
        self._socket: socket.socket = host.get_extra_info("socket")
        self.last_stream = 0
        # Streams that are over for the host, while etcd may not know yet.
        self.dead: set[int] = set()
        # Streams on which the host waits.
        self.open: set[int] = set()
        self.ends_when_idle = False
        self._decoder, self._encoder = hpack.Decoder(), hpack.Encoder()
        self._passed: dict[tuple[bool, int], int] = defaultdict(int)

    # Actions of a fault

    def tell_host(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self.host.write(frame(kind, flags, stream, payload))

    def goaway(self, last: int, code: int, text: bytes = b"") -> None:
        self.tell_host(GOAWAY, 0, 0, struct.pack(">II", last, code) + text)

    def reset(self, stream: int, code: int) -> None:
        self.tell_host(RST_STREAM, 0, stream, struct.pack(">I", code))
        self.bury(stream)

    def refuse(self, stream: int, *headers: tuple[str, str]) -> None:
        """The only headers of an answer, or its trailers."""
        block = self._encoder.encode(headers)
        self.tell_host(HEADERS, END_STREAM | END_HEADERS, stream, block)

    def bury(self, stream: int) -> None:
        """Nothing more of it reaches the host or etcd."""
        self.etcd.write(frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)))
        self.dead.add(stream)
        self.open.discard(stream)

    def end(self, *, reset: bool = False) -> None:
        if reset:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.host.transport.abort()
        else:
            self.host.close()
        self.etcd.transport.abort()

    # Traffic

    def from_host(
        self, kind: int, flags: int, stream: int, payload: bytes, fault: Fault | None
    ) -> None:
        if kind == HEADERS:
            self.last_stream = max(self.last_stream, stream)
            self.open.add(stream)
        if kind == DATA:
            self._strike(True, stream, len(payload), fault)
        if stream not in self.dead:
            self.etcd.write(frame(kind, flags, stream, payload))
        elif kind == DATA and payload:
            self.tell_host(WINDOW_UPDATE, 0, 0, struct.pack(">I", len(payload)))

    def from_etcd(
        self, kind: int, flags: int, stream: int, payload: bytes, fault: Fault | None
    ) -> None:
        if kind == HEADERS:
            # With a table of our own, so that headers may be left out or added.
            payload = self._encoder.encode(self._decoder.decode(payload, raw=True))
        if kind == DATA:
            self._strike(False, stream, len(payload), fault)
        if stream not in self.dead:
            self.tell_host(kind, flags, stream, payload)
        elif kind == DATA and payload:
            self.etcd.write(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", len(payload))))
        if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
            self.open.discard(stream)
        if self.ends_when_idle and not self.open:
            self.end()

    def _strike(self, upward: bool, stream: int, size: int, fault: Fault | None) -> None:
        self._passed[upward, stream] += size
        if (
            fault
            and stream not in self.dead
            and fault.strikes(upward, self._passed[upward, stream])
        ):
            fault.hits += 1
            fault.act(self, stream)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


class FrameProxy:
    """Forwards from a loopback port to `target`; `certificate`: speaks TLS with hosts."""

    def __init__(self, target: int, certificate: tuple[str, str] | None = None) -> None:
        self._target = target
        self._tls: ssl.SSLContext | None = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*certificate)
            self._tls.set_alpn_protocols(["h2"])
        self.fault: Fault | None = None
        self.accepted = 0
        self._links: set[Link] = set()
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        )
        port = self._server.sockets[0].getsockname()[1]
        self.endpoint = f"{'https' if certificate else 'http'}://127.0.0.1:{port}"
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        for link in list(self._links):
            link.end(reset=True)
        me = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not me]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            from_etcd, to_etcd = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        link = Link(writer, to_etcd)
        self._links.add(link)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            to_etcd.write(await reader.readexactly(PREFACE))
            await asyncio.gather(
                self._pump(reader, to_etcd, link.from_host),
                self._pump(from_etcd, writer, link.from_etcd),
            )
        self._links.discard(link)
        for one in (writer, to_etcd):
            one.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        take: Callable[[int, int, int, bytes, Fault | None], None],
    ) -> None:
        try:
            while True:
                head = await reader.readexactly(FRAME_HEADER)
                payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
                take(head[3], head[4], int.from_bytes(head[5:], "big"), payload, self.fault)
                await writer.drain()
        finally:
            writer.close()
