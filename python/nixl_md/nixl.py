# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Metadata exchange for the agents of NIXL's own wheel, in place of its etcd layer.

    endpoints = take_endpoints()  # before the agent is made: it would start its own etcd layer
    agent = nixl_agent("alpha", nixl_agent_config(enable_prog_thread=False))
    agent.register_memory(...)
    with NixlMetadata(agent, endpoints=endpoints) as metadata:
        metadata.want("beta")
        while True:
            metadata.tick()
            if metadata.is_loaded("beta"):
                ...  # transfer

Publishes the agent's metadata under a lease, and again when its registrations have changed. Loads
the metadata of wanted peers, removes it when they are gone and loads it again when they have
restarted. All work happens in the application's own loop: inside `tick`, or on asyncio
with `nixl_md.nixl_aio`. Peers may use this class, `libnixl_md` from C++, or NIXL's own etcd layer.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Callable

from ._agent import LOGGER, Agent
from ._nixl_config import add_settings, check_endpoints_are_taken, take_endpoints
from ._nixl_own import NEVER, NixlAgent, Own
from ._nixl_peers import PeerCallback, Peers
from ._operations import EventCallback


class Exchange(Peers, Own):
    """What it is with a loop of any kind; driven by the ticks of its Agent."""

    def __init__(
        self,
        nixl: NixlAgent,
        *,
        interval: float | None = None,
        ttl: float | None = None,
        check_interval: float | None = 1.0,
        publish_all: bool = True,
        on_peer: PeerCallback | None = None,
        **options: Any,  # noqa: ANN401 - those of Agent
    ) -> None:
        check_endpoints_are_taken()
        if options.get("background"):
            raise ValueError("NIXL's agents are no matter for a second thread: tick() in a loop")
        Peers.__init__(self)
        Own.__init__(self)
        self._nixl = nixl
        self._interval = interval
        self._ttl = ttl
        self._check_interval = check_interval
        self._publishes_all = publish_all
        self._on_peer = on_peer
        self._agent: Agent | None = None
        self._own_event: EventCallback | None = options.pop("on_event", None)
        options.setdefault("logger", LOGGER)
        add_settings(options)
        self._open(nixl.name, {**options, "on_event": self._on_own_event})

    def __repr__(self) -> str:
        is_open = self._agent is not None and not self._agent.closed
        loaded = sum(peer.is_loaded for peer in self._peers.values())
        held = sum(each.is_there for each in self._published.values())
        return (
            f"<{type(self).__name__} {self._nixl.name!r}, {'open' if is_open else 'closed'}, "
            f"{held} of {len(self._published)} labels published, "
            f"{loaded} of {len(self._peers)} peers loaded>"
        )

    def _open(self, name: str, options: dict[str, Any]) -> None:
        raise NotImplementedError

    def _start(self, agent: Agent) -> None:
        self._agent = agent
        # From now on the library writes nothing but on the lease, whatever becomes of this call.
        agent.start_heartbeat(
            self._interval, self._ttl, timeout=NEVER, on_done=self._logged("start_heartbeat")
        )
        self._plan_check()
        if self._publishes_all:
            self.publish()

    @property
    def agent(self) -> Agent:
        """The handle below, for labels of your own, lists and statistics."""
        if self._agent is None:
            raise RuntimeError("use it in 'async with'")
        return self._agent


class NixlMetadata(Exchange):
    """Exchanges the metadata of one NIXL agent; the application ticks.

    `nixl` is a `nixl_agent` that was made without NIXL_ETCD_ENDPOINTS in the environment.
    `interval` and `ttl` are those of the heartbeat. Every `check_interval` seconds (None:
    never) the loop checks whether registrations have changed, and repeats requests that etcd
    refused. `publish_all` False publishes partial metadata only. `on_peer` is called with
    (name, True) when a wanted peer is loaded, and with (name, False) before it is removed:
    release transfer handles to it there. All other arguments are those of `Agent`.

    As a context manager it withdraws its keys and closes. Loaded peers stay loaded."""

    def _open(self, name: str, options: dict[str, Any]) -> None:
        agent = Agent(name, **options)
        try:
            self._start(agent)
        except BaseException:
            agent.close()
            raise

    def __enter__(self) -> NixlMetadata:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.agent.__exit__(kind, exception, traceback)

    def tick(self) -> int:
        """Does all work that is due; see Agent.tick. Never blocks for the network; loading and
        removing a peer's metadata takes NIXL's time."""
        self.check_if_due()
        return self.agent.tick()

    def fileno(self) -> int:
        """Readable when a tick has work to do. Changed registrations are noticed only by ticks or
        `check`."""
        return self.agent.fileno()

    def run_until(self, condition: Callable[[], bool], timeout: float | None = None) -> None:
        """Ticks until the condition holds; see Agent.run_until."""
        self.agent.run_until(condition, timeout)

    def close(self) -> None:
        """Closes without withdrawing: the keys go when the TTL has passed."""
        self.agent.close()


__all__ = ["NixlAgent", "NixlMetadata", "take_endpoints"]
