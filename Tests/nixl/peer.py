# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A scriptable agent of the real NIXL; it speaks the protocol of Tests/hosts/host.hpp.

Usage: peer.py KIND NAME. `plain` knows no etcd; `stock` has NIXL's own etcd layer (from the
environment); `tick` and `asyncio` have nixl_md.nixl; `several` is an agent for each of the names
that NAME lists, and a request says by `who` which is meant. Values of requests are quoted as in
URLs. Run by the Python that has the NIXL wheel.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import sys
import time
from contextlib import ExitStack
from typing import Any, ClassVar
from urllib.parse import unquote

# There is one wheel for each major version of CUDA.
try:
    from nixl_cu12._api import nixl_agent, nixl_agent_config  # type: ignore[import-not-found]
except ImportError:
    from nixl_cu13._api import nixl_agent, nixl_agent_config  # type: ignore[import-not-found]

TRANSFER_SECONDS = 10.0
# With NIXL's progress thread off, what peers ask of this agent is answered from here.
PROGRESS_SECONDS = 0.01

Values = dict[str, str]

# NIXL's own lines go to stderr, whatever they were meant for.
_answers = os.dup(1)
os.dup2(2, 1)


def tell(kind: str, **values: Any) -> None:
    line = json.dumps({"kind": kind, "t": time.monotonic_ns(), **values})
    os.write(_answers, line.encode("ascii") + b"\n")


def made_buffer(size: int, seed: int) -> Any:
    """With the bytes of hosts.made_blob."""
    return (ctypes.c_uint8 * size)(*((seed + index * 7) & 0xFF for index in range(size)))


def region(buffer: Any) -> tuple[int, int, int]:
    """As NIXL's descriptors have it: address, length, device."""
    return ctypes.addressof(buffer), ctypes.sizeof(buffer), 0


