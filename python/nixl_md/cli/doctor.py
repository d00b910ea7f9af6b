# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""nixl-md doctor"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

from .checks_agents import Seen, check_agents, check_empty_leases, check_keys_only, check_namespace
from .checks_etcd import EtcdChecks
from .errors import Exit, Failure, NoGateway
from .findings import Finding, Level, fail
from .gateway import Gateway
from .model import Namespace
from .options import Output
from .pipeline import times_to_live
from .render import discard_output, put_json, styled, width, wrap
from .settings import Settings
from .store import read

_INDENT = 6


def findings(settings: Settings, checks: EtcdChecks) -> Iterator[Finding]:
    """All of them, as they are found."""
    yield from checks.endpoints()
    if not checks.members:
        return
    # Of those that answer, so that what follows does not wait for the others.
    alive = tuple(member.endpoint for member in checks.members)
    reduced = replace(settings, gateways=alive)
    try:
        with Gateway(reduced) as gateway:
            yield from checks.cluster(gateway)
            snapshot = read(gateway, Namespace(settings.namespace))
            yield from check_namespace(gateway, snapshot)
            times = times_to_live(reduced, snapshot.leases)
            yield from check_agents(Seen(snapshot, times, checks.request_limit))
            yield from check_keys_only(gateway, snapshot)
            yield from check_empty_leases(gateway, reduced, snapshot)
    except Failure as failure:
        checks.failures.append(failure)
        yield fail("interrupted", failure.text, failure.remedy or "Run it again.")


def _show(finding: Finding, output: Output) -> None:
    """Who reads may have seen enough; the exit status is still that of all checks."""
    try:
        if output is Output.name:
            print(finding.check, flush=True)
        else:
            _print(finding, None if output is Output.wide else width(sys.stdout))
    except BrokenPipeError:
        discard_output()


def _print(finding: Finding, room: int | None) -> None:
    word = f"{finding.level.value:<4}"
    lines = wrap(finding.text, word + "  ", " " * _INDENT, room)
    style = {"OK": "green", "WARN": "yellow", "FAIL": "bold red"}[finding.level.value]
    lines[0] = styled(word, style, sys.stdout) + lines[0][len(word) :]
    if finding.remedy:
        space = " " * _INDENT
        lines += wrap(finding.remedy, space + "-> ", space + "   ", room)
    print("\n".join(lines), flush=True)


def _status(checks: EtcdChecks, found: list[Finding]) -> int:
    """What keeps it from looking decides; else whether there is anything to do."""
    if not checks.members and checks.failures:
        worst = checks.failures[0]
        reached = [x for x in found if x.check == "grpc" and x.level is Level.OK]
        if isinstance(worst, NoGateway) or reached:
            return Exit.NO_GATEWAY
        return worst.status
    return Exit.FOUND if any(each.level is not Level.OK for each in found) else Exit.OK


def run(settings: Settings, quiet: bool, output: Output) -> int:
    checks = EtcdChecks(settings)
    found: list[Finding] = []
    # By name only what is wrong: what is well may have no name of its own.
    is_brief = quiet or output is Output.name
    for finding in findings(settings, checks):
        found.append(finding)
        if output is not Output.json and not (is_brief and finding.level is Level.OK):
            _show(finding, output)
    counts = {level.value: sum(each.level is level for each in found) for level in Level}
    status = _status(checks, found)
    try:
        if output is Output.json:
            put_json({"findings": [each.as_json() for each in found], "counts": counts})
        elif not is_brief:
            print(", ".join(f"{count} {level}" for level, count in counts.items()), flush=True)
    except BrokenPipeError:
        discard_output()
    return status
