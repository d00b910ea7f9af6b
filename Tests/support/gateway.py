# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A second opinion on what etcd holds: its JSON gateway (etcd docs, 'gRPC gateway'), used by tests
only. Nothing here shares code with the library under test."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

# As socket.create_connection: an address and a time-out.
Connect = Callable[[tuple[str, int], float], socket.socket]


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _unb64(text: str) -> bytes:
    return base64.b64decode(text)


def prefix_end(prefix: bytes) -> bytes:
    """The least key greater than every key with this prefix (etcd's range_end of a prefix)."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else b"\0"


def put_all_body(puts: Iterable[tuple[bytes, bytes, int]]) -> dict[str, Any]:
    """A transaction of several puts: key, value, lease."""
    operations = [
        {"request_put": {"key": _b64(key), "value": _b64(value), "lease": str(lease)}}
        for key, value, lease in puts
    ]
    return {"success": operations}


@dataclass(frozen=True)
class KeyValue:
    """One key as etcd returns it."""

    key: bytes
    value: bytes
    lease: int
    create_revision: int
    mod_revision: int
    version: int

    @staticmethod
    def parse(raw: dict[str, Any]) -> KeyValue:
        return KeyValue(
            key=_unb64(raw.get("key", "")),
            value=_unb64(raw.get("value", "")),
            lease=int(raw.get("lease", 0)),
            create_revision=int(raw.get("create_revision", 0)),
            mod_revision=int(raw.get("mod_revision", 0)),
            version=int(raw.get("version", 0)),
        )


@dataclass(frozen=True)
class Change:
    """One event of etcd's history."""

    is_delete: bool
    kv: KeyValue

    @property
    def revision(self) -> int:
        return self.kv.mod_revision


class GatewayError(Exception):
    """etcd answered with an error."""