class Peer:
    """The agent and its buffers; subclasses add how metadata is exchanged."""

    all_here: ClassVar[list[Peer]] = []

    def __init__(self, name: str) -> None:
        config = nixl_agent_config(enable_prog_thread=False, backends=["UCX"])
        self.nixl = nixl_agent(name, config)
        self.buffers: list[Any] = []
        self.registrations: list[Any] = []
        self.handle: Any = None
        self.pending = b""
        self.is_quitting = False
        Peer.all_here.append(self)
        self.register(os.environ.get("TEST_SIZE", "4096"), os.environ.get("TEST_SEED", "1"))

    # Memory

    def where(self) -> Any:
        """Where the buffer lies that was registered first."""
        return {"address": region(self.buffers[0])[0]}

    def register(self, size: str, seed: str = "1", count: str = "1") -> Any:
        first = len(self.buffers)
        for _ in range(int(count)):
            self.buffers.append(made_buffer(int(size), int(seed)))
        descriptors = [(*region(buffer), "") for buffer in self.buffers[first:]]
        self.registrations.append(self.nixl.register_memory(descriptors, "DRAM"))
        return {"address": descriptors[0][0], "registration": len(self.registrations) - 1}

    def deregister(self, registration: str) -> None:
        self.nixl.deregister_memory(self.registrations[int(registration)])

    def blob(self) -> Any:
        return {"blob": self.nixl.get_agent_metadata().hex()}

    def partial(self, registration: str, conn: str = "0") -> Any:
        descriptors = self.registrations[int(registration)]
        blob = self.nixl.get_partial_agent_metadata(descriptors, conn == "1", ["UCX"])
        return {"blob": blob.hex()}

    # Remote agents

    def check(self, agent: str, address: str = "", size: str = "0") -> Any:
        descriptors = None
        if address:
            wanted = [(int(address), int(size), 0)]
            descriptors = self.nixl.get_xfer_descs(wanted, "DRAM")
        return {"is_there": self.nixl.check_remote_metadata(agent, descriptors)}

    def load(self, blob: str) -> None:
        self.nixl.add_remote_agent(bytes.fromhex(blob))

    def remove(self, agent: str) -> None:
        self.nixl.remove_remote_agent(agent)

    def read(self, agent: str, address: str, size: str) -> Any:
        """The bytes that a READ over UCX brings."""
        target = made_buffer(int(size), 0)
        registration = self.nixl.register_memory([(*region(target), "")], "DRAM")
        try:
            local = self.nixl.get_xfer_descs([region(target)], "DRAM")
            remote = self.nixl.get_xfer_descs([(int(address), int(size), 0)], "DRAM")
            handle = self.nixl.initialize_xfer("READ", local, remote, agent, b"")
            state = self.nixl.transfer(handle)
            deadline = time.monotonic() + TRANSFER_SECONDS
            while state == "PROC" and time.monotonic() < deadline:
                state = self.nixl.check_xfer_state(handle)
                # The agent that is read may be one of this process.
                for peer in Peer.all_here:
                    peer.progress()
            self.nixl.release_xfer_handle(handle)
            return {"state": state, "bytes": bytes(target).hex()}
        finally:
            self.nixl.deregister_memory(registration)

    def begin_read(self, agent: str, address: str, size: str) -> Any:
        """Reads from a peer that does not answer, so that the transfer stays under way."""
        target = made_buffer(int(size), 0)
        self.buffers.append(target)
        self.nixl.register_memory([(*region(target), "")], "DRAM")
        local = self.nixl.get_xfer_descs([region(target)], "DRAM")
        remote = self.nixl.get_xfer_descs([(int(address), int(size), 0)], "DRAM")
        self.handle = self.nixl.initialize_xfer("READ", local, remote, agent, b"")
        return {"state": self.nixl.transfer(self.handle)}

    # NIXL's own etcd layer

    def send(self) -> None:
        self.nixl.send_local_metadata()

    def send_partial(self, registration: str, label: str, conn: str = "0") -> None:
        descriptors = self.registrations[int(registration)]
        self.nixl.send_partial_agent_metadata(descriptors, conn == "1", ["UCX"], label=label)

    def fetch(self, agent: str, label: str = "") -> None:
        self.nixl.fetch_remote_metadata(agent, label=label)

    def invalidate(self) -> None:
        self.nixl.invalidate_local_metadata()

    # Life

    def meant(self, values: Values) -> Any:
        """Handles requests."""
        return self

    def quit(self) -> None:
        self.is_quitting = True

    def answer(self, line: str) -> None:
        request, command, *words = line.split()
        values: Values = {}
        for name, value in (word.split("=", 1) for word in words):
            values[name] = unquote(value)
        try:
            result = getattr(self.meant(values), command)(**values)
        except Exception as failure:
            tell("answer", id=int(request), rc=-1, error=f"{type(failure).__name__}: {failure}")
        else:
            tell("answer", id=int(request), rc=0, **(result or {}))

    def take_requests(self) -> None:
        data = os.read(0, 1 << 16)
        if not data:
            self.is_quitting = True
        *lines, self.pending = (self.pending + data).split(b"\n")
        for line in lines:
            self.answer(line.decode("ascii"))

    def progress(self) -> None:
        self.nixl.get_new_notifs()

    def run(self) -> None:
        tell("ready")
        while not self.is_quitting:
            if select.select([0], [], [], PROGRESS_SECONDS)[0]:
                self.take_requests()
            self.progress()


