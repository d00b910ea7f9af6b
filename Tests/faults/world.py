# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Three members of etcd and the hosts that use them, each with an address of its own."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import capi
from cluster import Cluster
from etcd_server import Etcd, Place
from fixtures import HostFactory
from hosts import Host, Line
from loopback import Loopback
from machine import Machine
from namespaces import Namespaces
from procfs import Sampler, remote_addresses, thread_count
from store import PATIENCE, KeySampler, wait_until
from writer import Writer

NS = b"/ns/"
MEMBERS = 3
# However many hosts there are to look at: they need the processors themselves.
SAMPLERS = 2


class World:
    """The cluster, the network between it and the hosts, and the hosts."""

    def __init__(
        self,
        version: str,
        network: Namespaces | Loopback,
        hosts: HostFactory,
        machine: Machine,
        flags: Sequence[str] = (),
    ) -> None:
        self.network = network
        self.version = version
        self.excuses: list[str] = []
        self.machine = machine
        self._hosts = hosts
        self._places: dict[int, Place] = {}
        self._started: list[Host] = []
        self._unobserved: list[Host] = []
        self.cluster = Cluster(version, [network.add(f"m{n}") for n in range(MEMBERS)], *flags)
        network.connect(self.cluster.members)

    def start(self) -> None:
        self.cluster.start()

    def close(self) -> None:
        self.cluster.close()

    # Hosts

    def host(self, language: str = "cpp") -> Host:
        """A process on a machine of its own."""
        place = self.network.add(f"h{len(self._places)}")
        host = self._hosts(language, prefix=place.prefix)
        self._places[host.pid] = place
        self._started.append(host)
        self._unobserved.append(host)
        return host

    def dismiss(self, host: Host) -> None:
        """Ends one that has no part in the test."""
        host.quit()
        self._unobserved.remove(host)

    def print_logs(self) -> None:
        """The library's log; pytest shows it with a failed test."""
        for host in self._started:
            for line in host.lines("log"):
                print(f"{line['t'] / 1e9:.3f} host {host.pid}: {line['line']}")

    def longest_tick(self) -> float:
        """Milliseconds of CPU; 0 where none took one."""
        told = [line for host in self._started for line in host.lines("long_tick")]
        return max((line["tick_cpu_max_ns"] / 1e6 for line in told), default=0.0)

    def place(self, host: Host) -> Place:
        return self._places[host.pid]

    def open(self, host: Host, **values: Any) -> None:
        endpoints = self.network.endpoints(self.place(host), self.cluster.members)
        host.open(endpoints, NS, log=1, log_level=2, **values)

    def agent(self, name: bytes, ttl: int, interval: int, language: str = "cpp") -> Host:
        """An agent with a heartbeat (seconds) and one published label."""
        host = self.host(language)
        self.open(host, agent=name)
        host.succeed("start_heartbeat", interval=interval * 1000, ttl=ttl * 1000)
        host.succeed("publish", label=b"metadata", blob=name)
        return host

    def observer(self, language: str = "cpp", **watch: Any) -> tuple[Host, int]:
        """A handle that only watches, and its watch: in sync."""
        host = self.host(language)
        self.open(host)
        number = host.start("watch", **watch)
        host.event("SYNCED", watch=number)
        return host, number

    # Members

    def in_use(self, host: Host) -> Etcd:
        """The member that the host is connected to; it may be on its way from one to another."""
        remotes: set[tuple[str, int]] = set()

        def is_connected() -> bool:
            remotes.clear()
            remotes.update(remote_addresses(host.pid))
            return len(remotes) == 1

        wait_until(is_connected, PATIENCE, "one connection")
        return self.network.member_at(remotes.pop()[1], self.cluster.members)

    def others(self, *members: Etcd) -> list[Etcd]:
        return [m for m in self.cluster.members if m not in members]

    def make_leader(self, member: Etcd) -> None:
        """Moves the leadership by request, so that a test knows which role a member has."""
        leader = self.cluster.leader()
        if leader is not member:
            target = member.status()["header"]["member_id"]
            leader.gateway.call("/v3/maintenance/transfer-leadership", {"targetID": target})
            wait_until(
                lambda: self.cluster.leader() is member, PATIENCE, "the leadership handed over"
            )

    def isolate(self, member: Etcd) -> None:
        """Parts a member from the other members, and from nobody else."""
        for other in self.others(member):
            self.network.part(member.place, other.place)

    # Checks

    @contextmanager
    def observed(self, *hosts: Host) -> Iterator[None]:
        """No thread appears in these processes, and none ever has more connections than two for
        each handle, the second one during an outage, until it is killed, if it is."""
        self._unobserved = [host for host in self._unobserved if host not in hosts]
        before = [(host, thread_count(host.pid), len(host.open_handles)) for host in hosts]
        parts = [hosts[i::SAMPLERS] for i in range(min(SAMPLERS, len(hosts)))]
        with ExitStack() as stack:
            samplers = [
                stack.enter_context(Sampler(*(host.pid for host in part))) for part in parts
            ]
            yield
        found = {pid: seen for sampler in samplers for pid, seen in sampler.seen.items()}
        for host, threads, handles in before:
            seen = found[host.pid]
            is_killed = host.process.poll() == -signal.SIGKILL
            assert is_killed or not seen.is_ended, f"process {host.pid} has ended by itself"
            assert seen.count > 10, f"process {host.pid} was looked at {seen.count} times"
            assert seen.threads == {threads}, f"process {host.pid} had {seen.threads} threads"
            # Some hosts open their handle meanwhile.
            allowed = 2 * max(handles, 1)
            assert seen.connections_max <= allowed, f"process {host.pid}: {seen.connections}"

    def check_observed(self) -> None:
        """Every host of a test must have been."""
        missed = [host.pid for host in self._unobserved]
        assert missed == [], f"nobody looked at the threads and connections of {missed}"

    @contextmanager
    def unless_late(self, since: float, span: float, seconds: float) -> Iterator[None]:
        """The checks inside apply unless the machine held hosts and etcd up for so many seconds
        within any span of that length: nobody can keep a time then."""
        try:
            yield
        except AssertionError as error:
            if not self.machine.was_held_up(since, time.monotonic(), span, seconds):
                raise
            self.excuses.append(str(error).partition("\n")[0])

    def keys(self, prefix: bytes = NS) -> list[bytes]:
        return self.cluster.leader().gateway.keys(prefix)

    def everywhere(self, keys: Sequence[bytes]) -> None:
        """Waits until every member's own copy has the keys."""

        def are_there() -> bool:
            return all(
                set(keys) <= {kv.key for kv in m.gateway.range(NS, serializable=True)}
                for m in self.cluster.members
            )

        wait_until(are_there, PATIENCE, f"{keys} on every member")


