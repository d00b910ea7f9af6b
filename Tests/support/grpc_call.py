# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""One unary gRPC call, for what etcd's JSON gateway does not go through."""

from __future__ import annotations

import socket

import h2.config
import h2.connection
import h2.events


def call(port: int, path: str, request: bytes) -> bytes:
    """The message of the answer; an error is one."""
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", f"127.0.0.1:{port}"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    answer = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as sock:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        connection.initiate_connection()
        connection.send_headers(1, headers)
        connection.send_data(1, b"\0" + len(request).to_bytes(4, "big") + request, end_stream=True)
        while True:
            sock.sendall(connection.data_to_send())
            data = sock.recv(1 << 16)
            assert data, f"{path}: the connection has ended"
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    assert event.data is not None and event.flow_controlled_length is not None
                    answer += event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, 1)
                elif isinstance(event, h2.events.StreamEnded):
                    assert answer, f"{path} was refused"
                    return bytes(answer[5:])
