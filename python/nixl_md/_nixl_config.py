# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""NIXL's settings, as NIXL reads them: the environment, and for what is not set there the file that
NIXL_CONFIG_FILE names, else ~/.nixl.cfg, else /etc/nixl.cfg, the first that exists alone
(src/utils/common/configuration.cpp). Its log level is no matter of the files (nixl_log.cpp)."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
from typing import Any

from ._nixl_own import log

ENDPOINTS_VARIABLE = "NIXL_ETCD_ENDPOINTS"
NAMESPACE_VARIABLE = "NIXL_ETCD_NAMESPACE"
USER_VARIABLE = "NIXL_ETCD_USER"
PASSWORD_VARIABLE = "NIXL_ETCD_PASSWORD"
PASSWORD_FILE_VARIABLE = "NIXL_ETCD_PASSWORD_FILE"
# As nixl-md and the backend in examples/nixl_backend have them.
TLS_VARIABLES = {
    "ca_file": "NIXL_ETCD_CACERT",
    "cert_file": "NIXL_ETCD_CERT",
    "key_file": "NIXL_ETCD_KEY",
    "server_name": "NIXL_ETCD_SERVER_NAME",
}
FILE_VARIABLE = "NIXL_CONFIG_FILE"
GLOBAL_FILE = "/etc/nixl.cfg"
LEVEL_VARIABLE = "NIXL_LOG_LEVEL"
LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
# The library's, which has OFF as well.
WARN = 4

# One line of a file for interpreters that have no reader of TOML (before 3.11).
_LINE = re.compile(
    r"""^[ \t]*["']?(\w+)["']?[ \t]*=[ \t]*(?:"([^"\\]*)"|'([^']*)')[ \t]*(?:\#.*)?$"""
)


def config_file() -> str | None:
    """The file that NIXL reads; None: there is none."""
    named = os.environ.get(FILE_VARIABLE)
    if named is not None:
        return named
    home = os.environ.get("HOME")
    places = [] if home is None else [os.path.join(home, ".nixl.cfg")]
    return next((place for place in [*places, GLOBAL_FILE] if os.path.exists(place)), None)


def _parsed(text: str) -> dict[str, Any]:
    try:
        import tomllib
    except ImportError:
        return _read_lines(text)
    return tomllib.loads(text)


def _read_lines(text: str) -> dict[str, Any]:
    """Of TOML, the texts before the first table. NIXL's etcd layer has no others."""
    values: dict[str, Any] = {}
    for line in text.splitlines():
        if line.lstrip().startswith("["):
            break
        found = _LINE.match(line)
        if found is not None:
            values[found[1]] = found[2] if found[2] is not None else found[3]
    return values


def _file_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as failure:
        raise ValueError(f"NIXL's configuration {path} cannot be read: {failure}") from failure


def settings() -> dict[str, str]:
    """The texts that the file sets."""
    path = config_file()
    if path is None:
        return {}
    try:
        values = _parsed(_file_text(path))
    except ValueError as failure:
        raise ValueError(f"NIXL's configuration {path} is no TOML: {failure}") from failure
    return {name: value for name, value in values.items() if isinstance(value, str)}


def take_endpoints() -> str | None:
    """NIXL_ETCD_ENDPOINTS of the environment, else of NIXL's configuration file, so that an agent
    made after this does not start NIXL's own etcd layer. It is removed from the environment. If the
    file has it, NIXL_CONFIG_FILE is set to a copy without, which is removed when this process
    ends."""
    found = os.environ.pop(ENDPOINTS_VARIABLE, None)
    in_file = settings().get(ENDPOINTS_VARIABLE)
    if in_file is not None:
        _hide_endpoints()
    return in_file if found is None else found


