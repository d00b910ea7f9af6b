# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""nixl-md purge, and restore"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .backup import Backup, read_backup
from .checks_agents import empty_leases
from .errors import Exit, Failure, Unanswered, Usage
from .gateway import Gateway
from .listing import name_json
from .model import Namespace, Snapshot, State, is_permanent, state_of
from .pipeline import LeaseTime, times_to_live
from .removal import Outcome, Victim, put_back, remove, revoke_empty
from .render import (
    Column,
    amount,
    duration,
    is_terminal,
    plural,
    printable,
    put_json,
    say,
    styled,
    table,
    width,
)
from .settings import Settings
from .store import last_changes, read

_COLUMNS = (
    Column("AGENT"),
    Column("STATE", 1),
    Column("LEASE", 4),
    Column("KEYS", 3, True),
    Column("BYTES", 5, True),
    Column("REVISION", 2, True),
)
NOT_DEAD = (
    "permanent is not dead: a stock agent that lives looks the same. --observe 60s leaves out "
    "those that change meanwhile; ask the owners of the rest."
)
LIVE = (
    "leased is alive: somebody renews the lease. A nixl_md agent is told WITHDRAWN and does not "
    "come back by itself."
)
OBSERVE_STEP = 1.0


@dataclass(frozen=True)
class Wanted:
    """What is to be removed."""

    agents: Sequence[str]
    permanent: bool = False
    orphans: bool = False
    empty_leases: bool = False
    force_live: bool = False
    most: int = 50
    observe: float = 0.0
    backup: str | None = None
    yes: bool = False
    json: bool = False


@dataclass
class Plan:
    """What would be removed, and what not."""

    victims: list[Victim] = field(default_factory=list)
    leases: list[tuple[int, LeaseTime]] = field(default_factory=list)
    refused: dict[bytes, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.victims) + len(self.leases)


def make_plan(snapshot: Snapshot, times: dict[int, LeaseTime], wanted: Wanted) -> Plan:
    """Pure."""
    plan = Plan()
    named = {os.fsencode(name) for name in wanted.agents}
    for name in sorted(named - set(snapshot.agents)):
        if name in snapshot.nested:
            plan.refused[name] = "another namespace, which lies below this one"
        else:
            plan.refused[name] = "not there"
    for name, found in sorted(snapshot.agents.items()):
        state = state_of(found, times)
        is_wanted = (
            name in named
            or (wanted.permanent and state is State.PERMANENT)
            or (wanted.orphans and state is State.ORPHAN)
        )
        if not is_wanted:
            continue
        alive = [x for x in found.leases if not is_permanent(x, times)]
        if alive and not wanted.force_live:
            plan.refused[name] = f"{state.value}: a lease is renewed; --force-live removes it"
        else:
            plan.victims.append(Victim(found, snapshot.revision, state.value))
    return plan


def changed_meanwhile(settings: Settings, plan: Plan, seconds: float) -> None:
    """Takes out of the plan who puts anything within so many seconds, or leaves."""
    end = time.monotonic() + seconds
    with Gateway(settings) as gateway:
        while (left := end - time.monotonic()) > 0:
            if is_terminal(sys.stderr):
                text = f"\robserving, {duration(int(left))} left: {len(plan)} unchanged   "
                print(text, end="", file=sys.stderr, flush=True)
            time.sleep(min(left, OBSERVE_STEP))
            _drop_changed(gateway, settings, plan)
    if is_terminal(sys.stderr):
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _drop_changed(gateway: Gateway, settings: Settings, plan: Plan) -> None:
    now = last_changes(gateway, Namespace(settings.namespace))
    kept = []
    for victim in plan.victims:
        name = victim.found.name
        if now.get(name) != (len(victim.found.keys), victim.found.revision):
            plan.refused[name] = "changed while it was observed: alive, or gone"
        else:
            kept.append(victim)
    plan.victims = kept


def run(settings: Settings, wanted: Wanted) -> int:
    kinds = wanted.permanent or wanted.orphans or wanted.empty_leases
    if not (wanted.agents or kinds):
        raise Usage("nothing is named", "Name AGENTs, or --permanent, --orphans or --empty-leases.")
    with Gateway(settings) as gateway:
        snapshot = read(gateway, Namespace(settings.namespace))
        times = times_to_live(settings, snapshot.leases)
        if not snapshot.tells_leases:
            raise Failure(
                "this etcd leaves leases out of keys-only answers: what is permanent is not known"
            )
        plan = make_plan(snapshot, times, wanted)
        if wanted.empty_leases:
            plan.leases = empty_leases(gateway, settings, snapshot.leases)
        if wanted.observe:
            changed_meanwhile(settings, plan, wanted.observe)
        if not wanted.json:
            _show(plan)
        if len(plan) > wanted.most:
            raise Failure(
                f"{len(plan)} are more than --max {wanted.most}: nothing is removed",
                f"If that is meant: --max {len(plan)}.",
            )
        done: list[Done] = []
        try:
            if wanted.yes:
                for each in _act(gateway, plan, wanted):
                    done.append(each)
        except Failure:
            # What was removed before is not lost with it.
            _report(plan, wanted, done)
            raise
    return _report(plan, wanted, done)


