# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The C interface as ctypes sees it: include/nixl_md.h. Callbacks are addresses, see _collect."""

from __future__ import annotations

import ctypes
import os
from ctypes import (
    POINTER,
    Structure,
    c_char_p,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any

VERSION = (0, 1, 0)
NUL_TERMINATED = ctypes.c_size_t(-1).value
NEVER = 2**64 - 1

CONFIG_REFUSE_TAKEOVER = 1 << 0
CONFIG_RESOLVE_IN_OPEN = 1 << 1
CONFIG_IGNORE_ENVIRONMENT = 1 << 2
CONFIG_TLS_NO_VERIFY = 1 << 3

FETCH_NO_WAIT = 1 << 0

WATCH_PRESENCE_ONLY = 1 << 0
WATCH_BLOBS = 1 << 1

HEARTBEAT_KEEP = 1
HEARTBEAT_WITHDRAW = 2


class Bytes(Structure):
    """A pointer and a length, as the header has them side by side."""

    _fields_ = [
        ("pointer", c_void_p),
        ("length", c_size_t),
    ]


class Agent(Structure):
    """nixl_md_agent_t"""

    _fields_ = [
        ("size", c_uint32),
        ("reserved", c_uint32),
        ("name", Bytes),
        ("incarnation", c_uint64),
        ("revision", c_int64),
        ("lease_id", c_uint64),
    ]


class Result(Structure):
    """nixl_md_result_t"""

    _fields_ = [
        ("size", c_uint32),
        ("status", c_int32),
        ("kind", c_int32),
        ("reserved", c_uint32),
        ("op", c_uint64),
        ("text", c_char_p),
        ("revision", c_int64),
        ("blob", Bytes),
        ("agents", POINTER(POINTER(Agent))),
        ("agent_count", c_size_t),
        ("ttl_ms", c_uint64),
    ]


class Event(Structure):
    """nixl_md_event_t"""

    _fields_ = [
        ("size", c_uint32),
        ("type", c_int32),
        ("watch", c_uint64),
        ("agent", Bytes),
        ("label", Bytes),
        ("blob", Bytes),
        ("revision", c_int64),
        ("incarnation", c_uint64),
        ("status", c_int32),
        ("reserved", c_uint32),
        ("text", c_char_p),
    ]


class Config(Structure):
    """nixl_md_config_t"""

    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("endpoints", c_char_p),
        ("name_space", c_char_p),
        ("agent", c_char_p),
        ("agent_len", c_size_t),
        ("ca_file", c_char_p),
        ("cert_file", c_char_p),
        ("key_file", c_char_p),
        ("server_name", c_char_p),
        ("user", c_char_p),
        ("password", c_char_p),
        ("on_event", c_void_p),
        ("on_event_user", c_void_p),
        ("on_log", c_void_p),
        ("on_log_user", c_void_p),
        ("log_level", c_int32),
        ("reserved", c_uint32),
    ]


class Opts(Structure):
    """nixl_md_opts_t"""

    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("timeout_ms", c_uint64),
        ("on_done", c_void_p),
        ("user", c_void_p),
    ]


class WatchOpts(Structure):
    """nixl_md_watch_opts_t"""

    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("user", c_void_p),
    ]


STATS_FIELDS = [
    "ticks",
    "ticks_idle",
    "tick_cpu_max_ns",
    "tick_wall_max_ns",
    "tick_cpu_total_ns",
    "ticks_tls_setup",
    "tick_tls_setup_cpu_max_ns",
    "callbacks",
    "requests",
    "requests_failed",
    "bytes_sent",
    "bytes_received",
    "connects",
    "connects_failed",
    "renewals",
    "renewals_unanswered",
    "leases_lost",
    "restores",
    "events",
    "resyncs",
    "names_left_out",
    "resolver_threads",
    "operations_open",
    "watches_open",
    "callbacks_queued",
    "connected",
    "lease_id",
    "lease_ttl_ms",
]


class Stats(Structure):
    """nixl_md_stats_t"""

    _fields_ = [
        ("size", c_uint32),
        ("reserved", c_uint32),
        *((name, c_uint64) for name in STATS_FIELDS),
        ("revision", c_int64),
    ]


