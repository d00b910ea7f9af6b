# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Servers whose HTTP/2 and gRPC are right, and whose messages are not."""

from __future__ import annotations

import random
from collections.abc import Callable

from hostile_server import Call, Case, Link
from small_etcd import Fields, data, decode, encode, number

INT64_MAX = (1 << 63) - 1
INT64_MIN = -(1 << 63)
ENTRIES = 8 << 20

Change = Callable[[Call, Fields], "Fields | bytes | None"]


def changing(change: Change, *methods: str, **more: object) -> Case:
    """Answers of these methods (none named: all) are changed."""

    def answer(call: Call, fields: Fields) -> Fields | bytes | None:
        if methods and call.method not in methods:
            return fields
        call.link.hit()
        return change(call, fields)

    return Case(answer=answer, **more)  # type: ignore[arg-type]


def replaced(fields: Fields, *more: tuple[int, object]) -> Fields:
    """With these fields instead of those of the same numbers."""
    numbers = {number for number, _ in more}
    return [(n, value) for n, value in fields if n not in numbers] + list(more)


def with_header(*header: tuple[int, object]) -> Change:
    return lambda call, fields: replaced(fields, (1, replaced(dict(fields)[1], *header)))


def falling(call: Call, fields: Fields) -> Fields:
    call.link.server.etcd.revision = max(1, 10_000 - call.link.server.hits)
    return with_header((3, call.link.server.etcd.revision))(call, fields)  # type: ignore[return-value]


def other_cluster(call: Call, fields: Fields) -> Fields:
    return with_header((1, 1000 + call.link.server.hits))(call, fields)  # type: ignore[return-value]


def noise(call: Call, fields: Fields) -> bytes:
    return random.Random(call.link.server.hits).randbytes(200)


def kv(key: bytes, revision: int = 2, value: bytes = b"v") -> Fields:
    return [(1, key), (2, revision), (3, revision), (4, 1), (5, value)]


def flooding(do: Callable[[Link], int], **more: object) -> Case:
    def idle(link: Link) -> None:
        if sent := do(link):
            link.hit()
            link.server.unasked += sent

    return Case(idle=idle, floods=True, **more)  # type: ignore[arg-type]


# Ranges


def keys_of(*names: bytes, more: int = 0, count: int | None = None) -> Change:
    """These keys, whatever was asked for; behind the namespace where they begin with '+'."""

    def change(call: Call, fields: Fields) -> Fields:
        start = data(call.request, 1)
        keys = [start + name[1:] if name.startswith(b"+") else name for name in names]
        found: Fields = [(2, kv(key, 1)) for key in keys]
        header = replaced(fields, (2, b""), (3, 0), (4, 0))[:1]
        return [*header, *found, (3, more), (4, len(keys) if count is None else count)]

    return change


def more_without_end(size: int | None) -> Change:
    """Pages of so many keys (None: as many as asked for), in order, and there are always more."""

    def change(call: Call, fields: Fields) -> Fields:
        limit, end = number(call.request, 3), data(call.request, 2)
        if not end or limit < 2:
            return fields
        prefix = end[:-1] + bytes([end[-1] - 1])
        state = call.link.state
        first = int(state.get("keys", 0))
        state["keys"] = first + (limit if size is None else size)
        keys = [b"%s%012d/x" % (prefix, i) for i in range(first, int(state["keys"]))]
        return [*fields[:1], *[(2, kv(key, 1)) for key in keys], (3, 1), (4, 1 << 40)]

    return change


def over_limit(call: Call, fields: Fields) -> Fields:
    start = data(call.request, 1)
    page: Fields = [(2, kv(b"%s%08d" % (start, i), 1)) for i in range(5000)]
    return [*fields[:1], *page, (4, 5000)]


def refuses_pages(call: Call) -> bool:
    if call.method != "Range" or not data(call.request, 2) or number(call.request, 3) == 2:
        return False
    call.link.hit()
    text = "etcdserver: mvcc: required revision has been compacted"
    call.link.refuse(call.stream, 11, text)
    return True


# Transactions


def txn_answers(*ops: Fields) -> Change:
    return lambda call, fields: [*fields[:1], (2, 1), *((3, op) for op in ops)]


# Leases


def already_exists(call: Call) -> bool:
    if call.method != "LeaseGrant":
        return False
    call.link.hit()
    call.link.refuse(call.stream, 9, "etcdserver: lease already exists")
    return True


