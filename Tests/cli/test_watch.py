# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""`nixl-md watch`: lines and JSON."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from conftest import EtcdFactory, Plants, Tool, ToolFactory
from proxy import Proxy

PATIENCE = 180.0


class Lines:
    """The output of a running watch so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.found: list[str] = []

    def wait(self, word: str) -> str:
        """Reads on until a line has this word."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.found.append(line)
            if word in line:
                return line
        raise AssertionError(f"ended without '{word}': {self.found}")


@contextmanager
def watching(tool: Tool, *arguments: str) -> Iterator[Lines]:
    process = tool.start("watch", *arguments)
    try:
        yield Lines(process)
    finally:
        process.kill()
        process.communicate()


def test_events(tool: Tool, plants: Plants) -> None:
    lease = plants.lease()
    plants.agent("alpha", lease)
    with watching(tool) as lines:
        assert re.match(r"\d\d:\d\d:\d\d\.\d{3}  PRESENT +alpha", lines.wait("PRESENT"))
        lines.wait("SYNCED")
        plants.agent("beta", lease)
        assert "beta" in lines.wait("PRESENT")
        plants.gateway.call("/v3/lease/revoke", {"ID": str(lease)})
        told = {lines.wait("GONE").split()[2], lines.wait("GONE").split()[2]}
        assert told == {"alpha", "beta"}
        lines.process.send_signal(signal.SIGINT)
        assert lines.process.wait(PATIENCE) == 130


def test_labelsAsJson(tool: Tool, plants: Plants) -> None:
    plants.agent("alpha", 0, b"12345")
    plants.agent("other")
    with watching(tool, "alpha", "--json") as lines:
        lines.wait("SYNCED")
        plants.gateway.put(plants.key("alpha", "more"), b"1")
        lines.wait('"more"')
        events: list[dict[str, Any]] = [json.loads(line) for line in lines.found]
    kinds = [(e["event"], e.get("label"), e.get("bytes")) for e in events]
    assert kinds == [
        ("PRESENT", None, None),
        ("PUT", "metadata", 5),
        ("SYNCED", None, None),
        ("PUT", "more", 1),
    ]
    assert all(e["time"] and "other" not in e.values() for e in events)


def test_contactLostAndResync(own_etcd: EtcdFactory, tool_for: ToolFactory, version: str) -> None:
    etcd = own_etcd(version)
    plants = Plants(etcd.gateway, b"/w/")
    plants.agent("alpha")
    proxy = Proxy(etcd.own_port)
    tool = tool_for(etcd, b"/w/")
    tool.environment["NIXL_ETCD_ENDPOINTS"] = proxy.endpoint
    try:
        with watching(tool) as lines:
            lines.wait("SYNCED")
            proxy.cut()
            lines.wait("CONTACT_LOST")
            # The missed history is compacted away meanwhile.
            etcd.gateway.delete_prefix(plants.key("alpha"))
            etcd.gateway.compact(plants.agent("beta"))
            proxy.heal()
            lines.wait("CONTACT_REGAINED")
            lines.wait("RESYNC")
            lines.wait("SYNCED")
        told = "".join(lines.found)
        assert re.search(r"GONE +alpha", told) and re.search(r"PRESENT +beta", told)
    finally:
        proxy.close()
