# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""No silent failure: where everything works except a watch, its host gets the reason, and an event
when the watch works again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

import capi
import hostile_messages
from conftest import HostFactory
from hostile_server import Call, Case, HostileServer, Link
from hosts import Host
from small_etcd import Fields, Record, data
from small_etcd import number as number_of

# How long a watch is refused. `NIXL_MD_SECONDS=60` counts the connections of a whole minute.
SECONDS = float(os.environ.get("NIXL_MD_SECONDS", "12"))
CONNECTIONS_A_MINUTE = 10
TOLD_WITHIN = 6.0


@dataclass
class Refusing:
    """A server that does all but one thing well, until it does that, too."""

    refuse: Callable[[Call], None]
    serves: bool = False

    def request(self, call: Call) -> bool:
        if self.serves or call.method != "Watch":
            return False
        call.link.hit()
        self.refuse(call)
        return True


def http_503(call: Call) -> None:
    if call.stream in call.link.begun:
        return
    call.link.headers(call.stream, status="503", content_type="text/html")
    call.link.body(call.stream, b"<html>")
    call.link.h2.end_stream(call.stream)


def refusal(status: int, text: str) -> Callable[[Call], None]:
    return lambda call: call.link.refuse(call.stream, status, text)


def canceled(call: Call) -> None:
    """As etcd refuses what its roles do not allow."""
    if 1 in call.request:
        reason = b"rpc error: code = PermissionDenied desc = etcdserver: permission denied"
        header = call.link.etcd.header()
        call.link.reply(call, [*header, (2, -1), (3, 1), (4, 1), (6, reason)])


def unanswered(call: Call) -> None:
    pass


REFUSALS = {
    "HTTP 503": (http_503, "503"),
    "UNIMPLEMENTED": (refusal(12, "no such service"), "no such service"),
    "permission denied": (refusal(7, "not for you"), "not for you"),
    "unanswered": (unanswered, "does not answer"),
}


def check_rest(host: Host) -> None:
    """All else works meanwhile."""
    host.succeed("publish", label=b"l", blob=b"1")
    listed = host.succeed("list")
    assert listed["status"] == capi.SUCCESS


@pytest.mark.native("counts what a quick host does")
@pytest.mark.parametrize("name", REFUSALS)
def test_watch_refused_reportsTheReason(name: str, hosts: HostFactory, namespace: bytes) -> None:
    refuse, reason = REFUSALS[name]
    refusing = Refusing(refuse)
    with HostileServer(Case(request=refusing.request), 1) as server:
        host = hosts("cpp")
        host.open(server.endpoints, namespace, agent=b"alpha")
        begun = time.monotonic()
        watch = host.start("watch", flags=capi.WATCH_BLOBS)
        host.event("SYNCED", watch=watch, within=5)
        lost = host.event("CONTACT_LOST", watch=watch, within=TOLD_WITHIN)
        assert reason in lost["text"], lost
        check_rest(host)
        time.sleep(max(0.0, SECONDS - (time.monotonic() - begun)))
        minutes = max(1.0, (time.monotonic() - begun) / 60)
        assert server.accepted < CONNECTIONS_A_MINUTE * minutes
        assert server.hits > 1, "it was never asked again"
        check_rest(host)
        refusing.serves = True
        host.event("CONTACT_REGAINED", watch=watch, within=25)
        host.succeed("publish", label=b"l", blob=b"2")
        host.event("PUT", watch=watch, blob=b"2", within=5)
        host.close()


def test_watch_canceled_endsWithTheReason(hosts: HostFactory, namespace: bytes) -> None:
    with HostileServer(Case(request=Refusing(canceled).request), 1) as server:
        host = hosts("cpp")
        host.open(server.endpoints, namespace)
        ended = host.event("ENDED", watch=host.start("watch"), within=TOLD_WITHIN)
        assert ended["status"] == capi.PERMISSION
        assert "permission denied" in ended["text"]
        host.close()


