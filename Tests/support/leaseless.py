# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""etcd 3.7.0 and 3.7.1 as far as one answer goes: an HTTP/2 proxy before an older etcd that takes
the lease out of keys-only ranges, also of those in transactions (etcd issue 22209: the index, which
answers such a range, knows no leases; server/storage/mvcc/kvstore_txn.go, `FastKeysOnly`).
Everything else goes through as it is."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from small_etcd import varint

GRPC_PREFIX = 5
RANGE = b"/etcdserverpb.KV/Range"
TXN = b"/etcdserverpb.KV/Txn"
LARGEST_WINDOW = (1 << 31) - 1


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(message: bytes) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Each field: its number, its value if that is a number, else its bytes, and its encoding
    (https://protobuf.dev/programming-guides/encoding/)."""
    at = 0
    while at < len(message):
        start = at
        tag, at = _varint(message, at)
        value, at = _varint(message, at)
        body = b""
        if tag & 7 == 2:
            body = message[at : at + value]
            at += value
        yield tag >> 3, value, body, message[start:at]


def _bytes_field(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(body)) + body


def is_keys_only(range_request: bytes) -> bool:
    """etcd api/etcdserverpb/rpc.proto: RangeRequest.keys_only is field 8."""
    return any(number == 8 and value != 0 for number, value, _, _ in fields(range_request))


def without_lease(range_response: bytes) -> bytes:
    """RangeResponse.kvs is field 2; mvccpb.KeyValue.lease is field 6."""
    written = bytearray()
    for number, _, body, whole in fields(range_response):
        if number == 2:
            kv = b"".join(part for name, _, _, part in fields(body) if name != 6)
            whole = _bytes_field(2, kv)
        written += whole
    return bytes(written)


@dataclass
class Operation:
    """The keys-only ranges of a transaction; other operations pass unchanged."""

    is_keys_only: bool = False
    inner: Transaction | None = None


@dataclass
class Transaction:
    """TxnRequest: success is field 2, failure field 3. RequestOp: a range is field 1, a transaction
    field 4."""

    success: list[Operation] = field(default_factory=list)
    failure: list[Operation] = field(default_factory=list)

    @staticmethod
    def read(request: bytes) -> Transaction:
        transaction = Transaction()
        for number, _, body, _ in fields(request):
            if number in (2, 3):
                branch = transaction.success if number == 2 else transaction.failure
                branch.append(_operation(body))
        return transaction

    @property
    def concerns(self) -> bool:
        return any(
            each.is_keys_only or (each.inner is not None and each.inner.concerns)
            for each in self.success + self.failure
        )

    def rewrite(self, response: bytes) -> bytes:
        """TxnResponse: succeeded is field 2, responses field 3. ResponseOp has the numbers of
        RequestOp."""
        succeeded = any(number == 2 and value for number, value, _, _ in fields(response))
        operations = iter(self.success if succeeded else self.failure)
        written = bytearray()
        for number, _, body, whole in fields(response):
            if number == 3:
                whole = _bytes_field(3, _rewrite_operation(next(operations), body))
            written += whole
        return bytes(written)


def _operation(request: bytes) -> Operation:
    operation = Operation()
    for number, _, body, _ in fields(request):
        if number == 1:
            operation.is_keys_only = is_keys_only(body)
        elif number == 4:
            operation.inner = Transaction.read(body)
    return operation


def _rewrite_operation(operation: Operation, response: bytes) -> bytes:
    written = bytearray()
    for number, _, body, whole in fields(response):
        if number == 1 and operation.is_keys_only:
            whole = _bytes_field(1, without_lease(body))
        elif number == 4 and operation.inner is not None:
            whole = _bytes_field(4, operation.inner.rewrite(body))
        written += whole
    return bytes(written)


def rewritten(path: bytes, request: bytes, response: bytes) -> bytes:
    """The messages of a call as its client is to have its answer."""
    if path == RANGE:
        return without_lease(response) if is_keys_only(request) else response
    return Transaction.read(request).rewrite(response)


def concerns(path: bytes, request: bytes) -> bool:
    if path == RANGE:
        return is_keys_only(request)
    return path == TXN and Transaction.read(request).concerns


@dataclass
class Outgoing:
    """Data that a side has yet to get on a stream; with each piece, how many bytes to acknowledge
    to the other side once it was sent."""

    chunks: deque[tuple[bytes, int]] = field(default_factory=deque)
    trailers: list[tuple[bytes, bytes]] | None = None
    ends: bool = False


@dataclass
class Call:
    client: int
    server: int
    path: bytes
    request: bytearray = field(default_factory=bytearray)
    response: bytearray = field(default_factory=bytearray)
    # Whether to rewrite the answer; known when the request has ended.
    concerns: bool = False
    has_asked: bool = False
    has_answered: bool = False

    @property
    def may_concern(self) -> bool:
        return self.path in (RANGE, TXN)


class Gone(Exception):
    """One of the two has ended the connection."""


class Side:
    """The connection to a client, or that to the server."""

    def __init__(self, sock: socket.socket, is_server: bool) -> None:
        self.sock = sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(5.0)
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=not is_server,
                validate_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_inbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        if is_server:
            self.h2.local_settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = LARGEST_WINDOW
        self.h2.local_settings[h2.settings.SettingCodes.ENABLE_PUSH] = 0
        self.h2.initiate_connection()
        self.outgoing: dict[int, Outgoing] = {}

    def flush(self) -> None:
        if data := self.h2.data_to_send():
            try:
                self.sock.sendall(data)
            except OSError as error:
                raise Gone from error

    def receive(self) -> list[h2.events.Event]:
        try:
            data = self.sock.recv(1 << 16)
        except OSError as error:
            raise Gone from error
        if not data:
            raise Gone
        return self.h2.receive_data(data)

    def acknowledge(self, stream: int, count: int) -> None:
        # A stream that has ended meanwhile needs no window; its connection does.
        with contextlib.suppress(h2.exceptions.StreamClosedError):
            if count:
                self.h2.acknowledge_received_data(count, stream)

    def queue(self, stream: int, data: bytes, count: int) -> None:
        self.outgoing.setdefault(stream, Outgoing()).chunks.append((data, count))

    def end(self, stream: int, trailers: list[tuple[bytes, bytes]] | None = None) -> None:
        outgoing = self.outgoing.setdefault(stream, Outgoing())
        outgoing.ends = True
        outgoing.trailers = trailers or outgoing.trailers

    def send(self, stream: int) -> int:
        """Sends as much as flow control allows. Returns how many bytes to acknowledge to the other
        side."""
        outgoing = self.outgoing[stream]
        acknowledged = 0
        try:
            while outgoing.chunks:
                data, count = outgoing.chunks[0]
                room = self.h2.local_flow_control_window(stream)
                size = min(room, self.h2.max_outbound_frame_size, len(data))
                if size == 0 and data:
                    return acknowledged
                self.h2.send_data(stream, data[:size])
                if size < len(data):
                    outgoing.chunks[0] = (data[size:], count)
                    continue
                outgoing.chunks.popleft()
                acknowledged += count
            if outgoing.ends:
                self._finish(stream, outgoing)
        except (h2.exceptions.StreamClosedError, h2.exceptions.NoSuchStreamError):
            acknowledged += sum(count for _, count in outgoing.chunks)
            del self.outgoing[stream]
        return acknowledged

    def _finish(self, stream: int, outgoing: Outgoing) -> None:
        if outgoing.trailers is None:
            self.h2.end_stream(stream)
        else:
            self.h2.send_headers(stream, outgoing.trailers, end_stream=True)
        del self.outgoing[stream]


class Pair:
    """A connection of a client and the one to the server that belongs to it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = Side(client, is_server=True)
        self.server = Side(server, is_server=False)
        self._by_client: dict[int, Call] = {}
        self._by_server: dict[int, Call] = {}
        self._flush()

    def _flush(self) -> None:
        for side, other in ((self.server, self.client), (self.client, self.server)):
            for stream in list(side.outgoing):
                call = self._call(side, stream)
                count = side.send(stream)
                if call is not None:
                    other.acknowledge(call.client if other is self.client else call.server, count)
                    if stream not in side.outgoing:
                        self._ended(side, call)
        self.server.flush()
        self.client.flush()

    def _call(self, side: Side, stream: int) -> Call | None:
        return (self._by_client if side is self.client else self._by_server).get(stream)

    def _ended(self, side: Side, call: Call) -> None:
        if side is self.server:
            call.has_asked = True
        else:
            call.has_answered = True
        if call.has_asked and call.has_answered:
            self._forget(call)

    def serve(self, side: Side) -> None:
        """Something has come from a side."""
        try:
            for event in side.receive():
                if isinstance(event, h2.events.ConnectionTerminated):
                    raise Gone
                if side is self.client:
                    self._from_client(event)
                else:
                    self._from_server(event)
            self._flush()
        except h2.exceptions.ProtocolError as error:
            raise Gone from error

    # Requests

    def _from_client(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            assert event.headers is not None and event.stream_id is not None
            path = next(
                (_raw(value) for name, value in event.headers if _raw(name) == b":path"), b""
            )
            call = Call(event.stream_id, self.server.h2.get_next_available_stream_id(), path)
            self._by_client[call.client] = self._by_server[call.server] = call
            self.server.h2.send_headers(call.server, event.headers)
            return
        stream = getattr(event, "stream_id", None) or 0
        found = self._by_client.get(stream)
        if found is None:
            if isinstance(event, h2.events.DataReceived):
                self.client.acknowledge(stream, event.flow_controlled_length or 0)
            return
        call = found
        if isinstance(event, h2.events.DataReceived):
            assert event.data is not None and event.flow_controlled_length is not None
            if call.may_concern:
                call.request += event.data
            self.server.queue(call.server, event.data, event.flow_controlled_length)
        elif isinstance(event, h2.events.StreamEnded):
            call.concerns = concerns(call.path, bytes(call.request[GRPC_PREFIX:]))
            self.server.end(call.server)
        elif isinstance(event, h2.events.StreamReset):
            self._reset(self.server, call.server, event)
            self._forget(call)

    @staticmethod
    def _reset(side: Side, stream: int, event: h2.events.StreamReset) -> None:
        side.outgoing.pop(stream, None)
        with contextlib.suppress(h2.exceptions.ProtocolError):
            side.h2.reset_stream(stream, event.error_code or 0)

    def _forget(self, call: Call) -> None:
        self._by_client.pop(call.client, None)
        self._by_server.pop(call.server, None)

    # Answers

    def _from_server(self, event: h2.events.Event) -> None:
        call = self._by_server.get(getattr(event, "stream_id", None) or 0)
        if call is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            self._headers(call, event)
        elif isinstance(event, h2.events.DataReceived):
            assert event.data is not None and event.flow_controlled_length is not None
            if call.concerns:
                call.response += event.data
                self.server.acknowledge(call.server, event.flow_controlled_length)
            else:
                self.client.queue(call.client, event.data, event.flow_controlled_length)
        elif isinstance(event, h2.events.TrailersReceived):
            self._answer(call)
            assert event.headers is not None
            self.client.end(call.client, _headers(event.headers))
        elif isinstance(event, h2.events.StreamEnded):
            self._answer(call)
            self.client.end(call.client)
        elif isinstance(event, h2.events.StreamReset):
            self._flush()
            self._reset(self.client, call.client, event)
            self._forget(call)

    def _headers(self, call: Call, event: h2.events.ResponseReceived) -> None:
        """gRPC tells an error in headers that end the stream."""
        assert event.headers is not None
        if event.stream_ended is None:
            self.client.h2.send_headers(call.client, event.headers)
        else:
            self.client.end(call.client, _headers(event.headers))

    def _answer(self, call: Call) -> None:
        """The whole of an answer that must be rewritten is there."""
        if not call.response:
            return
        message = rewritten(
            call.path, bytes(call.request[GRPC_PREFIX:]), bytes(call.response[GRPC_PREFIX:])
        )
        assert call.response[0] == 0, "etcd compresses its answers"
        self.client.queue(call.client, b"\0" + len(message).to_bytes(4, "big") + message, 0)
        call.response.clear()

    def close(self) -> None:
        for side in (self.client, self.server):
            with contextlib.suppress(OSError, Gone):
                side.flush()
            side.sock.close()


def _raw(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _headers(headers: Iterable[tuple[str | bytes, str | bytes]]) -> list[tuple[bytes, bytes]]:
    return [(_raw(name), _raw(value)) for name, value in headers]


class LeaselessProxy:
    """Listens on a loopback port of its own; each connection to it becomes one to `target`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(1024)
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._pairs: dict[socket.socket, tuple[Pair, Side]] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopping = True
        self._thread.join()
        for pair in {id(pair): pair for pair, _ in self._pairs.values()}.values():
            pair.close()
        self._listener.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select(0.05):
                assert isinstance(key.fileobj, socket.socket)
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj in self._pairs:
                    self._serve(key.fileobj)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # it is gone already
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=2.0)
        except OSError:
            client.close()
            return
        try:
            pair = Pair(client, server)
        except Gone:
            client.close()
            server.close()
            return
        for side in (pair.client, pair.server):
            self._pairs[side.sock] = (pair, side)
            self._selector.register(side.sock, selectors.EVENT_READ)

    def _serve(self, sock: socket.socket) -> None:
        pair, side = self._pairs[sock]
        try:
            pair.serve(side)
        except Gone:
            for each in (pair.client, pair.server):
                del self._pairs[each.sock]
                self._selector.unregister(each.sock)
            pair.close()
