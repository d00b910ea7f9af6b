# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Reads include/nixl_md.h: the statuses that each function returns, and those that its operations
complete with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import capi

HEADER = (Path(__file__).resolve().parents[2] / "include" / "nixl_md.h").read_text()
_DOCUMENTED = re.compile(r"/\*\*(?P<text>(?:(?!\*/).)*)\*/\s*(?P<type>[a-z][\w ]*[ *])"
                         r"(?P<name>nixl_md_\w+)\((?P<parameters>[^)]*)\);", re.DOTALL)  # fmt: skip
_STATUSES = {
    name: value
    for name, value in vars(capi).items()
    if name.isupper() and isinstance(value, int) and f"NIXL_MD_ERR_{name} =" in HEADER
} | {"SUCCESS": capi.SUCCESS}


@dataclass(frozen=True)
class Function:
    """One function of the header and the comment before it."""

    name: str
    text: str
    parameters: tuple[str, ...]

    def described(self) -> set[str]:
        """The parameters that have a @param of their own."""
        lines = re.findall(r"@param ((?:\w+, )*\w+)", self.text)
        return {name for line in lines for name in line.split(", ")}

    def returns(self) -> set[int]:
        """The statuses that it names as its own."""
        names = re.findall(r"@retval NIXL_MD_(?:ERR_)?([A-Z_]+)", self.text)
        return {_STATUSES[name] for name in names}

    def completes(self) -> set[int]:
        """The statuses that its operation, or the ENDED of its watch, may have."""
        found = re.search(r"@retval NIXL_MD_SUCCESS queued; (.*?)(?=@|$)", self.text, re.DOTALL)
        words = re.findall(r"\b[A-Z][A-Z_]+\b", found.group(1)) if found else []
        return {_STATUSES[word] for word in words if word in _STATUSES}


def _function(match: re.Match[str]) -> Function:
    text = re.sub(r"\n \* ?", "\n", match["text"])
    parameters = re.findall(r"(\w+)\s*(?:,|$)", match["parameters"])
    named = tuple(name for name in parameters if name != "void")
    return Function(match["name"].removeprefix("nixl_md_"), text, named)


FUNCTIONS = {function.name: function for function in map(_function, _DOCUMENTED.finditer(HEADER))}
_OF_KIND = {
    capi.OP_PUBLISH: "publish",
    capi.OP_UNPUBLISH: "unpublish",
    capi.OP_START_HEARTBEAT: "start_heartbeat",
    capi.OP_STOP_HEARTBEAT: "stop_heartbeat",
    capi.OP_FETCH: "fetch",
    capi.OP_INVALIDATE: "invalidate",
    capi.OP_LIST: "list",
}
_COMPLETES = {name: function.completes() for name, function in FUNCTIONS.items()}
_RETURNS = {name: function.returns() for name, function in FUNCTIONS.items()}


def check_returned(function: str, status: int) -> None:
    """A function returns what the header names, and nothing else."""
    assert status >= 0 or status in _RETURNS[function], (
        f"nixl_md_{function}() returned {status}, which the header does not name for it"
    )


def completions(kind: int) -> set[int]:
    """The statuses that an operation of that kind may complete with."""
    return _COMPLETES[_OF_KIND[kind]]


def check_told(line: dict[str, Any]) -> None:
    """Checks a completion, the end of a watch, or a call that a host has reported."""
    if line["kind"] == "done":
        assert line["status"] in completions(line["op_kind"]), (
            f"the header does not name this status of nixl_md_{_OF_KIND[line['op_kind']]}(): {line}"
        )
    elif line["kind"] == "event" and line["event"] == "ENDED":
        assert line["status"] in _COMPLETES["watch"], f"a watch ended with {line['status']}"
    elif line["kind"] in ("inside", "child"):
        function = line["call"].split()[-1]
        if function in _RETURNS and line["call"] != "own list":
            check_returned(function, line["rc"])
