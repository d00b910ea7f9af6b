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
the metadata of the peers that are wanted, removes it when they are gone and loads it anew when
they have restarted. All of it happens in the application's own loop: inside `tick`, or on asyncio
with `nixl_md.nixl_aio`. Peers may use this class, `libnixl_md` from C++, or NIXL's own etcd layer.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Callable, Protocol

from ._agent import Agent
from ._errors import Mismatch, NixlMDError, Status, error
from ._events import Event, EventType, Result
from ._leased import NEVER, LeasedPublisher
from ._operations import DoneCallback, EventCallback, Operation, Watch

ENDPOINTS_VARIABLE = "NIXL_ETCD_ENDPOINTS"
DEFAULT_LABEL = "metadata"
# As the log calls it.
LEASE = "start_heartbeat"
# What etcd refuses today and may take tomorrow. The rest is final, or another's to put right.
MAY_PASS = frozenset(
    [
        Status.BACKEND,
        Status.NOT_ALLOWED,
        Status.UNAUTHENTICATED,
        Status.PERMISSION,
        Status.NO_SPACE,
        Status.LIMIT,
    ]
)

# When peers were looked for in vain for 10 s, then twice as long each time up to this, the library
# looks whether they are under the other spelling of the namespace; its log tells.
SEARCH_SECONDS_MAX = 320.0

PeerCallback = Callable[[str, bool], None]

_log = logging.getLogger("nixl_md.nixl")


class NixlAgent(Protocol):
    """What is used of `nixl_agent`."""

    name: str

    def get_agent_metadata(self) -> bytes: ...

    def get_partial_agent_metadata(
        self,
        descs: Any,  # noqa: ANN401 - NIXL's descriptor list
        inc_conn_info: bool = ...,
        backends: list[str] = ...,
    ) -> bytes: ...

    def add_remote_agent(self, metadata: bytes) -> Any: ...  # noqa: ANN401 - str, in fact bytes

    def remove_remote_agent(self, agent: Any) -> Any: ...  # noqa: ANN401 - str or bytes; None


def take_endpoints() -> str | None:
    """$NIXL_ETCD_ENDPOINTS, which is removed from the environment, so that an agent made after this
    does not start NIXL's own etcd layer."""
    return os.environ.pop(ENDPOINTS_VARIABLE, None)


@dataclass
class _Published:
    """What a label is to hold."""

    blob: bytes
    operation: Operation
    # The metadata of all registrations, which is published again when they change.
    is_all: bool
    # It was there, and the library is putting it back.
    is_lost: bool = False

    @property
    def is_there(self) -> bool:
        return self.operation.done() and self.refusal is None and not self.is_lost

    @property
    def refusal(self) -> NixlMDError | None:
        if self.operation.done():
            try:
                self.operation.result()
            except NixlMDError as refusal:
                return refusal
        return None


@dataclass
class _Peer:
    """A peer that is wanted."""

    name: str
    labels: tuple[str, ...]
    watch: Watch | None = None
    # While its metadata is on the way.
    fetch: Operation | None = None
    newer: Watch | None = None
    # Of its presence key; what is older was left by a process before it.
    revision: int = 0
    # How many of the labels NIXL has taken.
    loaded: int = 0
    failure: Exception | None = None
    # Counts what makes an answer that is on the way worthless.
    turn: int = 0

    @property
    def is_loaded(self) -> bool:
        return self.loaded == len(self.labels)


