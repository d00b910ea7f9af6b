# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Programs that may listen where etcd's JSON gateway is expected."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWERS = {
    "html": (200, "text/html", b"<html>welcome</html>"),
    "not-found": (404, "text/plain", b"404 page not found"),
    "json": (200, "application/json", b"[1, 2]"),
    "empty": (200, "application/json", b"{}"),
    "no-header": (200, "application/json", b'{"header": 7, "kvs": "?"}'),
    "no-result": (200, "application/json", b'{"result": [1]}'),
    "terminal": (404, "text/plain", b"\x1b]0;owned\x07\x1b[2J\xc2\x9b31m"),
    "refusal": (400, "application/json", b'{"code": 3, "message": "\\u001b[2Jno\\ud800"}'),
    "unavailable": (503, "text/html", b"<html>no healthy upstream</html>"),
}


class StrangeServer:
    """Answers every request alike; `silent`: never."""

    def __init__(self, kind: str) -> None:
        ended = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                if kind == "silent":
                    ended.wait(60)
                    return
                status, media, body = ANSWERS[kind]
                self.send_response(status)
                self.send_header("Content-Type", media)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._ended = ended
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> StrangeServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
