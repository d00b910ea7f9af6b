# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Guarded changes of other people's keys: what changed after it was seen is left alone."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .errors import EtcdError, Unanswered
from .gateway import Gateway, Json, b64
from .model import Found, Key
from .store import range_of

# etcd refuses more in one transaction (--max-txn-ops, 128), comparisons counted.
MAX_COMPARED = 100
# Of keys and values in one transaction; etcd takes 1.5 MiB (--max-request-bytes).
MAX_BATCH_BYTES = 1 << 20


class Outcome(str, enum.Enum):
    REMOVED = "removed"
    CHANGED = "changed meanwhile: left alone"
    GONE = "gone already"
    UNKNOWN = "unknown: etcd did not answer"


@dataclass(frozen=True)
class Victim:
    """An agent as it was shown, and the revision of the store at which it was read."""

    found: Found
    read_at: int
    state: str


def unchanged(found: Found, read_at: int) -> list[Json]:
    """Nothing of the agent was put after it was read, and its presence key is what it was. A new
    lease, a new process, a new blob: each is a put. A key that is gone is no harm; so those
    beyond etcd's limit are covered by the first line alone."""
    compares: list[Json] = [
        {
            **range_of(found.prefix),
            "target": "MOD",
            "result": "LESS",
            "mod_revision": str(read_at + 1),
        }
    ]
    if found.presence is None:
        compares.append(absent(found.prefix))
    return compares + [same(key) for key in found.keys[:MAX_COMPARED]]


def same(key: Key) -> Json:
    return same_at(key.key, key.revision)


def same_at(key: bytes, revision: int) -> Json:
    return {"key": b64(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}


def remove(gateway: Gateway, victim: Victim) -> Outcome:
    """All keys of the agent or none."""
    try:
        answer = gateway.txn(
            unchanged(victim.found, victim.read_at),
            [{"request_delete_range": range_of(victim.found.prefix)}],
            [{"request_range": {**range_of(victim.found.prefix), "count_only": True}}],
        )
    except Unanswered:
        return Outcome.UNKNOWN
    if answer.get("succeeded"):
        return Outcome.REMOVED
    left = answer["responses"][0]["response_range"].get("count", "0")
    return Outcome.CHANGED if int(left) else Outcome.GONE


def revoke_empty(gateway: Gateway, lease: int) -> Outcome:
    """etcd has no guarded revocation: looks again just before."""
    answer = gateway.time_to_live(lease, keys=True)
    if int(answer.get("TTL", 0)) < 0:
        return Outcome.GONE
    if answer.get("keys"):
        return Outcome.CHANGED
    try:
        gateway.revoke(lease)
    except Unanswered:
        return Outcome.UNKNOWN
    except EtcdError as refused:
        if "not found" in refused.message:
            return Outcome.GONE
        raise
    return Outcome.REMOVED


Put = tuple[bytes, bytes, int]
"""Key, value, lease."""


def batches(keys: Sequence[Put]) -> Iterator[list[Put]]:
    """As many as one transaction holds, by their number and by their size."""
    batch: list[Put] = []
    size = 0
    for put in keys:
        more = len(put[0]) + len(put[1]) + 100
        if batch and (len(batch) == MAX_COMPARED or size + more > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(put)
        size += more
    if batch:
        yield batch


def put_absent(gateway: Gateway, batch: Sequence[Put], also: Sequence[Json] = ()) -> int:
    """All of a batch, only where none of it is there. The revision; 0: one of them is there, or
    what else is compared does not hold."""
    compares = [absent(key) for key, _, _ in batch]
    puts = [
        {"request_put": {"key": b64(key), "value": b64(value), "lease": str(lease)}}
        for key, value, lease in batch
    ]
    answer = gateway.txn([*also, *compares], puts)
    return int(answer["header"]["revision"]) if answer.get("succeeded") else 0


def absent(key: bytes) -> Json:
    return {"key": b64(key), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}


class Return(str, enum.Enum):
    """How the restoration of an agent ended."""

    BACK = "put back"
    THERE = "there already: left alone"
    PART = "put back in part: changed meanwhile"
    UNKNOWN = "unknown: etcd did not answer"


def put_back(gateway: Gateway, prefix: bytes, keys: Sequence[Put]) -> Return:
    """All keys of an agent, only while there is none. What one transaction does not hold follows as
    long as the first of them is as it was put."""
    nothing_there = {**absent(prefix), **range_of(prefix)}
    guard: Sequence[Json] = [nothing_there]
    is_begun = False
    for batch in batches(keys):
        try:
            revision = put_absent(gateway, batch, guard)
        except Unanswered:
            return Return.UNKNOWN
        if not revision:
            return Return.PART if is_begun else Return.THERE
        if not is_begun:
            is_begun = True
            guard = [same_at(keys[0][0], revision)]
    return Return.BACK
