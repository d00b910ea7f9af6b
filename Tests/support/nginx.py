# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""nginx in front of an etcd: it ends each connection after 1,000 requests, and when it reloads its
configuration."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from etcd_server import free_ports, wait_until_it_listens

CONFIGURATION = """
daemon off;
worker_processes 1;
pid {directory}/pid;
error_log {directory}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    log_format requests '$connection $uri $status';
    access_log {directory}/access.log requests;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_max_body_size 0;
    keepalive_requests {requests};
    server {{
        listen 127.0.0.1:{port} http2;
        location / {{
            grpc_pass grpc://127.0.0.1:{target};
            grpc_read_timeout 1h;
            grpc_send_timeout 1h;
            client_body_timeout 1h;
        }}
    }}
}}
"""


class Nginx:
    """One nginx with one worker, until close()."""

    def __init__(self, target: int, directory: Path, requests: int = 1000) -> None:
        binary = shutil.which("nginx") or "/usr/sbin/nginx"
        assert Path(binary).exists(), "nginx is missing: apt-get install nginx-light"
        self.directory = directory
        (self.port,) = free_ports(1)
        configuration = directory / "nginx.conf"
        configuration.write_text(
            CONFIGURATION.format(
                directory=directory, port=self.port, target=target, requests=requests
            )
        )
        command = [binary, "-c", str(configuration), "-e", str(directory / "error.log")]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        wait_until_it_listens(self.port, self._process, directory / "error.log")

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def reload(self) -> None:
        os.kill(self._process.pid, signal.SIGHUP)

    def requests(self) -> list[tuple[str, str, str]]:
        """Connection, path and HTTP status of each request that has ended."""
        lines = (self.directory / "access.log").read_text().splitlines()
        return [(words[0], words[1], words[2]) for words in map(str.split, lines)]

    def close(self) -> None:
        """SIGTERM: its workers end at once."""
        self._process.terminate()
        self._process.wait()