Done = tuple[str, bytes, Outcome]


def _act(gateway: Gateway, plan: Plan, wanted: Wanted) -> Iterator[Done]:
    backup = Backup(wanted.backup) if wanted.backup else None
    try:
        for victim in plan.victims:
            if backup is not None and not backup.save(gateway, victim):
                outcome = Outcome.CHANGED
            else:
                outcome = remove(gateway, victim)
            yield "agent", victim.found.name, outcome
        for lease, _ in plan.leases:
            yield "lease", f"{lease:x}".encode(), revoke_empty(gateway, lease)
    finally:
        if backup is not None:
            backup.close()


def _show(plan: Plan) -> None:
    cells = [
        [
            printable(victim.found.name),
            victim.state,
            ",".join(f"{lease:x}" if lease else "none" for lease in victim.found.leases),
            str(len(victim.found.keys)),
            amount(victim.found.size),
            str(victim.found.revision),
        ]
        for victim in plan.victims
    ]
    if cells:
        print("\n".join(table(_COLUMNS, cells, sys.stdout, width(sys.stdout))))
    for lease, each in plan.leases:
        print(
            f"lease {lease:x}: never ends, carries nothing, {duration(each.granted - each.left)}"
            " old"
        )
    for name, why in plan.refused.items():
        print(f"not {printable(name)}: {why}")
    states = {victim.state for victim in plan.victims}
    if State.PERMANENT.value in states:
        say(f"nixl-md: {NOT_DEAD}")
    if states & {State.LEASED.value, State.MIXED.value}:
        say(f"nixl-md: {LIVE}")


def _report(plan: Plan, wanted: Wanted, done: list[Done]) -> int:
    bad = bool(plan.refused) or any(
        outcome in (Outcome.CHANGED, Outcome.UNKNOWN) for _, _, outcome in done
    )
    status = Exit.FOUND if bad or (len(plan) and not wanted.yes) else Exit.OK
    if wanted.json:
        put_json(_as_json(plan, wanted, done))
        return status
    parts = [(len(plan.victims), "agent"), (len(plan.leases), "empty lease")]
    what = " and ".join(plural(count, noun) for count, noun in parts if count)
    if not len(plan):
        print("nothing to remove")
    elif not wanted.yes:
        print(
            f"would remove {what}. {styled('Nothing is done without --yes.', 'bold', sys.stdout)}"
        )
    for kind, name, outcome in done:
        print(f"{kind} {printable(name)}: {outcome.value}")
    if wanted.backup and done:
        print(f"'nixl-md restore {wanted.backup}' puts the agents back")
    return status


def _as_json(plan: Plan, wanted: Wanted, done: list[Done]) -> dict[str, Any]:
    return {
        "acted": wanted.yes,
        "agents": [
            {
                **name_json("name", victim.found.name),
                "state": victim.state,
                "keys": len(victim.found.keys),
                "revision": victim.found.revision,
            }
            for victim in plan.victims
        ],
        "empty_leases": [f"{lease:x}" for lease, _ in plan.leases],
        "refused": [{**name_json("name", name), "why": why} for name, why in plan.refused.items()],
        "done": [
            {"kind": kind, **name_json("name", name), "outcome": outcome.name.lower()}
            for kind, name, outcome in done
        ],
    }


def restore(settings: Settings, path: str, without_lease: bool, yes: bool) -> int:
    """Puts back what a backup has, where nothing is in its place."""
    all_saved = list(read_backup(path))
    leases = [lease for saved in all_saved for _, _, lease in saved.keys if lease]
    is_well = True
    with Gateway(settings) as gateway:
        times = times_to_live(settings, leases)
        for saved in all_saved:
            name = printable(saved.name)
            ended = {lease for _, _, lease in saved.keys if lease and times[lease].left < 0}
            if ended and not without_lease:
                print(f"agent {name}: its lease has ended: left away (--without-lease)")
                is_well = False
                continue
            keys = [(key, value, 0 if x in ended else x) for key, value, x in saved.keys]
            if not yes:
                print(f"agent {name}: would put back {plural(len(keys), 'key')}")
                continue
            try:
                is_back = put_back(gateway, keys)
            except Unanswered:
                print(f"agent {name}: {Outcome.UNKNOWN.value}")
                is_well = False
                continue
            print(f"agent {name}: {'put back' if is_back else 'there already: left alone'}")
            is_well &= is_back
    if not yes:
        print("Nothing is done without --yes.")
        return Exit.FOUND if all_saved else Exit.OK
    return Exit.OK if is_well else Exit.FOUND
