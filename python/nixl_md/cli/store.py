# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Reading a namespace: all keys at one revision, in pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .gateway import Gateway, Json, b64, prefix_end, unb64
from .model import Found, Key, Namespace, Snapshot

# Of an answer with values; the next page asks for so many keys as will fill it, and never for so
# many that small values before large ones would make an answer of gigabytes.
PAGE_BYTES = 4 << 20
PAGE_VALUES = 256
FIRST_PAGE = 16
PAGE_KEYS = 10_000
# Values are read for their sizes only, and some fleets publish megabytes: over this keys-only.
VALUE_BUDGET = 64 << 20
# Of keys under other spellings, of which only agents are counted.
OTHER_KEYS = 50_000
HEAD = 64
# What a list may hold, as the library has it.
MAX_KEYS = 1 << 20


def parse_key(raw: Json, has_value: bool) -> Key:
    value = raw.get("value", "")
    size = len(value) * 3 // 4 - value[-2:].count("=") if has_value else None
    # Whole groups of base64.
    head = unb64(value[: HEAD * 4 // 3 // 4 * 4 + 4])[:HEAD] if has_value else b""
    return Key(
        key=unb64(raw["key"]),
        lease=int(raw.get("lease", 0)),
        created=int(raw.get("create_revision", 0)),
        revision=int(raw.get("mod_revision", 0)),
        version=int(raw.get("version", 0)),
        size=size,
        head=head,
    )


@dataclass
class _Reader:
    """One range, page by page."""

    gateway: Gateway
    budget: int
    revision: int = 0
    tells_leases: bool = True
    _last_leased: Key | None = None

    def read(self, start: bytes, end: bytes, take: Callable[[Key], None], most: int) -> bool:
        """Whether all was read."""
        limit = FIRST_PAGE if self.budget else PAGE_KEYS
        count = 0
        while True:
            keys_only = self.budget <= 0 and self.tells_leases
            options: Json = {"limit": str(limit), "keys_only": keys_only}
            if self.revision:
                options["revision"] = str(self.revision)
            answer = self.gateway.range(start, end, **options)
            self.revision = self.revision or int(answer["header"]["revision"])
            keys = [parse_key(raw, not keys_only) for raw in answer.get("kvs", [])]
            for key in keys:
                take(key)
                if key.lease:
                    self._last_leased = key
            count += len(keys)
            if not answer.get("more") or not keys:
                return True
            if count >= most:
                return False
            start = keys[-1].key + b"\0"
            limit = PAGE_KEYS if keys_only else self._next_limit(keys)

    def _next_limit(self, keys: list[Key]) -> int:
        """With values; and where they are too many, without from now on."""
        had = self.budget > 0
        size = sum((key.size or 0) + len(key.key) + 100 for key in keys)
        self.budget -= size
        if had and self.budget <= 0:
            self.tells_leases = tells_leases(self.gateway, self._last_leased)
        return max(1, min(PAGE_VALUES, PAGE_BYTES * len(keys) // max(size, 1)))


def tells_leases(gateway: Gateway, leased: Key | None) -> bool:
    """Whether keys-only answers have the lease of a key that hangs on one; etcd 3.7.0's do not
    (https://github.com/etcd-io/etcd/issues/22209)."""
    if leased is None:
        return parse_version(gateway.version()) < (3, 7)
    kvs = gateway.range(leased.key, keys_only=True).get("kvs", [])
    return not kvs or int(kvs[0].get("lease", 0)) != 0


def read(gateway: Gateway, namespace: Namespace, budget: int = VALUE_BUDGET) -> Snapshot:
    """All agents of a namespace. `budget`: so many bytes of values are read for their sizes."""
    snapshot = Snapshot(namespace)
    reader = _Reader(gateway, budget)
    root = namespace.root
    reader.read(root, prefix_end(root), snapshot.add, MAX_KEYS)
    snapshot.revision = reader.revision
    snapshot.tells_leases = reader.tells_leases
    snapshot.settle()
    return snapshot


def read_agent(gateway: Gateway, namespace: Namespace, agent: bytes) -> tuple[Found, int]:
    """One agent, with the sizes of its values, and the revision of the store."""
    snapshot = Snapshot(namespace)
    prefix = namespace.prefix(agent)
    reader = _Reader(gateway, VALUE_BUDGET)
    reader.read(prefix, prefix_end(prefix), snapshot.add, MAX_KEYS)
    return snapshot.agents.get(agent, Found(agent, prefix)), reader.revision


def last_changes(gateway: Gateway, namespace: Namespace) -> dict[bytes, tuple[int, int]]:
    """Of each agent how many keys it has, and when the last of them was put; keys only."""
    found: dict[bytes, tuple[int, int]] = {}

    def take(key: Key) -> None:
        split = namespace.split(key.key)
        if split is not None:
            count, last = found.get(split[0], (0, 0))
            found[split[0]] = count + 1, max(last, key.revision)

    root = namespace.root
    _Reader(gateway, 0).read(root, prefix_end(root), take, MAX_KEYS)
    return found


def parse_version(text: str) -> tuple[int, ...]:
    """3.5.30, 3.6.0-rc.1"""
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("-")[0])[:3])


@dataclass(frozen=True)
class OtherSpelling:
    """Agents that those of the namespace never meet."""

    namespace: bytes
    agents: int
    is_all: bool


def other_spellings(gateway: Gateway, namespace: Namespace) -> list[OtherSpelling]:
    """Where the presence keys of agents are under another spelling of the namespace."""
    found = []
    for other in namespace.others():
        agents: set[bytes] = set()

        def take(key: Key, other: Namespace = other, agents: set[bytes] = agents) -> None:
            split = other.split(key.key)
            if split is not None and not split[1]:
                agents.add(split[0])

        # Keys of longer spellings begin alike: NS//AGENT/ lies in the range of NS/.
        deeper = other.root + b"/"
        reader = _Reader(gateway, 0)
        is_all = reader.read(other.root, deeper, take, OTHER_KEYS)
        is_all &= reader.read(prefix_end(deeper), prefix_end(other.root), take, OTHER_KEYS)
        if agents:
            found.append(OtherSpelling(other.spelled, len(agents), is_all))
    return found


def namespaces_elsewhere(gateway: Gateway) -> list[bytes]:
    """Namespaces that the first keys of the whole store look like: for who has found nothing. A
    presence key is empty, and ends in '/AGENT/'."""
    found: dict[bytes, int] = {}
    answer = gateway.range(b"\0", b"\0", limit=str(OTHER_KEYS // 5), keys_only=True)
    for raw in answer.get("kvs", []):
        key = unb64(raw["key"])
        parts = key[:-1].rsplit(b"/", 1) if key.endswith(b"/") else []
        if len(parts) == 2 and parts[1]:
            found[parts[0]] = found.get(parts[0], 0) + 1
    return sorted(found, key=lambda name: -found[name])[:5]


def range_of(prefix: bytes) -> Json:
    """As a request of etcd's has it."""
    return {"key": b64(prefix), "range_end": b64(prefix_end(prefix))}
