# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Where etcd is and who asks: from options, then NIXL_ETCD_*, then etcdctl's variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable

from .errors import Usage

DEFAULT_NAMESPACE = "/nixl/agents/"
DEFAULT_PORT = 2379
# Of the library, include/nixl_md.h.
MAX_NAMESPACE = 1024
MAX_ENDPOINTS = 64
MAX_TIMEOUT = 86400.0
_SEPARATORS = re.compile("[,;]")


@dataclass(frozen=True)
class Endpoint:
    """Where one member listens."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


@dataclass(frozen=True)
class Given:
    """The common options as they were given; None: not."""

    endpoints: str | None = None
    gateway: str | None = None
    namespace: str | None = None
    cacert: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None
    insecure: bool = False
    user: str | None = None
    password_file: str | None = None
    timeout: float = 5.0


@dataclass(frozen=True)
class Settings:
    """What every command knows."""

    endpoints: tuple[Endpoint, ...]
    gateways: tuple[Endpoint, ...]
    """Where the JSON gateway is: the endpoints, unless --gateway says otherwise."""
    namespace: bytes = DEFAULT_NAMESPACE.encode()
    cacert: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None
    verify: bool = True
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout: float = 5.0

    def only(self, endpoint: Endpoint, gateway: Endpoint | None = None) -> Settings:
        """The same with a single member."""
        return replace(self, endpoints=(endpoint,), gateways=(gateway or endpoint,))


def parse_endpoint(text: str, has_tls: bool, source: str) -> Endpoint:
    """One endpoint as the library takes it. Without a scheme it is https where TLS files are given,
    as etcdctl has it."""
    scheme, separator, rest = text.rpartition("://")
    if separator and scheme not in ("http", "https"):
        raise Usage(f"{source}: '{text}' begins with neither http:// nor https://")
    rest = rest[:-1] if rest.endswith("/") else rest
    match = re.fullmatch(r"(\[[0-9a-fA-F:.%]+\]|[^:/@\s\[\]]+)(?::(\d+))?", rest)
    if match is None:
        raise Usage(
            f"{source}: '{text}' is no endpoint",
            "Write HOST:PORT, http://HOST:PORT or https://HOST:PORT; IPv6 in brackets.",
        )
    port = int(match[2]) if match[2] else DEFAULT_PORT
    if not 0 < port < 65536:
        raise Usage(f"{source}: '{text}' has no port from 1 to 65535")
    return Endpoint(match[1].strip("[]"), port, scheme == "https" if separator else has_tls)


def parse_endpoints(text: str, has_tls: bool, source: str) -> tuple[Endpoint, ...]:
    """A list, separated by ',' or ';'; what is repeated counts once."""
    items = [item.strip() for item in _SEPARATORS.split(text)]
    found = dict.fromkeys(parse_endpoint(item, has_tls, source) for item in items if item)
    if not found:
        raise Usage(f"{source} names no endpoint")
    if len(found) > MAX_ENDPOINTS:
        raise Usage(f"{source} names {len(found)} endpoints; at most {MAX_ENDPOINTS} are taken")
    if len({endpoint.tls for endpoint in found}) > 1:
        raise Usage(f"{source} mixes http and https", "All members are reached one way.")
    return tuple(found)


class _Sources:
    """Options first, then the environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def text(self, option: str, given: str | None, *variables: str) -> tuple[str | None, str]:
        """The value, and whose it is."""
        if given is not None:
            return given, option
        for variable in variables:
            value = self._environment.get(variable)
            if value:
                return value, variable
        return None, option

    def file(self, option: str, given: str | None, *variables: str) -> str | None:
        path, source = self.text(option, given, *variables)
        if path is None:
            return None
        try:
            with open(path, "rb"):
                return path
        except OSError as error:
            raise Usage(
                f"{source}: {path}: {error.strerror}", "Name a PEM file that you may read."
            ) from error


def _read_password(path: str) -> str:
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"--password-file: {path}: {error}") from error
    password = text.split("\n", 1)[0].rstrip("\r")
    if not password:
        raise Usage(f"--password-file: the first line of {path} is empty")
    return password


