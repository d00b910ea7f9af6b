# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What doctor finds in the namespace: agents, keys and leases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .errors import CredentialsRefused
from .findings import Finding, names, ok, warn
from .gateway import Gateway
from .listing import ask_elsewhere, ask_others
from .model import NEVER_ENDING, Key, Snapshot, State, late, state_of
from .pipeline import LeaseTime, parse_time, times_to_live
from .render import amount, duration, plural, printable
from .settings import Settings
from .store import tells_leases

# A lease of less does not survive a change of etcd's leader; over that, the dead stay long.
LEAST_TTL, GREATEST_TTL = 5, 300
# So old an empty lease is none that an agent is just about to use.
EMPTY_SECONDS = 60
LIMIT_PART = 0.8
# Of leases that are asked one by one what hangs on them.
ASKED_LEASES = 2000


@dataclass(frozen=True)
class Seen:
    """What was read."""

    snapshot: Snapshot
    times: Mapping[int, LeaseTime]
    request_limit: int

    def of_state(self, state: State) -> list[bytes]:
        agents = self.snapshot.agents.items()
        return [name for name, found in agents if state_of(found, self.times) is state]


def check_agents(seen: Seen) -> Iterator[Finding]:
    """Pure: of what was read."""
    yield from _permanent(seen)
    yield from _states(seen)
    yield from _late(seen)
    yield from _ttls(seen)
    yield from _values(seen)


def _permanent(seen: Seen) -> Iterator[Finding]:
    permanent = seen.of_state(State.PERMANENT)
    bare = [name for name in permanent if 0 in seen.snapshot.agents[name].leases]
    kept = sorted(set(permanent) - set(bare))
    if bare:
        yield warn(
            "permanent",
            f"{plural(len(bare), 'agent')} on no lease, as stock NIXL has them: {names(bare)}. "
            "They stay when their process dies",
            "'nixl-md purge --permanent --observe 60s' shows which do not change; "
            "'nixl-md guard' starts a stock agent under a lease.",
        )
    if kept:
        yield warn(
            "never-ending",
            f"{plural(len(kept), 'agent')} without a heartbeat, on leases that never end: "
            f"{names(kept)}. They stay when their process dies",
            "Start their heartbeat; 'nixl-md purge AGENT' removes one that is dead.",
        )
    if not permanent:
        yield ok("permanent", "no agent stays behind when its process dies")


def _states(seen: Seen) -> Iterator[Finding]:
    orphans = seen.of_state(State.ORPHAN)
    mixed = seen.of_state(State.MIXED)
    if orphans:
        yield warn(
            "orphan",
            f"{plural(len(orphans), 'agent')} with labels and no presence key: {names(orphans)}",
            "'nixl-md purge --orphans' removes them.",
        )
    if mixed:
        yield warn(
            "mixed",
            f"{plural(len(mixed), 'agent')} with keys on a lease and keys that stay: "
            f"{names(mixed)}",
            "Part of each outlives it: 'nixl-md get AGENT' shows which; restart it.",
        )
    if not orphans and not mixed:
        yield ok("keys", f"{plural(len(seen.snapshot.agents), 'agent')}, each with one state")


def _late(seen: Seen) -> Iterator[Finding]:
    found = {
        name: time
        for name, agent in seen.snapshot.agents.items()
        for _, time in late(agent, seen.times)
        if time.left >= 0
    }
    if found:
        least = min(time.left for time in found.values())
        yield warn(
            "late",
            f"{plural(len(found), 'lease')} not renewed for two thirds of the TTL: "
            f"{names(list(found))}; the first ends in {duration(least)}",
            "The process is dead, stopped, or does not reach etcd: its keys go by themselves. "
            "If it lives, see its log for renewals.",
        )
    else:
        yield ok("renewals", "every lease is renewed in time")


def _ttls(seen: Seen) -> Iterator[Finding]:
    ttls: dict[bytes, int] = {}
    for name, agent in seen.snapshot.agents.items():
        for lease in agent.leases:
            time = seen.times.get(lease)
            if time is not None and 0 < time.granted < NEVER_ENDING:
                ttls[name] = time.granted
    short = [name for name, ttl in ttls.items() if ttl < LEAST_TTL]
    long = [name for name, ttl in ttls.items() if ttl > GREATEST_TTL]
    if short:
        yield warn(
            "ttl-short",
            f"{plural(len(short), 'agent')} with a TTL below {LEAST_TTL} s: {names(short)}. "
            "It does not survive a change of etcd's leader",
            "Start the heartbeat with a TTL of 5 s or more; 15 s is the default.",
        )
    if long:
        yield warn(
            "ttl-long",
            f"{plural(len(long), 'agent')} with a TTL over {GREATEST_TTL} s: {names(long)}. "
            "So long are they there after they have died",
            "15 s is the default of the heartbeat.",
        )
    if ttls and not short and not long:
        yield ok("ttl", f"TTLs from {min(ttls.values())} s to {max(ttls.values())} s")


