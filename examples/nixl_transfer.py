#!/usr/bin/env python3
# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Transfers between two agents of NIXL's own wheel, whose metadata nixl_md.nixl exchanges.

    pip install nixl-cu12 && python3 examples/nixl_transfer.py

starts an owner of a buffer and a reader, kills the owner with SIGKILL and starts it again. The
reader does nothing about that but call its loop: what it knew of the dead process is removed when
the lease ends, and it reads from the new one as soon as that has published. No GPU is needed.
`owner` and `reader` as the first argument run one of the two, in the etcd of NIXL_ETCD_ENDPOINTS.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import signal
import sys
import time
from contextlib import ExitStack
from typing import Any

from demo import PATIENCE, ROOT, TTL, DemoError, Process, private_etcd, say, wait_until_healthy
from nixl_md import Operation
from nixl_md.nixl import NixlMetadata, take_endpoints

# There is one wheel for each major version of CUDA; here any of them will do.
try:
    import nixl_cu12 as nixl  # type: ignore[import-not-found]
except ImportError:
    import nixl_cu13 as nixl  # type: ignore[import-not-found]
nixl_agent, nixl_agent_config = nixl._api.nixl_agent, nixl._api.nixl_agent_config

# How NIXL says that the connection to a peer is broken; up to 1.4.1 it then drops the metadata.
BROKEN = (
    nixl._bindings.nixlRemoteDisconnectError,
    nixl._bindings.nixlNotFoundError,
    nixl._bindings.nixlBackendError,
)
SIZE = 1 << 20
# Where the buffer lies and what is in it, as JSON: a label of the application's own beside NIXL's.
# NIXL's get_serialized_descs pickles, and to unpickle what stands in etcd is to run whatever
# somebody has put there.
LABEL = "example/buffer"
PERIOD = 0.01


class Application:
    """A NIXL agent with one buffer, its metadata, and a loop that ends with SIGTERM."""

    def __init__(self, name: str) -> None:
        # First of all: the agent would start NIXL's own etcd layer.
        self.endpoints = take_endpoints()
        # NIXL's progress thread keeps a core busy; here get_new_notifs does its work.
        self.nixl = nixl_agent(name, nixl_agent_config(enable_prog_thread=False))
        self.buffer = (ctypes.c_uint8 * SIZE)()
        self.region = (ctypes.addressof(self.buffer), SIZE, 0)
        self.nixl.register_memory([(*self.region, "")], "DRAM")
        self.is_stopping = False
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)

    def stop(self, *_: object) -> None:
        self.is_stopping = True

    def options(self) -> dict[str, Any]:
        return {"endpoints": self.endpoints, "interval": TTL / 3, "ttl": TTL}


class Owner(Application):
    """Fills its buffer and lets others read it."""

    def run(self) -> None:
        content = os.urandom(SIZE)
        ctypes.memmove(self.buffer, content, SIZE)
        about = {"region": self.region, "sha256": hashlib.sha256(content).hexdigest()}
        with NixlMetadata(self.nixl, **self.options()) as metadata:
            metadata.agent.publish(LABEL, json.dumps(about).encode(), timeout=float("inf"))
            while not self.is_stopping:
                metadata.tick()
                self.nixl.get_new_notifs()
                time.sleep(PERIOD)


def described(blob: bytes | None) -> tuple[tuple[int, int, int], str] | None:
    """The region and the digest that an owner has published; None if it is something else."""
    try:
        about = json.loads(blob or b"")
        address, size, device = about["region"]
        digest = about["sha256"]
    except (ValueError, TypeError, KeyError):
        return None
    if size != SIZE or not all(type(number) is int for number in (address, size, device)):
        return None
    if not 0 <= address < 1 << 64 or not 0 <= device < 1 << 64 or not isinstance(digest, str):
        return None
    return (address, size, device), digest