def _credentials(
    given: Given, sources: _Sources, ask: Callable[[str], str] | None
) -> tuple[str | None, str | None]:
    if given.user is not None and ":" in given.user:
        raise Usage(
            "--user takes a name only: a password there is seen by everybody on this machine",
            "Set NIXL_ETCD_PASSWORD, name a --password-file, or be asked on a terminal.",
        )
    user, _ = sources.text("--user", given.user, "NIXL_ETCD_USER", "ETCDCTL_USER")
    if user is None:
        return None, None
    # etcdctl's variable may hold both.
    user, _, password = user.partition(":")
    path, _ = sources.text("--password-file", given.password_file, "NIXL_ETCD_PASSWORD_FILE")
    if path is not None:
        return user, _read_password(path)
    found, _ = sources.text("", None, "NIXL_ETCD_PASSWORD", "ETCDCTL_PASSWORD")
    if found or password:
        return user, found or password
    if ask is None:
        raise Usage(
            f"no password for user '{user}'",
            "Set NIXL_ETCD_PASSWORD, or name a --password-file; on a terminal you are asked.",
        )
    return user, ask(f"Password of {user}: ")


def resolve(
    given: Given,
    environment: Mapping[str, str] = os.environ,
    ask: Callable[[str], str] | None = None,
) -> Settings:
    """All of it, checked. `ask` asks for a password, if there is somebody to ask."""
    # Not "< 0 or > DAY": that lets nan through.
    if not 0 < given.timeout <= MAX_TIMEOUT:
        raise Usage(f"--timeout: {given.timeout} s is not between 0 and a day")
    sources = _Sources(environment)
    cacert = sources.file("--cacert", given.cacert, "NIXL_ETCD_CACERT", "ETCDCTL_CACERT")
    cert = sources.file("--cert", given.cert, "NIXL_ETCD_CERT", "ETCDCTL_CERT")
    key = sources.file("--key", given.key, "NIXL_ETCD_KEY", "ETCDCTL_KEY")
    if (cert is None) != (key is None):
        raise Usage("--cert and --key belong together", "Give both or neither.")
    has_tls = cacert is not None or cert is not None
    text, source = sources.text(
        "--endpoints", given.endpoints, "NIXL_ETCD_ENDPOINTS", "ETCDCTL_ENDPOINTS"
    )
    if text is None:
        raise Usage(
            "no endpoint of etcd is given",
            "Set --endpoints or NIXL_ETCD_ENDPOINTS, for example 127.0.0.1:2379.",
        )
    endpoints = parse_endpoints(text, has_tls, source)
    if has_tls and not endpoints[0].tls:
        raise Usage(
            f"TLS files are given, and {endpoints[0]} is http", f"Write https:// in {source}."
        )
    gateway, source = sources.text("--gateway", given.gateway, "NIXL_MD_GATEWAY")
    gateways = endpoints if gateway is None else parse_endpoints(gateway, has_tls, source)
    user, password = _credentials(given, sources, ask)
    insecure = given.insecure or environment.get("ETCDCTL_INSECURE_SKIP_TLS_VERIFY") == "true"
    return Settings(
        endpoints=endpoints,
        gateways=gateways,
        namespace=_namespace(given, sources),
        cacert=cacert,
        cert=cert,
        key=key,
        server_name=given.server_name,
        verify=not insecure,
        user=user,
        password=password,
        timeout=given.timeout,
    )


def _namespace(given: Given, sources: _Sources) -> bytes:
    text, source = sources.text("--namespace", given.namespace, "NIXL_ETCD_NAMESPACE")
    namespace = os.fsencode(DEFAULT_NAMESPACE if text is None else text)
    if not namespace:
        raise Usage(f"{source}: the namespace is empty", f"NIXL's own is {DEFAULT_NAMESPACE}.")
    if len(namespace) > MAX_NAMESPACE:
        raise Usage(
            f"{source}: the namespace has {len(namespace)} bytes; at most {MAX_NAMESPACE} are taken"
        )
    return namespace
