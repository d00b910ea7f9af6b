# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The CPU time that a real etcd spends on one of each that a fleet asks of it, in microseconds.

Prints a table; writes it into Benchmarks/etcd_costs.json, where docs/scale.md has it from."""

from __future__ import annotations

import argparse
import json
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from frames import DATA, HEADERS, SETTINGS, Client

from certificates import Authority
from etcd_server import Etcd
from procfs import cpu_seconds
from small_etcd import Fields

RESULT = Path(__file__).parent / "etcd_costs.json"
RANGE, TXN, PUT = b"/etcdserverpb.KV/Range", b"/etcdserverpb.KV/Txn", b"/etcdserverpb.KV/Put"
GRANT, KEEP_ALIVE = b"/etcdserverpb.Lease/LeaseGrant", b"/etcdserverpb.Lease/LeaseKeepAlive"
WATCH, AUTHENTICATE = b"/etcdserverpb.Watch/Watch", b"/etcdserverpb.Auth/Authenticate"
# Connections that ask in turn, each once in a round, so many at once.
CONNECTIONS = 64
AT_ONCE = 8
# Between requests that come alone.
PAUSE = 0.004
WATCHERS = 100
KEYS = 10_000
# A Range of one key, with no values: what the library asks first on a connection.
HELLO: Fields = [(1, b"/costs/none"), (3, 1), (8, 1)]
NOT_EQUAL = 3


class Meter:
    """The CPU time of an etcd, without what it spends when nobody asks."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        begin, cpu = time.monotonic(), cpu_seconds(pid)
        time.sleep(1.0)
        self._idle = (cpu_seconds(pid) - cpu) / (time.monotonic() - begin)

    def microseconds(self, work: Callable[[], None], count: int) -> float:
        """Of one, when the work does so many."""
        begin, cpu = time.monotonic(), cpu_seconds(self._pid)
        work()
        spent = cpu_seconds(self._pid) - cpu - self._idle * (time.monotonic() - begin)
        return spent / count * 1e6


@contextmanager
def running(*flags: str, tls: ssl.SSLContext | None = None) -> Iterator[Etcd]:
    etcd = Etcd("3.5", *flags, tls=tls)
    try:
        etcd.start().wait_healthy()
        yield etcd
    finally:
        etcd.close()


def connection(etcd: Etcd, tls: ssl.SSLContext | None, count: int = 1500) -> float:
    """A connection with a hello on it, and its end."""

    def work() -> None:
        for _ in range(count):
            client = Client(etcd.own_port, tls)
            client.ask(RANGE, HELLO)
            client.wait(HEADERS)
            client.close()

    return Meter(etcd.pid).microseconds(work, count)


class Fleet:
    """Connections that ask in turn, as those of a fleet do."""

    def __init__(self, etcd: Etcd) -> None:
        self._meter = Meter(etcd.pid)
        self.clients = [Client(etcd.own_port) for _ in range(CONNECTIONS)]

    def close(self) -> None:
        for client in self.clients:
            client.close()

    def cost_alone(self, ask: Callable[[Client, int], None], kind: int, count: int) -> float:
        """Of one that comes when etcd has nothing else to do, and sleeps."""

        def work() -> None:
            for number in range(count):
                client = self.clients[number % CONNECTIONS]
                ask(client, number)
                client.wait(kind)
                time.sleep(PAUSE)

        return self._meter.microseconds(work, count)

    def cost(self, ask: Callable[[Client, int], None], kind: int, rounds: int) -> float:
        def work() -> None:
            for number in range(rounds):
                for first in range(0, CONNECTIONS, AT_ONCE):
                    some = self.clients[first : first + AT_ONCE]
                    for at, client in enumerate(some, first):
                        ask(client, number * CONNECTIONS + at)
                    for client in some:
                        client.wait(kind)

        return self._meter.microseconds(work, rounds * CONNECTIONS)


def put(key: bytes, value: bytes, lease: int = 0) -> Fields:
    """A transaction as the library publishes: a condition, and the puts of one label."""
    is_of_no_such_version: Fields = [(1, NOT_EQUAL), (3, key), (4, 1 << 40)]
    operation: Fields = [(2, [(1, key), (2, value), (3, lease)])]
    return [(1, is_of_no_such_version), (2, operation)]


