# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The complete host in the comment of nixl_md.h compiles without a warning, drops a peer that is
gone, and withdraws."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable

from conftest import PATIENCE, Place
from fixtures import TREE

BEFORE = """
#include <nixl_md.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int stopping;
static void drop_peer(const char *name, size_t length) {
    fprintf(stderr, "dropped %.*s\\n", (int)length, name);
    stopping = 1;
}
static void die(const char *text) {
    fprintf(stderr, "%s\\n", text);
    exit(1);
}
static const char blob[] = "blob";
static const size_t blob_len = 4;
"""


def source() -> str:
    header = (TREE / "include" / "nixl_md.h").read_text()
    found = re.search(r"@code\n(.*?) \* @endcode", header, re.DOTALL)
    assert found
    code = re.sub(r"(?m)^ \* {0,5}", "", found[1])
    functions, start, body = code.partition("nixl_md_config_t config;")
    return f"{BEFORE}{functions}\nint main(void) {{\n{start}{body}\nreturn 0;\n}}\n"


def test_hostOfTheHeader_dropsItsPeer_andWithdraws(places: Callable[[], Place]) -> None:
    place = places()
    (place.directory / "host.c").write_text(source())
    warnings = "-std=c99 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Werror"
    place.run(["sh", "-c", f"cc {warnings} host.c $(pkg-config --cflags --libs nixl_md) -o host"])
    gateway = place.etcd.gateway
    beta = b"/nixl/agents//beta/"
    gateway.put(beta, b"")
    process = subprocess.Popen(
        [str(place.directory / "host")], env=place.environment, stderr=subprocess.PIPE, text=True
    )
    try:
        alpha = b"/nixl/agents//alpha/"
        deadline = time.monotonic() + PATIENCE
        while len(gateway.keys(alpha)) < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        gateway.delete(beta)
        _, told = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert told.splitlines() == ["publish: NIXL_MD_SUCCESS ", "dropped beta"]
    assert gateway.keys(alpha) == []
