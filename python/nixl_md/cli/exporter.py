# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""nixl-md exporter: figures for Prometheus."""

from __future__ import annotations

import re
import signal
import socket
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from nixl_md import Event, EventType

from .errors import Exit, Failure, Usage
from .gateway import Gateway
from .listing import ask_others
from .model import NEVER_ENDING, Namespace, Snapshot, State, late, state_of
from .observer import Interruption, observer
from .pipeline import LeaseTime, times_to_live
from .render import say
from .settings import Settings
from .store import read

DASHBOARD = Path(__file__).with_name("grafana.json")
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


@dataclass
class Figures:
    """What is served; the reader's thread and the watch write it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    up: int = 0
    contact: int = 0
    read_at: float = 0.0
    read_seconds: float = 0.0
    round_trip: float = 0.0
    failures: int = 0
    states: Counter[State] = field(default_factory=Counter)
    keys: int = 0
    size: int = 0
    leases: int = 0
    late: int = 0
    least_left: float | None = None
    others: int = 0
    events: Counter[str] = field(default_factory=Counter)

    def take(self, event: Event) -> None:
        """Of the watch."""
        with self.lock:
            self.events[event.type.name] += 1
            if event.type in (EventType.SYNCED, EventType.CONTACT_REGAINED):
                self.contact = 1
            elif event.type in (EventType.CONTACT_LOST, EventType.ENDED):
                self.contact = 0

    def take_snapshot(self, snapshot: Snapshot, times: dict[int, LeaseTime], others: int) -> None:
        agents = snapshot.agents.values()
        finite = [x for x in times.values() if x.left >= 0 and x.granted < NEVER_ENDING]
        with self.lock:
            self.states = Counter(state_of(found, times) for found in agents)
            self.keys = sum(len(found.keys) for found in agents)
            self.size = sum(key.size or 0 for found in agents for key in found.keys)
            self.leases = len(times)
            self.late = sum(1 for found in agents for _ in late(found, times))
            self.least_left = min((time.left for time in finite), default=None)
            self.others = others

    def text(self) -> str:
        """In the form of Prometheus (exposition format 0.0.4)."""
        with self.lock:
            lines: list[str] = []
            for name, kind, help_text, value in (
                ("up", "gauge", "1 if the last reading of etcd was answered", self.up),
                ("contact", "gauge", "1 while the watch of events has contact", self.contact),
                ("keys", "gauge", "Keys of the namespace", self.keys),
                ("value_bytes", "gauge", "Bytes of their values, as far as read", self.size),
                ("leases", "gauge", "Leases on which they hang", self.leases),
                ("leases_late", "gauge", "Leases not renewed for 2/3 of their TTL", self.late),
                ("other_spelling_agents", "gauge", "Agents under another spelling", self.others),
                ("round_trip_seconds", "gauge", "Of one linearizable read", self.round_trip),
                ("read_seconds", "gauge", "Of the last reading of all", self.read_seconds),
                ("read_time_seconds", "gauge", "When that was, Unix time", self.read_at),
                ("read_failures_total", "counter", "Readings without an answer", self.failures),
            ):
                lines += [f"# HELP nixl_md_{name} {help_text}", f"# TYPE nixl_md_{name} {kind}"]
                lines.append(f"nixl_md_{name} {value}")
            if self.least_left is not None:
                lines += ["# HELP nixl_md_lease_left_seconds_min Of the lease that ends first"]
                lines += ["# TYPE nixl_md_lease_left_seconds_min gauge"]
                lines.append(f"nixl_md_lease_left_seconds_min {self.least_left}")
            lines += ["# HELP nixl_md_agents Agents by state", "# TYPE nixl_md_agents gauge"]
            lines += [
                f'nixl_md_agents{{state="{state.value}"}} {self.states[state]}' for state in State
            ]
            lines += ["# HELP nixl_md_events_total Events of the namespace's watch"]
            lines += ["# TYPE nixl_md_events_total counter"]
            for event in EventType:
                if event < EventType.LOST:
                    count = self.events[event.name]
                    lines.append(f'nixl_md_events_total{{type="{event.name}"}} {count}')
        return "\n".join(lines) + "\n"


def read_once(settings: Settings, figures: Figures) -> None:
    started = time.monotonic()
    namespace = Namespace(settings.namespace)
    with Gateway(settings) as gateway:
        gateway.range(namespace.root, keys_only=True)
        asked = time.monotonic()
        gateway.range(namespace.root, keys_only=True)
        round_trip = time.monotonic() - asked
        snapshot = read(gateway, namespace)
        others = sum(other.agents for other in ask_others(gateway, namespace))
    times = times_to_live(settings, snapshot.leases)
    figures.take_snapshot(snapshot, times, others)
    with figures.lock:
        figures.up = 1
        figures.round_trip = round_trip
        figures.read_seconds = time.monotonic() - started
        figures.read_at = time.time()


def _read_loop(settings: Settings, figures: Figures, interval: float) -> None:
    trouble = ""
    while True:
        started = time.monotonic()
        try:
            read_once(settings, figures)
            if trouble:
                trouble = ""
                say("nixl-md exporter: etcd answers again")
        except Exception as error:
            with figures.lock:
                figures.up = 0
                figures.failures += 1
            text = error.text if isinstance(error, Failure) else repr(error)
            if text != trouble:
                trouble = text
                say(f"nixl-md exporter: {error if isinstance(error, Failure) else text}")
        took = time.monotonic() - started
        # Never more than a fifth of the time.
        time.sleep(max(interval - took, 4 * took, 0.1))


def _handler(figures: Figures) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def do_GET(self) -> None:
            is_known = self.path.partition("?")[0] in ("/metrics", "/")
            body = figures.text().encode() if is_known else b"see /metrics\n"
            self.send_response(200 if is_known else 404)
            self.send_header("Content-Type", _TEXT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def parse_listen(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^:\[\]]*):(\d+)", text)
    if match is None or int(match[2]) > 65535:
        raise Usage(f"--listen: '{text}' is no address", "Write :9464 or 127.0.0.1:9464.")
    return match[1].strip("[]"), int(match[2])


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Who scrapes may go away meanwhile: that is not worth a word."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Server6(_Server):
    address_family = socket.AF_INET6


def _serve(address: tuple[str, int], figures: Figures) -> _Server:
    kind = _Server6 if ":" in address[0] else _Server
    try:
        server = kind(address, _handler(figures))
    except OSError as error:
        raise Failure(
            f"--listen: {address[0]}:{address[1]}: {error.strerror}",
            "Choose another address or port.",
        ) from error
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def run(settings: Settings, listen: str, interval: float) -> int:
    figures = Figures()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    server = _serve(parse_listen(listen), figures)
    handle = observer(settings)
    try:
        handle.watch(None, figures.take)
        threading.Thread(target=_read_loop, args=(settings, figures, interval), daemon=True).start()
        host, port = server.server_address[:2]
        say(f"nixl-md exporter: http://{host!s}:{port}/metrics")
        with Interruption(handle).noted() as interruption:
            while not ended.is_set():
                interruption.wait(0.2)
    finally:
        server.shutdown()
        server.server_close()
        handle.close()
    return Exit.OK


def print_dashboard() -> int:
    sys.stdout.write(DASHBOARD.read_text())
    return Exit.OK
