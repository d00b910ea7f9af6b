# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Servers that misbehave in TCP, HTTP/2 or gRPC."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable

import h2.settings

from hostile_server import Call, Case, Link, framed
from small_etcd import encode

# Frame types and flags of RFC 9113, section 6.
DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING = 0, 1, 2, 3, 4, 5, 6
GOAWAY, WINDOW, CONTINUATION = 7, 8, 9
END_STREAM = 1
PADDED = 8
EMPTY_SETTINGS = b"\0\0\0\4\0\0\0\0\0"


def accepting(do: Callable[[Link], None], **more: object) -> Case:
    def accepted(link: Link) -> None:
        link.hit()
        do(link)

    return Case(accepted=accepted, **more)  # type: ignore[arg-type]


def answering(do: Callable[[Call], None], **more: object) -> Case:
    """Instead of what etcd would answer."""

    def request(call: Call) -> bool:
        call.link.hit()
        do(call)
        return True

    return Case(request=request, **more)  # type: ignore[arg-type]


def flooding(do: Callable[[Link], int], **more: object) -> Case:
    """Beside right answers: sends so many frames as often as it can."""

    def idle(link: Link) -> None:
        link.hit()
        link.server.unasked += do(link)

    return Case(idle=idle, floods=True, **more)  # type: ignore[arg-type]


def says(data: bytes) -> Callable[[Link], None]:
    """Something that is not HTTP/2, and then nothing more."""

    def accepted(link: Link) -> None:
        link.receive(1)
        link.send(data)
        link.hold()

    return accepted


def http1(status: str, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, "content-length: 2", "", "ok"]
    return "\r\n".join(lines).encode()


def reads(sock: socket.socket) -> None:
    sock.recv(4096)


def noise_without_end(link: Link) -> None:
    noise = random.Random(1)
    while True:
        link.send(noise.randbytes(4096))
        link.server.unasked += 1


def noise_between_frames(link: Link) -> None:
    link.hit()
    link.raw(random.Random(link.server.hits).randbytes(64))


def goaway(link: Link, last: int = 0, code: int = 0) -> bytes:
    return link.frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big"))


def goaway_at_once(link: Link) -> None:
    link.raw(EMPTY_SETTINGS + goaway(link))
    link.hold()


def goaway_after_each(call: Call) -> None:
    call.link.reply(call, payload(call))
    call.link.raw(goaway(call.link, call.stream))


def settings(**values: int) -> Callable[[Link], None]:
    def accepted(link: Link) -> None:
        codes = {h2.settings.SettingCodes[name.upper()]: value for name, value in values.items()}
        payload = b"".join(
            int(code).to_bytes(2, "big") + value.to_bytes(4, "big") for code, value in codes.items()
        )
        link.send(link.frame(SETTINGS, 0, 0, payload))

    return accepted


def one_byte_at_a_time(link: Link) -> None:
    for byte in EMPTY_SETTINGS * 1000:
        link.send(bytes([byte]))
        link.server.unasked += 1
        link.receive(0.02)
    link.hold()


def frames(*make: tuple[int, int, int, bytes]) -> Callable[[Link], None]:
    """Frames of type, flags, stream and payload behind the settings."""

    def accepted(link: Link) -> None:
        link.raw(EMPTY_SETTINGS + b"".join(link.frame(*frame) for frame in make))
        link.hold()

    return accepted


def continuations_without_end(link: Link) -> None:
    link.raw(EMPTY_SETTINGS + link.frame(HEADERS, 0, 1, b"\x88"))
    while True:
        # Literal headers that must not be indexed.
        link.send(link.frame(CONTINUATION, 0, 1, b"\0\1a\1b" * 1000))
        link.server.unasked += 1


def empty_continuations_without_end(link: Link) -> None:
    link.raw(EMPTY_SETTINGS + link.frame(HEADERS, 0, 1, b"\x88"))
    while True:
        link.send(link.frame(CONTINUATION, 0, 1) * 1000)
        link.server.unasked += 1


def interim_answers_without_end(call: Call) -> None:
    # ':status: 103' as a literal that no table remembers.
    block = b"\0\x07:status\x03103"
    while True:
        call.link.raw(call.link.frame(HEADERS, 4, call.stream, block) * 500)
        call.link.server.unasked += 1
        call.link.receive(0.001)


def pushes(call: Call) -> None:
    call.link.raw(call.link.frame(PUSH, 4, call.stream, b"\0\0\0\2\x82"))


