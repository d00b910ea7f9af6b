# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""nixl-md restore"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from .backup import Saved, read_backup
from .errors import Exit, Failure
from .gateway import Gateway
from .listing import name_json
from .options import Output
from .pipeline import LeaseTime, times_to_live
from .removal import Return, put_back
from .render import discard_output, plural, printable, put_json
from .settings import Settings

LEASE_ENDED = "its lease has ended: left away (--without-lease)"
Done = tuple[Saved, str]


def run(settings: Settings, path: str, without_lease: bool, yes: bool, output: Output) -> int:
    """Puts back what a backup has, where nothing is in its place."""
    all_saved = list(read_backup(path))
    leases = [lease for saved in all_saved for _, _, lease in saved.keys if lease]
    done: list[Done] = []
    with Gateway(settings) as gateway:
        times = times_to_live(settings, leases)
        try:
            for each in _act(gateway, all_saved, times, without_lease, yes):
                done.append(each)
        except (Failure, KeyboardInterrupt):
            # What was put back before is not lost with it.
            _report(done, yes, output)
            raise
    _report(done, yes, output)
    if not yes:
        return Exit.FOUND if all_saved else Exit.OK
    return Exit.OK if all(text == Return.BACK.value for _, text in done) else Exit.FOUND


def _act(
    gateway: Gateway,
    all_saved: Sequence[Saved],
    times: dict[int, LeaseTime],
    without_lease: bool,
    yes: bool,
) -> Iterator[Done]:
    for saved in all_saved:
        ended = {lease for _, _, lease in saved.keys if lease and times[lease].left < 0}
        keys = [(key, value, 0 if x in ended else x) for key, value, x in saved.keys]
        if ended and not without_lease:
            yield saved, LEASE_ENDED
        elif not yes:
            yield saved, f"would put back {plural(len(keys), 'key')}"
        else:
            try:
                outcome = put_back(gateway, saved.prefix, keys)
            except KeyboardInterrupt:
                # It may have been asked for already.
                yield saved, Return.UNKNOWN.value
                raise
            yield saved, outcome.value


def _report(done: Sequence[Done], yes: bool, output: Output) -> None:
    """Who reads may have seen enough; the exit status still says how it went."""
    try:
        if output is Output.json:
            agents = [{**name_json("name", saved.name), "outcome": text} for saved, text in done]
            put_json({"acted": yes, "agents": agents})
        elif output is Output.name:
            wanted = [saved.name for saved, text in done if _is_wanted(text)]
            print("".join(printable(name) + "\n" for name in wanted), end="")
        else:
            for saved, text in done:
                print(f"agent {printable(saved.name)}: {text}")
            if not yes:
                print("Nothing is done without --yes.")
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()


def _is_wanted(text: str) -> bool:
    """Is back, or would be."""
    return text == Return.BACK.value or text.startswith("would")