def renewals(link: Link) -> int:
    streams = [s for s in link.begun if link.methods.get(s) == "LeaseKeepAlive"]
    for stream in streams:
        for _ in range(50):
            call = Call(link, stream, "LeaseKeepAlive", {})
            link.reply(call, [*link.etcd.header(), (2, 77), (3, 5)])
    return 50 * len(streams)


def unanswered(*methods: str, least_connects: int = 4) -> Case:
    """Each host gives the connection up, where this says so."""

    def request(call: Call) -> bool:
        if call.method not in methods:
            return False
        call.link.hit()
        return True

    return Case(request=request, seconds=2.6, least_connects=least_connects)


# Watches


def creation(call: Call) -> int | None:
    """The id of the watch that the request creates."""
    if call.method != "Watch" or 1 not in call.request:
        return None
    return number(decode(data(call.request, 1)), 7)


def told(link: Link, fields: Fields) -> Fields:
    """With a header, if there is none: the store has come to the revision of its newest event."""
    if any(number == 1 for number, _ in fields):
        return fields
    kvs = [dict(value[0][1]) for number, value in fields if number == 11 and value]
    newest = max((kv[3] for kv in kvs), default=0)
    if newest < INT64_MAX:
        link.etcd.revision = max(link.etcd.revision, newest)
    return [*link.etcd.header(), *fields]


def after_creation(*make: Callable[[Call, int], Fields]) -> Case:
    """Creates a watch correctly, then sends this; a quick host reads one message in each tick."""

    def request(call: Call) -> bool:
        watch_id = creation(call)
        if watch_id is None:
            return False
        call.link.hit()
        link = call.link
        link.reply(call, link.watch(call) or [])
        for one in make:
            link.reply(call, told(link, one(call, watch_id)))
        link.server.unasked += len(make)
        return True

    return Case(request=request, floods=True)


def created_with(*fields: tuple[int, object]) -> Case:
    def request(call: Call) -> bool:
        if creation(call) is None:
            return False
        call.link.hit()
        call.link.reply(call, [*call.link.etcd.header(), (3, 1), *fields])
        return True

    return Case(request=request)


def watched(call: Call) -> bytes:
    return data(decode(data(call.request, 1)), 1)


def event(key: bytes, revision: int, value: bytes = b"v") -> tuple[int, Fields]:
    return (11, [(2, kv(key, revision, value))])


def to_watches(make: Callable[[Link, int], Fields], count: int = 20) -> Case:
    """This, over and over, to every watch."""

    def send(link: Link) -> int:
        sent = 0
        for stream, watch_id in list(link.watches):
            for _ in range(count):
                call = Call(link, stream, "Watch", {})
                link.reply(call, told(link, [(2, watch_id), *make(link, watch_id)]))
                sent += 1
        return sent

    return flooding(send)


def next_number(link: Link) -> int:
    link.state["number"] = int(link.state.get("number", 100)) + 1
    return int(link.state["number"])


def new_agents(link: Link, watch_id: int) -> Fields:
    watch = next(w for (_, i), w in link.watches.items() if i == watch_id)
    if not watch.end:
        return [event(watch.key, next_number(link), b"")]
    # A label of an agent, or an agent of the namespace.
    return [event(watch.key + b"n%d/" % next_number(link), next_number(link), b"")]


def once(case: Change, *methods: str) -> Case:
    """Once in each connection: it is large."""

    def change(call: Call, fields: Fields) -> Fields | bytes | None:
        if call.link.state.setdefault("large", 0) >= 1:
            return fields
        call.link.state["large"] += 1
        return case(call, fields)

    return changing(change, *methods, seconds=2.0)


def compacted(call: Call, watch_id: int) -> Fields:
    return [(2, watch_id), (4, 1), (5, INT64_MAX)]


