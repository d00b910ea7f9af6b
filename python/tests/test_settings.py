# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""NIXL's configuration files as its src/utils/common/configuration.cpp reads them."""

from __future__ import annotations

import logging
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from nixl_md import _nixl_config
from nixl_md._nixl_config import (
    _read_lines,
    add_settings,
    check_endpoints_are_taken,
    config_file,
    settings,
    take_endpoints,
)
from nixl_md.nixl import NixlMetadata

TEXT = """\
# NIXL_ETCD_ENDPOINTS = "a comment"
NIXL_ETCD_ENDPOINTS = "http://etcd:2379,http://other:2379"  # two
NIXL_ETCD_NAMESPACE = '/nixl/"mine"/'
"NIXL_QUOTED" = "# no comment"
NIXL_NUMBER = 7

[NIXL_TABLE]
NIXL_ETCD_NAMESPACE = "/not/this/"
"""


AUTHORITY = (
    "NIXL_ETCD_USER",
    "NIXL_ETCD_PASSWORD",
    "NIXL_ETCD_PASSWORD_FILE",
    "NIXL_ETCD_CACERT",
    "NIXL_ETCD_CERT",
    "NIXL_ETCD_KEY",
    "NIXL_ETCD_SERVER_NAME",
)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "NIXL_ETCD_ENDPOINTS",
        "NIXL_ETCD_NAMESPACE",
        "NIXL_CONFIG_FILE",
        "NIXL_LOG_LEVEL",
        *AUTHORITY,
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(_nixl_config, "GLOBAL_FILE", str(tmp_path / "etc-nixl.cfg"))
    (tmp_path / "home").mkdir()


def test_the_first_file_that_there_is_counts_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config_file() is None
    assert settings() == {}
    places = [tmp_path / "etc-nixl.cfg", tmp_path / "home" / ".nixl.cfg", tmp_path / "named"]
    for place in places:
        place.write_text(f'NIXL_{len(place.name)} = "{place.name}"\n')
        if place.name == "named":
            monkeypatch.setenv("NIXL_CONFIG_FILE", str(place))
        assert config_file() == str(place)
        assert settings() == {f"NIXL_{len(place.name)}": place.name}
    monkeypatch.delenv("NIXL_CONFIG_FILE")
    monkeypatch.delenv("HOME")
    assert config_file() == str(places[0])


def test_a_file_that_is_named_and_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """NIXL throws as well."""
    monkeypatch.setenv("NIXL_CONFIG_FILE", "/no/such/file")
    with pytest.raises(ValueError, match="/no/such/file cannot be read"):
        settings()


def test_a_file_that_is_no_toml(tmp_path: Path) -> None:
    (tmp_path / "home" / ".nixl.cfg").write_text("NIXL_ETCD_ENDPOINTS = \n")
    if sys.version_info < (3, 11):
        # Lines that say nothing are passed over.
        assert settings() == {}
        return
    with pytest.raises(ValueError, match="is no TOML"):
        settings()


def test_the_reader_of_lines_finds_what_toml_has() -> None:
    expected = {
        "NIXL_ETCD_ENDPOINTS": "http://etcd:2379,http://other:2379",
        "NIXL_ETCD_NAMESPACE": '/nixl/"mine"/',
        "NIXL_QUOTED": "# no comment",
    }
    assert _read_lines(TEXT) == expected
    if sys.version_info >= (3, 11):
        import tomllib

        told = tomllib.loads(TEXT)
        assert {name: value for name, value in told.items() if isinstance(value, str)} == expected


def test_endpoints_are_taken_from_the_file(tmp_path: Path) -> None:
    """NIXL then reads a copy without them, which holds all else."""
    file = tmp_path / "home" / ".nixl.cfg"
    file.write_text(TEXT)
    with pytest.raises(ValueError, match=r"NIXL_ETCD_ENDPOINTS is set in .*/\.nixl\.cfg"):
        check_endpoints_are_taken()
    assert take_endpoints() == "http://etcd:2379,http://other:2379"
    check_endpoints_are_taken()
    copy = os.environ["NIXL_CONFIG_FILE"]
    assert copy != str(file)
    assert stat.S_IMODE(os.stat(copy).st_mode) == 0o600
    kept = Path(copy).read_text()
    assert kept == "".join(
        line for line in TEXT.splitlines(True) if not line.startswith("NIXL_ETCD_ENDPOINTS")
    )
    options: dict[str, Any] = {}
    add_settings(options)
    assert options == {"namespace": '/nixl/"mine"/'}
    assert take_endpoints() is None
    os.unlink(copy)