_NAME = (c_char_p, c_size_t)
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "nixl_md_version": (c_uint32, ()),
    "nixl_md_version_string": (c_char_p, ()),
    "nixl_md_status_string": (c_char_p, (c_int32,)),
    "nixl_md_event_string": (c_char_p, (c_int32,)),
    "nixl_md_status_fold": (c_int32, (c_int32,)),
    "nixl_md_last_error": (c_char_p, (c_void_p,)),
    "nixl_md_open": (c_int32, (POINTER(Config), POINTER(c_void_p))),
    "nixl_md_shutdown": (c_int32, (c_void_p, c_uint64)),
    "nixl_md_close": (c_int32, (c_void_p,)),
    "nixl_md_publish": (
        c_int32,
        (c_void_p, *_NAME, c_void_p, c_size_t, POINTER(Opts), POINTER(c_uint64)),
    ),
    "nixl_md_unpublish": (c_int32, (c_void_p, *_NAME, POINTER(Opts), POINTER(c_uint64))),
    "nixl_md_start_heartbeat": (
        c_int32,
        (c_void_p, c_uint64, c_uint64, POINTER(Opts), POINTER(c_uint64)),
    ),
    "nixl_md_stop_heartbeat": (c_int32, (c_void_p, c_int32, POINTER(Opts), POINTER(c_uint64))),
    "nixl_md_fetch": (c_int32, (c_void_p, *_NAME, *_NAME, POINTER(Opts), POINTER(c_uint64))),
    "nixl_md_watch": (
        c_int32,
        (c_void_p, *_NAME, c_void_p, POINTER(WatchOpts), POINTER(c_uint64)),
    ),
    "nixl_md_invalidate": (c_int32, (c_void_p, POINTER(Opts), POINTER(c_uint64))),
    "nixl_md_list": (c_int32, (c_void_p, POINTER(Opts), POINTER(c_uint64))),
    "nixl_md_cancel": (c_int32, (c_void_p, c_uint64)),
    "nixl_md_tick": (c_int32, (c_void_p,)),
    "nixl_md_efd": (c_int32, (c_void_p,)),
    "nixl_md_deadline_ms": (c_int32, (c_void_p, POINTER(c_uint64))),
    "nixl_md_get_stats": (c_int32, (c_void_p, POINTER(Stats))),
}


_HERE = os.path.dirname(os.path.realpath(__file__))
_BESIDE = f"{_HERE}/libnixl_md.so"


def has_own_libcurl(library: ctypes.CDLL) -> bool:
    """Whether it is that of a wheel, which brings libcurl along where auditwheel puts it."""
    return library._name == _BESIDE and os.path.isdir(f"{os.path.dirname(_HERE)}/nixl_md.libs")


def _candidates() -> list[str]:
    """Where the library may be: $NIXL_MD_LIBRARY and nothing else if it is set; beside this
    package; where `make` leaves it in a checkout; where the loader looks."""
    given = os.environ.get("NIXL_MD_LIBRARY")
    if given:
        return [given]
    checkout = os.path.dirname(os.path.dirname(_HERE))
    places = (_BESIDE, f"{checkout}/build/lib/libnixl_md.so")
    # Without pathlib, which would take memory from every host for these lines.
    found = [path for path in places if os.path.exists(path)]
    return [*found, "libnixl_md.so.0"]


def load() -> ctypes.CDLL:
    """The library, with every function of the header declared."""
    failures = []
    for candidate in _candidates():
        try:
            library = ctypes.CDLL(candidate)
        except OSError as error:
            failures.append(str(error))
            continue
        _declare(library, candidate)
        return library
    raise ImportError(
        "libnixl_md.so cannot be loaded; build it with `make`, install it, or set NIXL_MD_LIBRARY "
        f"({'; '.join(failures)})"
    )


def _declare(library: ctypes.CDLL, path: str) -> None:
    for name, (result, arguments) in _SIGNATURES.items():
        try:
            function = getattr(library, name)
        except AttributeError as error:
            raise ImportError(f"{path} has no {name}: it is not libnixl_md") from error
        function.restype = result
        function.argtypes = arguments
    version: int = library.nixl_md_version()
    # Before 1.0 a new minor version may change the interface.
    if version // 1000 != VERSION[0] * 1000 + VERSION[1]:
        text = library.nixl_md_version_string().decode()
        wanted = ".".join(map(str, VERSION))
        raise ImportError(f"{path} has version {text}; this package is for {wanted}")
