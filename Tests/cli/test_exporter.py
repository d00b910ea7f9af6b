# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""`nixl-md exporter`, and the dashboard beside it."""

from __future__ import annotations

import json
import re
import signal
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from conftest import EtcdFactory, Plants, Tool, ToolFactory
from etcd_server import free_ports

PATIENCE = 180.0
SAMPLE = re.compile(r'^(nixl_md_\w+)(?:\{(\w+)="(\w+)"\})? (-?[\d.e+]+)$')


class Scraped:
    """A running exporter."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/metrics"

    def samples(self) -> dict[str, float]:
        with urllib.request.urlopen(self.url, timeout=PATIENCE) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            text = answer.read().decode()
        found: dict[str, float] = {}
        typed = set(re.findall(r"^# TYPE (\w+) (?:gauge|counter)$", text, re.MULTILINE))
        for line in text.splitlines():
            if not line.startswith("#"):
                match = SAMPLE.match(line)
                assert match, line
                assert match[1] in typed, f"{match[1]} has no type"
                found[match[1] + (f" {match[3]}" if match[3] else "")] = float(match[4])
        return found

    def wait(self, is_so: Callable[[dict[str, float]], bool], what: str) -> dict[str, float]:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                samples = self.samples()
            except (urllib.error.URLError, OSError):
                samples = {}
            if samples and is_so(samples):
                return samples
            assert time.monotonic() < deadline, (what, samples)
            time.sleep(0.1)


@contextmanager
def exporting(tool: Tool, *options: str) -> Iterator[Scraped]:
    (port,) = free_ports(1)
    arguments = ("--listen", f"127.0.0.1:{port}", "--interval", "0.2", *options)
    process = tool.start("exporter", *arguments)
    try:
        yield Scraped(port)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert "Traceback" not in process.communicate()[1]
    finally:
        process.kill()
        process.communicate()


def test_metrics_countAgentsByState(tool: Tool, plants: Plants) -> None:
    lease = plants.lease(600)
    plants.agent("leased", lease, b"x" * 100)
    plants.agent("stock")
    plants.orphan("left")
    Plants(plants.gateway, plants.namespace.rstrip(b"/")).agent("theirs")
    with exporting(tool) as scraped:
        found = scraped.wait(lambda x: x["nixl_md_up"] == 1 and x["nixl_md_contact"] == 1, "up")
        assert found["nixl_md_agents leased"] == found["nixl_md_agents permanent"] == 1
        assert found["nixl_md_agents orphan"] == 1 and found["nixl_md_agents mixed"] == 0
        assert found["nixl_md_keys"] == 5 and found["nixl_md_leases"] == 1
        assert found["nixl_md_value_bytes"] == 100 + 4 + len("left behind")
        assert found["nixl_md_other_spelling_agents"] == 1
        assert 500 < found["nixl_md_lease_left_seconds_min"] <= 600
        assert 0 < found["nixl_md_round_trip_seconds"] < PATIENCE
        assert found["nixl_md_events_total PRESENT"] == 3
        plants.gateway.call("/v3/lease/revoke", {"ID": str(lease)})
        scraped.wait(
            lambda x: x["nixl_md_events_total GONE"] == 1 and x["nixl_md_agents leased"] == 0,
            "gone",
        )


def test_etcdDown_isReportedByAMetric(
    own_etcd: EtcdFactory, tool_for: ToolFactory, version: str
) -> None:
    """It goes on, and says so."""
    etcd = own_etcd(version)
    Plants(etcd.gateway, b"/x/").agent("stock")
    with exporting(tool_for(etcd, b"/x/"), "--timeout", "1") as scraped:
        scraped.wait(lambda x: x["nixl_md_up"] == 1, "up")
        etcd.kill()
        down = scraped.wait(lambda x: x["nixl_md_up"] == 0 and x["nixl_md_contact"] == 0, "down")
        assert down["nixl_md_read_failures_total"] >= 1
        etcd.start().wait_healthy()
        scraped.wait(lambda x: x["nixl_md_up"] == 1 and x["nixl_md_contact"] == 1, "up again")


def test_etcdDiesDuringAScrape_isReported(
    own_etcd: EtcdFactory, tool_for: ToolFactory, version: str
) -> None:
    """Killed, frozen and started while others scrape: each answer is whole, and says what is so."""
    etcd = own_etcd(version)
    Plants(etcd.gateway, b"/x/").agent("stock")
    ended = threading.Event()
    scrapes: list[int] = []
    wrong: list[object] = []

    def scrape(scraped: Scraped) -> None:
        while not ended.is_set():
            try:
                found = scraped.samples()
                assert found["nixl_md_up"] in (0, 1) and "nixl_md_agents permanent" in found
                scrapes.append(1)
            except (OSError, AssertionError, KeyError) as error:
                wrong.append(error)

    def leave(scraped: Scraped) -> None:
        """Asks, and is gone before the answer."""
        host, port = scraped.url.split("/")[2].split(":")
        while not ended.wait(0.05):
            with socket.create_connection((host, int(port)), PATIENCE) as asking:
                asking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                asking.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")

    with exporting(tool_for(etcd, b"/x/"), "--timeout", "1") as scraped:
        scraped.wait(lambda x: x["nixl_md_up"] == 1, "up")
        threads = [threading.Thread(target=scrape, args=(scraped,)) for _ in range(3)]
        threads.append(threading.Thread(target=leave, args=(scraped,)))
        for thread in threads:
            thread.start()
        try:
            etcd.kill()
            scraped.wait(lambda x: x["nixl_md_up"] == 0, "down")
            etcd.start().wait_healthy()
            scraped.wait(lambda x: x["nixl_md_up"] == 1, "up again")
            etcd.freeze()
            scraped.wait(lambda x: x["nixl_md_up"] == 0, "does not answer")
            etcd.thaw()
            last = scraped.wait(lambda x: x["nixl_md_up"] == x["nixl_md_contact"] == 1, "answers")
            assert last["nixl_md_agents permanent"] == 1
        finally:
            ended.set()
            for thread in threads:
                thread.join()
    assert not wrong and len(scrapes) > 10, wrong


def test_gatewaySwitchedOff(own_etcd: EtcdFactory, tool_for: ToolFactory) -> None:
    """The watch of events works without it; the rest says so."""
    etcd = own_etcd.unstarted("3.5", "--enable-grpc-gateway=false")
    etcd.start()
    with exporting(tool_for(etcd, b"/x/")) as scraped:
        found = scraped.wait(lambda x: x["nixl_md_contact"] == 1, "contact")
        assert found["nixl_md_up"] == 0
        scraped.wait(lambda x: x["nixl_md_read_failures_total"] >= 2, "it goes on")


def test_headRequest_isAnswered(tool: Tool) -> None:
    """As monitoring of the port itself asks."""
    with exporting(tool) as scraped:
        scraped.wait(lambda _: True, "it answers")
        request = urllib.request.Request(scraped.url, method="HEAD")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            assert answer.status == 200 and int(answer.headers["Content-Length"]) > 100
            assert answer.read() == b""


def test_unusableListenAddress_isRefused(tool: Tool) -> None:
    assert "is no address" in tool("exporter", "--listen", "nowhere", status=2).err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = tool("exporter", "--listen", f"127.0.0.1:{port}", status=1)
    assert "Choose another address or port" in answer.err


def test_dashboard_queriesOnlyServedMetrics(tool: Tool, plants: Plants) -> None:
    """Each figure of each panel is one of the exporter's."""
    plants.agent("alpha", plants.lease(600))
    dashboard = tool("dashboard").json
    wanted = set(re.findall(r"nixl_md_\w+", json.dumps(dashboard)))
    with exporting(tool) as scraped:
        found = scraped.wait(lambda x: "nixl_md_lease_left_seconds_min" in x, "all")
    assert wanted <= {name.split()[0] for name in found} and len(wanted) >= 8
    assert len(dashboard["panels"]) >= 6 and dashboard["title"]


@pytest.mark.parametrize("path", ["/nothing", "/metrics?x=1"])
def test_otherPaths_areNotFound(tool: Tool, path: str) -> None:
    with exporting(tool) as scraped:
        scraped.wait(lambda _: True, "it answers")
        url = scraped.url.replace("/metrics", path)
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                status = answer.status
        except urllib.error.HTTPError as refused:
            status = refused.code
            refused.close()
    assert status == (404 if path == "/nothing" else 200)
