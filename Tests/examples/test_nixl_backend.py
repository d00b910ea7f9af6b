# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The settings of the backend for NIXL, examples/nixl_backend/nixl_etcd_settings.h, against an etcd
that wants a client's certificate, a user and a password. The rest of the backend needs NIXL:
docs/nixl-proof.md."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from certificates import Authority
from conftest import TREE, clean_environment
from etcd_server import VERSIONS, Etcd

NS = "/backend/"
PASSWORD = "pass word: ä#1"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("backend") / "host"
    library = Path(os.environ["NIXL_MD_LIBRARY"])
    # Into the place of the soname, so that the loader finds it.
    (binary.parent / "libnixl_md.so.0").symlink_to(library)
    command = [
        *(os.environ.get("CXX", "c++"), "-std=c++20", "-Wall", "-Wextra", "-Werror"),
        *("-I", str(TREE / "include"), "-I", str(TREE / "examples" / "nixl_backend")),
        str(TREE / "Tests" / "examples" / "nixl_backend_host.cpp"),
        *("-o", str(binary), str(library), f"-Wl,-rpath,{binary.parent}"),
    ]
    subprocess.run(command, check=True)
    return binary


@dataclass
class Guarded:
    """An etcd over TLS with users, and the settings of one of them."""

    etcd: Etcd
    settings: dict[str, str]
    stranger: str
    root: tuple[str, ...]

    def lease(self, key: str) -> int:
        """The record of an existing key."""
        told = json.loads(self.etcd.ctl(*self.root, "get", key, "--write-out", "json"))
        return int(told["kvs"][0]["lease"])


def tls_flags(authority: Authority, pair: tuple[Path, Path]) -> tuple[str, ...]:
    """For etcdctl."""
    files = ("--cacert", authority.certificate, "--cert", pair[0], "--key", pair[1])
    return tuple(map(str, files))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("authority")
    authority = Authority(directory / "ca", "authority")
    stranger = Authority(directory / "stranger", "stranger")
    server = authority.issue("server", "IP:127.0.0.1", "DNS:etcd.test")
    client = authority.issue("client")
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.load_cert_chain(*map(str, client))
    flags = [
        *("--cert-file", str(server[0]), "--key-file", str(server[1])),
        *("--client-cert-auth", "--trusted-ca-file", str(authority.certificate)),
    ]
    etcd = Etcd(VERSIONS[0], *flags, tls=context)
    try:
        etcd.start().wait_healthy()
        etcd.gateway.add_user("alice", PASSWORD, NS.encode(), "READWRITE")
        # etcd's gateway takes no password where there are clients' certificates.
        for command in ("user add root:root-password", "user grant-role root root", "auth enable"):
            etcd.ctl(*tls_flags(authority, client), *command.split())
        yield Guarded(
            etcd,
            {
                "NIXL_ETCD_ENDPOINTS": etcd.endpoint,
                "NIXL_ETCD_NAMESPACE": NS,
                "NIXL_ETCD_USER": "alice",
                "NIXL_ETCD_PASSWORD": PASSWORD,
                "NIXL_ETCD_CACERT": str(authority.certificate),
                "NIXL_ETCD_CERT": str(client[0]),
                "NIXL_ETCD_KEY": str(client[1]),
            },
            str(stranger.certificate),
            (*tls_flags(authority, client), "--user", "root:root-password"),
        )
    finally:
        etcd.close()