class Exchange:
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
        if ENDPOINTS_VARIABLE in os.environ:
            raise ValueError(
                f"{ENDPOINTS_VARIABLE} is set: NIXL's own etcd layer would write the same keys. "
                "Call take_endpoints() before the agent is made and pass what it returns"
            )
        self._nixl = nixl
        self._interval = interval
        self._ttl = ttl
        self._check_interval = check_interval
        self._publishes_all = publish_all
        self._on_peer = on_peer
        self._agent: Agent | None = None
        self._publisher: LeasedPublisher | None = None
        self._peers: dict[str, _Peer] = {}
        self._search: Operation | None = None
        # By label.
        self._published: dict[str, _Published] = {}
        # The last failure of each kind that the log was told of.
        self._told: dict[str, Status] = {}
        self._next_check = math.inf
        self._own_event: EventCallback | None = options.pop("on_event", None)
        options.setdefault("logger", logging.getLogger("nixl_md"))
        self._open(nixl.name, {**options, "on_event": self._on_own_event})

    def _open(self, name: str, options: dict[str, Any]) -> None:
        raise NotImplementedError

    def _start(self, agent: Agent) -> None:
        self._agent = agent
        self._publisher = LeasedPublisher(agent, self._interval, self._ttl, self._logged(LEASE))
        self._publisher.start()
        self._plan_check()
        if self._publishes_all:
            self.publish()

    @property
    def agent(self) -> Agent:
        """The handle below: for labels of one's own, lists, statistics."""
        if self._agent is None:
            raise RuntimeError("use it in 'async with'")
        return self._agent

    # This agent

    def publish(self) -> Operation:
        """Publishes the agent's metadata as it is now, whether it has changed or not; also takes
        back an `invalidate`."""
        return self._publish(DEFAULT_LABEL, self._nixl.get_agent_metadata(), is_all=True)

    def _publish(self, label: str, blob: bytes, *, is_all: bool) -> Operation:
        if self._publisher is None:
            raise RuntimeError("use it in 'async with'")
        operation = self._publisher.publish(label, blob, self._logged(f"publish {label}"))
        self._published[label] = _Published(blob, operation, is_all)
        return operation

    def publish_partial(
        self,
        label: str,
        descs: Any,  # noqa: ANN401 - NIXL's descriptor list
        *,
        inc_conn_info: bool = False,
        backends: Sequence[str] = (),
    ) -> Operation:
        """Publishes the metadata of some registrations under a label of their own. It is not
        published again when registrations change. Under the label `metadata` it takes the place of
        the metadata of all."""
        blob = self._nixl.get_partial_agent_metadata(descs, inc_conn_info, list(backends))
        return self._publish(label, blob, is_all=False)

    def invalidate(self) -> Operation:
        """Withdraws everything this agent published, now; until `publish` is called again."""
        self._published.clear()
        if self._publisher is not None:
            self._publisher.withdraw()
        return self.agent.invalidate(on_done=self._logged("invalidate"))

    @property
    def is_published(self) -> bool:
        """Whether etcd holds all that was published, as far as it has told; raises what it refused.
        False where nothing is: it was withdrawn, by `invalidate` or by others, or another process
        has the name; and while what a lost lease took is put back."""
        for published in self._published.values():
            if published.refusal is not None:
                raise published.refusal
        return bool(self._published) and all(
            published.is_there for published in self._published.values()
        )

    def check(self) -> bool:
        """Publishes again what etcd refused and may take now, and the agent's metadata if its
        registrations have changed since; whether there was any. Also asks again for a lease that
        was refused. Done by the loop every `check_interval` seconds. What was withdrawn, by
        `invalidate` or by others, waits for `publish`."""
        self._plan_check()
        is_any = False
        for label, published in list(self._published.items()):
            blob = self._nixl.get_agent_metadata() if published.is_all else published.blob
            refusal = published.refusal
            may_pass = refusal is not None and refusal.status in MAY_PASS
            if blob != published.blob or may_pass:
                self._publish(label, blob, is_all=published.is_all)
                is_any = True
        if self._publisher is not None and self._told.get(LEASE) in MAY_PASS:
            self._publisher.start_again()
        return is_any

    def _plan_check(self) -> None:
        if self._check_interval is not None:
            self._next_check = time.monotonic() + self._check_interval

    def check_if_due(self) -> None:
        """What the loop does beside ticking: `check` when its time has come."""
        if time.monotonic() >= self._next_check:
            self.check()

    def _logged(self, what: str) -> DoneCallback:
        """Tells the log of a failure that nobody may be waiting for, once while it lasts."""

        def done(result: Result) -> None:
            if result.status == Status.SUCCESS:
                self._told.pop(what, None)
            elif result.status not in (Status.REPLACED, Status.CANCELED):
                if self._told.get(what) != result.status:
                    _log.error("%s: %s %s", what, result.status.name, result.text)
                self._told[what] = result.status

        return done

    def _on_own_event(self, event: Event) -> None:
        """What befell this agent's own keys. The library puts back what a lost lease took, and
        nothing else. What is on the way ends by itself."""
        # Before the application is told, which may publish in there.
        for label, published in list(self._published.items()):
            if event.type == EventType.RESTORED:
                published.is_lost = False
            elif published.operation.done():
                if event.type == EventType.LOST:
                    published.is_lost = True
                elif event.type in (EventType.SUPERSEDED, EventType.WITHDRAWN):
                    del self._published[label]
        is_harmless = event.type == EventType.RESTORED
        _log.log(
            logging.INFO if is_harmless else logging.WARNING,
            "%s: %s %s",
            self._nixl.name,
            event.type.name,
            event.text,
        )
        if self._own_event is not None:
            self._own_event(event)

    # Peers

    def want(self, peer: str, labels: Sequence[str] = (DEFAULT_LABEL,)) -> None:
        """Keeps a peer's metadata loaded from now on, whether it is there yet or not: that under
        `labels`, in this order. For partial metadata the first must hold connection info."""
        if peer == self._nixl.name:
            raise ValueError(f"{peer} is this agent's own name")
        if isinstance(labels, str) or not labels or not all(labels):
            raise ValueError(f"labels are a sequence of names, not {labels!r}")
        if peer in self._peers:
            raise ValueError(f"{peer} is wanted already")
        wanted = _Peer(peer, tuple(labels))
        wanted.watch = self.agent.watch(peer, lambda event: self._tell(wanted, event), blobs=False)
        self._peers[peer] = wanted
        if self._search is None:
            self._look_for(wanted, 10.0)

    def _look_for(self, peer: _Peer, seconds: float) -> None:
        """A fetch for the sake of what the library does when it ends in vain."""

        def done(result: Result) -> None:
            self._search = None
            absent = [peer for peer in self._peers.values() if not peer.revision]
            if absent and result.status == Status.TIMED_OUT:
                self._look_for(absent[0], min(2 * seconds, SEARCH_SECONDS_MAX))

        self._search = self.agent.fetch(peer.name, peer.labels[0], timeout=seconds, on_done=done)

    def forget(self, peer: str) -> None:
        """Ends what `want` began, and removes the peer's metadata."""
        forgotten = self._peers.pop(peer)
        if forgotten.watch is not None:
            forgotten.watch.close()
        self._unload(forgotten)

    def fetch(self, peer: str) -> None:
        """Fetches and loads the metadata of a wanted peer again, if it is present: after it has
        registered more memory. What is loaded stays valid meanwhile. (NIXL adds what is new;
        what the peer has deregistered it keeps until the peer is gone.)"""
        wanted = self._peers[peer]
        if wanted.revision:
            self._fetch(wanted, 0)

    def is_loaded(self, peer: str) -> bool:
        """Whether transfers to and from this peer can be begun."""
        return peer in self._peers and self._peers[peer].is_loaded

    def failure(self, peer: str) -> Exception | None:
        """Why the metadata of a wanted peer was not loaded: None, or what etcd or NIXL said."""
        return self._peers[peer].failure

    def _tell(self, peer: _Peer, event: Event) -> None:
        if self._peers.get(peer.name) is not peer:
            return
        if event.type in (EventType.PUT, EventType.RESTARTED, EventType.RETURNED):
            try:
                self._unload(peer)
            finally:
                # Also when `on_peer` has raised. It may have forgotten the peer.
                if self._peers.get(peer.name) is peer:
                    # Without a presence key no process is known, and any metadata is as good.
                    peer.revision = event.revision if event.incarnation else 1
                    self._fetch(peer, 0)
        elif event.type == EventType.GONE:
            self._unload(peer)
        elif event.type == EventType.SYNCED and event.revision < peer.revision:
            # The store was replaced: it counts anew, and the process put its keys back.
            peer.revision = 1
            if not peer.is_loaded:
                self._fetch(peer, 0)
        elif event.type == EventType.ENDED and event.status != Status.CANCELED:
            self._failed(peer, error(event.status, event.text))

    def _fetch(self, peer: _Peer, index: int) -> None:
        self._stop(peer)
        turn = peer.turn
        peer.fetch = self.agent.fetch(
            peer.name,
            peer.labels[index],
            timeout=NEVER,
            on_done=lambda result: (
                self._fetched(peer, index, result) if peer.turn == turn else None
            ),
        )

    def _fetched(self, peer: _Peer, index: int, result: Result) -> None:
        peer.fetch = None
        if result.status == Status.CANCELED:
            return
        try:
            result.check()
        except NixlMDError as failure:
            self._failed(peer, failure)
            return
        if result.revision < peer.revision:
            self._await_newer(peer, index)
        elif self._load(peer, result.blob or b""):
            peer.loaded = max(peer.loaded, index + 1)
            if index + 1 < len(peer.labels):
                self._fetch(peer, index + 1)
            else:
                peer.failure = None
                _log.info("loaded the metadata of %s", peer.name)
                if self._on_peer is not None:
                    self._on_peer(peer.name, True)

    def _await_newer(self, peer: _Peer, index: int) -> None:
        """What is there was left by an earlier process of the name: an agent with NIXL's own etcd
        layer leaves it until it sends its metadata. Only a watch with blobs tells of that."""
        _log.debug("the metadata of %s is that of an earlier process", peer.name)
        turn = peer.turn

        def tell(event: Event) -> None:
            if peer.turn != turn:
                return
            is_newer = event.type == EventType.PUT and event.revision >= peer.revision
            if is_newer and event.label == peer.labels[index].encode():
                self._fetch(peer, index)
            elif event.type == EventType.ENDED and event.status != Status.CANCELED:
                self._failed(peer, error(event.status, event.text))

        peer.newer = self.agent.watch(peer.name, tell, blobs=True)

    def _load(self, peer: _Peer, blob: bytes) -> bool:
        try:
            name = self._nixl.add_remote_agent(blob)
        # NIXL has exceptions of its own for each of its statuses; their base is not public.
        except Exception as failure:
            self._failed(peer, failure)
            return False
        # What a peer calls itself in there may be anything.
        loaded = (name if isinstance(name, bytes) else name.encode()).decode(
            "utf-8", "backslashreplace"
        )
        if loaded == peer.name:
            return True
        if loaded not in self._peers or not self._peers[loaded].loaded:
            self._remove(name)
        self._failed(peer, Mismatch(Status.MISMATCH, f"it names another agent, {loaded}"))
        return False

    def _remove(self, name: str | bytes) -> None:
        try:
            self._nixl.remove_remote_agent(name)
        # As above. The application may have removed it.
        except Exception as failure:
            _log.warning("the metadata of %s was not removed: %r", name, failure)

    def _failed(self, peer: _Peer, failure: Exception) -> None:
        peer.failure = failure
        _log.error("the metadata of %s was not loaded: %r", peer.name, failure)

    def _unload(self, peer: _Peer) -> None:
        self._stop(peer)
        peer.revision = 0
        was_loaded, had_some = peer.is_loaded, peer.loaded > 0
        peer.loaded = 0
        peer.failure = None
        try:
            if was_loaded and self._on_peer is not None:
                self._on_peer(peer.name, False)
        finally:
            if had_some:
                self._remove(peer.name)
                _log.info("removed the metadata of %s", peer.name)

    def _stop(self, peer: _Peer) -> None:
        """Ends what is on the way."""
        peer.turn += 1
        if peer.fetch is not None:
            peer.fetch.cancel()
            peer.fetch = None
        if peer.newer is not None:
            peer.newer.close()
            peer.newer = None


