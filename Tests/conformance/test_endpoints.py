# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Several endpoints: one dead, one silent, one frozen, a cluster that changes its leader."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from cluster import Cluster
from conftest import EtcdFactory, HostFactory
from etcd_server import Etcd, Place, free_ports
from hosts import TICK_WALL_LIMIT_NS
from memcheck import scaled
from proxy import Proxy

NS = b"/ns/"
LANGUAGES = ("cpp", "python")


@pytest.fixture
def black_hole() -> Iterator[str]:
    """An endpoint that accepts and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def full_queue() -> Iterator[str]:
    """An endpoint that does not even accept: connecting to it hangs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        yield f"http://127.0.0.1:{address[1]}"
        for filler in fillers:
            filler.close()


@pytest.fixture
def not_etcd() -> Iterator[str]:
    """An endpoint that speaks another language."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def works(hosts: HostFactory, endpoints: str, within: float) -> None:
    """The starting point in the list is random: several handles, so that both orders occur."""
    for number in range(6):
        host = hosts()
        before = time.monotonic()
        host.open(endpoints, NS, agent=b"agent%d" % number)
        host.succeed("start_heartbeat", interval=1000, ttl=5000, within=within)
        host.succeed("publish", label=b"l", blob=b"b", within=within)
        host.event("SYNCED", watch=host.start("watch"), within=within)
        assert time.monotonic() - before < scaled(within)
        assert host.stats()["tick_wall_max_ns"] < TICK_WALL_LIMIT_NS
        host.quit()


def test_dead_endpoint(hosts: HostFactory, own_etcd: EtcdFactory) -> None:
    etcd = own_etcd()
    dead = f"127.0.0.1:{free_ports(1)[0]}"
    works(hosts, f"{dead},{etcd.endpoint}", within=1.0)


def test_silent_endpoint(hosts: HostFactory, own_etcd: EtcdFactory, black_hole: str) -> None:
    etcd = own_etcd()
    works(hosts, f"{black_hole},{etcd.endpoint}", within=2.5)


def test_endpoint_that_does_not_accept(
    hosts: HostFactory, own_etcd: EtcdFactory, full_queue: str
) -> None:
    etcd = own_etcd()
    works(hosts, f"{full_queue},{etcd.endpoint}", within=2.5)


def test_connect_thatIsGivenUp_leavesNoSocketBehind(
    hosts: HostFactory, own_etcd: EtcdFactory, full_queue: str
) -> None:
    """libcurl 7.88.1 closes the socket of such an attempt without a word. Its number is used again,
    by the next attempt or by the host: what was known of it must not be applied to that."""
    etcd = own_etcd()
    for number in range(6):
        host = hosts()
        host.open(f"{full_queue},{etcd.endpoint}", NS, agent=b"a%d" % number, log=1, log_level=2)
        host.succeed("publish", label=b"l", blob=b"b")
        lines = [line["line"] for line in host.lines("log")]
        assert not [line for line in lines if "refused to watch" in line], lines
        assert host.stats()["connects"] == 1
        host.quit()


def test_endpoint_that_is_no_etcd(hosts: HostFactory, own_etcd: EtcdFactory, not_etcd: str) -> None:
    etcd = own_etcd()
    works(hosts, f"{not_etcd},{etcd.endpoint}", within=2.5)


def test_name_that_does_not_resolve(hosts: HostFactory, own_etcd: EtcdFactory) -> None:
    etcd = own_etcd()
    works(hosts, f"no-such-host.invalid:2379,{etcd.endpoint}", within=3.0)


def test_ipv6(hosts: HostFactory, own_etcd: EtcdFactory) -> None:
    etcd = own_etcd.unstarted()
    etcd.flags = ("--listen-client-urls", f"{etcd.own_endpoint},http://[::1]:{etcd.own_port}")
    etcd.start().wait_healthy()
    host = hosts()
    host.open(f"[::1]:{etcd.own_port}", NS, agent=b"alpha")
    host.succeed("publish", label=b"l", blob=b"b")
    assert len(etcd.gateway.keys(NS)) == 2


@pytest.mark.parametrize("how", ["cut", "silence"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_failover_between_two_endpoints_of_one_server(
    hosts: HostFactory, own_etcd: EtcdFactory, how: str, language: str
) -> None:
    """The endpoint in use fails, whichever it is: streams move, lease and watch go on, no event
    comes."""
    etcd = own_etcd()
    ways = [Proxy(etcd.port), Proxy(etcd.port)]
    try:
        host = hosts(language)
        host.open(",".join(way.endpoint for way in ways), NS, agent=b"alpha")
        host.succeed("start_heartbeat", interval=1000, ttl=5000)
        watch = host.start("watch", agent=b"beta")
        host.event("SYNCED", watch=watch)
        for number in range(4):
            used = max(ways, key=lambda way: way.active)
            getattr(used, how)()
            etcd.gateway.put(NS + b"/beta/l", b"%d" % number)
            host.event("PUT", watch=watch, blob=b"%d" % number, within=4)
            host.succeed("publish", label=b"l", blob=b"%d" % number, within=2)
            used.heal()
            time.sleep(1.2)
        assert set(host.names()) == {"SYNCED", "PRESENT", "PUT"}
        assert host.stats()["tick_wall_max_ns"] < TICK_WALL_LIMIT_NS
    finally:
        for way in ways:
            way.close()


@pytest.fixture
def cluster(version: str) -> Iterator[Cluster]:
    three = Cluster(version, [Place()] * 3)
    try:
        three.start()
        yield three
    finally:
        three.close()


def test_leader_killed(hosts: HostFactory, cluster: Cluster) -> None:
    """Lease and watches survive the election; the killed member comes back."""
    agent, peer = hosts(), hosts("python")
    agent.open(cluster.endpoints, NS, agent=b"alpha")
    agent.succeed("start_heartbeat", interval=2000, ttl=8000)
    agent.succeed("publish", label=b"l", blob=b"0")
    lease = agent.stats()["lease_id"]
    peer.open(cluster.endpoints, NS)
    watch = peer.start("watch", agent=b"alpha")
    peer.event("SYNCED", watch=watch)
    leader = cluster.leader()
    leader.kill()
    agent.succeed("publish", label=b"l", blob=b"1", timeout=15_000)
    peer.event("PUT", watch=watch, label=b"l", blob=b"1", within=5)
    leader.start().wait_healthy()
    agent.succeed("publish", label=b"l", blob=b"2", timeout=15_000)
    peer.event("PUT", watch=watch, label=b"l", blob=b"2", within=5)
    assert agent.stats()["lease_id"] == lease
    assert agent.events() == []
    assert not {"GONE", "RESTARTED", "RESYNC"} & set(peer.names())
    _no_event_twice(peer.events(watch=watch, event="PUT"))


def test_member_frozen(hosts: HostFactory, cluster: Cluster) -> None:
    """SIGSTOP of the member in use: no tick blocks, another one is used, the lease stays."""
    hosts_on = [hosts() for _ in range(3)]
    for number, host in enumerate(hosts_on):
        host.do("drive", mode="period", period=50)
        host.open(cluster.endpoints, NS, agent=b"agent%d" % number)
        host.succeed("start_heartbeat", interval=1000, ttl=6000)
        host.succeed("publish", label=b"l", blob=b"0")
        host.event("SYNCED", watch=host.start("watch"))
    member = cluster.follower()
    member.freeze()
    for host in hosts_on:
        host.succeed("publish", label=b"l", blob=b"1", timeout=10_000)
    time.sleep(7)
    for host in hosts_on:
        host.succeed("publish", label=b"l", blob=b"2", timeout=10_000, within=3)
        assert host.events(event="LOST") == []
        assert host.stats()["tick_wall_max_ns"] < TICK_WALL_LIMIT_NS
    member.thaw()


def _no_event_twice(events: list[dict[str, object]]) -> None:
    seen = [(line["revision"], line["label"]) for line in events]
    assert len(seen) == len(set(seen))


def test_two_clusters_that_are_not_one(hosts: HostFactory, own_etcd: EtcdFactory) -> None:
    """Moving to a server with another history is a replaced store: RESYNC, keys put back there."""
    first, second = own_etcd(), own_etcd()
    proxy = Proxy(first.port)
    try:
        host, peer = hosts(), hosts()
        host.open(proxy.endpoint, NS, agent=b"alpha")
        host.succeed("start_heartbeat", interval=1000, ttl=5000)
        host.succeed("publish", label=b"l", blob=b"b")
        peer.open(proxy.endpoint, NS)
        watch = peer.start("watch", agent=b"alpha", flags=0)
        peer.event("SYNCED", watch=watch)
        for number in range(50):
            second.gateway.put(b"/elsewhere", b"%d" % number)
        proxy.cut()
        proxy.aim(second.port)
        proxy.heal()
        host.event("RESTORED", within=5)
        assert host.names() == ["LOST", "RESTORED"]
        peer.event("RESYNC", watch=watch, within=5)
        assert second.gateway.keys(NS) == [NS + b"/alpha/", NS + b"/alpha/l"]
    finally:
        proxy.close()


def test_proxyVariables_areNotRead(hosts: HostFactory, etcd34: Etcd, namespace: bytes) -> None:
    names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    host = hosts(environment=dict.fromkeys(names, "http://127.0.0.1:1"))
    host.open(etcd34.endpoint, namespace, agent=b"alpha")
    host.succeed("publish", label=b"l", blob=b"b")
    assert host.stats()["connects_failed"] == 0
