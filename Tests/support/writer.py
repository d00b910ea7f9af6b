# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Somebody who writes to etcd all the time, so that a fault always falls between two changes."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from etcd_server import Etcd
from gateway import GatewayError


class Writer:
    """Writes numbered values to one key through whichever member takes them."""

    def __init__(self, members: Sequence[Etcd], key: bytes, pause: float = 0.005) -> None:
        self.key = key
        self._members = members
        self._pause = pause
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        position = 0
        while not self._stopping.wait(self._pause):
            number += 1
            member = self._members[position % len(self._members)]
            try:
                member.gateway.put(self.key, b"%d" % number, timeout=1.0)
            except (GatewayError, OSError):
                # It may have been written or not: etcd's history tells.
                position += 1
