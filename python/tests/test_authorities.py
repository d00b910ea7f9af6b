# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Which file of authorities the package names to the library of a wheel."""

from __future__ import annotations

from pathlib import Path

import pytest
from nixl_md import Agent, InvalidParameter, _authorities, _capi
from nixl_md._authorities import default_file
from nixl_md._calls import library


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """In place of the system's; none is there."""
    for name in ("SSL_CERT_FILE", "NIXL_ETCD_ENDPOINTS"):
        monkeypatch.delenv(name, raising=False)
    found = [tmp_path / "debian", tmp_path / "suse"]
    monkeypatch.setattr(_authorities, "PLACES", tuple(map(str, found)))
    return found


@pytest.mark.parametrize("endpoints", [None, "", "127.0.0.1:2379", "http://a,http://b"])
def test_without_https_no_file_is_looked_for(endpoints: str | None) -> None:
    assert default_file(endpoints, False) is None


def test_first_place_that_can_be_read(places: list[Path]) -> None:
    places[1].write_text("")
    assert default_file("https://a", False) == str(places[1])
    places[0].write_text("")
    assert default_file("127.0.0.1:1,HTTPS://a", False) == str(places[0])


def test_no_place_names_all(places: list[Path]) -> None:
    with pytest.raises(InvalidParameter, match=f"{places[0]}, {places[1]}.*SSL_CERT_FILE"):
        default_file("https://a", False)


def test_ssl_cert_file_before_the_places(
    places: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places[0].write_text("")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own"))
    with pytest.raises(
        InvalidParameter, match=r"SSL_CERT_FILE names '.*own', which cannot be read"
    ):
        default_file("https://a", False)
    (tmp_path / "own").write_text("")
    assert default_file("https://a", False) == str(tmp_path / "own")


def test_endpoints_of_the_environment(monkeypatch: pytest.MonkeyPatch, places: list[Path]) -> None:
    places[0].write_text("")
    monkeypatch.setenv("NIXL_ETCD_ENDPOINTS", "https://a")
    assert default_file(None, False) == str(places[0])
    assert default_file("http://b", False) is None


def test_ignored_environment_names_neither(
    monkeypatch: pytest.MonkeyPatch, places: list[Path], tmp_path: Path
) -> None:
    places[0].write_text("")
    monkeypatch.setenv("NIXL_ETCD_ENDPOINTS", "https://a")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own"))
    assert default_file(None, True) is None
    assert default_file("https://a", True) == str(places[0])


def test_agent_asks_only_for_the_library_of_a_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not _capi.has_own_libcurl(library())
    Agent(endpoints="https://127.0.0.1:1").close()
    monkeypatch.setattr(_capi, "has_own_libcurl", lambda library: True)
    with pytest.raises(InvalidParameter, match="no trusted authorities"):
        Agent(endpoints="https://127.0.0.1:1")
    Agent(endpoints="https://127.0.0.1:1", tls_verify=False, logger=None).close()
    Agent(endpoints="https://127.0.0.1:1", ca_file="/no/such.pem").close()
    Agent(endpoints="http://127.0.0.1:1").close()
