# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A real etcd cluster of several members."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from etcd_server import Etcd, Place
from gateway import GatewayError


class Cluster:
    """Its members know each other; each can be killed, frozen and started like a single one."""

    def __init__(self, version: str, places: Sequence[Place], *flags: str) -> None:
        self.members = [
            Etcd(version, *flags, name=f"m{number}", place=place)
            for number, place in enumerate(places)
        ]
        self._ids: dict[int, Etcd] = {}

    @property
    def endpoints(self) -> str:
        return ",".join(member.endpoint for member in self.members)

    def start(self) -> None:
        peers = ",".join(f"{m.name}={m.peer_url}" for m in self.members)
        for member in self.members:
            member.initial_cluster = peers
            member.start()
        self.learn_ids()

    def learn_ids(self) -> None:
        """Once all are healthy: who is who, after a start and after a change of the membership."""
        self.wait_healthy()
        self._ids = {int(m.status()["header"]["member_id"]): m for m in self.members}

    def wait_healthy(self) -> float:
        """Waits for every member; the monotonic time when the last one was."""
        return max([member.wait_healthy() for member in self.members])

    def elected(self, after: int = 0, seconds: float = 60.0) -> tuple[Etcd, int]:
        """The leader that most members know, and its term, which is a later one than `after`.
        Members that do not answer are passed over, so that it can be asked while some are dead or
        silent; their peers may name a dead leader until they have noticed."""
        deadline = time.monotonic() + seconds
        while True:
            told = Counter(found for m in self.members if (found := self._leader_told_by(m)))
            for (leader, term), votes in told.items():
                if 2 * votes > len(self.members) and term > after and leader in self._ids:
                    return self._ids[leader], term
            assert time.monotonic() < deadline, f"no leader within {seconds} s: {told}, {after}"
            time.sleep(0.02)

    @staticmethod
    def _leader_told_by(member: Etcd) -> tuple[int, int] | None:
        if not member.is_running:
            return None
        try:
            status = member.status(timeout=0.5)
        except (GatewayError, OSError):
            return None
        leader = int(status.get("leader", 0))
        return (leader, int(status["raftTerm"])) if leader else None

    def leader(self) -> Etcd:
        return self.elected()[0]

    def follower(self) -> Etcd:
        leader = self.leader()
        return next(member for member in self.members if member is not leader)

    def close(self) -> None:
        for member in self.members:
            member.close()