def requests(etcd: Etcd) -> dict[str, float]:
    fleet = Fleet(etcd)
    first = 1 << 40
    costs = {
        "settings": fleet.cost(lambda client, _: client.probe(), SETTINGS, 150),
        "hello": fleet.cost(lambda client, _: client.ask(RANGE, HELLO), HEADERS, 80),
        "grant": fleet.cost(
            lambda client, n: client.ask(GRANT, [(1, 3600), (2, first + n)]), HEADERS, 40
        ),
    }
    for name, size in (("publish", 256), ("publish 32 KiB", 32768)):
        value = b"x" * size

        def publish(client: Client, n: int, value: bytes = value) -> None:
            client.ask(TXN, put(b"/costs/p/%d" % (n % 500), value, first + n % 500))

        costs[name] = fleet.cost(publish, HEADERS, 40 if size < 1024 else 10)
    streams = {
        client: client.open(KEEP_ALIVE, [(1, first + at)])
        for at, client in enumerate(fleet.clients)
    }
    for client in fleet.clients:
        client.wait(DATA)

    def renew(client: Client, n: int) -> None:
        client.send(streams[client], [(1, first + n % CONNECTIONS)])

    costs["renewal"] = fleet.cost(renew, DATA, 150)
    costs["renewal, alone"] = fleet.cost_alone(renew, DATA, 500)
    # Each creation opens a stream, as a new connection does.
    create: Fields = [(1, [(1, b"/costs/w/"), (2, b"/costs/w0")])]

    def watch(client: Client, _: int) -> None:
        client.open(WATCH, create)

    costs["watch"] = fleet.cost(watch, DATA, 30)
    fleet.close()
    return costs


def event(etcd: Etcd, count: int = 300) -> float:
    """One event to one of many watchers, each on a connection of its own."""
    watchers = [Client(etcd.own_port) for _ in range(WATCHERS)]
    for watcher in watchers:
        watcher.open(WATCH, [(1, [(1, b"/costs/e/"), (2, b"/costs/e0")])])
        watcher.wait(DATA)
    writer = Client(etcd.own_port)
    meter = Meter(etcd.pid)

    def write(prefix: bytes, told: list[Client]) -> Callable[[], None]:
        def work() -> None:
            for n in range(count):
                writer.ask(PUT, [(1, prefix + b"%d" % (n % 50)), (2, b"x" * 64)])
                writer.wait(HEADERS)
                for watcher in told:
                    watcher.wait(DATA)

        return work

    silent = meter.microseconds(write(b"/costs/n/", []), count)
    loud = meter.microseconds(write(b"/costs/e/", watchers), count)
    for client in (*watchers, writer):
        client.close()
    return (loud - silent) / WATCHERS


def listing(etcd: Etcd) -> float:
    """One key of a list of names."""
    client = Client(etcd.own_port)
    for n in range(KEYS // 100):
        puts = [(2, [(2, [(1, b"/costs/l/agent-%05d" % (n * 100 + i))])]) for i in range(100)]
        client.ask(TXN, list(puts))
        client.wait(HEADERS)
    meter = Meter(etcd.pid)

    def work() -> None:
        for _ in range(20):
            client.ask(RANGE, [(1, b"/costs/l/"), (2, b"/costs/l0"), (8, 1)])
            client.wait(HEADERS)

    return meter.microseconds(work, 20 * KEYS)


def authenticate(etcd: Etcd, count: int = 20) -> float:
    gateway = etcd.gateway
    gateway.call("/v3/auth/user/add", {"name": "root", "password": "secret"})
    gateway.call("/v3/auth/user/grant", {"user": "root", "role": "root"})
    gateway.call("/v3/auth/enable", {})
    client = Client(etcd.own_port)
    meter = Meter(etcd.pid)

    def work() -> None:
        for _ in range(count):
            client.ask(AUTHENTICATE, [(1, b"root"), (2, b"secret")])
            client.wait(HEADERS)

    return meter.microseconds(work, count)


def tls_connection(directory: Path, key: str) -> float:
    authority = Authority(directory, f"ca-{key}")
    certificate, private = authority.issue(f"etcd-{key}", "DNS:localhost", "IP:127.0.0.1", key=key)
    # The gateway speaks HTTP/1.
    gateway, context = (
        ssl.create_default_context(cafile=str(authority.certificate)) for _ in range(2)
    )
    context.set_alpn_protocols(["h2"])
    flags = ("--cert-file", str(certificate), "--key-file", str(private))
    with running(*flags, tls=gateway) as etcd:
        return connection(etcd, context, 600)


def once() -> dict[str, float]:
    with running() as etcd:
        costs = requests(etcd)
        costs["connection"] = connection(etcd, None)
        costs["event"] = event(etcd)
        costs["key listed"] = listing(etcd)
        costs["authenticate"] = authenticate(etcd)
    with tempfile.TemporaryDirectory() as directory:
        for key in ("ecdsa", "rsa"):
            costs[f"connection, TLS, {key}"] = tls_connection(Path(directory), key)
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    runs = [once() for _ in range(arguments.repetitions)]
    costs = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    RESULT.write_text(json.dumps({k: round(v, 1) for k, v in costs.items()}, indent=2) + "\n")
    for name in costs:
        values = sorted(run[name] for run in runs)
        print(f"{name:24} {costs[name]:10,.1f} µs   ({values[0]:,.1f} to {values[-1]:,.1f})")


if __name__ == "__main__":
    main()