def run(
    host: Path, settings: dict[str, str], agent: str = "alpha", seconds: int = 60
) -> tuple[int, str, str]:
    done = subprocess.run(
        [host, agent, str(seconds)],
        env=clean_environment(**settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert PASSWORD not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def check_works(host: Path, guarded: Guarded, agent: str, **settings: str) -> None:
    """It publishes on a lease and reads that again."""
    code, told, log = run(host, {**guarded.settings, **settings}, agent)
    assert code == 0, told + log
    lines = [line.split(" ", 2) for line in told.splitlines()]
    assert {(what, status) for what, status, _ in lines} == {
        ("lease", "NIXL_MD_SUCCESS"),
        ("publish", "NIXL_MD_SUCCESS"),
        ("fetch", "NIXL_MD_SUCCESS"),
    }, told + log
    assert f"fetch NIXL_MD_SUCCESS of {agent}" in told
    assert guarded.lease(f"{NS}/{agent}/metadata") != 0


def test_passwordAndClientCertificate(host: Path, guarded: Guarded) -> None:
    check_works(host, guarded, "alpha")


@pytest.mark.parametrize("end", ["", "\n", "\r\nsecond line\n"])
def test_passwordFile_firstLineCounts(
    host: Path, guarded: Guarded, tmp_path: Path, end: str
) -> None:
    file = tmp_path / "password"
    file.write_bytes((PASSWORD + end).encode())
    check_works(
        host,
        guarded,
        f"beta{len(end)}",
        NIXL_ETCD_PASSWORD_FILE=str(file),
        # The file counts.
        NIXL_ETCD_PASSWORD="wrong",
    )


def test_serverName_isVerified(host: Path, guarded: Guarded) -> None:
    check_works(host, guarded, "gamma", NIXL_ETCD_SERVER_NAME="etcd.test")


def test_emptySettings_areNotSet(host: Path, guarded: Guarded) -> None:
    check_works(host, guarded, "delta", NIXL_ETCD_SERVER_NAME="", NIXL_ETCD_PASSWORD_FILE="")


@pytest.mark.parametrize(
    ("settings", "status", "reason"),
    [
        ({"NIXL_ETCD_PASSWORD": "wrong"}, "UNAUTHENTICATED", "password"),
        ({"NIXL_ETCD_NAMESPACE": "/other/"}, "PERMISSION", "permission"),
        ({"NIXL_ETCD_SERVER_NAME": "other.test"}, "TIMED_OUT", "other.test"),
        ({"NIXL_ETCD_CACERT": "STRANGER"}, "TIMED_OUT", "certificate"),
        ({"NIXL_ETCD_CERT": "", "NIXL_ETCD_KEY": ""}, "TIMED_OUT", "certificate"),
    ],
)
def test_wrongSettings_areReported(
    host: Path, guarded: Guarded, settings: dict[str, str], status: str, reason: str
) -> None:
    """Each of them reaches the library: with any of them left out, the publish would succeed."""
    given = {
        name: guarded.stranger if value == "STRANGER" else value for name, value in settings.items()
    }
    # Long enough for the reason to be known.
    seconds = 8 if status == "TIMED_OUT" else 60
    code, told, log = run(host, {**guarded.settings, **given}, "wrong", seconds)
    assert code == 0, told + log
    assert f"publish NIXL_MD_ERR_{status}" in told
    assert reason in told + log


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"NIXL_ETCD_ENDPOINTS": ""}, "NIXL_ETCD_ENDPOINTS is empty"),
        ({"NIXL_ETCD_PASSWORD": ""}, "NIXL_ETCD_USER is 'alice', and there is no password: set "),
        ({"NIXL_ETCD_USER": ""}, "there is a password for etcd, and no NIXL_ETCD_USER: set it"),
        ({"NIXL_ETCD_KEY": ""}, "NIXL_ETCD_CERT and NIXL_ETCD_KEY belong together"),
        ({"NIXL_ETCD_CERT": ""}, "NIXL_ETCD_CERT and NIXL_ETCD_KEY belong together"),
        ({"NIXL_ETCD_KEY": "/no/key"}, "NIXL_ETCD_KEY: /no/key: No such file or directory"),
        ({"NIXL_ETCD_CERT": "/no/pem"}, "NIXL_ETCD_CERT: /no/pem: No such file or directory"),
        ({"NIXL_ETCD_CACERT": "/no/ca"}, "NIXL_ETCD_CACERT: /no/ca: No such file or directory"),
        ({"NIXL_ETCD_PASSWORD_FILE": "/no"}, "NIXL_ETCD_PASSWORD_FILE: /no: No such file or dir"),
        ({"NIXL_ETCD_PASSWORD_FILE": "/dev/null"}, "the first line of /dev/null is empty"),
    ],
)
def test_incompleteSettings_areRefused(
    host: Path, guarded: Guarded, settings: dict[str, str], text: str
) -> None:
    """Bad settings are refused by name, before etcd is asked."""
    code, told, _ = run(host, {**guarded.settings, **settings})
    assert code == 1
    assert told.startswith("refused: ")
    assert text in told