def _values(seen: Seen) -> Iterator[Finding]:
    labels: list[tuple[bytes, Key]] = [
        (name, key)
        for name, agent in seen.snapshot.agents.items()
        for key in agent.labels.values()
        if key.size is not None
    ]
    empty = sorted({name for name, key in labels if key.size == 0})
    large = sorted(
        {name for name, key in labels if (key.size or 0) > seen.request_limit * LIMIT_PART}
    )
    if empty:
        yield warn(
            "empty-value",
            f"{plural(len(empty), 'agent')} with a label without a value: {names(empty)}. "
            "It counts as absent",
            "Let the agent publish it again.",
        )
    if large:
        yield warn(
            "large-value",
            f"{plural(len(large), 'agent')} with a blob near etcd's limit of "
            f"{amount(seen.request_limit)} bytes: {names(large)}",
            "Raise etcd's --max-request-bytes, or split what is published.",
        )


def check_namespace(gateway: Gateway, snapshot: Snapshot) -> Iterator[Finding]:
    """Is it the one that agents use?"""
    spelled = printable(snapshot.namespace.spelled)
    others = ask_others(gateway, snapshot.namespace)
    for other in others:
        count = f"{other.agents}{'' if other.is_all else '+'}"
        yield warn(
            "spelling",
            f"{count} under {printable(other.namespace)}, another spelling of {spelled}: agents "
            "of the two never meet",
            "Set NIXL_ETCD_NAMESPACE alike for all.",
        )
    if snapshot.nested:
        below = [snapshot.namespace.root + name for name in snapshot.nested]
        yield ok("below", f"other namespaces lie below {spelled}: {names(below)}")
    if not snapshot.agents and not others:
        elsewhere = ask_elsewhere(gateway)
        if elsewhere:
            yield warn(
                "namespace",
                f"no agent under {spelled}",
                f"There are some under {names(elsewhere)}: set --namespace or NIXL_ETCD_NAMESPACE.",
            )
        else:
            yield ok("namespace", f"no agent under {spelled}, nor anywhere else")
    elif not others:
        yield ok("namespace", f"{plural(len(snapshot.agents), 'agent')} under {spelled}")


def check_keys_only(gateway: Gateway, snapshot: Snapshot) -> Iterator[Finding]:
    keys = [key for found in snapshot.agents.values() for key in found.keys if key.lease]
    if keys and not tells_leases(gateway, keys[0]):
        yield warn(
            "keys-only",
            "this etcd leaves leases out of keys-only answers (etcd issue 22209)",
            "libnixl_md's lists lack leases there; upgrade etcd once it is fixed.",
        )


def empty_leases(
    gateway: Gateway, settings: Settings, used: Sequence[int]
) -> list[tuple[int, LeaseTime]]:
    """Leases that never end, are not new, and carry nothing. nixl_md's have an odd id."""
    known = set(used)
    odd = [lease for lease in gateway.leases() if lease & 1 and lease not in known]
    times = times_to_live(settings, odd)
    found = []
    for lease in [x for x in odd if times[x].granted == NEVER_ENDING][:ASKED_LEASES]:
        answer = gateway.time_to_live(lease, keys=True)
        time = parse_time(answer)
        if not answer.get("keys") and time.granted - time.left >= EMPTY_SECONDS:
            found.append((lease, time))
    return found


def check_empty_leases(
    gateway: Gateway, settings: Settings, snapshot: Snapshot
) -> Iterator[Finding]:
    try:
        empty = empty_leases(gateway, settings, snapshot.leases)
    except CredentialsRefused:
        yield ok("leases", "this user may not list leases")
        return
    if empty:
        listed = ", ".join(f"{lease:x}" for lease, _ in empty[:5])
        yield warn(
            "empty-leases",
            f"{plural(len(empty), 'lease')} that never end and carry nothing: {listed}",
            "'nixl-md purge --empty-leases' revokes them.",
        )
    else:
        yield ok("leases", "no lease that never ends is empty")
