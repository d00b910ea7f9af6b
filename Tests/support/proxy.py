# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A TCP forwarder between a host and its etcd that can be cut, or can fall silent."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading


class Proxy:
    """Listens on a loopback port and forwards to `target`, until told otherwise."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        self.port: int = self._listener.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.accepted = 0
        self._lock = threading.Lock()
        self._pairs: dict[socket.socket, socket.socket] = {}
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

    def heal(self) -> None:
        """Connections that saw silence are ended: what they had in flight is lost."""
        with self._lock:
            if self._is_silent:
                for side in list(self._pairs):
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
            ready = self._selector.select(0.02)
            with self._lock:
                for key, _ in ready:
                    assert isinstance(key.fileobj, socket.socket)
                    self._serve(key.fileobj)

    def _serve(self, side: socket.socket) -> None:
        if side is self._listener:
            self._accept()
        elif side in self._pairs and not self._is_silent:
            self._forward(side)
        elif side in self._pairs:
            self._selector.unregister(side)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
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

    def _forward(self, side: socket.socket) -> None:
        try:
            data = side.recv(1 << 16)
            if data:
                self._pairs[side].sendall(data)
        except OSError:
            data = b""
        if not data:
            self._drop(side)

    def _drop(self, side: socket.socket) -> None:
        other = self._pairs.get(side)
        if other is None:
            return  # dropped with its other side
        for one in (side, other):
            del self._pairs[one]
            # It may have been taken out while the proxy was silent.
            with contextlib.suppress(KeyError):
                self._selector.unregister(one)
            one.close()
