# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: UP006, UP045 - typer looks at these annotations, on Python 3.9 as well
"""The commands and their options. What they do is in modules of their own, loaded when needed."""

from __future__ import annotations

import sys
from typing import Annotated, List, Optional  # noqa: UP035

import typer

from .options import FLAGS, VALUED, JsonOption, Output, OutputOption, command, ended
from .settings import Settings

app = typer.Typer(
    name="nixl-md",
    help="Agents of NIXL in etcd: who is there, on what lease, and what is stale.",
    epilog=(
        "Exit status: 0 all well, 1 something was found or failed, 2 usage, 3 etcd cannot be "
        "reached, 4 etcd refused the credentials, 5 etcd's JSON gateway is not there, 6 etcd's "
        "database is full, "
        "130 interrupted."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from importlib import metadata

        from nixl_md import version

        try:
            package = metadata.version("nixl_md")
        except metadata.PackageNotFoundError:
            package = "of a checkout"
        print(f"nixl-md {package}, libnixl_md {version()}")
        raise typer.Exit


def _interval(seconds: float) -> float:
    # Not min and max: they let nan through.
    if not 0.2 <= seconds <= 86400:
        raise typer.BadParameter(f"{seconds} s is not from 0.2 to 86400")
    return seconds


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the versions"),
    ] = False,
) -> None:
    pass


@command(app, "ls")
def ls(
    settings: Settings,
    patterns: Annotated[
        Optional[List[str]],
        typer.Argument(metavar="[PATTERN]...", help="Only names like these: 'decode-*'"),
    ] = None,
    state: Annotated[
        Optional[str],
        typer.Option("--state", help="Only leased, permanent, orphan or mixed ones; or a,b"),
    ] = None,
    all_spellings: Annotated[
        bool, typer.Option("--all", "-A", help="Those under every spelling of the namespace")
    ] = False,
    no_ttl: Annotated[
        bool, typer.Option("--no-ttl", help="Do not ask how long each lease has: faster")
    ] = False,
    output: OutputOption = Output.table,
    as_json: JsonOption = False,
) -> int:
    """List agents: state, lease, time left, labels, size, revision of the last change."""
    from .ls import run

    return run(settings, patterns or [], state, all_spellings, no_ttl, _form(output, as_json))


@command(app, "get")
def get(
    settings: Settings,
    agent: Annotated[str, typer.Argument(help="The name of an agent")],
    label: Annotated[Optional[str], typer.Argument(help="Only this label")] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Write the blob of LABEL (metadata) itself, to a pipe")
    ] = False,
    output: OutputOption = Output.table,
    as_json: JsonOption = False,
) -> int:
    """Show the keys of one agent: lease, revisions, size, and how each blob begins."""
    from .get import run

    return run(settings, agent, label, raw, _form(output, as_json))


@command(app, "watch")
def watch(
    settings: Settings,
    agent: Annotated[Optional[str], typer.Argument(help="Only this agent")] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Labels too, where the namespace is watched")
    ] = False,
    top: Annotated[bool, typer.Option("--top", help="A live table, redrawn in place")] = False,
    interval: Annotated[
        float,
        typer.Option(
            "--interval",
            callback=_interval,
            help="With --top: seconds between readings",
        ),
    ] = 2.0,
    output: OutputOption = Output.table,
    as_json: JsonOption = False,
) -> int:
    """Print events as they come, one line each with its time; or show a live table."""
    form = _form(output, as_json)
    if top:
        from .top import run as run_top

        return run_top(settings, agent, interval, form)
    from .watch import run

    return run(settings, agent, labels, form)


@command(app, "doctor")
def doctor(
    settings: Settings,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only what is wrong; nothing where all is well")
    ] = False,
    output: OutputOption = Output.table,
    as_json: JsonOption = False,
) -> int:
    """Check endpoints, cluster, namespace, agents and leases; each line with its remedy."""
    from .doctor import run

    return run(settings, quiet, _form(output, as_json))


def _seconds(text: str) -> float:
    """60, 60s, 5m"""
    number, unit = (text[:-1], text[-1]) if text[-1:] in ("s", "m") else (text, "s")
    try:
        seconds = float(number) * (60 if unit == "m" else 1)
    except ValueError as error:
        raise typer.BadParameter(f"'{text}' is no time: 60s, 5m") from error
    if not 0 < seconds <= 86400:
        raise typer.BadParameter(f"'{text}' is not between 0 and a day")
    return seconds


