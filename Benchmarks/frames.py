# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A blocking gRPC client that costs the machine little, so that the server can be measured: it
writes frames without a table of headers, and reads no more of an answer than its end."""

from __future__ import annotations

import socket
import ssl
import struct

from small_etcd import Fields, encode

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
END_STREAM = ACK = 1
END_HEADERS = 4
INITIAL_WINDOW_SIZE = 4
LARGEST_WINDOW = (1 << 31) - 1
GREETING = (
    PREFACE
    + b"\0\0\6\4\0\0\0\0\0"
    + struct.pack(">HI", INITIAL_WINDOW_SIZE, LARGEST_WINDOW)
    + b"\0\0\4\x08\0\0\0\0\0"
    + struct.pack(">I", LARGEST_WINDOW - 65535)
)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def header(name: bytes, value: bytes) -> bytes:
    """A literal without indexing (RFC 7541, 6.2.2). A length from 127 on takes more than a byte."""

    def text(data: bytes) -> bytes:
        if len(data) < 127:
            return bytes([len(data)]) + data
        rest, encoded = len(data) - 127, bytearray([127])
        while rest >= 128:
            encoded.append(rest & 127 | 128)
            rest >>= 7
        return bytes(encoded) + bytes([rest]) + data

    return b"\0" + text(name) + text(value)


def message(fields: Fields) -> bytes:
    body = encode(fields)
    return b"\0" + struct.pack(">I", len(body)) + body


class Client:
    """One connection. Requests are answered in any order; `wait` reads until so many have ended."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None, token: bytes = b"") -> None:
        self._token = token
        self._scheme = b"https" if tls else b"http"
        plain = socket.create_connection(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = tls.wrap_socket(plain, server_hostname="localhost") if tls else plain
        self._socket.sendall(GREETING)
        self._received = bytearray()
        self._stream = -1
        self._settled = False

    def close(self) -> None:
        self._socket.close()

    def _headers(self, path: bytes, flags: int) -> bytes:
        self._stream += 2
        fields = [
            (b":method", b"POST"),
            (b":scheme", self._scheme),
            (b":path", path),
            (b":authority", b"localhost"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        ]
        if self._token:
            fields.append((b"token", self._token))
        block = b"".join(header(*field) for field in fields)
        return frame(HEADERS, flags | END_HEADERS, self._stream, block)

    def ask(self, path: bytes, fields: Fields) -> None:
        """Sends a unary request."""
        self._socket.sendall(self._headers(path, 0) + self._data(message(fields), END_STREAM))

    def open(self, path: bytes, fields: Fields) -> int:
        """Opens a stream with a first message."""
        self._socket.sendall(self._headers(path, 0) + self._data(message(fields), 0))
        return self._stream

    def send(self, stream: int, fields: Fields) -> None:
        self._socket.sendall(frame(DATA, 0, stream, message(fields)))

    def probe(self) -> None:
        """An empty SETTINGS frame; its answer counts as one."""
        self._socket.sendall(frame(SETTINGS, 0, 0))

    def _data(self, body: bytes, flags: int) -> bytes:
        parts = [body[at : at + 16384] for at in range(0, len(body), 16384)]
        kinds = [0] * (len(parts) - 1) + [flags]
        return b"".join(
            frame(DATA, kind, self._stream, part) for kind, part in zip(kinds, parts, strict=True)
        )

    def wait(self, kind: int, count: int = 1) -> bytes:
        """Reads until so many answers have come: unary ones that have ended (HEADERS), messages of
        streams (DATA), or acknowledgements of SETTINGS. Returns the last payload of DATA."""
        payload = b""
        while count > 0:
            found, flags, body = self._next()
            if found == DATA:
                payload = body if kind == HEADERS else payload
            if found == kind == HEADERS:
                count -= flags & END_STREAM
            elif found == kind == SETTINGS:
                count -= flags & ACK
            elif found == kind == DATA and body:
                count -= 1
                payload = body
        return payload

    def _next(self) -> tuple[int, int, bytes]:
        while True:
            if len(self._received) >= 9:
                length_kind, flags, _ = struct.unpack(">IBI", self._received[:9])
                end = 9 + (length_kind >> 8)
                if len(self._received) >= end:
                    body = bytes(self._received[9:end])
                    del self._received[:end]
                    self._answer(length_kind & 255, flags, body)
                    return length_kind & 255, flags, body
            data = self._socket.recv(1 << 18)
            assert data, "etcd has closed the connection"
            self._received += data

    def _answer(self, kind: int, flags: int, body: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self._socket.sendall(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self._socket.sendall(frame(PING, ACK, 0, body))
