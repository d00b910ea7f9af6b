# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""As much of etcd as a hostile server must do right before it does wrong, in Python, so that every
message can be falsified. Tests of etcd itself use a real one."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

# A message: its fields in order. A value is a number, bytes, or the fields of a message in it.
Fields = list[tuple[int, Any]]
# A message as it was read: the values of each field.
Values = dict[int, list[Any]]

EQUAL, GREATER, LESS = 0, 1, 2
DELETED = 1


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode(fields: Fields) -> bytes:
    """Writes a message (https://protobuf.dev/programming-guides/encoding/)."""
    encoded = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            encoded += varint(number << 3) + varint(value)
            continue
        data = encode(value) if isinstance(value, list) else value
        encoded += varint(number << 3 | 2) + varint(len(data)) + data
    return bytes(encoded)


def _read_varint(data: Iterator[int]) -> int:
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return value - (1 << 64) if value >= 1 << 63 else value


def decode(message: bytes) -> Values:
    """Reads a message that the library has written: numbers and bytes only."""
    values: Values = {}
    data = iter(message)
    for first in data:
        tag = _read_varint(itertools.chain([first], data))
        length = _read_varint(data)
        value: Any = length
        if tag & 7 == 2:
            value = bytes(itertools.islice(data, length))
        values.setdefault(tag >> 3, []).append(value)
    return values


def number(values: Values, name: int) -> int:
    return int(values.get(name, [0])[-1])


def data(values: Values, name: int) -> bytes:
    return bytes(values.get(name, [b""])[-1])


def covers(key: bytes, end: bytes, found: bytes) -> bool:
    return key <= found < end if end else key == found


@dataclass
class Record:
    """A key of the store (etcd api/mvccpb/kv.proto, KeyValue)."""

    key: bytes
    value: bytes = b""
    create: int = 0
    mod: int = 0
    version: int = 0
    lease: int = 0

    def fields(self, with_value: bool = True) -> Fields:
        fields: Fields = [(1, self.key), (2, self.create), (3, self.mod), (4, self.version)]
        if with_value and self.value:
            fields.append((5, self.value))
        return [*fields, (6, self.lease)] if self.lease else fields


@dataclass
class Watch:
    key: bytes
    end: bytes
    next: int


@dataclass
class SmallEtcd:
    """One member without disk, peers or clock: leases never run out."""

    cluster: int = 0xC1
    revision: int = 1
    records: dict[bytes, Record] = field(default_factory=dict)
    history: list[tuple[int, Record]] = field(default_factory=list)
    leases: dict[int, int] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def header(self) -> Fields:
        return [(1, [(1, self.cluster), (2, 1), (3, self.revision), (4, 2)])]

    def answer(self, method: str, request: Values) -> Fields:
        """Answers a unary request."""
        with self.lock:
            if method == "Range":
                return self.header() + self.range(request)
            if method == "Txn":
                fields = self.txn(request)
                return self.header() + fields
            if method == "LeaseGrant":
                self.leases[number(request, 2)] = number(request, 1)
                return [*self.header(), (2, number(request, 2)), (3, number(request, 1))]
            if method == "LeaseRevoke":
                self.revoke(number(request, 1))
                return self.header()
            if method in ("LeaseTimeToLive", "LeaseKeepAlive"):
                lease = number(request, 1)
                return [*self.header(), (2, lease), (3, self.leases.get(lease, 0))]
            if method == "Authenticate":
                return [*self.header(), (2, b"token.1")]
        raise ValueError(f"unknown method {method}")

    # Keys

    def range(self, request: Values) -> Fields:
        key, end = data(request, 1), data(request, 2)
        limit, keys_only = number(request, 3), number(request, 8) != 0
        found = sorted(k for k in self.records if covers(key, end, k))
        page = found[:limit] if limit else found
        fields: Fields = [(2, self.records[k].fields(not keys_only)) for k in page]
        if len(page) < len(found):
            fields.append((3, 1))
        return [*fields, (4, len(found))]

    def txn(self, request: Values) -> Fields:
        holds = all(self._holds(decode(compare)) for compare in request.get(1, []))
        ops = [decode(op) for op in request.get(2 if holds else 3, [])]
        if any(2 in op or 3 in op for op in ops):
            self.revision += 1
        answers: Fields = [(3, self._perform(op)) for op in ops]
        return [(2, 1), *answers] if holds else answers

    def _holds(self, compare: Values) -> bool:
        target, key = number(compare, 2), data(compare, 3)
        record = self.records.get(key, Record(key))
        if target == 3:
            end = data(compare, 64)
            found = [r.value for k, r in self.records.items() if covers(key, end, k)]
            return bool(found) and not any(found)
        has = {0: record.version, 1: record.create, 2: record.mod, 4: record.lease}[target]
        wanted = number(compare, {0: 4, 1: 5, 2: 6, 4: 8}[target])
        result = number(compare, 1)
        return {EQUAL: has == wanted, GREATER: has > wanted, LESS: has < wanted}.get(
            result, has != wanted
        )

    def _perform(self, op: Values) -> Fields:
        if 1 in op:
            return [(1, self.range(decode(data(op, 1))))]
        if 2 in op:
            put = decode(data(op, 2))
            self.put(data(put, 1), data(put, 2), number(put, 3))
            return [(2, [])]
        if 3 in op:
            request = decode(data(op, 3))
            key, end = data(request, 1), data(request, 2)
            found = [k for k in self.records if covers(key, end, k)]
            self.delete(found)
            return [(3, [(2, len(found))])]
        return [(4, self.txn(decode(data(op, 4))))]

    def put(self, key: bytes, value: bytes, lease: int) -> None:
        """In the revision at hand."""
        old = self.records.get(key, Record(key, create=self.revision))
        record = Record(key, value, old.create, self.revision, old.version + 1, lease)
        self.records[key] = record
        self.history.append((0, record))

    def delete(self, keys: list[bytes]) -> None:
        for key in sorted(keys):
            del self.records[key]
            self.history.append((DELETED, Record(key, mod=self.revision)))

    def revoke(self, lease: int) -> None:
        self.leases.pop(lease, None)
        if keys := [k for k, record in self.records.items() if record.lease == lease]:
            self.revision += 1
            self.delete(keys)

    # Watches

    def events(self, watch: Watch) -> Fields:
        """The events that a watch has not got yet; it has them after this."""
        with self.lock:
            start, watch.next = watch.next, self.revision + 1
            events: Fields = []
            for kind, record in self.history:
                if record.mod >= start and covers(watch.key, watch.end, record.key):
                    events.append((11, [(1, kind), (2, record.fields())]))
            return events
