# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""etcd's users, passwords, tokens and roles."""

from __future__ import annotations

import time

import pytest

import capi
from conftest import EtcdFactory, HostFactory
from etcd_server import Etcd

NS = b"/ns/"
WHO = {"user": b"alice", "password": b"secret"}


def guarded(own_etcd: EtcdFactory, version: str, *flags: str) -> Etcd:
    etcd = own_etcd(version, *flags)
    etcd.gateway.enable_auth("root-password")
    etcd.gateway.add_user("alice", "secret", NS, "READWRITE")
    etcd.gateway.add_user("reader", "secret", NS, "READ")
    etcd.gateway.add_user("nobody", "secret", None, "READ")
    return etcd


@pytest.mark.parametrize("language", ["cpp", "python"])
def test_user_and_password(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str, language: str
) -> None:
    etcd = guarded(own_etcd, version)
    host = hosts(language)
    host.open(etcd.endpoint, NS, agent=b"alpha", **WHO)
    host.succeed("start_heartbeat", interval=1000, ttl=5000)
    watch = host.start("watch", agent=b"alpha")
    host.event("SYNCED", watch=watch)
    host.succeed("publish", label=b"l", blob=b"b")
    host.event("PUT", watch=watch, label=b"l")
    assert host.succeed("fetch", agent=b"alpha", label=b"l")["blob"] == b"b".hex()
    assert len(host.succeed("list")["agents"]) == 1
    time.sleep(1.5)
    assert host.stats()["renewals"] >= 1


def test_token_forgotten_is_renewed_without_an_event(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str
) -> None:
    """A restarted member knows no token: the library asks for a new one, and the host gets no
    event."""
    etcd = guarded(own_etcd, version)
    host = hosts()
    host.open(etcd.endpoint, NS, agent=b"alpha", **WHO)
    host.succeed("start_heartbeat", interval=1000, ttl=5000)
    watch = host.start("watch", agent=b"beta")
    host.event("SYNCED", watch=watch)
    for number in range(2):
        etcd.kill()
        etcd.start().wait_healthy()
        host.succeed("publish", label=b"l", blob=b"%d" % number, within=5)
        etcd.gateway.authenticate("root", "root-password")
        etcd.gateway.put(NS + b"/beta/l", b"%d" % number)
        host.event("PUT", watch=watch, blob=b"%d" % number, within=5)
    late = host.start("watch", agent=b"gamma")
    host.event("SYNCED", watch=late)
    assert "ENDED" not in host.names()
    assert host.events(event="LOST") == []


def test_token_expired_is_renewed(hosts: HostFactory, own_etcd: EtcdFactory, version: str) -> None:
    """While the connection stays: calls and new watches still work."""
    # 3.4 does not let it be chosen.
    flags = ["--auth-token-ttl", "1"] if version != "3.4" else []
    etcd = guarded(own_etcd, version, *flags)
    host = hosts()
    host.open(etcd.endpoint, NS, agent=b"alpha", **WHO)
    host.succeed("publish", label=b"l", blob=b"1")
    first = host.start("watch", agent=b"beta")
    host.event("SYNCED", watch=first)
    # A change of the auth store makes every token given before it too old (3.4 and 3.5), and on
    # 3.5 a token that nobody used for a second is forgotten besides.
    etcd.gateway.authenticate("root", "root-password")
    etcd.gateway.add_user("bob", "secret", b"/other/", "READ")
    time.sleep(3)
    host.succeed("publish", label=b"l", blob=b"2", within=5)
    second = host.start("watch", agent=b"gamma")
    host.event("SYNCED", watch=second)
    etcd.gateway.authenticate("root", "root-password")
    etcd.gateway.put(NS + b"/beta/l", b"b")
    etcd.gateway.put(NS + b"/gamma/l", b"b")
    for watch in (first, second):
        host.event("PUT", watch=watch, label=b"l", within=5)
    assert "ENDED" not in host.names()