def changes_told(host: Host, watch: int) -> list[tuple[int, bytes, bytes]]:
    """The events of a watch with blobs: revision, key, value."""
    return [
        (
            line["revision"],
            NS + b"/" + bytes.fromhex(line["agent"]) + b"/" + bytes.fromhex(line["label"]),
            bytes.fromhex(line["blob"]),
        )
        for line in host.events(watch=watch, event="PUT")
    ]


def renewing(ttl: float, interval: float) -> tuple[float, float]:
    """A span, and for how long in it contact may be lost so that the lease survives."""
    return ttl, ttl - interval - 1


# Watches get CONTACT_LOST after a second.
CONTACT = (2.0, 1.0)


def contacts(host: Host, watch: int) -> list[str]:
    """A watch's events about its contact, checked to be in order."""
    told = [n for n in host.names(watch=watch) if n.startswith("CONTACT")]
    expected = ["CONTACT_LOST", "CONTACT_REGAINED"] * len(told)
    assert told == expected[: len(told)], told
    return told


def settle_after(world: World, agents: Sequence[Host], keys: Sequence[bytes]) -> None:
    """Holds after a leader that hung continues.

    etcd before 3.4.31 and 3.5.13 (issue 15247 there) lets it revoke leases that its successor keeps
    alive. Then, and only then, the agent gets LOST and RESTORED, and its keys are back."""
    time.sleep(2)
    wait_until(lambda: set(keys) <= set(world.keys()), PATIENCE, f"{keys}")
    for agent in agents:
        wait_until(partial(is_restored, agent), PATIENCE, "LOST and RESTORED for each lost lease")


