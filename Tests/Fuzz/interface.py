# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Runs the fuzzer of the C interface before a real etcd, which is stopped, cut off and compacted
meanwhile, and before a port where nobody listens. Usage: interface.py BINARY SECONDS"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from etcd_server import Etcd, free_ports
from proxy import Proxy


def main(binary: str, seconds: int) -> int:
    seed = random.randrange(1 << 31)
    etcd = Etcd("3.4")
    etcd.start().wait_healthy()
    proxy = Proxy(etcd.port)
    endpoints = [etcd.endpoint, proxy.endpoint, f"http://127.0.0.1:{free_ports(1)[0]}"]
    print(f"interface: seed {seed}", flush=True)
    fuzzer = subprocess.Popen([binary, str(seconds), str(seed), *endpoints])
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end and fuzzer.poll() is None:
            time.sleep(1)
            if random.randrange(2):
                proxy.cut()
                time.sleep(0.2)
                proxy.heal()
            if random.randrange(5) == 0:
                etcd.gateway.compact(etcd.gateway.revision())
        return fuzzer.wait(60)
    finally:
        fuzzer.kill()
        fuzzer.wait()
        proxy.close()
        etcd.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