@dataclass
class SlowRange:
    """Answers what is asked of the namespace after so many seconds, all else at once."""

    seconds: float
    held: list[tuple[float, Call, Fields]] = field(default_factory=list)

    def answer(self, call: Call, fields: Fields) -> Fields | None:
        if call.method != "Range" or not data(call.request, 2):
            return fields
        call.link.hit()
        self.held.append((time.monotonic() + self.seconds, call, fields))
        return None

    def idle(self, link: Link) -> None:
        now = time.monotonic()
        for due in [held for held in self.held if held[0] <= now and held[1].link is link]:
            self.held.remove(due)
            link.reply(due[1], due[2])


@contextmanager
def slow_server(seconds: float) -> Iterator[HostileServer]:
    slow = SlowRange(seconds)
    case = Case(answer=slow.answer, idle=slow.idle)
    with HostileServer(case, 1) as server:
        yield server


@pytest.mark.native("counts what a quick host does")
@pytest.mark.parametrize("seconds", [2.5, 6.0, 15.0])
def test_range_slow_isReportedAndEnds(seconds: float, hosts: HostFactory, namespace: bytes) -> None:
    with slow_server(seconds) as server:
        server.etcd.records[namespace + b"/beta/"] = Record(namespace + b"/beta/", create=1, mod=1)
        host = hosts("cpp")
        host.open(server.endpoints, namespace)
        watch = host.start("watch")
        expected = ["PRESENT", "SYNCED"]
        if seconds > TOLD_WITHIN - 1:
            lost = host.event("CONTACT_LOST", watch=watch, within=TOLD_WITHIN)
            assert lost["text"].startswith("still listing"), lost
            expected = ["CONTACT_LOST", "PRESENT", "CONTACT_REGAINED", "SYNCED"]
        host.event("SYNCED", watch=watch, within=seconds + 5)
        assert host.names(watch=watch) == expected
        assert server.accepted == 1
        assert server.hits == 1, "it was asked more than once"
        host.close()


@pytest.mark.native("counts what a quick host does")
def test_list_compactedOverAndOver_isReported(hosts: HostFactory, namespace: bytes) -> None:
    with HostileServer(Case(request=hostile_messages.refuses_pages), 1) as server:
        host = hosts("cpp")
        host.open(server.endpoints, namespace)
        watch = host.start("watch")
        listing = host.start("list", timeout=3000)
        lost = host.event("CONTACT_LOST", watch=watch, within=TOLD_WITHIN)
        assert "compacted" in lost["text"], lost
        done = host.done(listing)
        assert done["status"] == capi.TIMED_OUT
        assert "compacted" in done["text"], done
        host.close()


@pytest.mark.native("counts what a quick host does")
def test_list_withoutEnd_isReported(hosts: HostFactory, namespace: bytes) -> None:
    """A writer has more keys than anybody can list in time."""

    def answer(call: Call, fields: Fields) -> Fields:
        if call.method != "Range" or not data(call.request, 2):
            return fields
        time.sleep(0.02)
        _, is_further, digits = data(call.request, 1).rstrip(b"\0").rpartition(b"/many/")
        first = int(digits) + 1 if is_further else 1
        limit = number_of(call.request, 3)
        keys = [namespace + b"/many/%09d" % number for number in range(first, first + limit)]
        page: Fields = [(2, [(1, key), (2, 1), (3, 1), (4, 1), (6, 77)]) for key in keys]
        return [*fields[:1], *page, (3, 1), (4, 1_000_000)]

    with HostileServer(Case(answer=answer), 1) as server:
        host = hosts("cpp")
        host.open(server.endpoints, namespace)
        watch = host.start("watch", flags=capi.WATCH_PRESENCE_ONLY)
        listing = host.start("list", timeout=3000)
        done = host.done(listing)
        assert done["status"] == capi.TIMED_OUT
        assert "still listing" in done["text"], done
        lost = host.event("CONTACT_LOST", watch=watch, within=TOLD_WITHIN)
        assert lost["text"].startswith("still listing"), lost
        host.close()


def test_timeOut_namesTheLastTrouble(hosts: HostFactory, namespace: bytes) -> None:
    """Also where the connection lives."""
    refusing = Refusing(refusal(12, "no such service"))
    with HostileServer(Case(request=refusing.request), 1) as server:
        host = hosts("cpp")
        host.open(server.endpoints, namespace)
        done = host.finish("fetch", agent=b"beta", label=b"l", timeout=3000)
        assert done["status"] == capi.TIMED_OUT
        assert "no such service" in done["text"], done
        host.close()
