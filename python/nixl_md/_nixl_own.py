# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What an agent of NIXL publishes of itself."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ._agent import Agent
from ._errors import NixlMDError, Status
from ._events import Event, EventType, Result
from ._operations import DoneCallback, EventCallback, Operation

DEFAULT_LABEL = "metadata"
# An operation that ends only when it is done: etcd may be down, or full, for longer than any time-
# out.
NEVER = math.inf
# What etcd refuses today and may take tomorrow. The rest is final, or another's to put right.
MAY_PASS = frozenset(
    [
        Status.BACKEND,
        Status.NOT_ALLOWED,
        Status.UNAUTHENTICATED,
        Status.PERMISSION,
        Status.LIMIT,
    ]
)

log = logging.getLogger("nixl_md.nixl")


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

    def check_remote_metadata(self, agent: str) -> bool: ...

    def remove_remote_agent(self, agent: Any) -> Any: ...  # noqa: ANN401 - str or bytes; None


@dataclass
class Published:
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


class Own:
    """Its metadata, and that of parts of it."""

    _nixl: NixlAgent
    _check_interval: float | None
    _own_event: EventCallback | None

    def __init__(self) -> None:
        # By label.
        self._published: dict[str, Published] = {}
        # The last failure of each kind that the log was told of.
        self._told: dict[str, Status] = {}
        self._next_check = math.inf

    @property
    def agent(self) -> Agent:
        raise NotImplementedError

    def _check_peers(self) -> None:
        raise NotImplementedError

    # This agent

    def publish(self) -> Operation:
        """Publishes the agent's metadata as it is now, whether it has changed or not; also takes
        back an `invalidate`."""
        return self._publish(DEFAULT_LABEL, self._nixl.get_agent_metadata(), is_all=True)

    def _publish(self, label: str, blob: bytes, *, is_all: bool) -> Operation:
        on_done = self._logged(f"publish {label}")
        try:
            operation = self.agent.publish(label, blob, timeout=NEVER, on_done=on_done)
        except NixlMDError as refusal:
            # Told by the operation, as what etcd refuses later is.
            # But what is wrong with the call itself: it changes nothing.
            if refusal.status in (Status.INVALID_PARAM, Status.TOO_LARGE) and not is_all:
                raise
            operation = Operation.refused(self.agent, refusal, on_done)
        self._published[label] = Published(blob, operation, is_all)
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
        the metadata of all. `unpublish_partial` takes it back."""
        blob = self._nixl.get_partial_agent_metadata(descs, inc_conn_info, list(backends))
        return self._publish(label, blob, is_all=False)

    def unpublish_partial(self, label: str) -> Operation:
        """Takes back what `publish_partial` has published, or what etcd has refused of it: then
        `is_published` does not raise any more."""
        if label not in self._published or self._published[label].is_all:
            raise ValueError(f"nothing was published under {label!r} by publish_partial()")
        self._told.pop(f"publish {label}", None)
        operation = self.agent.unpublish(
            label, timeout=NEVER, on_done=self._logged(f"unpublish {label}", Status.NOT_FOUND)
        )
        del self._published[label]
        return operation

    def invalidate(self) -> Operation:
        """Withdraws everything this agent published, now; until `publish` is called again."""
        operation = self.agent.invalidate(on_done=self._logged("invalidate"))
        self._published.clear()
        return operation

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
        registrations have changed since; whether there was any. Done by the loop every
        `check_interval` seconds. What was withdrawn, by `invalidate` or by others, waits for
        `publish`. For the lease, for room in etcd's database and for etcd itself the library waits
        by itself. Peers whose metadata NIXL has dropped are loaded again, see `want`."""
        self._plan_check()
        self._check_peers()
        is_any = False
        for label, published in list(self._published.items()):
            blob = self._nixl.get_agent_metadata() if published.is_all else published.blob
            refusal = published.refusal
            may_pass = refusal is not None and refusal.status in MAY_PASS
            if blob != published.blob or may_pass:
                self._publish(label, blob, is_all=published.is_all)
                is_any = True
        return is_any

    def _plan_check(self) -> None:
        if self._check_interval is not None:
            self._next_check = time.monotonic() + self._check_interval

    def check_if_due(self) -> None:
        """What the loop does beside ticking: `check` when its time has come."""
        if time.monotonic() >= self._next_check:
            self.check()

    def _logged(self, what: str, *harmless: Status) -> DoneCallback:
        """Tells the log of a failure that nobody may be waiting for, once while it lasts."""

        def done(result: Result) -> None:
            if result.status == Status.SUCCESS:
                self._told.pop(what, None)
            elif result.status not in (Status.REPLACED, Status.CANCELED, *harmless):
                if self._told.get(what) != result.status:
                    log.error("%s: %s %s", what, result.status.name, result.text)
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
        log.log(
            logging.INFO if is_harmless else logging.WARNING,
            "%s: %s %s",
            self._nixl.name,
            event.type.name,
            event.text,
        )
        if self._own_event is not None:
            self._own_event(event)