def shuts_window(call: Call) -> None:
    """After the first answer nothing may be sent any more, and the server says nothing else."""
    call.link.reply(call, payload(call))
    call.link.raw(call.link.frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0"))


def resets_what_is_closed(link: Link) -> int:
    stream = max(link.begun, default=1)
    link.raw(link.frame(RESET, 0, stream, b"\0\0\0\x08") * 200)
    return 200


def refused(status: int, text: str = "no") -> Case:
    return answering(lambda call: call.link.refuse(call.stream, status, text))


def http_status(status: str, content_type: str = "text/html") -> Case:
    def answer(call: Call) -> None:
        link = call.link
        if call.stream in link.begun:
            return
        link.headers(
            call.stream,
            ("location", "http://127.0.0.1:1/"),
            status=status,
            content_type=content_type,
        )
        link.body(call.stream, b"<html>")
        link.h2.end_stream(call.stream)

    return answering(answer)


def with_status(*headers: tuple[str | bytes, str | bytes]) -> Case:
    """An answer whose end is this."""

    def answer(call: Call) -> None:
        link = call.link
        link.begin(call.stream)
        link.body(call.stream, framed(payload(call)))
        if headers:
            link.h2.send_headers(call.stream, list(headers), end_stream=True)
        else:
            link.h2.end_stream(call.stream)

    return answering(answer)


def payload(call: Call) -> bytes:
    if call.method == "Watch":
        return encode(call.link.etcd.header())
    return encode(call.link.etcd.answer(call.method, call.request))


def with_body(make: Callable[[bytes], bytes], ends: bool = True) -> Case:
    """An answer with this instead of the one framed message."""

    def answer(call: Call) -> None:
        call.link.begin(call.stream)
        call.link.body(call.stream, make(payload(call)))
        if ends and not call.is_stream:
            call.link.trailers(call.stream)

    return answering(answer)


def drip(call: Call) -> None:
    """The answer, a byte at a time; meanwhile nothing else."""
    call.link.begin(call.stream)
    for byte in framed(payload(call)):
        call.link.body(call.stream, bytes([byte]))
        call.link.server.unasked += 1
        call.link.take(0.05)
    if not call.is_stream:
        call.link.trailers(call.stream)


def ends_streams(call: Call) -> bool:
    """Streams end with success as soon as something is asked on them."""
    if not call.is_stream:
        return False
    call.link.hit()
    call.link.begin(call.stream)
    call.link.trailers(call.stream)
    return True


def resets_streams(call: Call) -> bool:
    if not call.is_stream:
        return False
    call.link.hit()
    call.link.reset(call.stream, 8)
    return True


def raw_flood(kind: int, stream: int, payload: bytes, count: int = 200) -> Case:
    def send(link: Link) -> int:
        link.raw(link.frame(kind, 0, stream, payload) * count)
        return count

    return flooding(send)


def empty_data(link: Link) -> int:
    open_streams = [s for s in link.begun if link.methods.get(s) in ("Watch", "LeaseKeepAlive")]
    for stream in open_streams:
        link.raw(link.frame(DATA, 0, stream) * 200)
    return 200 * len(open_streams)


def padding(link: Link) -> int:
    """Frames that are nothing but padding: they use up the window."""
    sent = 0
    for stream in link.begun:
        is_open = link.methods.get(stream) in ("Watch", "LeaseKeepAlive")
        while is_open and link.h2.local_flow_control_window(stream) >= 256 and sent < 50:
            link.h2.send_data(stream, b"", pad_length=255)
            sent += 1
    return sent


def many_headers(call: Call) -> None:
    link = call.link
    more = [(f"x-{number}", "y" * 100) for number in range(2000)]
    if call.stream not in link.begun:
        link.headers(call.stream, *more)
    link.body(call.stream, framed(payload(call)))
    if not call.is_stream:
        link.trailers(call.stream)


def large_trailer(size: int) -> Case:
    text = b"%0a%ff%" * (size // 7)

    def answer(call: Call) -> None:
        call.link.begin(call.stream)
        call.link.plain_headers(call.stream, (b"grpc-status", b"14"), (b"grpc-message", text))

    return answering(answer)


def interim_answers(call: Call) -> None:
    if call.stream not in call.link.begun:
        for _ in range(200):
            call.link.h2.send_headers(call.stream, [(":status", "103"), ("x", "y")])
        call.link.flush()
    call.link.reply(call, payload(call))


CASES: dict[str, Case] = {
    # TCP
    # Often: whether these make a loop spin is a matter of microseconds in each attempt.
    "closes at once": Case(at_once=lambda sock: None, endpoints=8),
    "reads, then closes": Case(at_once=reads, endpoints=8),
    "garbage, closes": Case(at_once=lambda sock: sock.sendall(b"garbage\r\n\r\n"), endpoints=8),
    "settings, closes": Case(at_once=lambda sock: sock.sendall(EMPTY_SETTINGS), endpoints=8),
    "resets at once": accepting(lambda link: link.close("reset")),
    "says nothing": accepting(lambda link: link.hold()),
    # Not HTTP/2
    "HTTP/1.1 ok": accepting(says(http1("200 OK"))),
    "HTTP/1.1 not found": accepting(says(http1("404 Not Found"))),
    "HTTP/1.1 redirect": accepting(says(http1("302 Found", "location: http://127.0.0.1:1/"))),
    "HTTP/1.1 upgrade": accepting(says(http1("101 Switching Protocols", "upgrade: h2c"))),
    "HTTP/1.1 continue": accepting(says(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)),
    "garbage": accepting(says(b"\x15\x03\x03\x00\x02\x02\x28" * 20)),
    "noise without end": accepting(noise_without_end, floods=True),
    "a byte at a time": accepting(one_byte_at_a_time, floods=True),
    # HTTP/2
    "settings, nothing": accepting(frames()),
    "settings of other length": accepting(frames((SETTINGS, 0, 0, b"\0\4"))),
    "no streams allowed": accepting(settings(max_concurrent_streams=0)),
    "one stream allowed": accepting(settings(max_concurrent_streams=1)),
    "no window": accepting(settings(initial_window_size=0)),
    "window over its limit": accepting(settings(initial_window_size=0xFFFFFFFF)),
    "frame size over its limit": accepting(settings(max_frame_size=0xFFFFFFFF)),
    "goaway at once": accepting(goaway_at_once),
    "goaway after each answer": answering(goaway_after_each),
    "frame of 16 MiB": accepting(frames((DATA, 0, 1, b"x" * 0xFFFFFF))),
    "push": accepting(frames((PUSH, 4, 1, b"\0\0\0\2\x82"))),
    "unknown frames": accepting(frames(*[(200, 255, 1, b"x" * 100)] * 100)),
    "continuations without end": accepting(continuations_without_end, floods=True),
    "empty continuations without end": accepting(empty_continuations_without_end, floods=True),
    "33 settings in a frame": accepting(frames((SETTINGS, 0, 0, b"\0\x0f\0\0\0\1" * 33))),
    "push on a request": answering(pushes),
    "window shut after an answer": answering(shuts_window),
    "interim answers without end": answering(interim_answers_without_end, floods=True),
    "header block that cannot be read": accepting(frames((HEADERS, 4, 1, b"\xff" * 64))),
    "headers of stream 0": accepting(frames((HEADERS, 4, 0, b"\x88"))),
    "data of a stream not opened": accepting(frames((DATA, 0, 99, b"x"))),
    "window of 2^31": accepting(frames((WINDOW, 0, 0, b"\x7f\xff\xff\xff"))),
    "noise between frames": Case(idle=noise_between_frames),
    **{
        f"resets requests with {code}": answering(
            lambda call, code=code: call.link.reset(call.stream, code)  # type: ignore[misc]
        )
        for code in (0, 1, 5, 7, 8, 11)
    },
    "resets streams": Case(request=resets_streams),
    # Floods beside right answers
    "flood of PING": raw_flood(PING, 0, b"\0" * 8),
    "flood of SETTINGS": raw_flood(SETTINGS, 0, b""),
    "flood of WINDOW_UPDATE": raw_flood(WINDOW, 0, b"\0\0\0\1"),
    "flood of unknown frames": raw_flood(250, 0, b""),
    "flood of PRIORITY": raw_flood(PRIORITY, 1, b"\0\0\0\0\x10"),
    "flood of RST_STREAM": flooding(resets_what_is_closed),
    "flood of empty DATA": flooding(empty_data),
    "flood of padding": flooding(padding),
    # HTTP
    **{f"HTTP status {status}": http_status(status) for status in ("204", "302", "404", "503")},
    "HTTP status 503 as gRPC": http_status("503", "application/grpc"),
    "HTTP status that is none": http_status("99999"),
    "content-type of others": http_status("200", "text/html"),
    "content-type of gRPC-web": http_status("200", "application/grpc-web"),
    "2,000 headers": answering(many_headers),
    "200 interim answers": answering(interim_answers),
    # gRPC
    "no status": with_status(),
    "status that is no number": with_status(("grpc-status", "zero")),
    "status over its range": with_status(("grpc-status", "99999999999999999999")),
    "negative status": with_status(("grpc-status", "-1")),
    "status twice": with_status(("grpc-status", "0"), ("grpc-status", "14")),
    "empty status": with_status(("grpc-status", "")),
    "status text of any bytes": with_status(
        ("grpc-status", "2"), ("grpc-message", b"\x01\x7f\xff%zz%0")
    ),
    "status text of 60 KiB": large_trailer(60 << 10),
    "status text of 1 MiB": large_trailer(1 << 20),
    **{f"refuses with {status}": refused(status) for status in (1, 2, 5, 7, 8, 9, 11, 12, 14, 16)},
    "refuses with 'lease not found'": refused(5, "etcdserver: requested lease not found"),
    "refuses with 'compacted'": refused(11, "etcdserver: mvcc: required revision is compacted"),
    "refuses with 'too large'": refused(3, "etcdserver: request is too large"),
    "refuses with 'no space'": refused(8, "etcdserver: mvcc: database space exceeded"),
    "ends streams": Case(request=ends_streams),
    "no message": with_body(lambda message: b""),
    "two messages": with_body(lambda message: framed(message) * 2),
    "compressed": with_body(lambda message: framed(message, flag=1)),
    "flag that is none": with_body(lambda message: framed(message, flag=255)),
    "message over the limit": with_body(lambda message: framed(message, length=0xFFFFFFFF)),
    "message shorter than told": with_body(lambda message: framed(message, length=1 << 20)),
    "message never whole": with_body(lambda message: framed(message, length=1 << 20), ends=False),
    "message longer than told": with_body(lambda message: framed(message, length=1)),
    "100,000 empty messages": with_body(lambda message: framed(b"") * 100_000, ends=False),
    "answers a byte at a time": answering(drip, floods=True),
}
