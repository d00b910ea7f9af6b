# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ANN401 - a command's arguments are typer's business
"""The options that all commands share, and how a command ends."""

from __future__ import annotations

import enum
import functools
import getpass
import inspect
import os
import sys
import typing
from typing import Annotated, Any, Callable, Optional

import typer

from nixl_md import NixlMDError

from .errors import Exit, Failure, Usage, of_library
from .render import discard_output, is_terminal, say, styled
from .settings import Given, Settings, resolve

_PANEL = "Common options"


def _option(name: str, text: str, variables: str = "") -> Any:
    text = f"{text} [{variables}]" if variables else text
    return typer.Option(name, help=text, rich_help_panel=_PANEL, show_default=False)


# Of typer's annotations, which are looked at while the program runs: Optional and not `| None`.
COMMON: dict[str, tuple[Any, Any]] = {
    "endpoints": (
        Annotated[
            Optional[str],
            _option(
                "--endpoints",
                "Members of etcd, separated by ','",
                "NIXL_ETCD_ENDPOINTS, ETCDCTL_ENDPOINTS",
            ),
        ],
        None,
    ),
    "namespace": (
        Annotated[
            Optional[str],
            _option(
                "--namespace", "Prefix of all keys; NIXL's is /nixl/agents/", "NIXL_ETCD_NAMESPACE"
            ),
        ],
        None,
    ),
    "gateway": (
        Annotated[
            Optional[str],
            _option(
                "--gateway",
                "etcd's JSON gateway, where it is not at the endpoints",
                "NIXL_MD_GATEWAY",
            ),
        ],
        None,
    ),
    "cacert": (
        Annotated[
            Optional[str],
            _option(
                "--cacert",
                "PEM file of the authorities to trust",
                "NIXL_ETCD_CACERT, ETCDCTL_CACERT",
            ),
        ],
        None,
    ),
    "cert": (
        Annotated[
            Optional[str],
            _option("--cert", "PEM client certificate", "NIXL_ETCD_CERT, ETCDCTL_CERT"),
        ],
        None,
    ),
    "key": (
        Annotated[Optional[str], _option("--key", "Its key", "NIXL_ETCD_KEY, ETCDCTL_KEY")],
        None,
    ),
    "server_name": (
        Annotated[
            Optional[str],
            _option("--server-name", "The name to verify instead of the endpoint's host"),
        ],
        None,
    ),
    "insecure": (
        Annotated[
            bool,
            _option("--insecure-skip-tls-verify", "Accept any certificate; for tests"),
        ],
        False,
    ),
    "user": (
        Annotated[
            Optional[str],
            _option(
                "--user",
                "User of etcd; the password comes from NIXL_ETCD_PASSWORD, ETCDCTL_PASSWORD, "
                "--password-file or a prompt",
                "NIXL_ETCD_USER, ETCDCTL_USER",
            ),
        ],
        None,
    ),
    "password_file": (
        Annotated[
            Optional[str],
            _option("--password-file", "Its first line is the password", "NIXL_ETCD_PASSWORD_FILE"),
        ],
        None,
    ),
    "timeout": (
        Annotated[float, _option("--timeout", "Seconds that a member may take to answer [5]")],
        5.0,
    ),
}
# Which of them take no value, for who writes them before the command.
FLAGS = ("--insecure-skip-tls-verify", "--json")
VALUED = (
    *("--" + name.replace("_", "-") for name in COMMON if name != "insecure"),
    *("--output", "-o"),
)


class Output(str, enum.Enum):
    """The forms of an answer."""

    table = "table"
    wide = "wide"
    json = "json"
    name = "name"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="Form of the answer", rich_help_panel=_PANEL)
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="The same as -o json", rich_help_panel=_PANEL)
]


def _ask(prompt: str) -> str:
    try:
        return getpass.getpass(prompt, stream=sys.stderr)
    except EOFError as error:
        raise Usage("no password was entered") from error


def _fail(failure: Failure) -> int:
    say(f"{styled('nixl-md:', 'bold red', sys.stderr)} {failure}")
    return failure.status


def ended(run: Callable[[], Any]) -> int:
    """Runs a command; its exit status, with a text where something is wrong."""
    try:
        status = int(run() or 0)
        # Here, and not when the interpreter ends: what is wrong with it shows in the status.
        sys.stdout.flush()
        return status
    except Failure as failure:
        return _fail(failure)
    except NixlMDError as error:
        return _fail(of_library(error))
    except ImportError as error:
        return _fail(Failure(str(error)))
    except BrokenPipeError:
        # Who reads has seen enough (`| head`).
        discard_output()
        return Exit.OK
    except OSError as error:
        # A disk that is full, a terminal that is gone.
        discard_output()
        return _fail(Failure(f"writing the answer: {error.strerror or error}"))
    except KeyboardInterrupt:
        if is_terminal(sys.stderr):
            say("")
        return Exit.INTERRUPTED


def command(
    app: typer.Typer, name: str, **options: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes a command of a function that takes the settings first: it gets the common options, and
    a number that it returns is the exit status."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        hints = typing.get_type_hints(function, include_extras=True)
        own = list(inspect.signature(function).parameters.values())[1:]
        parameters = [
            parameter.replace(annotation=hints[parameter.name], kind=parameter.KEYWORD_ONLY)
            for parameter in own
        ]
        parameters += [
            inspect.Parameter(
                common, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
            )
            for common, (annotation, default) in COMMON.items()
        ]

        def run(**values: Any) -> None:
            given = Given(**{common: values.pop(common) for common in COMMON})

            def body() -> Any:
                ask = _ask if sys.stdin.isatty() else None
                settings: Settings = resolve(given, os.environ, ask)
                return function(settings, **values)

            raise SystemExit(ended(body))

        functools.update_wrapper(run, function)
        del run.__wrapped__  # type: ignore[attr-defined] # typer would look at its annotations
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(name, **options)(run)
        return function

    return register
