# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What listens where a connection was closed without an answer."""

from __future__ import annotations

import contextlib
import socket
import ssl

from .settings import Endpoint

SECONDS = 2.0
# The start of every HTTP/2 connection (RFC 9113, 3.4), and an empty SETTINGS frame.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4
_GET = b"GET /version HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n"


def _first_bytes(endpoint: Endpoint, request: bytes) -> bytes:
    with (
        contextlib.suppress(OSError),
        socket.create_connection((endpoint.host, endpoint.port), SECONDS) as plain,
    ):
        plain.sendall(request)
        return plain.recv(9)
    return b""


def _has_tls(endpoint: Endpoint) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Only whether it is TLS: nothing is sent, and nothing believed.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((endpoint.host, endpoint.port), SECONDS) as plain:
            context.wrap_socket(plain).close()
            return True
    except ssl.SSLError as error:
        # An alert, say for want of a client's certificate, is an answer in TLS.
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def listens(endpoint: Endpoint) -> str:
    """One of "http", "grpc" (HTTP/2 alone), "tls", or "" if it is none of these, or gone."""
    if _first_bytes(endpoint, _GET).startswith(b"HTTP/1"):
        return "http"
    answer = _first_bytes(endpoint, _PREFACE)
    if len(answer) > 3 and answer[3] == _SETTINGS:
        return "grpc"
    return "tls" if _has_tls(endpoint) else ""