class Gateway:
    """Calls to one etcd member, each on a connection of its own."""

    def __init__(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        connect: Connect = socket.create_connection,
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._connect_socket = connect
        self.token: str | None = None

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=timeout, context=self._tls
            )
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        connection.sock = self._connect_socket((self._host, self._port), timeout)
        # Else each request after the first waits 40 ms for an acknowledgement of its headers.
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = self.token
        return headers

    def call(self, path: str, body: dict[str, Any], timeout: float = 5.0) -> dict[str, Any]:
        """One unary call; raises GatewayError, or OSError while the server is away."""
        connection = self._connect(timeout)
        try:
            connection.request("POST", path, json.dumps(body), self._headers())
            response = connection.getresponse()
            text = response.read()
            if response.status != 200:
                raise GatewayError(f"{path}: {response.status} {text.decode(errors='replace')}")
            answer: dict[str, Any] = json.loads(text)
            return answer
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    def calls(self, path: str, bodies: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Many unary calls, one after the other, on one connection."""
        connection = self._connect(60.0)
        answers: list[dict[str, Any]] = []
        try:
            for body in bodies:
                connection.request("POST", path, json.dumps(body), self._headers())
                response = connection.getresponse()
                text = response.read()
                if response.status != 200:
                    raise GatewayError(f"{path}: {response.status} {text.decode()}")
                answers.append(json.loads(text))
        finally:
            connection.close()
        return answers

    def transactions(self) -> int:
        """How many transactions this member has answered so far, failed guards included."""
        return self.answered("Txn")

    def answered(self, method: str) -> int:
        """How many calls of this gRPC method this member has answered so far."""
        connection = self._connect(5.0)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        return sum(
            int(float(line.split()[-1]))
            for line in text.splitlines()
            if line.startswith("grpc_server_handled_total{") and f'grpc_method="{method}"' in line
        )

    # Keys

    def range(
        self,
        prefix: bytes,
        *,
        keys_only: bool = False,
        serializable: bool = False,
        timeout: float = 5.0,
    ) -> list[KeyValue]:
        """Every key with the prefix, in the order of the keys. Serializable: as this one member has
        them, also while there is no leader."""
        body = {
            "key": _b64(prefix),
            "range_end": _b64(prefix_end(prefix)),
            "keys_only": keys_only,
            "serializable": serializable,
        }
        answer = self.call("/v3/kv/range", body, timeout)
        return [KeyValue.parse(kv) for kv in answer.get("kvs", [])]

    def keys(self, prefix: bytes) -> list[bytes]:
        return [kv.key for kv in self.range(prefix, keys_only=True)]

    def get(self, key: bytes) -> KeyValue | None:
        found = self.call("/v3/kv/range", {"key": _b64(key)}).get("kvs", [])
        return KeyValue.parse(found[0]) if found else None

    def revision(self, timeout: float = 5.0) -> int:
        """The store's revision, asked for with a linearizable read."""
        answer = self.call("/v3/kv/range", {"key": _b64(b"\0health")}, timeout)
        return int(answer["header"]["revision"])

    def put(self, key: bytes, value: bytes, lease: int = 0, timeout: float = 5.0) -> int:
        body = {"key": _b64(key), "value": _b64(value), "lease": str(lease)}
        return int(self.call("/v3/kv/put", body, timeout)["header"]["revision"])

    def delete(self, key: bytes) -> int:
        answer = self.call("/v3/kv/deleterange", {"key": _b64(key)})
        return int(answer.get("deleted", 0))

    def delete_prefix(self, prefix: bytes) -> int:
        body = {"key": _b64(prefix), "range_end": _b64(prefix_end(prefix))}
        return int(self.call("/v3/kv/deleterange", body).get("deleted", 0))

    def put_all(self, pairs: list[tuple[bytes, bytes]], lease: int = 0) -> int:
        """Several keys in one transaction, so in one revision."""
        body = put_all_body([(key, value, lease) for key, value in pairs])
        return int(self.call("/v3/kv/txn", body)["header"]["revision"])

    def compact(self, revision: int) -> None:
        self.call("/v3/kv/compaction", {"revision": str(revision), "physical": True})

    def history(self, prefix: bytes, first: int, last: int) -> list[Change]:
        """etcd's own account of every change of the prefix, from revision `first` to `last`."""
        create = {
            "key": _b64(prefix),
            "range_end": _b64(prefix_end(prefix)),
            "start_revision": str(first),
        }
        # A last change of our own shows that everything before it has been delivered.
        sentinel = prefix + b"\0sentinel"
        end = self.put(sentinel, b"end")
        connection = self._connect(10.0)
        try:
            body = json.dumps({"create_request": create})
            connection.request("POST", "/v3/watch", body, self._headers())
            response = connection.getresponse()
            changes: list[Change] = []
            while not changes or changes[-1].revision < end:
                result = json.loads(response.readline())["result"]
                changes += [_change(event) for event in result.get("events", [])]
        finally:
            connection.close()
            self.delete(sentinel)
        return [c for c in changes if c.revision <= last and c.kv.key != sentinel]

    # Leases

    def grant(self, ttl: int, lease: int = 0) -> int:
        answer = self.call("/v3/lease/grant", {"TTL": str(ttl), "ID": str(lease)})
        return int(answer["ID"])

    def revoke(self, lease: int) -> None:
        self.call("/v3/lease/revoke", {"ID": str(lease)})

    def leases(self) -> list[int]:
        return [int(lease["ID"]) for lease in self.call("/v3/lease/leases", {}).get("leases", [])]

    def time_to_live(self, lease: int) -> int:
        """Seconds left; -1 when the lease is gone."""
        return int(self.call("/v3/lease/timetolive", {"ID": str(lease)}).get("TTL", 0))

    def alarm(self, action: str) -> None:
        """ACTIVATE or DEACTIVATE the alarm of a full database: etcd refuses what would make it
        grow."""
        member = self.call("/v3/maintenance/status", {})["header"]["member_id"]
        body = {"action": action, "memberID": member, "alarm": "NOSPACE"}
        self.call("/v3/maintenance/alarm", body)

    # Users

    def enable_auth(self, root_password: str) -> None:
        """Creates root and turns authentication on; this client goes on as root."""
        self.call("/v3/auth/user/add", {"name": "root", "password": root_password})
        self.call("/v3/auth/role/add", {"name": "root"})
        self.call("/v3/auth/user/grant", {"user": "root", "role": "root"})
        self.call("/v3/auth/enable", {})
        self.authenticate("root", root_password)

    def authenticate(self, user: str, password: str) -> None:
        self.token = None
        answer = self.call("/v3/auth/authenticate", {"name": user, "password": password})
        self.token = answer["token"]

    def add_user(self, user: str, password: str, prefix: bytes | None, mode: str) -> None:
        """A user whose one role may READ, WRITE or READWRITE the prefix (None: nothing)."""
        self.call("/v3/auth/user/add", {"name": user, "password": password})
        self.call("/v3/auth/role/add", {"name": user})
        if prefix is not None:
            self.grant_permission(user, prefix, mode)
        self.call("/v3/auth/user/grant", {"user": user, "role": user})

    def grant_permission(
        self, role: str, prefix: bytes, mode: str, *, key_alone: bool = False
    ) -> None:
        permission = {"permType": mode, "key": _b64(prefix)}
        if not key_alone:
            permission["range_end"] = _b64(prefix_end(prefix))
        self.call("/v3/auth/role/grant", {"name": role, "perm": permission})

    def revoke_permission(self, role: str, prefix: bytes) -> None:
        body = {"role": role, "key": _b64(prefix), "range_end": _b64(prefix_end(prefix))}
        self.call("/v3/auth/role/revoke", body)


def _change(event: dict[str, Any]) -> Change:
    return Change(event.get("type") == "DELETE", KeyValue.parse(event["kv"]))
