# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Guarded changes of other people's keys: what changed after it was seen is left alone."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import EtcdError, Unanswered
from .gateway import Gateway, Json, b64
from .model import Found, Key
from .store import range_of

# etcd refuses more in one transaction (--max-txn-ops, 128), comparisons counted.
MAX_COMPARED = 100


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
        compares.append(
            {
                "key": b64(found.prefix),
                "target": "CREATE",
                "result": "EQUAL",
                "create_revision": "0",
            }
        )
    return compares + [same(key) for key in found.keys[:MAX_COMPARED]]


def same(key: Key) -> Json:
    return {
        "key": b64(key.key),
        "target": "MOD",
        "result": "EQUAL",
        "mod_revision": str(key.revision),
    }


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


def put_back(gateway: Gateway, keys: Sequence[tuple[bytes, bytes, int]]) -> bool:
    """Keys, values and leases of one agent; only where none of them is there. The first is the
    presence key, if there is one, and decides for all."""
    compares = [
        {"key": b64(key), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}
        for key, _, _ in keys[:MAX_COMPARED]
    ]
    puts = [
        {"request_put": {"key": b64(key), "value": b64(value), "lease": str(lease)}}
        for key, value, lease in keys[:MAX_COMPARED]
    ]
    return bool(gateway.txn(compares, puts).get("succeeded"))
