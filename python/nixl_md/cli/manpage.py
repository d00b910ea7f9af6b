# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The man page, made of the commands themselves: python -m nixl_md.cli.manpage > nixl-md.1"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main

from .app import app
from .options import COMMON

STATES = (
    ("0", "all is well"),
    ("1", "something was found (doctor, a purge that only shows), is not there, or has failed"),
    ("2", "an argument, a variable or a file that it names is wrong"),
    ("3", "etcd cannot be reached, or cannot serve"),
    ("4", "etcd refused the user, the password, the certificate or the role"),
    ("5", "etcd's JSON gateway is not there: switched off, on another port, hidden by a proxy"),
    ("6", "etcd's database is full, and etcd refuses the change"),
    ("130", "interrupted (Ctrl-C)"),
)
VARIABLES = (
    ("NIXL_ETCD_ENDPOINTS, ETCDCTL_ENDPOINTS", "as --endpoints"),
    ("NIXL_ETCD_NAMESPACE", "as --namespace; NIXL's own is /nixl/agents/"),
    ("NIXL_MD_GATEWAY", "as --gateway"),
    ("NIXL_ETCD_CACERT, ETCDCTL_CACERT", "as --cacert"),
    ("NIXL_ETCD_CERT, ETCDCTL_CERT", "as --cert"),
    ("NIXL_ETCD_KEY, ETCDCTL_KEY", "as --key"),
    ("NIXL_ETCD_USER, ETCDCTL_USER", "as --user; etcdctl's may be USER:PASSWORD"),
    ("NIXL_ETCD_PASSWORD, ETCDCTL_PASSWORD", "the password; there is no option for it"),
    ("NIXL_ETCD_PASSWORD_FILE", "as --password-file"),
    ("ETCDCTL_INSECURE_SKIP_TLS_VERIFY", "if 'true', as --insecure-skip-tls-verify"),
    ("NO_COLOR", "if not empty, no colours"),
    ("NIXL_MD_LIBRARY", "libnixl_md.so, where it is not found"),
)


def _escaped(text: str) -> str:
    """groff_char(7): what would be an instruction or a hyphen."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return "\\&" + text if text.startswith((".", "\\(aq")) else text


def _option(parameter: Any) -> Iterator[str]:  # noqa: ANN401 - as typer has it
    names = ", ".join(sorted(parameter.opts, key=len))
    value = "" if getattr(parameter, "is_flag", False) else parameter.make_metavar_text()
    yield ".TP"
    yield f".B {_escaped(names)}" + (f" \\fI{_escaped(value)}\\fR" if value else "")
    yield _escaped(parameter.help or "")


class _Parameter:
    """What the page says of an option or an argument."""

    def __init__(self, raw: Any) -> None:  # noqa: ANN401 - as above
        self.opts: list[str] = raw.opts
        self.help: str | None = getattr(raw, "help", None)
        self.is_flag: bool = getattr(raw, "is_flag", False)
        self.is_argument: bool = raw.param_type_name == "argument"
        self.name: str = raw.name
        self._metavar: str | None = raw.metavar
        self.is_required: bool = raw.required

    def make_metavar_text(self) -> str:
        return self._metavar or max(self.opts, key=len).lstrip("-").replace("-", "_").upper()


def _command(name: str, raw: Any) -> Iterator[str]:  # noqa: ANN401 - as above
    parameters = [_Parameter(each) for each in raw.params]
    arguments = [each for each in parameters if each.is_argument]
    options = [
        each
        for each in parameters
        if not each.is_argument and each.name not in COMMON and each.name != "help"
    ]
    shown = " ".join(
        text if each.is_required or text[0] in "[-" else f"[{text}]"
        for each in arguments
        for text in [each.make_metavar_text()]
    )
    yield f'.SS "{_escaped(f"nixl-md {name} [OPTION]... {shown}".rstrip())}"'
    yield _escaped(raw.help or "")
    for parameter in options:
        yield from _option(parameter)


def page() -> str:
    """The whole of it."""
    group: Any = typer.main.get_command(app)
    lines = [
        '.\\" Made by python -m nixl_md.cli.manpage; do not edit.',
        '.TH NIXL-MD 1 "" "nixl_md" "User Commands"',
        ".SH NAME",
        "nixl\\-md \\- agents of NIXL in etcd: who is there, on what lease, and what is stale",
        ".SH SYNOPSIS",
        ".B nixl\\-md",
        ".I COMMAND",
        "[\\fIOPTION\\fR]... [\\fIARGUMENT\\fR]...",
        ".SH COMMANDS",
    ]
    for name, raw in group.commands.items():
        lines += _command(name, raw)
    lines.append(".SH COMMON OPTIONS")
    first = next(iter(group.commands.values()))
    for each in first.params:
        if each.name in COMMON:
            lines += _option(_Parameter(each))
    lines += [
        ".TP",
        ".B \\-o, \\-\\-output \\fIFORM\\fR",
        "table, wide, json or name; \\-\\-json is short for \\-o json",
        ".PP",
        "Common options may also stand before the command.",
        ".SH EXIT STATUS",
    ]
    for number, text in STATES:
        lines += [".TP", f".B {number}", _escaped(text)]
    lines += [
        ".PP",
        "guard ends as its command does; 128 and the number of a signal that ended it;",
    ]
    lines += ["127 where there is no such command, 126 where it cannot be run."]
    lines.append(".SH ENVIRONMENT")
    for variable, text in VARIABLES:
        lines += [".TP", f".B {_escaped(variable)}", _escaped(text)]
    lines += [
        ".SH SEE ALSO",
        "etcdctl(1)",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
