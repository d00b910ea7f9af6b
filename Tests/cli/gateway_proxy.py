# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Proxies before etcd's JSON gateway: one answers as 3.7.0 does, one holds requests."""

from __future__ import annotations

import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EXPIRED = b'{"error": "etcdserver: invalid auth token", "code": 16}'


class GatewayProxy:
    """Listens on a loopback port, and asks the gateway at `target`."""

    def __init__(self, target: int) -> None:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Else an answer after the first waits for the client's acknowledgement.
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not proxy.admits(self.path):
                    self.close_connection = True
                    return
                server = http.client.HTTPConnection("127.0.0.1", target, timeout=30)
                try:
                    server.request("POST", self.path, body, {"Content-Type": "application/json"})
                    answer = server.getresponse()
                    status = answer.status
                    text = proxy.changed(self.path, body, answer.read())
                finally:
                    server.close()
                if proxy.forgets(self.path):
                    status, text = 401, EXPIRED
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """The tool may be gone."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def admits(self, path: str) -> bool:
        """Whether a request goes on; else its connection is closed."""
        return True

    def changed(self, path: str, body: bytes, answer: bytes) -> bytes:
        return answer

    def forgets(self, path: str) -> bool:
        """Whether a request is refused as one whose token is not known any more."""
        return False

    def __enter__(self) -> GatewayProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class ForgetfulGateway(GatewayProxy):
    """Refuses the `which`-th request of one kind, as an etcd whose tokens were forgotten."""

    def __init__(self, target: int, path: str, which: int) -> None:
        super().__init__(target)
        self._path = path
        self._which = which
        self._lock = threading.Lock()
        self.count = 0

    def forgets(self, path: str) -> bool:
        if not path.endswith(self._path):
            return False
        with self._lock:
            self.count += 1
            return self.count == self._which

    def __enter__(self) -> ForgetfulGateway:
        super().__enter__()
        return self


class LeaselessGateway(GatewayProxy):
    """As 3.7.0 answers (etcd issue 22209): takes the lease out of keys-only ranges."""

    def changed(self, path: str, body: bytes, answer: bytes) -> bytes:
        if not path.endswith("/kv/range") or not json.loads(body).get("keys_only"):
            return answer
        parsed = json.loads(answer)
        for kv in parsed.get("kvs", []):
            kv.pop("lease", None)
        return json.dumps(parsed).encode()


class HoldingGateway(GatewayProxy):
    """Holds the requests of one kind from the `first` on (1: all of them), until it is closed or
    `die` drops them, as an etcd that is frozen or killed at this point."""

    def __init__(self, target: int, path: str, first: int = 1) -> None:
        super().__init__(target)
        self._path = path
        self._first = first
        self._count = 0
        self._is_paused = False
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.reached = threading.Event()

    def admits(self, path: str) -> bool:
        if self._ended.is_set():
            return False
        if self._is_paused or not path.endswith(self._path):
            return True
        with self._lock:
            self._count += 1
            if self._count < self._first:
                return True
        self.reached.set()
        self._ended.wait()
        return False

    def pause(self) -> None:
        """All go through, and do not count, until `resume`."""
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False

    def die(self) -> None:
        """Every connection is closed without an answer from now on."""
        self._ended.set()

    def __enter__(self) -> HoldingGateway:
        super().__enter__()
        return self

    def __exit__(self, *ended: object) -> None:
        self._ended.set()
        super().__exit__(*ended)
