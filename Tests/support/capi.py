# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The C interface of libnixl_md as ctypes sees it, with nothing in between.

Written from include/nixl_md.h and independent of python/nixl_md, so that a test can pass what a
careful binding never would: NULL, wrong sizes, unknown flags, names with NUL in them.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import (
    CFUNCTYPE,
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
from pathlib import Path
from typing import Any

NUL_TERMINATED = ctypes.c_size_t(-1).value
NEVER = 2**64 - 1
MAX_NAMESPACE = 1024
MAX_AGENT = 1024
MAX_LABEL = 1024
MAX_BLOB = 10 * 1024 * 1024
MAX_ENDPOINTS = 64
MAX_OPERATIONS = 65536
MAX_TIMEOUT_MS = 86_400_000
MIN_INTERVAL_MS = 50

SUCCESS = 0
INVALID_PARAM = -2
BACKEND = -3
NOT_FOUND = -4
MISMATCH = -5
NOT_ALLOWED = -6
UNKNOWN = -8
NOT_SUPPORTED = -9
REMOTE_DISCONNECT = -10
CANCELED = -11
TIMED_OUT = -1001
TOO_LARGE = -1002
REPLACED = -1003
SUPERSEDED = -1004
UNAUTHENTICATED = -1005
PERMISSION = -1006
FORKED = -1007
BUSY = -1008
IN_CALLBACK = -1009
SHUT_DOWN = -1010
LIMIT = -1011
NO_SPACE = -1012

CONFIG_REFUSE_TAKEOVER = 1 << 0
CONFIG_RESOLVE_IN_OPEN = 1 << 1
CONFIG_IGNORE_ENVIRONMENT = 1 << 2
CONFIG_TLS_NO_VERIFY = 1 << 3

FETCH_NO_WAIT = 1 << 0

WATCH_PRESENCE_ONLY = 1 << 0
WATCH_BLOBS = 1 << 1

HEARTBEAT_KEEP = 1
HEARTBEAT_WITHDRAW = 2

OP_PUBLISH, OP_UNPUBLISH, OP_START_HEARTBEAT, OP_STOP_HEARTBEAT = 1, 2, 3, 4
OP_FETCH, OP_INVALIDATE, OP_LIST = 5, 6, 7

PUT, DELETE, GONE, RESTARTED, RETURNED = 1, 2, 3, 4, 5
SYNCED, CONTACT_LOST, CONTACT_REGAINED, RESYNC, ENDED, PRESENT = 6, 7, 8, 9, 10, 11
LOST, RESTORED, SUPERSEDED_EVENT, WITHDRAWN = 101, 102, 103, 104


class Agent(Structure):
    """nixl_md_agent_t"""

    _fields_ = [
        ("size", c_uint32),
        ("reserved", c_uint32),
        ("name", c_void_p),
        ("name_len", c_size_t),
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
        ("blob", c_void_p),
        ("blob_len", c_size_t),
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
        ("agent", c_void_p),
        ("agent_len", c_size_t),
        ("label", c_void_p),
        ("label_len", c_size_t),
        ("blob", c_void_p),
        ("blob_len", c_size_t),
        ("revision", c_int64),
        ("incarnation", c_uint64),
        ("status", c_int32),
        ("reserved", c_uint32),
        ("text", c_char_p),
    ]


DoneCallback = CFUNCTYPE(None, POINTER(Result), c_void_p)
EventCallback = CFUNCTYPE(None, POINTER(Event), c_void_p)
LogCallback = CFUNCTYPE(None, c_int32, c_char_p, c_void_p)


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
        ("on_event", EventCallback),
        ("on_event_user", c_void_p),
        ("on_log", LogCallback),
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
        ("on_done", DoneCallback),
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
        (c_void_p, *_NAME, EventCallback, POINTER(WatchOpts), POINTER(c_uint64)),
    ),
    "nixl_md_invalidate": (c_int32, (c_void_p, POINTER(Opts), POINTER(c_uint64))),
    "nixl_md_list": (c_int32, (c_void_p, POINTER(Opts), POINTER(c_uint64))),
    "nixl_md_cancel": (c_int32, (c_void_p, c_uint64)),
    "nixl_md_tick": (c_int32, (c_void_p,)),
    "nixl_md_efd": (c_int32, (c_void_p,)),
    "nixl_md_deadline_ms": (c_int32, (c_void_p, POINTER(c_uint64))),
    "nixl_md_get_stats": (c_int32, (c_void_p, POINTER(Stats))),
}


def library_path() -> Path:
    """The library under test: $NIXL_MD_LIBRARY, else what `make` leaves in the tree."""
    given = os.environ.get("NIXL_MD_LIBRARY")
    tree = Path(__file__).resolve().parents[2]
    path = Path(given) if given else tree / "build" / "lib" / "libnixl_md.so"
    return path.resolve()


def load() -> ctypes.CDLL:
    """The library with every function of the header declared."""
    library = ctypes.CDLL(str(library_path()))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


def function_names() -> list[str]:
    """Every function of the header."""
    return sorted(_SIGNATURES)


def config(**fields: Any) -> Config:
    """A config with its size set; `fields` override anything, the size included."""
    made = Config(size=ctypes.sizeof(Config))
    _fill(made, fields)
    return made


def opts(**fields: Any) -> Opts:
    """Options with their size set; `fields` override anything, the size included."""
    made = Opts(size=ctypes.sizeof(Opts))
    _fill(made, fields)
    return made


def watch_opts(**fields: Any) -> WatchOpts:
    """Those of a watch, likewise."""
    made = WatchOpts(size=ctypes.sizeof(WatchOpts))
    _fill(made, fields)
    return made


def _fill(struct: Structure, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        setattr(struct, name, value)