class NixlMetadata(Exchange):
    """Exchanges the metadata of one NIXL agent; the application ticks.

    `nixl` is a `nixl_agent` that was made without NIXL_ETCD_ENDPOINTS in the environment.
    `interval` and `ttl` are those of the heartbeat; every `check_interval` seconds (None: never)
    the loop looks whether registrations have changed, and asks again for what etcd refused.
    `publish_all` False leaves all but partial metadata unpublished. `on_peer` is called with
    (name, True) when a wanted peer is loaded, with (name, False) before it is removed: the moment
    to release transfer handles to it. All other arguments are those of `Agent`.

    As a context manager it withdraws what it published and closes. What is loaded stays.
    """

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
        """Does what is due; see Agent.tick. Never blocks for the network; loading and removing a
        peer's metadata takes the time that NIXL takes."""
        self.check_if_due()
        return self.agent.tick()

    def fileno(self) -> int:
        """Readable when a tick has something to do; only changed registrations are noticed by
        ticks alone, or by `check`."""
        return self.agent.fileno()

    def run_until(self, condition: Callable[[], bool], timeout: float | None = None) -> None:
        """Ticks until the condition holds; see Agent.run_until."""
        self.agent.run_until(condition, timeout)

    def close(self) -> None:
        """Closes without withdrawing: what is on the lease goes when its TTL has passed."""
        self.agent.close()


__all__ = ["NixlAgent", "NixlMetadata", "take_endpoints"]