def test_withdrawal_refused_by_etcd_completes_with_its_status(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str
) -> None:
    """The heartbeat is not stopped then: the keys are there, and stay."""
    etcd = guarded(own_etcd, version)
    host = hosts()
    host.open(etcd.endpoint, NS, agent=b"alpha", **WHO)
    host.succeed("start_heartbeat", interval=1000, ttl=5000)
    host.succeed("publish", label=b"l", blob=b"b")
    etcd.gateway.authenticate("root", "root-password")
    etcd.gateway.grant_permission("alice", NS, "READ")
    stop = {"mode": capi.HEARTBEAT_WITHDRAW, "timeout": 20_000}
    for command, values in (("stop_heartbeat", stop), ("invalidate", {"timeout": 20_000})):
        done = host.finish(command, within=25, **values)
        assert done["status"] == capi.PERMISSION, done
        assert "permission denied" in done["text"], done
    etcd.gateway.authenticate("root", "root-password")
    assert len(etcd.gateway.keys(NS)) == 2
    renewed = host.stats()["renewals"]
    deadline = time.monotonic() + 10
    while host.stats()["renewals"] < renewed + 2:
        assert time.monotonic() < deadline, "it is not renewed any more"
        time.sleep(0.05)
    etcd.gateway.authenticate("root", "root-password")
    etcd.gateway.grant_permission("alice", NS, "READWRITE")
    assert host.finish("stop_heartbeat", **stop)["status"] == capi.SUCCESS
    etcd.gateway.authenticate("root", "root-password")
    assert etcd.gateway.keys(NS) == []


@pytest.mark.parametrize(
    "values",
    [{"user": b"alice", "password": b"wrong"}, {"user": b"mallory", "password": b"secret"}, {}],
    ids=["password", "user", "none"],
)
def test_wrong_credentials(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str, values: dict[str, bytes]
) -> None:
    etcd = guarded(own_etcd, version)
    host = hosts()
    host.open(etcd.endpoint, NS, agent=b"alpha", **values)
    ops = [
        host.start("publish", label=b"l", blob=b"b"),
        host.start("fetch", agent=b"alpha"),
        host.start("list"),
        host.start("start_heartbeat", interval=1000, ttl=5000),
    ]
    watch = host.start("watch", agent=b"beta")
    for op in ops:
        done = host.done(op, within=8)
        assert done["status"] == capi.UNAUTHENTICATED, done
        assert done["text"]
        assert "secret" not in done["text"]
        assert "wrong" not in done["text"].replace("is wrong", "")
    assert host.event("ENDED", watch=watch, within=8)["status"] == capi.UNAUTHENTICATED
    time.sleep(1)
    # It does not hammer the server: each attempt costs that a bcrypt.
    assert host.stats()["requests"] < 60


def test_roles(hosts: HostFactory, own_etcd: EtcdFactory, version: str) -> None:
    etcd = guarded(own_etcd, version)
    etcd.gateway.put(NS + b"/beta/l", b"b")
    reader, nobody = hosts(), hosts()
    reader.open(etcd.endpoint, NS, agent=b"alpha", user=b"reader", password=b"secret")
    assert reader.succeed("fetch", agent=b"beta", label=b"l")["blob"] == b"b".hex()
    watch = reader.start("watch", agent=b"beta")
    reader.event("SYNCED", watch=watch)
    done = reader.finish("publish", label=b"l", blob=b"b")
    assert done["status"] == capi.PERMISSION
    assert done["text"]
    nobody.open(etcd.endpoint, NS, agent=b"alpha", user=b"nobody", password=b"secret")
    for command in ("publish", "fetch", "list"):
        done = nobody.finish(command, agent=b"beta", label=b"l", blob=b"b")
        assert done["status"] == capi.PERMISSION, command
    for agent in (b"beta", None):
        watch = nobody.start("watch", agent=agent)
        ended = nobody.event("ENDED", watch=watch)
        assert ended["status"] == capi.PERMISSION
        assert ended["text"]
    assert etcd.gateway.keys(NS) == [NS + b"/beta/l"]


def test_other_namespace_is_not_ours(hosts: HostFactory, own_etcd: EtcdFactory) -> None:
    """Being refused one thing disturbs nothing else of the handle."""
    etcd = guarded(own_etcd, "3.5")
    host, stranger = hosts(), hosts()
    host.open(etcd.endpoint, NS, agent=b"alpha", **WHO)
    host.succeed("publish", label=b"l", blob=b"b")
    stranger.open(etcd.endpoint, b"/other/", agent=b"alpha", **WHO)
    watch = stranger.start("watch", agent=b"beta")
    assert stranger.event("ENDED", watch=watch)["status"] == capi.PERMISSION
    assert stranger.finish("publish", label=b"l", blob=b"b")["status"] == capi.PERMISSION
    assert stranger.stats()["connected"] == 1
    host.succeed("publish", label=b"l", blob=b"c")


def test_user_against_a_server_without_users(
    hosts: HostFactory, own_etcd: EtcdFactory, version: str
) -> None:
    """'authentication is not enabled' is no reason not to work."""
    etcd = own_etcd(version)
    host = hosts()
    host.open(etcd.endpoint, NS, agent=b"alpha", **WHO)
    host.succeed("publish", label=b"l", blob=b"b")