def test_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home" / ".nixl.cfg").write_text(TEXT)
    monkeypatch.setenv("NIXL_ETCD_ENDPOINTS", "http://env:2379")
    monkeypatch.setenv("NIXL_ETCD_NAMESPACE", "/env/")
    assert take_endpoints() == "http://env:2379"
    check_endpoints_are_taken()
    options: dict[str, Any] = {}
    # The library reads the environment.
    add_settings(options)
    assert options == {}
    os.unlink(os.environ["NIXL_CONFIG_FILE"])


def test_endpoints_that_cannot_be_left_out(tmp_path: Path) -> None:
    file = tmp_path / "home" / ".nixl.cfg"
    file.write_text('NIXL_ETCD_ENDPOINTS = """\nhttp://etcd:2379"""\n')
    if sys.version_info < (3, 11):
        # Only texts on one line are read.
        assert take_endpoints() is None
        return
    with pytest.raises(ValueError, match="write it on one line"):
        take_endpoints()


@pytest.mark.parametrize(
    ("level", "expected"), [("", 4), ("LOUD", 4), ("debug", None), ("OFF", None), (None, None)]
)
def test_log_levels(
    level: str | None,
    expected: int | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if level is not None:
        monkeypatch.setenv("NIXL_LOG_LEVEL", level)
    options: dict[str, Any] = {}
    with caplog.at_level(logging.WARNING, logger="nixl_md.nixl"):
        add_settings(options)
    assert options.get("log_level") == expected
    assert ("WARN is taken" in caplog.text) == (expected is not None)
    options = {"log_level": 1}
    add_settings(options)
    assert options == {"log_level": 1}


@pytest.fixture
def authority(tmp_path: Path) -> dict[str, str]:
    """All of it, as variables."""
    files = [tmp_path / name for name in ("ca.pem", "client.pem", "client.key")]
    for file in files:
        file.touch()
    (tmp_path / "password").write_text("of a file\r\nsecond line\n")
    password_file = str(tmp_path / "password")
    values = ("alice", "secret", password_file, *map(str, files), "etcd.test")
    return dict(zip(AUTHORITY, values))


def expected_options(authority: dict[str, str], password: str) -> dict[str, str]:
    names = ("ca_file", "cert_file", "key_file", "server_name")
    values = (authority[name] for name in AUTHORITY[3:])
    return {"user": "alice", "password": password, **dict(zip(names, values))}


@pytest.mark.parametrize("is_in_file", [True, False])
def test_user_and_tls(
    tmp_path: Path, authority: dict[str, str], monkeypatch: pytest.MonkeyPatch, is_in_file: bool
) -> None:
    """From the environment, or from NIXL's configuration; not with ignore_environment."""
    if is_in_file:
        lines = [f'{name} = "{value}"\n' for name, value in authority.items()]
        (tmp_path / "home" / ".nixl.cfg").write_text("".join(lines))
    else:
        for name, value in authority.items():
            monkeypatch.setenv(name, value)
    options: dict[str, Any] = {}
    add_settings(options)
    assert options == expected_options(authority, "of a file")
    # What is empty is not set, and hides what the file says.
    monkeypatch.setenv("NIXL_ETCD_PASSWORD_FILE", "")
    options = {}
    add_settings(options)
    assert options == expected_options(authority, "secret")
    options = {"ignore_environment": True}
    add_settings(options)
    assert options == {"ignore_environment": True}


def test_what_the_application_gives_comes_first(
    authority: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a pair all of it: a user does not get another's password, nor a certificate its key."""
    for name, value in authority.items():
        monkeypatch.setenv(name, value)
    given = {"user": "bob", "cert_file": "/b.pem", "server_name": "b"}
    options: dict[str, Any] = dict(given)
    add_settings(options)
    assert options == {**given, "ca_file": authority["NIXL_ETCD_CACERT"]}


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"NIXL_ETCD_USER": "alice"}, "NIXL_ETCD_USER is 'alice', and there is no password: set "),
        ({"NIXL_ETCD_PASSWORD": "secret"}, "there is a password for etcd, and no NIXL_ETCD_USER"),
        ({"NIXL_ETCD_CACERT": "/no"}, "NIXL_ETCD_CACERT: /no: No such file or directory"),
        ({"NIXL_ETCD_PASSWORD_FILE": "/no"}, "NIXL_ETCD_PASSWORD_FILE: /no: No such file or dir"),
        ({"NIXL_ETCD_PASSWORD_FILE": "/dev/null"}, "the first line of /dev/null is empty"),
    ],
)
def test_what_is_incomplete_is_refused(
    variables: dict[str, str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=text) as refusal:
        add_settings({})
    assert "secret" not in str(refusal.value)


def test_no_second_thread_for_nixls_agents() -> None:
    """They are not made for it."""
    nixl: Any = type("Nixl", (), {"name": "alpha"})()
    with pytest.raises(ValueError, match="no matter for a second thread"):
        NixlMetadata(nixl, endpoints="127.0.0.1:1", background=True)
