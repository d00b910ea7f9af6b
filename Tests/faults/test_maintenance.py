# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""An operator restarts and upgrades a cluster in use, member by member, moves the leadership,
replaces members.

In each case (see Scene) the agent keeps its lease and gets no event, its keys are there whenever
one looks, and the peer gets each change once and in order."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import pytest

import capi
from conftest import Figure
from etcd_server import Etcd
from gateway import GatewayError
from store import PATIENCE
from world import CONTACT, NS, Scene, World

REQUEST_DEADLINE = 2.0
RENEWAL = 1 + 5 / 6  # at the latest, at TTL 5 s: when one is due, and its own deadline

Spans = list[tuple[float, float]]


def publish_until(scene: Scene, is_reached: Callable[[], bool], spans: Spans) -> None:
    """Publishes one value after the other; each succeeds. When each was called for and
    completed."""
    deadline = time.monotonic() + PATIENCE
    while True:
        begin = time.monotonic()
        value = b"%d" % len(spans)
        done = scene.agent.succeed(
            "publish", label=b"metadata", blob=value, timeout=60_000, within=PATIENCE
        )
        spans.append((begin, done["t"] / 1e9))
        if is_reached():
            return
        assert time.monotonic() < deadline, f"not reached within {PATIENCE} s"
        time.sleep(0.05)


def check_spans(scene: Scene, figure: Figure, spans: Spans, what: str, least: float) -> None:
    """No publish takes longer than `least` (or than somebody waits who only writes, all the time,
    to whichever member takes it) and a second more."""

    def excess(span: tuple[float, float]) -> float:
        return span[1] - span[0] - bound(span)

    def bound(span: tuple[float, float]) -> float:
        pause = scene.writer.longest_pause(*span)
        return max(least, pause) + 1 + scene.world.machine.withheld(*span)

    assert len(spans) > 10
    worst = max(spans, key=excess)
    figure(what, *worst, max(least, scene.writer.longest_pause(*worst)) + 1)


def after(moment: float) -> Callable[[], bool]:
    return lambda: time.monotonic() > moment


def is_healthy(member: Etcd) -> bool:
    return member.is_healthy


def leads(world: World, member: Etcd) -> bool:
    return world.cluster.leader() is member


def member_id(member: Etcd) -> str:
    return f"{int(member.status()['header']['member_id']):x}"


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_rolling_restart(world: World, figure: Figure, how: str) -> None:
    """One member after the other, twice, while the agent publishes without a pause."""
    with Scene(world, ttl=5, interval=1) as scene:
        spans: Spans = []
        for member in [*world.cluster.members] * 2:
            if how == "SIGTERM":
                member.terminate()
            else:
                member.kill()
            stopped = time.monotonic()
            publish_until(scene, after(stopped + 1), spans)
            member.start()
            publish_until(scene, partial(is_healthy, member), spans)
        check_spans(scene, figure, spans, f"slowest publish, {how}", REQUEST_DEADLINE)
    assert scene.agent.stats()["renewals"] > 5


@pytest.mark.parametrize("version", ["3.4"])
def test_rolling_upgrade(world: World, figure: Figure) -> None:
    """From 3.4 to 3.5, each member on its data, while the agent publishes without a pause."""
    with Scene(world, ttl=5, interval=1) as scene:
        spans: Spans = []
        for member in world.cluster.members:
            member.terminate()
            member.version = "3.5"
            member.start()
            publish_until(scene, partial(is_healthy, member), spans)
        versions = {m.status()["version"] for m in world.cluster.members}
        assert {each.rpartition(".")[0] for each in versions} == {"3.5"}
        end = time.monotonic() + 3
        publish_until(scene, after(end), spans)
        check_spans(scene, figure, spans, "slowest publish", REQUEST_DEADLINE)
    # Data written by 3.4 is there, and data written by 3.5.
    gateway = world.cluster.leader().gateway
    kept = gateway.get(NS + b"/alpha/metadata")
    assert kept is not None
    assert kept.value == b"%d" % (len(spans) - 1)
    assert kept.lease == scene.lease


def test_leader_moved(world: World, figure: Figure) -> None:
    """`etcdctl move-leader`, to each member in turn: no event, and no publish waits for long."""
    with Scene(world, ttl=5, interval=1) as scene:
        spans: Spans = []
        for member in [*world.cluster.members] * 2:
            leader = world.cluster.leader()
            if leader is not member:
                leader.ctl("move-leader", member_id(member))
            publish_until(scene, partial(leads, world, member), spans)
            moved = time.monotonic()
            publish_until(scene, after(moved + 1), spans)
        check_spans(scene, figure, spans, "slowest publish", 0)
    with world.unless_late(scene.begun, *CONTACT):
        assert "CONTACT_LOST" not in scene.peer.names()


@pytest.mark.parametrize("role", ["follower", "leader"])
def test_member_replaced(world: World, figure: Figure, role: str) -> None:
    """The member in use is removed from the cluster: another is used. Then it comes back empty,
    as a new member: first as a learner, which serves nobody, then as a voter."""
    with Scene(world, ttl=5, interval=1) as scene:
        spans: Spans = []
        member = world.in_use(scene.agent)
        world.make_leader(member if role == "leader" else world.others(member)[0])
        scene.looks.pass_over(member)
        operate(scene, member, spans, "member", "remove", member_id(member))
        publish_until(scene, lambda: world.in_use(scene.agent) is not member, spans)
        member.wait_exit()
        removed = time.monotonic()
        publish_until(scene, after(removed + 3), spans)
        check_spans(scene, figure, spans, "slowest publish, removed", RENEWAL)
        spans.clear()
        join(scene, member, spans)
        late = world.host()
        late.open(world.network.endpoints(world.place(late), [member]), NS, agent=b"late")
        with world.observed(late):
            op = late.start("publish", label=b"l", blob=b"b", timeout=60_000)
            joined = time.monotonic()
            publish_until(scene, after(joined + 3), spans)
            assert late.lines("done") == []
            # etcd refuses until it has caught up.
            promoted = operate(scene, member, spans, "member", "promote", member_id(member))
            done = late.done(op, PATIENCE)
        assert done["status"] == capi.SUCCESS
        figure("publish by the new member, since it votes", promoted, done["t"] / 1e9, 1)
        world.cluster.learn_ids()
        check_spans(scene, figure, spans, "slowest publish, added", RENEWAL)


def operate(scene: Scene, subject: Etcd, spans: Spans, *command: str) -> float:
    """Repeats an operator's request to another member until etcd carries it out: it refuses changes
    of the membership until all members have known each other for 5 s. Returns when it was done."""
    operator = scene.world.others(subject)[0]
    done: list[float] = []

    def is_done() -> bool:
        try:
            operator.ctl(*command)
        except AssertionError:
            return False
        done.append(time.monotonic())
        return True

    publish_until(scene, is_done, spans)
    return done[0]


def join(scene: Scene, member: Etcd, spans: Spans) -> None:
    """Adds it to the cluster under its old name and address, but as another member, a learner."""
    urls = ("--peer-urls", member.peer_url)
    operate(scene, member, spans, "member", "add", member.name, "--learner", *urls)
    member.wipe()
    member.flags = (*member.flags, "--initial-cluster-state", "existing")
    member.start()
    publish_until(scene, lambda: has_copy(member), spans)


def has_copy(member: Etcd) -> bool:
    """A learner answers what is not linearizable."""
    try:
        return bool(member.gateway.range(NS, serializable=True, timeout=1.0))
    except (GatewayError, OSError):
        return False