class AdapterPeer(Peer):
    """With nixl_md.nixl; the kind says who drives it."""

    def __init__(self, name: str) -> None:
        from nixl_md.nixl import take_endpoints

        endpoints = take_endpoints()
        super().__init__(name)
        self.options: dict[str, Any] = {
            "endpoints": endpoints,
            "interval": float(os.environ.get("TEST_INTERVAL", "1")),
            "ttl": float(os.environ.get("TEST_TTL", "5")),
            "check_interval": 0.2,
            "publish_all": "TEST_PARTIAL_ONLY" not in os.environ,
            "refuse_takeover": "TEST_REFUSE_TAKEOVER" in os.environ,
            "on_peer": self.on_peer,
        }
        self.metadata: Any = None
        # The behaviour of its `on_peer`.
        self.raises = False
        self.forgets = False

    def misbehave(self, raises: str = "0", forgets: str = "0") -> None:
        self.raises, self.forgets = raises == "1", forgets == "1"

    def on_peer(self, peer: str, is_loaded: bool) -> None:
        check = self.nixl.check_remote_metadata(peer)
        tell("peer", who=self.nixl.name, name=peer, is_loaded=is_loaded, check=check)
        if self.handle is not None and not is_loaded:
            self.nixl.release_xfer_handle(self.handle)
            self.handle = None
        if not is_loaded and self.forgets:
            self.metadata.forget(peer)
        if self.raises:
            raise RuntimeError(f"on_peer of {peer}")

    def interrupt_load(self) -> None:
        """Ctrl-C comes during the next load, and the application goes on."""
        load = self.nixl.add_remote_agent

        def interrupted(blob: bytes) -> Any:
            self.nixl.add_remote_agent = load
            raise KeyboardInterrupt("amid a load")

        self.nixl.add_remote_agent = interrupted

    def want(self, agent: str, labels: str = "metadata", updates: str = "0") -> None:
        self.metadata.want(agent, labels.split(","), updates=updates == "1")

    def forget(self, agent: str) -> None:
        self.metadata.forget(agent)

    def refetch(self, agent: str) -> None:
        self.metadata.fetch(agent)

    def reload(self, agent: str) -> None:
        self.metadata.reload(agent)

    def is_loaded(self, agent: str) -> Any:
        return {"is_loaded": self.metadata.is_loaded(agent)}

    def shown(self) -> Any:
        return {"text": repr(self.metadata)}

    def failure(self, agent: str) -> Any:
        return {"failure": repr(self.metadata.failure(agent))}

    def is_published(self) -> Any:
        return {"is_published": self.metadata.is_published}

    def check_registrations(self) -> Any:
        return {"is_any": self.metadata.check()}

    def publish(self) -> None:
        self.metadata.publish()

    def publish_partial(self, registration: str, label: str, conn: str = "0") -> None:
        descriptors = self.registrations[int(registration)]
        self.metadata.publish_partial(label, descriptors, inc_conn_info=conn == "1")

    def unpublish_partial(self, label: str) -> None:
        self.metadata.unpublish_partial(label)

    def withdraw(self) -> None:
        self.metadata.invalidate()

    def run(self) -> None:
        from nixl_md.nixl import NixlMetadata

        with NixlMetadata(self.nixl, **self.options) as self.metadata:
            tell("ready")
            while not self.is_quitting:
                ready = select.select([0, self.metadata], [], [], PROGRESS_SECONDS)[0]
                if 0 in ready:
                    self.take_requests()
                self.tick()
                self.progress()

    def tick(self) -> None:
        try:
            self.metadata.tick()
        except (RuntimeError, KeyboardInterrupt) as raised:
            tell("raised", who=self.nixl.name, text=str(raised))


class Several(AdapterPeer):
    """Agents of several names in one process and one loop."""

    def __init__(self, names: str) -> None:
        # The first takes the endpoints from the environment.
        endpoints = os.environ["NIXL_ETCD_ENDPOINTS"]
        self.members: dict[str, AdapterPeer] = {}
        self.pending = b""
        self.is_quitting = False
        for name in names.split(","):
            os.environ["NIXL_ETCD_ENDPOINTS"] = endpoints
            self.members[name] = AdapterPeer(name)

    def meant(self, values: Values) -> Any:
        return self.members[values.pop("who")] if "who" in values else self

    def close(self, agent: str) -> None:
        """Ends one of them."""
        member = self.members.pop(agent)
        Peer.all_here.remove(member)
        member.metadata.__exit__(None, None, None)

    def run(self) -> None:
        from nixl_md.nixl import NixlMetadata

        for member in self.members.values():
            member.metadata = NixlMetadata(member.nixl, **member.options)
        tell("ready")
        while not self.is_quitting:
            handles = [member.metadata for member in self.members.values()]
            if 0 in select.select([0, *handles], [], [], PROGRESS_SECONDS)[0]:
                self.take_requests()
            for member in self.members.values():
                member.tick()
                member.progress()
        with ExitStack() as stack:
            for member in self.members.values():
                stack.enter_context(member.metadata)


class AsyncioPeer(AdapterPeer):
    def run(self) -> None:
        import asyncio

        asyncio.run(self.serve())

    async def serve(self) -> None:
        import asyncio

        from nixl_md.nixl_aio import AsyncNixlMetadata

        async with AsyncNixlMetadata(self.nixl, **self.options) as self.metadata:
            asyncio.get_running_loop().add_reader(0, self.take_requests)
            tell("ready")
            while not self.is_quitting:
                self.progress()
                await asyncio.sleep(PROGRESS_SECONDS)
            asyncio.get_running_loop().remove_reader(0)


KINDS = {
    "plain": Peer,
    "stock": Peer,
    "tick": AdapterPeer,
    "asyncio": AsyncioPeer,
    "several": Several,
}

if __name__ == "__main__":
    peer = KINDS[sys.argv[1]](sys.argv[2])
    peer.run()
    # NIXL's destructors may log; what they do is no part of any test.
    Peer.all_here.clear()
    del peer
    gc.collect()
