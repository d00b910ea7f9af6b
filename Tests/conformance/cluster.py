# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A real etcd cluster of several members on loopback."""

from __future__ import annotations

from etcd_server import Etcd


class Cluster:
    """Its members know each other; each can be killed, frozen and started like a single one."""

    def __init__(self, version: str, count: int) -> None:
        self.members = [Etcd(version, name=f"m{number}") for number in range(count)]
        peers = ",".join(f"{m.name}=http://127.0.0.1:{m.peer_port}" for m in self.members)
        for member in self.members:
            member.initial_cluster = peers

    @property
    def endpoints(self) -> str:
        return ",".join(member.endpoint for member in self.members)

    def start(self) -> None:
        for member in self.members:
            member.start()
        for member in self.members:
            member.wait_healthy()

    def leader(self) -> Etcd:
        return next(member for member in self.members if member.is_leader())

    def follower(self) -> Etcd:
        return next(member for member in self.members if not member.is_leader())

    def close(self) -> None:
        for member in self.members:
            member.close()