class Reader(Application):
    """Reads the owner's buffer over and over, whenever there is an owner."""

    def __init__(self, name: str, owner: str) -> None:
        super().__init__(name)
        self.owner = owner
        self.local = self.nixl.get_xfer_descs([self.region], "DRAM")
        self.metadata = NixlMetadata(self.nixl, on_peer=self.on_peer, **self.options())
        self.about: Operation | None = None
        self.transfer: Any = None

    def on_peer(self, peer: str, is_loaded: bool) -> None:
        """The owner's metadata has been loaded, or is about to be removed."""
        print("loaded" if is_loaded else "removed", peer, flush=True)
        if is_loaded:
            self.about = self.metadata.agent.fetch(peer, LABEL, timeout=float("inf"))
        else:
            self.end_transfer()
            if self.about is not None:
                self.about.cancel()
            self.about = None

    def run(self) -> None:
        with self.metadata:
            self.metadata.want(self.owner)
            while not self.is_stopping:
                self.metadata.tick()
                self.nixl.get_new_notifs()
                if self.transfer is not None:
                    self.look_after_transfer()
                elif self.about is not None and self.about.done():
                    self.begin_transfer(self.about)
                time.sleep(PERIOD)

    def begin_transfer(self, about: Operation) -> None:
        found = described(about.result().blob)
        if found is None:
            print("not a description of a buffer", flush=True)
            self.about = None
            return
        region, self.expected = found
        remote = self.nixl.get_xfer_descs([region], "DRAM")
        ctypes.memset(self.buffer, 0, SIZE)
        try:
            self.transfer = self.nixl.initialize_xfer("READ", self.local, remote, self.owner)
            self.nixl.transfer(self.transfer)
        except BROKEN:
            self.fail()

    def look_after_transfer(self) -> None:
        try:
            state = self.nixl.check_xfer_state(self.transfer)
        except BROKEN:
            state = "ERR"
        if state == "DONE":
            self.end_transfer()
            found = hashlib.sha256(bytes(self.buffer)).hexdigest()
            verdict = "ok" if found == self.expected else "WRONG"
            print("read", verdict, found[:8], flush=True)
        elif state != "PROC":
            self.fail()

    def fail(self) -> None:
        """The connection is broken. NIXL makes a new one when the metadata is loaded again: now if
        the owner lives, else when it is back."""
        print("read failed", flush=True)
        self.end_transfer()
        self.metadata.reload(self.owner)

    def end_transfer(self) -> None:
        if self.transfer is not None:
            self.nixl.release_xfer_handle(self.transfer)
            self.transfer = None


def start(stack: ExitStack, role: str, environment: dict[str, str]) -> Process:
    process = Process(role, [sys.executable, __file__, role], environment)
    stack.callback(process.end)
    return process


def demonstrate(stack: ExitStack, environment: dict[str, str]) -> None:
    reader = start(stack, "reader", environment)
    owner = start(stack, "owner", environment)
    say(f"owner   pid {owner.pid}, reader pid {reader.pid}: agents of NIXL's wheel, over UCX")
    reader.expect("read ok", PATIENCE)
    say(f"reader  has read {SIZE} bytes of the owner, and they are right")

    killed = owner.kill()
    say("owner   SIGKILL")
    removed = reader.expect("removed", PATIENCE, since=killed)
    say(f"reader  has removed the dead owner's metadata, {removed - killed:.2f} s after the kill")

    again = start(stack, "owner", environment)
    say(f"owner   starts again, pid {again.pid}")
    loaded = reader.expect("loaded", PATIENCE, since=removed)
    reader.expect("read ok", PATIENCE, since=loaded)
    say("reader  reads the new owner's bytes; it called nothing but its loop")

    killed = again.kill()
    start(stack, "owner", environment)
    say("owner   SIGKILL, and starts again at once")
    removed = reader.expect("removed", PATIENCE, since=killed)
    loaded = reader.expect("loaded", PATIENCE, since=removed)
    reader.expect("read ok", PATIENCE, since=loaded)
    say(f"reader  has noticed and reads again, {loaded - killed:.2f} s after the kill")
    if any(line.startswith("read WRONG") for _, line in reader.lines):
        raise DemoError("bytes were wrong")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("role", nargs="?", choices=("owner", "reader"))
    role = parser.parse_args().role
    if role == "owner":
        Owner("owner").run()
        return 0
    if role == "reader":
        Reader("reader", "owner").run()
        return 0
    with ExitStack() as stack:
        endpoint = os.environ.get("NIXL_ETCD_ENDPOINTS", "").strip()
        try:
            endpoint = endpoint or stack.enter_context(private_etcd())
            wait_until_healthy(endpoint)
            environment = {
                **os.environ,
                "NIXL_ETCD_ENDPOINTS": endpoint,
                "NIXL_ETCD_NAMESPACE": f"/nixl_md-demo/{os.getpid()}/",
                "PYTHONPATH": str(ROOT / "python"),
            }
            demonstrate(stack, environment)
        except DemoError as error:
            print(f"FAILED: {error}", file=sys.stderr)
            return 1
    say("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
