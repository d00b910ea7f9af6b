# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The trusted authorities for the library of a wheel, whose libcurl has none built in."""

from __future__ import annotations

import ctypes
import os

from ._errors import InvalidParameter, Status

# The file that each distribution makes of what its administrator trusts.
PLACES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu
    "/etc/pki/tls/certs/ca-bundle.crt",  # RHEL
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, and RHEL too
    "/etc/ssl/ca-bundle.pem",  # SUSE
)


def _variable(name: str) -> str | None:
    """None also in a process with more rights than its user, as the library has it."""
    read = ctypes.CDLL(None).secure_getenv
    read.restype = ctypes.c_char_p
    value: bytes | None = read(name.encode())
    return os.fsdecode(value) if value else None


def default_file(endpoints: str | None, ignore_environment: bool) -> str | None:
    """$SSL_CERT_FILE, else the system's file; None where no endpoint is https. Raises
    InvalidParameter where https is asked for and there is no such file."""
    if endpoints is None and not ignore_environment:
        endpoints = _variable("NIXL_ETCD_ENDPOINTS")
    if "https://" not in (endpoints or "").lower():
        return None
    given = None if ignore_environment else _variable("SSL_CERT_FILE")
    if given:
        if not os.access(given, os.R_OK):
            raise _missing(f"SSL_CERT_FILE names '{given}', which cannot be read")
        return given
    for place in PLACES:
        if os.access(place, os.R_OK):
            return place
    raise _missing(
        "no trusted authorities for https: there is none of "
        + ", ".join(PLACES)
        + ". Install ca-certificates, or name a PEM file with ca_file or SSL_CERT_FILE"
    )


def _missing(text: str) -> InvalidParameter:
    return InvalidParameter(Status.INVALID_PARAM, text)
