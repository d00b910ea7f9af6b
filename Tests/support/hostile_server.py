# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A server at etcd's port that misbehaves in one way until the test makes it behave: then a real
etcd answers behind the same port."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from small_etcd import Fields, SmallEtcd, Values, Watch, data, decode, encode, number, varint

Header = tuple[str | bytes, str | bytes]
FRAME_PREFIX = 5


def framed(payload: bytes, flag: int = 0, length: int | None = None) -> bytes:
    """gRPC's prefix and a message; the prefix may lie."""
    return bytes([flag]) + (len(payload) if length is None else length).to_bytes(4, "big") + payload


class Gone(Exception):
    """The connection is over."""


@dataclass
class Call:
    """A request: one of a stream of them, or the only one."""

    link: Link
    stream: int
    method: str
    request: Values

    @property
    def is_stream(self) -> bool:
        return self.method in ("Watch", "LeaseKeepAlive")


@dataclass
class Case:
    """One way to misbehave. Each function is called in its connection's thread."""

    # A connection was accepted: what is done with it, at once, before it is closed.
    at_once: Callable[[socket.socket], None] | None = None
    # Likewise, in its thread.
    accepted: Callable[[Link], None] | None = None
    # A request came. True: it was dealt with.
    request: Callable[[Call], bool] | None = None
    # Chooses the answer; None sends nothing.
    answer: Callable[[Call, Fields], Fields | bytes | None] | None = None
    # Time goes by; called as often as the connection takes it.
    idle: Callable[[Link], None] | None = None
    # The host must read unsolicited data: it ticks as often.
    floods: bool = False
    # Etcd wants to know who asks.
    authenticates: bool = False
    # Requests per second that are the host's own doing, beside what is usual.
    more_requests: int = 0
    # Seconds that it takes until it is clear whether the host copes.
    seconds: float = 1.0
    # The case is none before this has been called often enough.
    least_hits: int = 1
    # So many ways lead to it.
    endpoints: int = 1
    # Connections of both hosts together.
    least_connects: int = 2


