# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Agents with a buffer to be read, and the results of their readers."""

from __future__ import annotations

from urllib.parse import quote

from conftest import SOON, PeerFactory, eventually
from etcd_server import Etcd
from hosts import Host, Line, Refused, made_blob

TTL = 5
# A TTL that no test outlasts: nothing that happens within it comes from the end of a lease.
LONG_TTL = 300
SIZE = 5000
KINDS = ("tick", "asyncio")


def start(
    peers: PeerFactory,
    kind: str,
    name: str,
    etcd: Etcd,
    namespace: bytes,
    seed: int = 1,
    ttl: int = TTL,
) -> Host:
    """With a buffer to be read."""
    environment = {"TEST_SIZE": str(SIZE), "TEST_SEED": str(seed), "TEST_TTL": str(ttl)}
    return peers(kind, name, etcd, namespace, **environment)


def wait_published(host: Host, **values: str) -> None:
    eventually(lambda: host.do("is_published", **values)["is_published"], SOON, "it is published")


def is_refused(host: Host, kind: str) -> bool:
    """Whether `is_published` raises this exception."""
    try:
        host.do("is_published")
    except Refused as refused:
        return refused.text.startswith(kind)
    return False


def told(reader: Host, is_loaded: bool, since: int = 0, within: float = SOON, **more: str) -> Line:
    values = {"name": "alpha", **more}
    return reader.line("peer", is_loaded=is_loaded, since=since, within=within, **values)


def check_read(
    reader: Host, owner: Host, seed: int, agent: str = "alpha", who: str | None = None
) -> None:
    address = owner.do("where")["address"]
    answer = reader.do("read", agent=quote(agent), address=address, size=SIZE, who=who)
    assert answer["state"] == "DONE"
    assert bytes.fromhex(answer["bytes"]) == made_blob(SIZE, seed)
