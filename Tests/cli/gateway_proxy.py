# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""etcd's JSON gateway as 3.7.0 answers (etcd issue 22209): before an older one, it takes the lease
out of keys-only ranges. Everything else goes through as it is."""

from __future__ import annotations

import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LeaselessGateway:
    """Listens on a loopback port, and asks the gateway at `target`."""

    def __init__(self, target: int) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Else an answer after the first waits for the client's acknowledgement.
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server = http.client.HTTPConnection("127.0.0.1", target, timeout=30)
                try:
                    server.request("POST", self.path, body, {"Content-Type": "application/json"})
                    answer = server.getresponse()
                    text = answer.read()
                finally:
                    server.close()
                if self.path.endswith("/kv/range") and json.loads(body).get("keys_only"):
                    parsed = json.loads(text)
                    for kv in parsed.get("kvs", []):
                        kv.pop("lease", None)
                    text = json.dumps(parsed).encode()
                self.send_response(answer.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> LeaselessGateway:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