def _hide_endpoints() -> None:
    path = config_file()
    assert path is not None
    text = _file_text(path)
    kept = [line for line in text.splitlines(True) if not _sets_endpoints(line)]
    expected = {name: value for name, value in _parsed(text).items() if name != ENDPOINTS_VARIABLE}
    if _parsed("".join(kept)) != expected:
        raise ValueError(f"{ENDPOINTS_VARIABLE} cannot be left out of {path}: write it on one line")
    # Here: it and what it imports take 0.5 MB, and it is hardly ever needed.
    import tempfile

    descriptor, copy = tempfile.mkstemp(prefix="nixl_md-", suffix=".cfg")
    with open(descriptor, "w", encoding="utf-8") as file:
        file.writelines(kept)
    os.environ[FILE_VARIABLE] = copy
    atexit.register(_remove, copy, os.getpid())


def _sets_endpoints(line: str) -> bool:
    found = _LINE.match(line.rstrip("\r\n"))
    return found is not None and found[1] == ENDPOINTS_VARIABLE


def _remove(path: str, process: int) -> None:
    # Not in a forked child.
    if os.getpid() == process:
        with contextlib.suppress(OSError):
            os.unlink(path)


def check_endpoints_are_taken() -> None:
    """NIXL's own etcd layer would write the same keys."""
    where = None
    if ENDPOINTS_VARIABLE in os.environ:
        where = "is set"
    elif ENDPOINTS_VARIABLE in settings():
        where = f"is set in {config_file()}"
    if where is not None:
        raise ValueError(
            f"{ENDPOINTS_VARIABLE} {where}: NIXL's own etcd layer would write the same keys. "
            "Call take_endpoints() before the agent is made and pass what it returns"
        )


def add_settings(options: dict[str, Any]) -> None:
    """What NIXL's settings hold and the application has not given."""
    if not options.get("ignore_environment"):
        values = settings()
        if options.get("namespace") is None and NAMESPACE_VARIABLE not in os.environ:
            namespace = values.get(NAMESPACE_VARIABLE)
            if namespace is not None:
                options["namespace"] = namespace
        # The library reads none of these. What is empty is not set.
        _add_authority({**values, **os.environ}, options)
    level = os.environ.get(LEVEL_VARIABLE)
    known = (*LEVELS, "OFF")
    if level is not None and level.upper() not in known and not options.get("log_level"):
        log.warning("%s is %r, which is none of %s: WARN is taken", LEVEL_VARIABLE, level, known)
        options["log_level"] = WARN


def _add_authority(values: dict[str, str], options: dict[str, Any]) -> None:
    """Who asks, and whom it trusts. Of a pair the application gives both, or neither."""
    if options.get("user") is None and options.get("password") is None:
        user, password = values.get(USER_VARIABLE), _password(values)
        if user and not password:
            raise ValueError(
                f"{USER_VARIABLE} is {user!r}, and there is no password: "
                f"set {PASSWORD_VARIABLE} or {PASSWORD_FILE_VARIABLE}"
            )
        if password and not user:
            raise ValueError(f"there is a password for etcd, and no {USER_VARIABLE}: set it")
        if user and password:
            options.update(user=user, password=password)
    has_pair = options.get("cert_file") is not None or options.get("key_file") is not None
    for option, variable in TLS_VARIABLES.items():
        value = values.get(variable)
        is_given = has_pair if option in ("cert_file", "key_file") else options.get(option)
        if value and not is_given:
            if option.endswith("_file"):
                _check_readable(value, variable)
            options[option] = value


def _password(values: dict[str, str]) -> str | None:
    path = values.get(PASSWORD_FILE_VARIABLE)
    if not path:
        return values.get(PASSWORD_VARIABLE)
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            password = file.readline().rstrip("\r\n")
    except OSError as failure:
        raise ValueError(f"{PASSWORD_FILE_VARIABLE}: {path}: {failure.strerror}") from failure
    if not password:
        raise ValueError(f"{PASSWORD_FILE_VARIABLE}: the first line of {path} is empty")
    return password


def _check_readable(path: str, variable: str) -> None:
    try:
        open(path, "rb").close()
    except OSError as failure:
        raise ValueError(f"{variable}: {path}: {failure.strerror}") from failure
