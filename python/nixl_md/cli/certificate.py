# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Until when a certificate is valid: the few bytes of X.509 (RFC 5280, 4.1) that say so. Python's
own parser is not for callers."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Iterator

_SEQUENCE, _EXPLICIT_VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element (X.690, 8.1)."""
    at = 0
    while at + 2 <= len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(der[at : at + count], "big")
            at += count
        yield tag, der[at : at + length]
        at += length


def not_after(der: bytes) -> datetime.datetime | None:
    """None: it cannot be read."""
    certificate = next(_elements(der), (0, b""))[1]
    to_be_signed = next(_elements(certificate), (0, b""))[1]
    fields = [field for field in _elements(to_be_signed) if field[0] != _EXPLICIT_VERSION]
    # serialNumber, signature, issuer, validity
    if len(fields) < 4 or fields[3][0] != _SEQUENCE:
        return None
    times = list(_elements(fields[3][1]))
    if len(times) != 2:
        return None
    tag, text = times[1]
    form = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}.get(tag)
    try:
        assert form is not None
        parsed = datetime.datetime.strptime(text.decode("ascii"), form)
    except (AssertionError, ValueError):
        return None
    return parsed.replace(tzinfo=datetime.timezone.utc)


def first_of_pem(text: str) -> bytes | None:
    """DER of the first certificate of a file."""
    _, begin, rest = text.partition(_BEGIN)
    body, end, _ = rest.partition(_END)
    if not begin or not end:
        return None
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except ValueError:
        return None
