# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Lists on every server: etcd 3.7 answers reads without values without leases, which name the
process (etcd issue 22209)."""

from __future__ import annotations

import capi
from conftest import EtcdFactory, HostFactory
from etcd_server import Etcd

NS = b"/ns/"
HEARTBEAT = {"interval": 1000, "ttl": 10_000}
# So many agents of ours that point reads take more than one transaction.
MANY = 130


def lease_of(etcd: Etcd, agent: bytes) -> int:
    presence = etcd.gateway.get(NS + b"/" + agent + b"/")
    assert presence is not None
    return int(presence.lease)


def test_list_and_watch_name_the_processes_that_events_name(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str
) -> None:
    """Agents with and without a heartbeat, many of another process's, a stock agent, one that has
    a label without a lease and no presence key; and none that only has labels of a dead process, or
    empty ones."""
    etcd = own_etcd(version)
    put = etcd.gateway.put
    observer = hosts()
    observer.open(etcd.endpoint, NS)
    before = observer.start("watch", flags=capi.WATCH_PRESENCE_ONLY)
    observer.event("SYNCED", watch=before)
    for name in (b"alpha", b"beta"):
        host = hosts()
        host.open(etcd.endpoint, NS, agent=name)
        if name == b"beta":
            host.succeed("start_heartbeat", **HEARTBEAT)
        host.succeed("publish", label=b"l", blob=b"b")
    expected = {name: lease_of(etcd, name) for name in (b"alpha", b"beta")}
    for number in range(MANY):
        name = b"many%d" % number
        expected[name] = etcd.gateway.grant(60, (0x1234_5678_0000 + number) << 16 | 2)
        put(NS + b"/" + name + b"/", b"", expected[name])
    put(NS + b"/stock/", b"")
    put(NS + b"/stock/l", b"b")
    put(NS + b"/implied/l", b"b")
    put(NS + b"/empty/l", b"")
    put(NS + b"/ghost/l", b"b", etcd.gateway.grant(60))
    agents = observer.succeed("list")["agents"]
    listed = {bytes.fromhex(agent[0]): agent[1] for agent in agents}
    assert set(listed) == {*expected, b"stock", b"implied"}
    assert {name: listed[name] for name in expected} == {
        name: lease >> 16 for name, lease in expected.items()
    }
    observer.event("PRESENT", watch=before, agent=b"implied")
    told = {
        bytes.fromhex(line["agent"]): line["incarnation"]
        for line in observer.events(watch=before)
        if line["event"] == "PRESENT"
    }
    assert told == listed
    # A watch that begins now lists the same.
    mark = observer.mark()
    after = observer.start("watch", flags=capi.WATCH_PRESENCE_ONLY)
    observer.event("SYNCED", watch=after)
    again = {
        bytes.fromhex(line["agent"]): line["incarnation"]
        for line in observer.events(mark, watch=after)
        if line["event"] == "PRESENT"
    }
    assert again == listed
