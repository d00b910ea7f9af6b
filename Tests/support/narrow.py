# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A long or narrow path between a host and its etcd, so that the host's socket can become full."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time

# The path's segment size: Ethernet's, not loopback's 64 KiB, with which sockets begin with a huge
# buffer.
SEGMENT = 1400
# The bytes from the host that the path holds; the kernel makes it a little more.
WINDOW = 4096
PIECE = 1024
# Loopback's answers: that direction is neither paced nor late.
ANSWER = 65536


class NarrowLink:
    """Forwards each connection to `target`. The host's bytes are taken at `rate` bytes per second
    (None: as they come) and arrive `delay` seconds later; both can be changed at any time."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.rate: float | None = None
        self.delay = 0.0
        # Connections so far.
        self.accepted = 0
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(16)
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        # The thread that accepts is the first, and starts no others when it has ended.
        self._threads[0].join()
        for one in self._open:
            _end(one)
        for thread in self._threads:
            thread.join()
        for one in [self._listener, *self._open]:
            one.close()

    def _start(self, run: object, *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.append(one)
            late: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
            self._start(self._take, client, late)
            self._start(self._deliver, late, client, server)
            self._start(self._answer, server, client)

    def _take(self, client: socket.socket, late: queue.SimpleQueue[tuple[float, bytes]]) -> None:
        """At the rate. An empty piece is the end."""
        due = time.monotonic()
        data = b"-"
        while data:
            try:
                data = client.recv(PIECE)
            except OSError:
                data = b""
            if self.rate is not None:
                # Makes up for lateness, at most for this long.
                due = max(due, time.monotonic() - 0.02) + len(data) / self.rate
                time.sleep(max(0.0, due - time.monotonic()))
            late.put((time.monotonic() + self.delay, data))

    def _deliver(
        self,
        late: queue.SimpleQueue[tuple[float, bytes]],
        client: socket.socket,
        server: socket.socket,
    ) -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = late.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    break
                server.sendall(data)
        _end(client)
        _end(server)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(ANSWER):
                client.sendall(data)
        _end(client)
        _end(server)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
