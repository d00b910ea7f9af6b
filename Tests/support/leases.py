# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The lease of an agent's keys, as etcd reports it."""

from __future__ import annotations

from etcd_server import Etcd
from gateway import Gateway

# The TTL of the lease of an agent without a heartbeat: the greatest that etcd grants.
NEVER_ENDING = 9_000_000_000
# How long a second restore within a minute waits; a third twice as long, and so on (rule 8 of
# docs/registration.md).
RESTORE_PAUSE = 1.0
# How long an agent whose presence key was removed waits for another's, before it leaves.
ABSENCE = 1.0


def granted_ttl(gateway: Gateway, lease: int) -> int:
    """0: there is no such lease."""
    answer = gateway.call("/v3/lease/timetolive", {"ID": str(lease)})
    return int(answer.get("grantedTTL", 0))


def never_ends(gateway: Gateway, lease: int) -> bool:
    """The id says so, and etcd agrees."""
    says_so = lease & 1 == 1
    assert says_so == (granted_ttl(gateway, lease) == NEVER_ENDING), f"{lease:x}"
    return says_so


def one_lease(etcd: Etcd, prefix: bytes, is_renewed: bool) -> int:
    """The one lease on which every key of the prefix hangs: one that is renewed, or one that never
    ends."""
    leases = {kv.lease for kv in etcd.gateway.range(prefix)}
    assert len(leases) == 1, leases
    lease = leases.pop()
    assert never_ends(etcd.gateway, lease) != is_renewed, f"{lease:x}"
    return lease
