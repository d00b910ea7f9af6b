# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The library's messages in the words of this package."""

from __future__ import annotations

import re

# What the header calls it, and what it is called here. The longer first.
_WORDS = {
    "call it after nixl_md_tick() has returned": "call it after tick() has returned",
    "set config.agent to a name": "give it a name",
    "set config.user and config.password": "pass user= and password=",
    "pass NIXL_MD_LOG_DEFAULT (0) to NIXL_MD_LOG_OFF (7)": "pass 0 (the default) to 7 (off)",
    "give a value, or NULL for none": "give a value, or None",
    "config.endpoints is NULL and NIXL_ETCD_ENDPOINTS is not set: set one": (
        "endpoints is None and NIXL_ETCD_ENDPOINTS is not set: give one"
    ),
    "config.endpoints is NULL and the environment is not to be read": (
        "endpoints is None and the environment is not to be read"
    ),
    "config.agent": "name",
    "config.name_space": "namespace",
    "config has files": "there are files",
    "opts.timeout_ms": "timeout",
    "blob_len is 0": "the blob is empty",
    "blob_len": "the blob's length",
    "interval_ms": "interval",
    "ttl_ms": "ttl",
    "drain_ms": "drain",
    "nixl_md_open()": "Agent()",
    "NIXL_MD_FETCH_NO_WAIT": "wait=False",
    "NIXL_MD_NEVER": "math.inf",
    "is NULL": "is None",
    "take 3 x the interval, or 0": "(in milliseconds): take 3 x the interval, or None",
    ", NIXL_MD_MIN_INTERVAL_MS,": "",
}
_FIND = re.compile(
    "|".join(
        [
            *map(re.escape, _WORDS),
            r"\bconfig\.(\w+)",
            r"\bnixl_md_(\w+)\(",
            r"NIXL_MD_ERR_(\w+)",
            r"(?<=the limit) NIXL_MD_MAX_\w+",
        ]
    )
)


def _replaced(found: re.Match[str]) -> str:
    field, function, status = found.groups()
    if field is not None:
        return str(field)
    if function is not None:
        return f"{function}("
    return str(status) if status is not None else _WORDS.get(found[0], "")


def in_words(text: bytes | None) -> str:
    """A message of the library for who has called this package."""
    return _FIND.sub(_replaced, (text or b"").decode("utf-8", "backslashreplace"))
