# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The peers whose metadata an agent of NIXL wants loaded."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Callable

from ._agent import Agent
from ._errors import Mismatch, NixlMDError, Status, error
from ._events import Event, EventType, Result
from ._nixl_own import DEFAULT_LABEL, NEVER, NixlAgent, log
from ._operations import Operation, Watch

# When peers were looked for in vain for 10 s, then twice as long each time up to this, the library
# looks whether they are under the other spelling of the namespace; its log tells.
SEARCH_SECONDS_MAX = 320.0

PeerCallback = Callable[[str, bool], None]


@dataclass
class Peer:
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
    # Whether what is published again is loaded.
    has_updates: bool = False
    # By label: the newest revision that was told, and that which was fetched last.
    newest: dict[str, int] = field(default_factory=dict)
    fetched: dict[str, int] = field(default_factory=dict)
    # Counts what makes an answer that is on the way worthless.
    turn: int = 0

    @property
    def is_loaded(self) -> bool:
        return self.loaded == len(self.labels)

    @property
    def is_stuck(self) -> bool:
        """It is present and not loaded, nothing is on the way, and nothing was refused."""
        is_waiting = self.fetch is not None or self.newer is not None
        return not (self.is_loaded or is_waiting) and bool(self.revision) and self.failure is None


class Peers:
    """Loads, removes and loads again."""

    _nixl: NixlAgent
    _on_peer: PeerCallback | None

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}
        self._search: Operation | None = None

    @property
    def agent(self) -> Agent:
        raise NotImplementedError

    def want(
        self, peer: str, labels: Sequence[str] = (DEFAULT_LABEL,), *, updates: bool = False
    ) -> None:
        """Keeps a peer's metadata loaded from now on, whether it is there yet or not: that under
        `labels`, in this order. For partial metadata the first must hold connection info. Where
        NIXL drops it by itself, since a transfer has failed, it is loaded again within
        `check_interval`. `updates`: what the peer publishes anew under these labels is loaded as
        well; else only `fetch` does that. If this is refused, nothing has changed."""
        if peer == self._nixl.name:
            raise ValueError(f"{peer} is this agent's own name")
        if isinstance(labels, str) or not labels or not all(labels):
            raise ValueError(f"labels are a sequence of names, not {labels!r}")
        if peer in self._peers:
            raise ValueError(f"{peer} is wanted already")
        wanted = Peer(peer, tuple(labels), has_updates=updates)
        wanted.watch = self.agent.watch(
            peer, lambda event: self._tell(wanted, event), blobs=updates
        )
        self._peers[peer] = wanted
        if self._search is None:
            self._look_for(wanted, 10.0)

    def _look_for(self, peer: Peer, seconds: float) -> None:
        """A fetch for the sake of what the library does when it ends in vain."""

        def done(result: Result) -> None:
            self._search = None
            absent = [peer for peer in self._peers.values() if not peer.revision]
            if absent and result.status == Status.TIMED_OUT:
                self._look_for(absent[0], min(2 * seconds, SEARCH_SECONDS_MAX))

        # Without it, only a hint in the log is missing.
        with contextlib.suppress(NixlMDError):
            self._search = self.agent.fetch(
                peer.name, peer.labels[0], timeout=seconds, on_done=done
            )

    def forget(self, peer: str) -> None:
        """Ends what `want` began, and removes the peer's metadata."""
        forgotten = self._peers.pop(peer)
        if forgotten.watch is not None:
            forgotten.watch.close()
        self._unload(forgotten)

    def fetch(self, peer: str) -> None:
        """Fetches and loads the metadata of a wanted peer again, if it is present: after it has
        registered more memory. What is loaded stays valid meanwhile. (NIXL adds what is new;
        what the peer has deregistered it keeps until the peer is gone.) It does not mend a broken
        connection: `reload` does."""
        wanted = self._peers[peer]
        if wanted.revision:
            self._fetch(wanted, 0)

    def reload(self, peer: str) -> None:
        """Removes the metadata of a wanted peer and loads it again, if the peer is present. For
        when transfers fail although the peer lives: UCX's connection has broken, and NIXL makes a
        new one only for metadata that is loaded again. `on_peer` is told both, as if the peer had
        restarted. While it is on its way, another call begins nothing."""
        wanted = self._peers[peer]
        if wanted.revision and (wanted.loaded or wanted.fetch is None):
            self._reload(wanted, "a reload was asked for")

    def _reload(self, peer: Peer, why: str) -> None:
        log.info("the metadata of %s is loaded again: %s", peer.name, why)
        revision = peer.revision
        try:
            self._unload(peer)
        finally:
            # Also when `on_peer` has raised. It may have forgotten the peer.
            if self._peers.get(peer.name) is peer:
                peer.revision = revision
                self._fetch(peer, 0)

    def _check_peers(self) -> None:
        """NIXL may have dropped what is loaded: up to 1.4.1 it does so when a connection breaks.
        And a signal's handler, or a refused call, may have kept a peer from being loaded."""
        for peer in list(self._peers.values()):
            if peer.is_loaded:
                if not self._nixl.check_remote_metadata(peer.name):
                    self._reload(peer, "NIXL has dropped it")
            elif peer.is_stuck:
                with contextlib.suppress(NixlMDError):
                    self._fetch(peer, 0)

    def is_loaded(self, peer: str) -> bool:
        """Whether transfers to and from this peer can be begun."""
        return peer in self._peers and self._peers[peer].is_loaded

    def failure(self, peer: str) -> Exception | None:
        """Why the metadata of a wanted peer was not loaded: None, or what etcd or NIXL said."""
        return self._peers[peer].failure

    def _tell(self, peer: Peer, event: Event) -> None:
        if self._peers.get(peer.name) is not peer:
            return
        if event.type in (EventType.PRESENT, EventType.RESTARTED, EventType.RETURNED):
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
        elif event.type == EventType.PUT and event.label in peer.labels:
            peer.newest[event.label] = event.revision
            self._update(peer)
        elif event.type == EventType.ENDED and event.status != Status.CANCELED:
            self._failed(peer, error(event.status, event.text))

    def _update(self, peer: Peer) -> None:
        """Fetches what has been published since, unless that is on its way."""
        if not (peer.has_updates and peer.is_loaded and peer.fetch is None):
            return
        if any(revision > peer.fetched.get(label, 0) for label, revision in peer.newest.items()):
            self._fetch(peer, 0)

    def _fetch(self, peer: Peer, index: int) -> None:
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

    def _fetched(self, peer: Peer, index: int, result: Result) -> None:
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
            peer.fetched[peer.labels[index]] = result.revision
            if index + 1 < len(peer.labels):
                self._fetch(peer, index + 1)
            else:
                peer.failure = None
                log.info("loaded the metadata of %s", peer.name)
                try:
                    if self._on_peer is not None:
                        self._on_peer(peer.name, True)
                finally:
                    self._update(peer)

    def _await_newer(self, peer: Peer, index: int) -> None:
        """What is there was left by an earlier process of the name: an agent with NIXL's own etcd
        layer leaves it until it sends its metadata. Only a watch with blobs tells of that."""
        log.debug("the metadata of %s is that of an earlier process", peer.name)
        turn = peer.turn

        def tell(event: Event) -> None:
            if peer.turn != turn:
                return
            is_newer = event.type == EventType.PUT and event.revision >= peer.revision
            if is_newer and event.label == peer.labels[index]:
                self._fetch(peer, index)
            elif event.type == EventType.ENDED and event.status != Status.CANCELED:
                self._failed(peer, error(event.status, event.text))

        peer.newer = self.agent.watch(peer.name, tell, blobs=True)

    def _load(self, peer: Peer, blob: bytes) -> bool:
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
        # It may have been added to what is loaded of that agent.
        touched = self._peers.get(loaded)
        self._failed(
            peer,
            Mismatch(Status.MISMATCH, f"it names another agent, {loaded}, which is unloaded"),
        )
        if touched is not None and touched.loaded:
            self._reload(touched, f"what {peer.name} has published names it, too")
        else:
            self._remove(name)
        return False

    def _remove(self, name: str | bytes) -> None:
        try:
            self._nixl.remove_remote_agent(name)
        # As above. The application may have removed it.
        except Exception as failure:
            log.warning("the metadata of %s was not removed: %r", name, failure)

    def _failed(self, peer: Peer, failure: Exception) -> None:
        peer.failure = failure
        log.error("the metadata of %s was not loaded: %r", peer.name, failure)

    def _unload(self, peer: Peer) -> None:
        self._stop(peer)
        peer.revision = 0
        was_loaded, had_some = peer.is_loaded, peer.loaded > 0
        peer.loaded = 0
        peer.fetched.clear()
        peer.failure = None
        try:
            if was_loaded and self._on_peer is not None:
                self._on_peer(peer.name, False)
        finally:
            # NIXL may have dropped it, and then refuses.
            if had_some and self._nixl.check_remote_metadata(peer.name):
                self._remove(peer.name)
                log.info("removed the metadata of %s", peer.name)

    def _stop(self, peer: Peer) -> None:
        """Ends what is on the way."""
        peer.turn += 1
        if peer.fetch is not None:
            peer.fetch.cancel()
            peer.fetch = None
        if peer.newer is not None:
            peer.newer.close()
            peer.newer = None
