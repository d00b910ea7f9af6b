# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""nixl-md purge"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .backup import Backup
from .checks_agents import empty_leases
from .errors import Exit, Failure, Usage
from .gateway import Gateway
from .listing import name_json
from .model import Namespace, Snapshot, State, is_permanent, state_of
from .options import Output
from .pipeline import LeaseTime, times_to_live
from .removal import Outcome, Victim, remove, revoke_empty
from .render import (
    Column,
    amount,
    discard_output,
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
    "leased is alive: somebody renews the lease. A nixl_md agent gets WITHDRAWN and does not "
    "come back by itself."
)
NESTED = "another namespace lies below it: its agents would go as well"
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
    output: Output = Output.table


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
        plan.refused[name] = NESTED if name in snapshot.nested else "not there"
    for name, found in sorted(snapshot.agents.items()):
        state = state_of(found, times)
        is_wanted = (
            name in named
            or (wanted.permanent and state is State.PERMANENT)
            or (wanted.orphans and state is State.ORPHAN)
        )
        if not is_wanted:
            continue
        if found.is_nested:
            plan.refused[name] = NESTED
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
    if wanted.backup == "":
        raise Usage("--backup names no file", "Is a variable empty?")
    if wanted.backup and os.path.lexists(wanted.backup):
        raise Usage(f"--backup: {wanted.backup} is there", "Name a file that is not there yet.")
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
        if wanted.output in (Output.table, Output.wide):
            _show_or_stop(plan, wanted)
        if len(plan) > wanted.most:
            if wanted.output is Output.json:
                put_json(_as_json(plan, False, []))
            raise Failure(
                f"{len(plan)} are more than --max {wanted.most}: nothing is removed",
                f"If that is meant: --max {len(plan)}.",
            )
        done: list[Done] = []
        try:
            if wanted.yes:
                for each in _act(gateway, plan, wanted):
                    done.append(each)
        except (Failure, KeyboardInterrupt):
            # What was removed before is not lost with it.
            _report(plan, wanted, done)
            raise
    return _report(plan, wanted, done)


def _show_or_stop(plan: Plan, wanted: Wanted) -> None:
    try:
        _show(plan, None if wanted.output is Output.wide else width(sys.stdout))
        sys.stdout.flush()
    except BrokenPipeError as error:
        discard_output()
        if wanted.yes and len(plan):
            raise Failure("nobody reads what would be removed: nothing is removed") from error


Done = tuple[str, bytes, Outcome]


def _act(gateway: Gateway, plan: Plan, wanted: Wanted) -> Iterator[Done]:
    # Not for empty leases alone: they hold nothing.
    backup = Backup(wanted.backup) if wanted.backup and plan.victims else None
    try:
        for victim in plan.victims:
            name = victim.found.name
            if backup is not None and not backup.save(gateway, victim):
                yield "agent", name, Outcome.CHANGED
                continue
            try:
                outcome = remove(gateway, victim)
            except KeyboardInterrupt:
                # It may have been asked for already.
                yield "agent", name, Outcome.UNKNOWN
                raise
            yield "agent", name, outcome
        for lease, _ in plan.leases:
            yield "lease", f"{lease:x}".encode(), revoke_empty(gateway, lease)
    finally:
        if backup is not None:
            backup.close()


def _show(plan: Plan, room: int | None) -> None:
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
        print("\n".join(table(_COLUMNS, cells, sys.stdout, room)))
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
    try:
        _print_report(plan, wanted, done)
        sys.stdout.flush()
    except BrokenPipeError:
        # The exit status still says how it went.
        discard_output()
    return Exit.FOUND if bad or (len(plan) and not wanted.yes) else Exit.OK


def _print_report(plan: Plan, wanted: Wanted, done: list[Done]) -> None:
    if wanted.output is Output.json:
        put_json(_as_json(plan, wanted.yes, done))
        return
    if wanted.output is Output.name:
        removed = [name for kind, name, outcome in done if outcome is Outcome.REMOVED]
        would = [victim.found.name for victim in plan.victims]
        would += [f"{lease:x}".encode() for lease, _ in plan.leases]
        for name in removed if wanted.yes else would:
            print(printable(name))
        return
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
    if wanted.backup and any(kind == "agent" for kind, _, _ in done):
        print(f"'nixl-md restore {shlex.quote(wanted.backup)}' puts the agents back")


def _as_json(plan: Plan, acted: bool, done: list[Done]) -> dict[str, Any]:
    return {
        "acted": acted,
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
