# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Several hosts on one machine that lets us make no network namespaces: all on loopback, each way
through a forwarder that can swallow what goes in one direction. Connections to a place that is cut
off are accepted then, and silent."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

from etcd_server import Etcd, Place
from procfs import tcp_connections
from proxy import Proxy

# Names of places: source and destination.
Route = tuple[str, str]


class Way(Proxy):
    """Forwards to one server; whose connection it is tells `client_of`."""

    def __init__(
        self, target: int, server: str, client_of: Callable[[int], str], dropped: set[Route]
    ) -> None:
        self._server = server
        self._client_of = client_of
        self._dropped = dropped
        self._routes: dict[socket.socket, Route] = {}
        super().__init__(target)

    def _identify(self, client: socket.socket, server: socket.socket) -> None:
        name = self._client_of(client.getpeername()[1])
        self._routes[client] = (name, self._server)
        self._routes[server] = (self._server, name)

    def _swallows(self, side: socket.socket) -> bool:
        return self._routes.get(side) in self._dropped

    def _drop(self, side: socket.socket) -> None:
        self._routes.pop(side, None)
        super()._drop(side)


def _has_port(member: Etcd, port: int) -> bool:
    """Whether a connection of this member has that port at its end."""
    if not member.is_running:
        return False
    try:
        found = tcp_connections(member.pid)
    except OSError:
        return False  # It has just died.
    return any(connection.split()[0].endswith(f":{port:04X}") for connection in found)


class Loopback:
    """As Namespaces. Forwarders cost time, so that they are there only for tests that cut."""

    def __init__(self, cuts: bool) -> None:
        self._cuts = cuts
        self._dropped: set[Route] = set()
        self._ways: list[tuple[Way, Etcd]] = []

    def create(self) -> None:
        """Nothing is needed."""

    def add(self, name: str) -> Place:
        return Place(name)

    def connect(self, members: Sequence[Etcd]) -> None:
        """The members reach one another through forwarders. On loopback the address does not
        identify the sender, so the process that has the connection is looked up."""

        def sender(port: int) -> str:
            return next((m.place.name for m in members if _has_port(m, port)), "")

        for member in members if self._cuts else ():
            way = Way(member.peer_port, member.place.name, sender, self._dropped)
            self._ways.append((way, member))
            member.peer_url = way.endpoint

    def endpoints(self, place: Place, members: Sequence[Etcd]) -> str:
        """The members, as this place reaches them."""
        if not self._cuts:
            return ",".join(member.endpoint for member in members)
        ways = [
            Way(member.port, member.place.name, lambda _: place.name, self._dropped)
            for member in members
        ]
        self._ways += zip(ways, members, strict=True)
        return ",".join(way.endpoint for way in ways)

    def member_at(self, port: int, members: Sequence[Etcd]) -> Etcd:
        found = [member for way, member in self._ways if way.port == port]
        return found[0] if found else next(m for m in members if m.port == port)

    def drop(self, source: Place, destination: Place) -> None:
        assert self._cuts, "mark the test with 'cuts'"
        self._dropped.add((source.name, destination.name))

    def part(self, one: Place, other: Place) -> None:
        self.drop(one, other)
        self.drop(other, one)

    def heal(self) -> None:
        # Connections that have lost something end; so the routes must still be known as dropped.
        for way, _ in self._ways:
            way.heal()
        self._dropped.clear()

    def close(self) -> None:
        self._dropped.clear()
        for way, _ in self._ways:
            way.close()
