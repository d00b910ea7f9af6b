# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""An operator changes who may do what, while agents are connected."""

from __future__ import annotations

import time

import pytest

import capi
from conftest import Figure
from gateway import Gateway
from hosts import Host
from leases import ABSENCE
from store import PATIENCE, wait_until
from world import NS, World, renewing

ROOT = "root-password"
ALICE = {"user": b"alice", "password": b"secret"}
TTL = 15


class Agents:
    """An agent with credentials and one without; each watches the namespace."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.named = self._agent(b"named", "cpp", **ALICE)
        self.nameless = self._agent(b"nameless", "python")
        self.leases = {host: host.stats()["lease_id"] for host in (self.named, self.nameless)}

    def _agent(self, name: bytes, language: str, **credentials: bytes) -> Host:
        host = self.world.host(language)
        self.world.open(host, agent=name, **credentials)
        host.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
        host.succeed("publish", label=b"metadata", blob=b"0")
        watch = host.start("watch", flags=capi.WATCH_BLOBS)
        host.event("SYNCED", watch=watch)
        return host


def enable(world: World) -> Gateway:
    """Authentication is switched on; the way in for an operator."""
    gateway = world.cluster.leader().gateway
    gateway.add_user("alice", "secret", NS, "READWRITE")
    gateway.enable_auth(ROOT)
    return gateway


def operate(gateway: Gateway, path: str, body: dict[str, object]) -> None:
    """Each change of users makes the tokens given before it too old."""
    gateway.authenticate("root", ROOT)
    gateway.call(path, body)
    gateway.authenticate("root", ROOT)


def keys(gateway: Gateway, agent: bytes) -> list[bytes]:
    return gateway.keys(NS + b"/" + agent + b"/")


def is_refused(host: Host, figure: Figure, status: int) -> None:
    """Every kind of call is answered, soon, with the reason; secrets are not shown."""
    begin = time.monotonic()
    last = begin
    ops = [
        host.start("publish", label=b"metadata", blob=b"refused"),
        host.start("fetch", agent=b"named", label=b"other", flags=capi.FETCH_NO_WAIT),
        host.start("list"),
    ]
    for op in ops:
        done = host.done(op, PATIENCE)
        assert done["status"] == status, done
        assert done["text"]
        assert "secret" not in done["text"]
        last = max(last, done["t"] / 1e9)
    figure("calls are refused", begin, last, 3)


def test_authentication_switched_on(world: World, figure: Figure) -> None:
    """The agent with credentials goes on without an event. Each call of the one without fails; its
    lease is renewed and its watch goes on (etcd asks for no token there) until its connection is
    lost: then its watch ends as UNAUTHENTICATED and its lease runs out. Switched off again: LOST,
    RESTORED."""
    agents = Agents(world)
    named, nameless = agents.named, agents.nameless
    with world.observed(named, nameless):
        gateway = enable(world)
        begin = time.monotonic()
        done = named.succeed("publish", label=b"metadata", blob=b"1", within=PATIENCE)
        figure("publish with credentials", begin, done["t"] / 1e9, 2)
        is_refused(nameless, figure, capi.UNAUTHENTICATED)
        for host in (named, nameless):
            put = host.event("PUT", agent=b"named", blob=b"1", within=PATIENCE)
            figure("a change is told", begin, put["t"] / 1e9, 3)
        late = nameless.start("watch", agent=b"named")
        assert (
            nameless.event("ENDED", watch=late, within=PATIENCE)["status"] == capi.UNAUTHENTICATED
        )
        time.sleep(TTL + 2)
        for host in (named, nameless):
            assert host.stats()["lease_id"] == agents.leases[host]
            assert not {"LOST", "GONE", "CONTACT_LOST"} & set(host.names())
        assert len(keys(gateway, b"nameless")) == len(keys(gateway, b"named")) == 2
        # The member in use dies.
        world.in_use(nameless).kill()
        ended = nameless.event("ENDED", count=2, within=PATIENCE)
        assert ended["status"] == capi.UNAUTHENTICATED
        named.event("GONE", agent=b"nameless", within=TTL + PATIENCE)
    gateway = world.cluster.leader().gateway
    gateway.authenticate("root", ROOT)
    assert len(keys(gateway, b"named")) == 2
    gateway.call("/v3/auth/disable", {})
    gateway.token = None
    disabled = time.monotonic()
    restored = nameless.event("RESTORED", within=PATIENCE)
    figure("RESTORED, since it is switched off", disabled, restored["t"] / 1e9, 3)
    assert nameless.names()[-2:] == ["LOST", "RESTORED"]
    named.event("RETURNED", agent=b"nameless", within=PATIENCE)
    named.succeed("publish", label=b"metadata", blob=b"2", within=PATIENCE)
    assert named.stats()["lease_id"] == agents.leases[named]
    assert not {"LOST", "ENDED"} & set(named.names())


@pytest.mark.parametrize("what", ["password changed", "user deleted"])
def test_credentials_become_wrong(world: World, figure: Figure, what: str) -> None:
    """UNAUTHENTICATED: each call, and the watch ends. Put right again before the lease has run out,
    the agent still has its keys; after that it gets LOST and RESTORED."""
    gateway = enable(world)
    agent = world.host()
    world.open(agent, agent=b"named", **ALICE)
    agent.succeed("start_heartbeat", interval=1000, ttl=TTL * 1000)
    agent.succeed("publish", label=b"metadata", blob=b"0")
    lease = agent.stats()["lease_id"]
    with world.observed(agent):
        for number, away in enumerate((3, TTL + 5)):
            watch = agent.start("watch", agent=b"other")
            agent.event("SYNCED", watch=watch, within=PATIENCE)
            if what == "password changed":
                body: dict[str, object] = {"name": "alice", "password": "other"}
                operate(gateway, "/v3/auth/user/changepw", body)
            else:
                operate(gateway, "/v3/auth/user/delete", {"name": "alice"})
            struck = time.monotonic()
            is_refused(agent, figure, capi.UNAUTHENTICATED)
            ended = agent.event("ENDED", watch=watch, within=PATIENCE)
            assert ended["status"] == capi.UNAUTHENTICATED
            requests = agent.stats()["requests"]
            time.sleep(max(0.0, struck + away - time.monotonic()))
            # It asks for a token now and then: each attempt costs etcd a bcrypt.
            assert agent.stats()["requests"] - requests < 2 * (away + 1)
            if what == "password changed":
                operate(gateway, "/v3/auth/user/changepw", {"name": "alice", "password": "secret"})
            else:
                operate(gateway, "/v3/auth/user/add", {"name": "alice", "password": "secret"})
                operate(gateway, "/v3/auth/user/grant", {"user": "alice", "role": "alice"})
            righted = time.monotonic()
            if number == 0 and not world.machine.was_held_up(struck, righted, TTL, TTL - away - 3):
                wait_until(lambda: agent.stats()["connected"] == 1, PATIENCE, "connected")
                figure("connected, since put right", righted, time.monotonic(), 2)
                assert agent.events(event="LOST") == []
                assert agent.stats()["lease_id"] == lease
        restored = agent.event("RESTORED", within=PATIENCE)
        figure("RESTORED, since put right", righted, restored["t"] / 1e9, 3)
        agent.succeed("publish", label=b"metadata", blob=b"1", within=PATIENCE)
    gateway.authenticate("root", ROOT)
    assert {kv.value for kv in gateway.range(NS + b"/named/")} == {b"", b"1"}


def test_role_revoked_and_granted(world: World, figure: Figure) -> None:
    """PERMISSION: each call; the watch (which etcd serves on) when its connection is lost. The
    lease is renewed, nothing is LOST; with the role again everything works."""
    gateway = enable(world)
    agent = world.host("python")
    world.open(agent, agent=b"named", **ALICE)
    agent.succeed("start_heartbeat", interval=1000, ttl=5000)
    agent.succeed("publish", label=b"metadata", blob=b"0")
    watch = agent.start("watch", flags=capi.WATCH_BLOBS)
    agent.event("SYNCED", watch=watch)
    lease = agent.stats()["lease_id"]
    begun = time.monotonic()
    with world.observed(agent):
        gateway.authenticate("root", ROOT)
        gateway.revoke_permission("alice", NS)
        gateway.authenticate("root", ROOT)
        is_refused(agent, figure, capi.PERMISSION)
        gateway.put(NS + b"/other/l", b"b")
        agent.event("PUT", watch=watch, agent=b"other", label=b"l", within=PATIENCE)
        member = world.in_use(agent)
        member.kill()
        killed = time.monotonic()
        ended = agent.event("ENDED", watch=watch, within=PATIENCE)
        assert ended["status"] == capi.PERMISSION
        figure("ENDED, since the member died", killed, ended["t"] / 1e9, 5)
        gateway = world.cluster.leader().gateway
        gateway.authenticate("root", ROOT)
        time.sleep(7)
        assert len(keys(gateway, b"named")) == 2
        gateway.grant_permission("alice", NS, "READWRITE")
        granted = time.monotonic()
        done = agent.succeed("publish", label=b"metadata", blob=b"1", within=PATIENCE)
        figure("publish, since granted", granted, done["t"] / 1e9, 2)
        with world.unless_late(begun, *renewing(5, 1)):
            # It may be the next of the same process: a foreign key might have hung on the first.
            assert agent.stats()["lease_id"] >> 16 == lease >> 16
            assert agent.names(watch=0) == []
        watch = agent.start("watch", agent=b"other", flags=capi.WATCH_BLOBS)
        agent.event("PUT", watch=watch, label=b"l", within=PATIENCE)
        # The self-watch, which was refused meanwhile, is back as well.
        time.sleep(6)
        gateway.authenticate("root", ROOT)
        gateway.delete_prefix(NS + b"/named/")
        deleted = time.monotonic()
        withdrawn = agent.event("WITHDRAWN", within=PATIENCE)
        figure("WITHDRAWN, since deleted", deleted, withdrawn["t"] / 1e9, ABSENCE + 1)