def huge_batch(call: Call, watch_id: int) -> Fields:
    key = watched(call)
    return [(2, watch_id), *[event(key, 100 + i // 10) for i in range(4000)]]


def large_events(call: Call) -> bool:
    """For a watch that was created correctly: 16 MiB of empty events."""
    watch_id = creation(call)
    if watch_id is None:
        return False
    call.link.hit()
    call.link.reply(call, call.link.watch(call) or [])
    if call.link.state.setdefault("large", 0) == 0:
        call.link.state["large"] = 1
        start = encode([*call.link.etcd.header(), (2, watch_id)])
        call.link.reply(call, start + b"\x5a\0" * (ENTRIES - 1000))
    return True


def many_agents(call: Call, watch_id: int) -> Fields:
    names = [watched(call) + b"n%d/" % i for i in range(4000)]
    return [(2, watch_id), *[event(name, 100, b"") for name in names]]


CASES: dict[str, Case] = {
    # Any message
    "truncated": changing(lambda call, fields: encode(fields)[:-1]),
    "noise": changing(noise),
    "empty": changing(lambda call, fields: b""),
    "no header": changing(lambda call, fields: replaced(fields)[1:]),
    "unknown fields": changing(
        lambda call, fields: [(100 + i, b"x" * 50) for i in range(1000)] + fields
    ),
    "wrong wire types": changing(lambda call, fields: [(n, 1) for n, _ in fields]),
    "wrong wire types inside": changing(
        lambda call, fields: [(n, [(1, [(1, 1)])]) for n, _ in fields]
    ),
    "varint of 11 bytes": changing(lambda call, fields: b"\x18" + b"\x80" * 10 + b"\1"),
    "length over the message": changing(
        lambda call, fields: encode(fields) + b"\x12\xff\xff\xff\xff\x0f"
    ),
    "groups": changing(lambda call, fields: b"\x0b\x0c" + encode(fields)),
    "field 0": changing(lambda call, fields: b"\0\0" + encode(fields)),
    "revision 0": changing(with_header((3, 0))),
    "revision -1": changing(with_header((3, -1))),
    "revision of int64's least": changing(with_header((3, INT64_MIN))),
    "revision of int64's largest": changing(with_header((3, INT64_MAX))),
    "revision of int64's largest but one": changing(with_header((3, INT64_MAX - 1))),
    "falling revision": changing(falling),
    "another cluster each time": changing(other_cluster),
    "no cluster": changing(with_header((1, 0)), least_hits=3),
    "revision 0 after the greeting": changing(with_header((3, 0)), "Txn", "Watch", "LeaseGrant"),
    # Small on the wire
    "16 MiB of empty keys": once(lambda call, fields: b"\x12\0" * (ENTRIES - 100), "Range"),
    "16 MiB of empty answers": once(lambda call, fields: b"\x1a\0" * (ENTRIES - 100), "Txn"),
    "16 MiB of unknown fields": once(lambda call, fields: b"\x28\0" * (ENTRIES - 100)),
    "16 MiB of unknown fields in a header": once(
        lambda call, fields: encode([(1, b"\x28\0" * (ENTRIES - 100))])
    ),
    # Ranges
    "keys of others": changing(keys_of(b"/elsewhere/a/"), "Range"),
    "keys out of order": changing(keys_of(b"+b/x", b"+a/x"), "Range"),
    "keys twice": changing(keys_of(b"+a/x", b"+a/x"), "Range"),
    "more, and no keys": changing(keys_of(more=1), "Range"),
    "more, and one key": changing(keys_of(b"+a/x", more=1), "Range"),
    "another count": changing(keys_of(count=INT64_MAX), "Range", least_hits=3),
    "negative count": changing(keys_of(count=-5), "Range", least_hits=3),
    "keys over the limit": changing(over_limit, "Range"),
    "pages without end": changing(more_without_end(None), "Range", more_requests=400),
    "short pages without end": changing(more_without_end(1), "Range"),
    "pages that are compacted": Case(request=refuses_pages),
    # Transactions
    "transaction without answers": changing(txn_answers(), "Txn"),
    "transaction with 128 answers": changing(txn_answers(*[[(2, [])]] * 128), "Txn"),
    "transaction with 10,000 answers": changing(txn_answers(*[[(2, [])]] * 10_000), "Txn"),
    "transaction with other answers": changing(txn_answers([(1, [])], [(3, [])]), "Txn"),
    "transaction with empty answers": changing(txn_answers([]), "Txn"),
    "transactions always fail": changing(lambda call, fields: fields[:1], "Txn"),
    # Leases
    "lease of TTL 0": changing(lambda c, f: replaced(f, (3, 0)), "LeaseGrant"),
    "lease of negative TTL": changing(lambda c, f: replaced(f, (3, INT64_MIN)), "LeaseGrant"),
    "lease of endless TTL": changing(lambda c, f: replaced(f, (3, INT64_MAX)), "LeaseGrant"),
    "lease of another id": changing(lambda c, f: replaced(f, (2, 99)), "LeaseGrant"),
    "lease with an error": changing(lambda c, f: replaced(f, (4, b"no" * 9999)), "LeaseGrant"),
    "lease exists already": Case(request=already_exists),
    "renewal of another lease": changing(lambda c, f: replaced(f, (2, 99)), "LeaseKeepAlive"),
    "renewal of TTL 0": changing(lambda c, f: replaced(f, (3, 0)), "LeaseKeepAlive"),
    "renewal of negative TTL": changing(lambda c, f: replaced(f, (3, -9)), "LeaseKeepAlive"),
    "renewal of endless TTL": changing(lambda c, f: replaced(f, (3, INT64_MAX)), "LeaseKeepAlive"),
    # It acknowledges SETTINGS: who lives is not left.
    "renewal unanswered": unanswered("LeaseKeepAlive", least_connects=2),
    "flood of renewals": flooding(renewals),
    # Watches
    "watch created twice": after_creation(lambda c, i: [(2, i), (3, 1)]),
    "watch created with id 0": created_with(),
    "watch created with another id": created_with((2, 99)),
    "watch created with events": created_with((2, 1), (11, [(2, kv(b"/x"))])),
    "watch refused": created_with((2, -1), (4, 1), (6, b"no")),
    "watch refused as not permitted": created_with(
        (2, -1), (4, 1), (6, b"rpc error: code = PermissionDenied desc = permission denied")
    ),
    # The connection lives (test_silence.py).
    "watch never created": unanswered("Watch", least_connects=2),
    "watch canceled at once": after_creation(lambda c, i: [(2, i), (4, 1)]),
    "watch canceled for 64 KiB of reasons": after_creation(
        lambda c, i: [(2, i), (4, 1), (6, b"\x1b[2J" * 16384)]
    ),
    "watch compacted at once": after_creation(compacted),
    "watch compacted backwards": after_creation(lambda c, i: [(2, i), (4, 1), (5, -1)]),
    "unknown watches canceled": after_creation(
        *[lambda c, i: [(2, i + 1000), (4, 1)]] * 50, lambda c, i: [(2, INT64_MIN), (4, 1)]
    ),
    "events of unknown watches": after_creation(
        *[lambda c, i: [(2, i + 1000), event(watched(c), 99)]] * 50
    ),
    "events of other keys": after_creation(lambda c, i: [(2, i), event(b"/elsewhere/a/x", 99)]),
    "events without keys": after_creation(lambda c, i: [(2, i), (11, [])]),
    "events of revision 0": after_creation(lambda c, i: [(2, i), event(watched(c), 0)]),
    "events of int64's largest revision": after_creation(
        lambda c, i: [(2, i), event(watched(c), INT64_MAX)]
    ),
    "events of falling revisions": after_creation(
        lambda c, i: [(2, i), event(watched(c), 99), event(watched(c), 98)]
    ),
    "events that fall between messages": after_creation(
        lambda c, i: [(2, i), event(watched(c), 99)], lambda c, i: [(2, i), event(watched(c), 9)]
    ),
    "events newer than their message": after_creation(
        lambda c, i: [*c.link.etcd.header(), (2, i), event(watched(c), 99)]
    ),
    "progress of the far future": after_creation(lambda c, i: [(2, i), (1, [(3, 1 << 60)])]),
    "huge batches of events": after_creation(huge_batch),
    "4,000 agents at once": after_creation(many_agents),
    "fragments without end": to_watches(
        lambda link, i: [(7, 1), event(b"/nixl", 99, b"x" * 100_000)]
    ),
    "empty fragments without end": to_watches(lambda link, i: [(7, 1)]),
    "flood of progress": to_watches(lambda link, i: []),
    "new agents without end": to_watches(new_agents),
    "16 MiB of empty events": Case(request=large_events, seconds=2.0),
    # Authentication
    "empty token": changing(lambda c, f: replaced(f, (2, b"")), "Authenticate", authenticates=True),
    "token of 1 MiB": changing(
        lambda c, f: replaced(f, (2, b"t" * (1 << 20))), "Authenticate", authenticates=True
    ),
    "token of two lines": changing(
        lambda c, f: replaced(f, (2, b"a\r\nhost: x")), "Authenticate", authenticates=True
    ),
    "token of any bytes": changing(
        lambda c, f: replaced(f, (2, bytes(range(256)))), "Authenticate", authenticates=True
    ),
}
