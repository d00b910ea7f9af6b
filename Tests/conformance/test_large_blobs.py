# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Blobs at the library's own limit, for which etcd's limit must be raised; and a lack of memory for
them."""

from __future__ import annotations

import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import capi
from conftest import EtcdFactory, HostFactory
from hosts import Host, is_too_long, made_blob

LARGEST = 10 << 20
# etcd's limit for requests; its limit for gRPC messages is half a MiB above.
RAISED = ("--max-request-bytes", str(15 << 20))


def check_longest_tick(host: Host, what: str) -> None:
    """Checks each kind of work by itself, so that a failure names it."""
    took = host.stats()["tick_cpu_max_ns"]
    assert not is_too_long(took), f"{what}: a tick took {took / 1e6:.1f} ms of CPU"


@pytest.mark.parametrize("language", ["cpp", "python"])
def test_no_tick_is_long_with_the_largest_blobs(
    hosts: HostFactory, own_etcd: EtcdFactory, namespace: bytes, version: str, language: str
) -> None:
    etcd = own_etcd(version, *RAISED)
    alpha, watcher = hosts(language), hosts(language)
    alpha.open(etcd.endpoint, namespace, agent=b"alpha")
    watcher.open(etcd.endpoint, namespace)
    watch = watcher.start("watch", agent=b"alpha")
    watcher.event("SYNCED", watch=watch)
    for seed in range(3):
        alpha.succeed("publish", within=30, label=b"l", size=LARGEST, seed=seed, timeout=30_000)
        crc = zlib.crc32(made_blob(LARGEST, seed))
        watcher.event("PUT", watch=watch, blob_len=LARGEST, blob_crc=crc, within=30)
        reader = hosts(language)
        reader.open(etcd.endpoint, namespace)
        found = reader.succeed("fetch", within=30, agent=b"alpha", label=b"l", timeout=30_000)
        assert (found["blob_len"], found["blob_crc"]) == (LARGEST, crc)
        check_longest_tick(alpha, "publish")
        check_longest_tick(watcher, "watch")
        check_longest_tick(reader, "fetch")
        reader.quit()


def test_many_large_blobs_at_once(
    hosts: HostFactory, own_etcd: EtcdFactory, namespace: bytes
) -> None:
    """Published, listed by a watch and fetched all together, while the lease is renewed."""
    etcd = own_etcd("3.5", *RAISED)
    alpha, peer = hosts(), hosts()
    alpha.open(etcd.endpoint, namespace, agent=b"alpha")
    alpha.succeed("start_heartbeat", interval=1000, ttl=5000)
    count, size = 6, 4 << 20
    ops = [
        alpha.start("publish", label=b"l%d" % number, size=size, seed=number, timeout=60_000)
        for number in range(count)
    ]
    assert {done["status"] for done in alpha.completions(ops, within=60).values()} == {0}
    check_longest_tick(alpha, "publish")
    peer.open(etcd.endpoint, namespace)
    watch = peer.start("watch", agent=b"alpha")
    ops = [
        peer.start("fetch", agent=b"alpha", label=b"l%d" % number, timeout=60_000)
        for number in range(count)
    ]
    found = peer.completions(ops, within=60)
    for number, op in enumerate(ops):
        assert found[op]["status"] == 0
        assert found[op]["blob_crc"] == zlib.crc32(made_blob(size, number))
    peer.event("SYNCED", watch=watch, within=60)
    check_longest_tick(peer, "fetch and watch")
    assert alpha.stats()["leases_lost"] == 0


# Publishes to nobody until there is no memory for one more blob, and again when there is.
WITHOUT_MEMORY = """
import resource
import capi
from inprocess import Local

local = Local(endpoints=b"127.0.0.1:9", name_space=b"/ns/", agent=b"alpha", agent_len=5)
blob = bytes(9 << 20)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (40 << 20), -1))
taken = 0
while local.call("publish", b"l%d" % taken, 2, blob, len(blob), local.opts(), None) == capi.SUCCESS:
    taken += 1
    assert taken < 10
refusal = local.call("publish", b"one", 3, blob, len(blob), local.opts(), None)
text = local.error()
small = local.call("publish", b"two", 3, b"small", 5, local.opts(), None)
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
again = local.call("publish", b"ten", 3, blob, len(blob), local.opts(), None)
assert local.call("tick") >= 0
local.close()
print(taken, refusal, small, again, len(local.done), text)
"""


def test_no_memory_for_a_blob_is_a_status(library: Path) -> None:
    """Not the end of the process, as it is where an allocation of Swift's fails."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MEMORY],
        env={"NIXL_MD_LIBRARY": str(library), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told = re.fullmatch(r"(\d+) (-?\d+) (-?\d+) (-?\d+) (\d+) (.*)\n", done.stdout)
    assert told, done.stdout
    taken, refusal, small, again, ended = map(int, told.groups()[:5])
    assert 1 <= taken < 4
    assert refusal == capi.BACKEND
    assert (small, again) == (capi.SUCCESS, capi.SUCCESS)
    assert ended == taken + 2
    assert "memory" in told[6]
    assert str(9 << 20) in told[6]