class Link:
    """One connection of a host."""

    def __init__(self, server: HostileServer, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.etcd = server.etcd
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = h2.config.H2Configuration(
            client_side=False,
            validate_inbound_headers=False,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(config)
        self.methods: dict[int, str] = {}
        self.bodies: dict[int, bytearray] = {}
        # Streams whose answer has begun.
        self.begun: set[int] = set()
        self.watches: dict[tuple[int, int], Watch] = {}
        self.pending: deque[h2.events.Event] = deque()
        self.state: dict[str, Any] = {}
        self.is_open = True

    # Actions of a case

    def hit(self) -> None:
        """It has misbehaved once more."""
        self.server.hits += 1

    def raw(self, data: bytes) -> None:
        """Bytes as they are, behind what HTTP/2 has to say."""
        self.flush()
        self.send(data)

    def frame(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
        length = len(payload).to_bytes(3, "big")
        return length + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    def close(self, how: str = "close") -> None:
        if how == "reset":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.is_open = False
        raise Gone

    def hold(self) -> None:
        """Reads and says nothing."""
        while True:
            self.receive(0.2)

    def headers(
        self,
        stream: int,
        *more: Header,
        status: str = "200",
        content_type: str = "application/grpc",
        end: bool = False,
    ) -> None:
        first: list[Header] = [(":status", status), ("content-type", content_type)]
        self.begun.add(stream)
        self.h2.send_headers(stream, [*first, *more], end_stream=end)
        self.flush()

    def begin(self, stream: int) -> None:
        if stream not in self.begun:
            self.headers(stream)

    def plain_headers(self, stream: int, *headers: tuple[bytes, bytes]) -> None:
        """The last headers of a stream, however long: literals that no table remembers (RFC 7541,
        section 6.2.2). To compress them in Python would take seconds."""
        block = b""
        for name, value in headers:
            # A length over 126 goes on as a varint does.
            prefix = b"\x7f" + varint(len(value) - 127) if len(value) > 126 else bytes([len(value)])
            block += bytes([0, len(name)]) + name + prefix + value
        pieces = [block[at : at + 16384] for at in range(0, len(block), 16384)]
        sent = b""
        for at, piece in enumerate(pieces):
            flags = (4 if at + 1 == len(pieces) else 0) | (1 if at == 0 else 0)
            sent += self.frame(1 if at == 0 else 9, flags, stream, piece)
        self.raw(sent)

    def trailers(self, stream: int, *more: Header, status: str = "0") -> None:
        self.h2.send_headers(stream, [("grpc-status", status), *more], end_stream=True)
        self.flush()

    def refuse(self, stream: int, status: int, text: str) -> None:
        """As grpc-go does: in the only headers."""
        self.begun.add(stream)
        self.headers(stream, ("grpc-status", str(status)), ("grpc-message", text), end=True)

    def body(self, stream: int, data: bytes) -> None:
        """Waits for the window where it must."""
        sent = 0
        while sent < len(data):
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if room == 0:
                self.flush()
                self.take(0.2)
                continue
            self.h2.send_data(stream, data[sent : sent + room])
            sent += room
            self.flush()
        self.flush()

    def reply(self, call: Call, answer: Fields | bytes) -> None:
        payload = answer if isinstance(answer, bytes) else encode(answer)
        self.begin(call.stream)
        self.body(call.stream, framed(payload))
        if not call.is_stream:
            self.trailers(call.stream)

    def reset(self, stream: int, code: int) -> None:
        self.h2.reset_stream(stream, h2.errors.ErrorCodes(code))
        self.flush()

    # The connection

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self.check()
            try:
                view = view[self.sock.send(view) :]
            except TimeoutError:
                continue
            except OSError as error:
                raise Gone from error

    def flush(self) -> None:
        if data := self.h2.data_to_send():
            self.send(data)

    def check(self) -> None:
        if self.server.behaves or self.server.is_closed:
            raise Gone

    def receive(self, seconds: float) -> bytes:
        """The bytes received; empty: none in this time."""
        self.check()
        self.sock.settimeout(max(seconds, 0.0001))
        try:
            data = self.sock.recv(1 << 16)
        except TimeoutError:
            return b""
        except OSError as error:
            raise Gone from error
        finally:
            self.sock.settimeout(0.5)
        if not data:
            raise Gone
        return data

    def take(self, seconds: float) -> None:
        """Reads what has come and keeps the events of it."""
        if data := self.receive(seconds):
            try:
                self.pending.extend(self.h2.receive_data(data))
            except h2.exceptions.ProtocolError as error:
                raise Gone from error

    def run(self) -> None:
        case = self.server.case
        try:
            if case.accepted:
                case.accepted(self)
            self.h2.initiate_connection()
            self.flush()
            while True:
                self.take(0.002 if case.idle else 0.01)
                while self.pending:
                    self.happened(self.pending.popleft())
                self.deliver()
                if case.idle:
                    case.idle(self)
                self.flush()
        except (Gone, h2.exceptions.ProtocolError):
            pass

    def happened(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            path = dict(event.headers)[b":path"].decode()
            self.methods[event.stream_id] = path.rpartition("/")[2]
            self.bodies[event.stream_id] = bytearray()
        elif isinstance(event, h2.events.DataReceived):
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self.bodies[event.stream_id] += event.data
            self.read_messages(event.stream_id)

    def read_messages(self, stream: int) -> None:
        body = self.bodies[stream]
        while len(body) >= FRAME_PREFIX:
            length = int.from_bytes(body[1:FRAME_PREFIX], "big")
            if len(body) < FRAME_PREFIX + length:
                return
            message = bytes(body[FRAME_PREFIX : FRAME_PREFIX + length])
            del body[: FRAME_PREFIX + length]
            self.server.requests += 1
            call = Call(self, stream, self.methods[stream], decode(message))
            with contextlib.suppress(h2.exceptions.StreamClosedError):
                self.serve(call)
                self.deliver()

    def serve(self, call: Call) -> None:
        case = self.server.case
        if case.request and case.request(call):
            return
        answer: Fields | bytes | None = (
            self.watch(call)
            if call.method == "Watch"
            else self.etcd.answer(call.method, call.request)
        )
        if case.answer and isinstance(answer, list):
            answer = case.answer(call, answer)
        if answer is not None:
            self.reply(call, answer)

    # Watches

    def watch(self, call: Call) -> Fields | None:
        if 2 in call.request:
            watch_id = number(decode(data(call.request, 2)), 1)
            self.watches.pop((call.stream, watch_id), None)
            return [*self.etcd.header(), (2, watch_id), (4, 1)]
        if 1 not in call.request:
            return None
        create = decode(data(call.request, 1))
        watch_id = number(create, 7)
        watch = Watch(data(create, 1), data(create, 2), number(create, 3))
        self.watches[call.stream, watch_id] = watch
        return [*self.etcd.header(), (2, watch_id), (3, 1)]

    def deliver(self) -> None:
        for (stream, watch_id), watch in list(self.watches.items()):
            if events := self.etcd.events(watch):
                self.tell(stream, watch_id, events)

    def tell(self, stream: int, watch_id: int, more: Fields) -> None:
        call = Call(self, stream, "WatchEvents", {})
        fields: Fields | bytes | None = [*self.etcd.header(), (2, watch_id), *more]
        if self.server.case.answer and isinstance(fields, list):
            fields = self.server.case.answer(call, fields)
        if fields is None:
            return
        payload = fields if isinstance(fields, bytes) else encode(fields)
        with contextlib.suppress(h2.exceptions.StreamClosedError, KeyError):
            self.begin(stream)
            self.body(stream, framed(payload))


class HostileServer:
    """Misbehaves as `case` says; after `behave` the etcd at `port` answers here."""

    def __init__(self, case: Case, port: int) -> None:
        self.case = case
        self.etcd = SmallEtcd()
        self.behaves = False
        self.is_closed = False
        self.accepted = 0
        self.requests = 0
        self.hits = 0
        # Frames that nobody asked for.
        self.unasked = 0
        self._etcd_port = port
        self._threads: list[threading.Thread] = []
        self._listeners = [socket.socket() for _ in range(case.endpoints)]
        for listener in self._listeners:
            listener.bind(("127.0.0.1", 0))
            listener.listen(64)
            listener.settimeout(0.1)
            self._start(self._accept, listener)
        ports = [listener.getsockname()[1] for listener in self._listeners]
        self.endpoints = ",".join(f"http://127.0.0.1:{port}" for port in ports)

    def __enter__(self) -> HostileServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closed = True
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a connection of the hostile server does not end"
        for listener in self._listeners:
            listener.close()

    def behave(self) -> None:
        self.behaves = True

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while not self.is_closed:
            try:
                sock, _ = listener.accept()
            except TimeoutError:
                continue
            self.accepted += 1
            if self.case.at_once and not self.behaves:
                self.hits += 1
                with sock, contextlib.suppress(OSError):
                    self.case.at_once(sock)
                continue
            self._start(self._forward if self.behaves else self._misbehave, sock)

    def _misbehave(self, sock: socket.socket) -> None:
        with sock:
            Link(self, sock).run()

    def _forward(self, sock: socket.socket) -> None:
        with sock, socket.create_connection(("127.0.0.1", self._etcd_port)) as server:
            others = {sock: server, server: sock}
            with selectors.DefaultSelector() as selector:
                for side in others:
                    selector.register(side, selectors.EVENT_READ)
                while not self.is_closed:
                    for key, _ in selector.select(0.1):
                        assert isinstance(key.fileobj, socket.socket)
                        try:
                            data = key.fileobj.recv(1 << 16)
                            others[key.fileobj].sendall(data)
                        except OSError:
                            return
                        if not data:
                            return


def wait_until(is_reached: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not is_reached():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