def is_restored(agent: Host) -> bool:
    """Whether each lost lease, and nothing else, caused LOST and RESTORED."""
    return agent.names(watch=0) == ["LOST", "RESTORED"] * agent.stats()["leases_lost"]


class Scene:
    """An agent under a lease, a peer that watches everything, somebody who writes all the time.

    Under every fault that etcd's data survive: the agent keeps its lease and gets no event, all its
    keys are there whenever one looks, and the peer gets each change once, in order."""

    def __init__(
        self, world: World, ttl: int, interval: int, languages: str = "cpp python"
    ) -> None:
        first, second = languages.split()
        self.world = world
        self.ttl = ttl
        self.interval = interval
        self.begun = time.monotonic()
        self.agent = world.agent(b"alpha", ttl, interval, first)
        self.own_keys = [NS + b"/alpha/", NS + b"/alpha/metadata"]
        self.lease = self.agent.stats()["lease_id"]
        self.first = world.cluster.leader().gateway.put(NS + b"/busy/", b"")
        self.peer, self.watch = world.observer(second, flags=capi.WATCH_BLOBS)
        # Both use one member, so that a fault of it hits both; where a handle starts is random.
        while world.in_use(self.peer) is not world.in_use(self.agent):
            world.dismiss(self.peer)
            self.peer, self.watch = world.observer(second, flags=capi.WATCH_BLOBS)
        world.everywhere(self.own_keys)
        self._stack = ExitStack()

    def __enter__(self) -> Scene:
        with ExitStack() as stack:
            stack.enter_context(self.world.observed(self.agent, self.peer))
            self.looks = stack.enter_context(
                KeySampler(self.world.cluster.members, NS + b"/alpha/")
            )
            members = self.world.cluster.members
            self.writer = stack.enter_context(Writer(members, NS + b"/busy/l", pause=0.02))
            # Faults come into a stream of changes that is running.
            self.peer.event("PUT", watch=self.watch, label=b"l", count=20)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        self._stack.__exit__(kind, *rest)
        if kind is None:
            self.check()

    def end(self) -> list[Line]:
        """Writes a last change and waits until the peer has got it."""
        last = self.world.cluster.leader().gateway.put(NS + b"/busy/end", b"end")
        self.peer.event("PUT", watch=self.watch, label=b"end", revision=last, within=PATIENCE)
        return self.peer.events(watch=self.watch)

    def check(self) -> None:
        self.end()
        self.check_changes()
        stats = self.agent.stats()
        assert not {"RESTARTED", "RESYNC", "ENDED"} & set(self.peer.names())
        contacts(self.peer, self.watch)
        assert len(self.looks.looks) > 10
        wait_until(partial(is_restored, self.agent), PATIENCE, "no more and no less than is lost")
        with self.world.unless_late(self.begun, *renewing(self.ttl, self.interval)):
            assert stats["lease_id"] == self.lease
            assert (stats["leases_lost"], stats["restores"]) == (0, 0)
            assert not {"GONE", "RETURNED"} & set(self.peer.names())
            missing = self.looks.missing(self.own_keys)
            assert missing == [], missing[:5]

    def check_changes(self) -> None:
        """The peer's events are etcd's own history: nothing lost, nothing twice, in order."""
        gateway = self.world.cluster.leader().gateway
        last = self.peer.events(watch=self.watch, event="PUT", label=b"end")[-1]["revision"]
        history = gateway.history(NS, self.first, last)
        with self.world.unless_late(self.begun, *renewing(self.ttl, self.interval)):
            assert not any(change.is_delete for change in history)
        expected = [(c.revision, c.kv.key, c.kv.value) for c in history if c.kv.value]
        # Changes that a member had yet to commit when it was cut off may come after the end.
        told = [t for t in changes_told(self.peer, self.watch) if self.first <= t[0] <= last]
        assert told == expected, difference(told, expected)
        assert len(told) > 20


def difference(told: list[Any], expected: list[Any]) -> str:
    missing = [e for e in expected if e not in told]
    unexpected = [t for t in told if t not in expected]
    return f"missing {missing[:5]}, unexpected {unexpected[:5]}, {len(told)} of {len(expected)}"
