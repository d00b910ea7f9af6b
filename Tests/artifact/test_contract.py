# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The header is the contract: it says for each function what every pointer is, on which thread it
may be called, and every status that it returns. That it returns no other is checked wherever the
conformance suite makes a call."""

from __future__ import annotations

import re

import capi
import contract
import pytest

TEXT_OF_THREADS = ("Any thread", "One thread at a time")
# The rules at the top of the header for a parameter hold for all functions.
RULES = contract.HEADER[: contract.HEADER.index("#ifndef NIXL_MD_H")]
# They return no status.
PLAIN = {
    *("version", "version_string", "status_string", "event_string", "status_fold", "last_error"),
}
NAMES = sorted(name.removeprefix("nixl_md_") for name in capi.function_names())
STARTING = [name for name in NAMES if contract.FUNCTIONS[name].completes()]


def test_every_function_has_its_comment() -> None:
    assert sorted(contract.FUNCTIONS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_comment_states_purpose_and_thread(name: str) -> None:
    text = contract.FUNCTIONS[name].text
    assert "@brief" in text
    words = re.sub(r"\s+", " ", text)
    assert any(thread in words for thread in TEXT_OF_THREADS), f"{name}: on which thread?"


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_described(name: str) -> None:
    function = contract.FUNCTIONS[name]
    left = set(function.parameters) - function.described() - {"status"}
    assert "The handle, `md`:" in RULES
    assert left <= {"md"}, f"{name}: {left}"


@pytest.mark.parametrize("name", sorted(set(NAMES) - PLAIN))
def test_every_call_refuses_null_and_a_forked_child(name: str) -> None:
    """Every call refuses NULL; every one on a handle, but close, refuses a forked child."""
    returns = contract.FUNCTIONS[name].returns()
    assert capi.INVALID_PARAM in returns
    assert (capi.FORKED in returns) == (name not in ("open", "close"))
    assert capi.SUCCESS in returns or name in ("tick", "efd")
    for line in contract.FUNCTIONS[name].text.splitlines():
        assert not re.fullmatch(r"\s*@retval NIXL_MD_\w+\s*", line), f"{line.strip()}: when?"


def test_starting_calls_document_the_statuses_they_share() -> None:
    assert len(STARTING) == 8
    always = {capi.LIMIT, capi.SHUT_DOWN, capi.FORKED, capi.INVALID_PARAM}
    for name in STARTING:
        function = contract.FUNCTIONS[name]
        assert always <= function.returns(), name
        assert (capi.NOT_ALLOWED in function.returns()) == (
            name not in ("fetch", "watch", "list")
        ), name
        assert capi.CANCELED in function.completes(), name
        assert (capi.TIMED_OUT in function.completes()) == (name != "watch"), name
        assert (capi.SUCCESS in function.completes()) == (name != "watch"), name