@command(app, "purge")
def purge(
    settings: Settings,
    agents: Annotated[
        Optional[List[str]],
        typer.Argument(metavar="[AGENT]...", help="Remove these"),
    ] = None,
    permanent: Annotated[
        bool, typer.Option("--permanent", help="All that hang on no lease that ends")
    ] = False,
    orphans: Annotated[
        bool, typer.Option("--orphans", help="All labels without a presence key")
    ] = False,
    empty_leases: Annotated[
        bool, typer.Option("--empty-leases", help="Leases that never end and carry nothing")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, it is only shown")] = False,
    force_live: Annotated[
        bool, typer.Option("--force-live", help="Also agents whose lease is renewed")
    ] = False,
    most: Annotated[int, typer.Option("--max", min=1, help="Refuse if there are more")] = 50,
    observe: Annotated[
        Optional[float],
        typer.Option(
            "--observe",
            metavar="TIME",
            parser=_seconds,
            help="Leave out who changes within 60s, 5m",
        ),
    ] = None,
    backup: Annotated[
        Optional[str],
        typer.Option("--backup", metavar="FILE", help="Write what is removed to a new file"),
    ] = None,
    output: OutputOption = Output.table,
    as_json: JsonOption = False,
) -> int:
    """Remove agents and leases that nobody needs: shows them; acts with --yes."""
    from .purge import Wanted, run

    wanted = Wanted(
        agents=agents or [],
        permanent=permanent,
        orphans=orphans,
        empty_leases=empty_leases,
        force_live=force_live,
        most=most,
        observe=observe or 0.0,
        backup=backup,
        yes=yes,
        output=_form(output, as_json),
    )
    return run(settings, wanted)


@command(app, "restore")
def restore(
    settings: Settings,
    file: Annotated[str, typer.Argument(help="Of purge --backup")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, it is only shown")] = False,
    without_lease: Annotated[
        bool, typer.Option("--without-lease", help="Where a lease has ended, put it back without")
    ] = False,
    output: OutputOption = Output.table,
    as_json: JsonOption = False,
) -> int:
    """Put back what purge --backup has saved, where nothing is in its place."""
    from .restore import run

    return run(settings, file, without_lease, yes, _form(output, as_json))


@command(app, "guard", context_settings={"allow_interspersed_args": False})
def guard(
    settings: Settings,
    run_this: Annotated[
        Optional[List[str]],
        typer.Argument(metavar="-- COMMAND [ARGUMENT]...", help="What to run"),
    ] = None,
    agent: Annotated[
        Optional[List[str]],
        typer.Option(
            "--agent",
            metavar="NAME",
            help="The agent that COMMAND is; repeatable. 'decode-*': agents that appear later",
        ),
    ] = None,
    ttl: Annotated[int, typer.Option("--ttl", help="Seconds of the lease")] = 15,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr")] = False,
) -> int:
    """Run a stock NIXL agent with its keys on a lease: they go when it does. Between each put and
    its attachment, some milliseconds, a key is on no lease."""
    from .guard import run

    return run(settings, agent or [], ttl, quiet, run_this or [])


@command(app, "exporter")
def exporter(
    settings: Settings,
    listen: Annotated[str, typer.Option("--listen", help="Address and port")] = ":9464",
    interval: Annotated[
        float,
        typer.Option("--interval", callback=_interval, help="Seconds between readings of etcd"),
    ] = 15.0,
) -> int:
    """Serve figures for Prometheus: agents by state, leases, events, round trip."""
    from .exporter import run

    return run(settings, listen, interval)


@app.command("dashboard")
def dashboard() -> None:
    """Print a Grafana dashboard (JSON) for what the exporter serves."""
    from .exporter import print_dashboard

    raise SystemExit(ended(print_dashboard))


def _form(output: Output, as_json: bool) -> Output:
    return Output.json if as_json else output


def _reordered(arguments: list[str]) -> list[str]:
    """Common options may stand before the command, as etcdctl has them: put behind it."""
    moved: list[str] = []
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        name = rest[0].partition("=")[0]
        if name in FLAGS or (name in VALUED and "=" in rest[0]):
            moved.append(rest.pop(0))
        elif name in VALUED and len(rest) > 1:
            moved += [rest.pop(0), rest.pop(0)]
        else:
            break
    return [*rest[:1], *moved, *rest[1:]] if rest else arguments


def main() -> None:
    """The entry point."""
    app(args=_reordered(sys.argv[1:]), prog_name="nixl-md")
