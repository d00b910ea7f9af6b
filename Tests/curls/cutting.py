# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A way to etcd that resets its first connections after stated numbers of bytes upward."""

from __future__ import annotations

import contextlib
import socket
import struct

from proxy import Proxy

# Linux's struct linger: on, no time. close() sends RST.
RESET = struct.pack("ii", 1, 0)


class CuttingProxy(Proxy):
    """Connection n is reset after `cuts[n]` bytes from the client; later ones are perfect."""

    def __init__(self, target: int, cuts: tuple[int, ...]) -> None:
        self._cuts = list(cuts)
        self._left: dict[socket.socket, int] = {}
        super().__init__(target)

    @property
    def cuts_left(self) -> int:
        """Cuts that have not been made yet."""
        with self._lock:
            return len(self._cuts) + len(self._left)

    def _identify(self, client: socket.socket, server: socket.socket) -> None:
        if self._cuts:
            self._left[client] = self._cuts.pop(0)

    def _forward(self, side: socket.socket) -> None:
        left = self._left.get(side)
        if left is None:
            super()._forward(side)
            return
        try:
            data = side.recv(min(left, 1 << 16))
        except OSError:
            data = b""
        self._left[side] = left - len(data)
        if data:
            with contextlib.suppress(OSError):
                self._pairs[side].sendall(data)
        if not data or self._left[side] == 0:
            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._drop(side)

    def _drop(self, side: socket.socket) -> None:
        for one in (side, self._pairs.get(side)):
            if one is not None:
                self._left.pop(one, None)
        super()._drop(side)
