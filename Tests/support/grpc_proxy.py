# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""`etcd grpc-proxy` in front of an etcd."""

from __future__ import annotations

import subprocess

from etcd_server import binary, free_ports, temporary_directory, wait_until_it_listens


class GrpcProxy:
    """One proxy of this version, until close()."""

    def __init__(self, version: str, target: int) -> None:
        (self.port,) = free_ports(1)
        self.directory = temporary_directory()
        self._version = version
        self._target = target
        self._log = (self.directory / "proxy.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the proxy is not running"
        return self._process.pid

    def start(self) -> None:
        command = [
            *(str(binary(self._version)), "grpc-proxy", "start"),
            f"--endpoints=127.0.0.1:{self._target}",
            f"--listen-addr=127.0.0.1:{self.port}",
            f"--data-dir={self.directory / 'data'}",
        ]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        wait_until_it_listens(self.port, self._process, self.directory / "proxy.log")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.kill()
        self._log.close()
