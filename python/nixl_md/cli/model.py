# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What the keys of a namespace mean: agents, their states, and whose lease is whose. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from .pipeline import LeaseTime

# The TTL of the lease of an agent without a heartbeat, and the most that etcd grants
# (docs/registration.md). The lowest bit of such a lease's id is set.
NEVER_ENDING = 9_000_000_000
# The mark of a process that is about to take a name over: the presence key and this.
MARK = b"\0"


class State(str, enum.Enum):
    """Of an agent, by what its keys hang on."""

    LEASED = "leased"
    PERMANENT = "permanent"
    """No lease (stock NIXL), or one that never ends (nixl_md without a heartbeat)."""
    ORPHAN = "orphan"
    """Labels without a presence key. Who looks later takes the agent for present."""
    MIXED = "mixed"
    """Some keys end with a lease and some do not."""


@dataclass(frozen=True)
class Key:
    """One key as etcd shows it; `size` of its value, None: not read."""

    key: bytes
    lease: int
    created: int
    revision: int
    version: int
    size: int | None
    head: bytes = b""


@dataclass
class Found:
    """All keys of one agent."""

    name: bytes
    prefix: bytes
    presence: Key | None = None
    labels: dict[bytes, Key] = field(default_factory=dict)
    marks: list[Key] = field(default_factory=list)

    @property
    def keys(self) -> list[Key]:
        first = [] if self.presence is None else [self.presence]
        return [*first, *self.labels.values(), *self.marks]

    @property
    def leases(self) -> list[int]:
        """Distinct, that of the presence key first."""
        return list(dict.fromkeys(key.lease for key in self.keys))

    @property
    def size(self) -> int | None:
        """Bytes of all values; None: not all were read."""
        sizes = [key.size for key in self.keys]
        return None if None in sizes else sum(size or 0 for size in sizes)

    @property
    def revision(self) -> int:
        """Of the last change."""
        return max(key.revision for key in self.keys)

    @property
    def is_nested(self) -> bool:
        """Whether another namespace lies below its prefix: presence keys of that one look like
        labels here, and end in '/'."""
        return any(label.endswith(b"/") for label in self.labels)


def is_permanent(lease: int, times: Mapping[int, LeaseTime]) -> bool:
    """Whether what hangs on it stays by itself. Where etcd was not asked, the id is a hint."""
    if lease == 0:
        return True
    time = times.get(lease)
    return lease & 1 == 1 if time is None else time.granted >= NEVER_ENDING


def state_of(found: Found, times: Mapping[int, LeaseTime]) -> State:
    if found.presence is None:
        return State.ORPHAN
    kinds = {is_permanent(lease, times) for lease in found.leases}
    if len(kinds) == 2:
        return State.MIXED
    return State.PERMANENT if True in kinds else State.LEASED


@dataclass(frozen=True)
class Namespace:
    """A prefix as it is spelled. Keys are PREFIX/AGENT/LABEL."""

    spelled: bytes

    @property
    def root(self) -> bytes:
        return self.spelled + b"/"

    def prefix(self, agent: bytes) -> bytes:
        return self.root + agent + b"/"

    def split(self, key: bytes) -> tuple[bytes, bytes] | None:
        """Agent and label; the presence key's label is empty. None: not of this namespace."""
        if not key.startswith(self.root):
            return None
        agent, slash, label = key[len(self.root) :].partition(b"/")
        return (agent, label) if slash and agent else None

    @property
    def base(self) -> bytes:
        """Without slashes at its end."""
        return self.spelled.rstrip(b"/")

    def others(self) -> list[Namespace]:
        """Other spellings: with one slash more or less at the end or at the start."""
        base = self.base.lstrip(b"/")
        if not base:
            return []
        spelled = [lead + base + end for lead in (b"/", b"") for end in (b"", b"/", b"//")]
        return [Namespace(other) for other in spelled if other != self.spelled]


@dataclass
class Snapshot:
    """The agents of a namespace at one revision."""

    namespace: Namespace
    revision: int = 0
    agents: dict[bytes, Found] = field(default_factory=dict)
    nested: list[bytes] = field(default_factory=list)
    """Names below which other namespaces lie."""
    foreign: int = 0
    """Keys that are no agent's."""
    tells_leases: bool = True
    """False: this etcd leaves the lease out of keys-only answers, and it was asked for them."""

    def add(self, key: Key) -> None:
        split = self.namespace.split(key.key)
        if split is None:
            self.foreign += 1
            return
        name, label = split
        found = self.agents.get(name)
        if found is None:
            found = self.agents[name] = Found(name, self.namespace.prefix(name))
        if not label:
            found.presence = key
        elif label == MARK:
            found.marks.append(key)
        else:
            found.labels[label] = key

    def settle(self) -> None:
        """When all keys have been added: takes out what is no agent."""
        self.nested = [name for name, found in self.agents.items() if found.is_nested]
        for name in self.nested:
            # One with a presence key of its own is an agent as well.
            if self.agents[name].presence is None:
                del self.agents[name]

    @property
    def leases(self) -> list[int]:
        return list(dict.fromkeys(x for found in self.agents.values() for x in found.leases if x))


def counts(states: Iterable[State]) -> dict[State, int]:
    """How many of each, those that are there."""
    states = list(states)
    return {state: states.count(state) for state in State if state in states}


def late(found: Found, times: Mapping[int, LeaseTime]) -> Iterator[tuple[int, LeaseTime]]:
    """Leases of an agent that nobody has renewed for two thirds of their TTL: a heartbeat renews
    after a third at the latest."""
    for lease in found.leases:
        time = times.get(lease)
        if time is not None and time.granted < NEVER_ENDING and time.left * 3 < time.granted:
            yield lease, time
