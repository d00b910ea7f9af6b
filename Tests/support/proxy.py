# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A TCP forwarder between a host and its etcd that can be cut, fall silent, hold back or delay."""

from __future__ import annotations

import contextlib
import heapq
import selectors
import socket
import threading
import time
from collections.abc import Callable


class Proxy:
    """Listens on a loopback port and forwards to `target`, until the test changes that. With
    `delay`, each piece waits for as many seconds as it returns, drawn again each time; the order
    stays."""

    def __init__(self, target: int, delay: Callable[[], float] | None = None) -> None:
        self._target = target
        self._delay = delay
        self._delayed: list[tuple[float, int, socket.socket, bytes]] = []
        self._last_due: dict[socket.socket, float] = {}
        self._forwarded = 0
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        self.port: int = self._listener.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.accepted = 0
        self._lock = threading.Lock()
        self._pairs: dict[socket.socket, socket.socket] = {}
        # Sides from which something came that was not forwarded.
        self._swallowed: set[socket.socket] = set()
        self._clients: set[socket.socket] = set()
        self._held: set[socket.socket] = set()
        self._holds_requests = self._holds_answers = False
        self._is_cut = False
        self._is_silent = False
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def active(self) -> int:
        """Connections that it forwards now."""
        with self._lock:
            return len(self._pairs) // 2

    def aim(self, target: int) -> None:
        """Forwards new connections to another server."""
        with self._lock:
            self._target = target

    def cut(self) -> None:
        """Ends every connection and refuses new ones."""
        with self._lock:
            self._is_cut = True
            for side in list(self._pairs):
                self._drop(side)

    def silence(self) -> None:
        """Keeps connections open, accepts new ones, forwards nothing."""
        with self._lock:
            self._is_silent = True

    def hold(self, *, requests: bool = False, answers: bool = False) -> None:
        """Keeps back what goes in these directions, ends of connections too, until `release`."""
        with self._lock:
            self._holds_requests = requests
            self._holds_answers = answers

    def release(self) -> None:
        """Delivers, late, what was held back."""
        with self._lock:
            self._holds_requests = self._holds_answers = False
            for side in self._held:
                self._selector.register(side, selectors.EVENT_READ)
            self._held.clear()

    def lose_answers(self) -> None:
        """After `hold` of requests: they go on, and what is answered is kept back."""
        with self._lock:
            self._holds_requests, self._holds_answers = False, True
            for side in self._held & self._clients:
                self._selector.register(side, selectors.EVENT_READ)
            self._held -= self._clients

    def held(self) -> bytes:
        """The bytes that are held back, as far as one look shows them."""
        with self._lock:
            return b"".join(side.recv(1 << 20, socket.MSG_PEEK) for side in self._held)

    def heal(self) -> None:
        """Connections that saw silence are ended: what they had in flight is lost."""
        with self._lock:
            for side in list(self._pairs):
                if self._swallows(side) or side in self._swallowed:
                    self._drop(side)
            self._is_cut = self._is_silent = False

    def close(self) -> None:
        self._stopping = True
        self._thread.join()
        with self._lock:
            for side in list(self._pairs):
                self._drop(side)
        self._listener.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._stopping:
            wait = 0.02
            if self._delayed:
                wait = min(wait, max(0.0, self._delayed[0][0] - time.monotonic()))
            ready = self._selector.select(wait)
            with self._lock:
                for key, _ in ready:
                    assert isinstance(key.fileobj, socket.socket)
                    self._serve(key.fileobj)
                while self._delayed and self._delayed[0][0] <= time.monotonic():
                    _, _, side, data = heapq.heappop(self._delayed)
                    if side in self._pairs:
                        self._send_on(side, data)

    def _serve(self, side: socket.socket) -> None:
        if side is self._listener:
            self._accept()
        elif side not in self._pairs:
            return  # dropped a moment ago
        elif self._swallows(side):
            self._swallowed.add(side)
            self._selector.unregister(side)
        elif self._holds_requests if side in self._clients else self._holds_answers:
            self._selector.unregister(side)
            self._held.add(side)
        else:
            self._forward(side)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # it is gone already, and tries again if it lives
        self.accepted += 1
        if self._is_cut:
            client.close()
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=2.0)
        except OSError:
            client.close()
            return
        for one, other in ((client, server), (server, client)):
            one.settimeout(5.0)
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ)
        self._clients.add(client)
        self._identify(client, server)

    def _identify(self, client: socket.socket, server: socket.socket) -> None:
        """Called for each new pair."""

    def _swallows(self, side: socket.socket) -> bool:
        """Whether what comes from this side is forwarded to nobody."""
        return self._is_silent and side in self._pairs

    def _forward(self, side: socket.socket) -> None:
        try:
            data = side.recv(1 << 16)
        except OSError:
            data = b""
        if self._delay is None:
            self._send_on(side, data)
            return
        if not data:
            self._selector.unregister(side)  # its end is reported once
        due = max(self._last_due.get(side, 0.0), time.monotonic() + self._delay())
        self._last_due[side] = due
        self._forwarded += 1
        heapq.heappush(self._delayed, (due, self._forwarded, side, data))

    def _send_on(self, side: socket.socket, data: bytes) -> None:
        """No data: `side` has ended."""
        with contextlib.suppress(OSError):
            if data:
                self._pairs[side].sendall(data)
                return
        self._drop(side)

    def _drop(self, side: socket.socket) -> None:
        other = self._pairs.get(side)
        if other is None:
            return  # dropped with its other side
        for one in (side, other):
            del self._pairs[one]
            self._swallowed.discard(one)
            self._held.discard(one)
            self._clients.discard(one)
            self._last_due.pop(one, None)
            # It may have been taken out while the proxy was silent.
            with contextlib.suppress(KeyError):
                self._selector.unregister(one)
            one.close()
