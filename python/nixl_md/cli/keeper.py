# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What `guard` does in etcd: a lease, an agent's keys that hang on none, and copies of them."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Callable

from nixl_md import Event, EventType, NixlMDError

from .errors import EtcdError, Failure
from .gateway import Gateway, Json, b64, prefix_end, unb64
from .model import Key, Namespace
from .observer import observer
from .removal import batches, put_absent, same
from .render import plural, printable
from .settings import Settings
from .store import parse_key

# Keys are read when the watch reports a change, and this often in case it has no contact.
LOOK_SECONDS = 5.0
# How long etcd may take, after the command has ended, until guard ends without an answer.
END_SECONDS = 3.0
# Puts in one transaction; each has two comparisons, and etcd takes 128.
ATTACHED_AT_ONCE = 50
# Of blobs that are kept to be put back.
COPY_BYTES = 256 << 20


def new_lease_id() -> int:
    """By chance, and even: nixl_md's leases that never end are odd."""
    return int.from_bytes(os.urandom(8), "big") >> 2 << 1 or 2


@dataclass(frozen=True)
class Copy:
    """A key that hangs on the lease, as it was when it was attached; None: too large to keep."""

    value: bytes | None
    revision: int


@dataclass
class Kept:
    """What is known of one agent."""

    copies: dict[bytes, Copy] = field(default_factory=dict)
    foreign: dict[bytes, int] = field(default_factory=dict)
    """Keys on other leases, with their revisions: not touched, reported once."""


class Chosen:
    """Which agents are guarded. Pure.

    A name is guarded whatever is there; of a pattern only agents whose presence key was put
    since the command was started: those before are other processes'."""

    def __init__(self, names: Sequence[str], since: int) -> None:
        self.since = since
        self.names = {os.fsencode(name) for name in names if not is_pattern(name)}
        self._patterns = [name for name in names if is_pattern(name)]

    @property
    def has_patterns(self) -> bool:
        return bool(self._patterns)

    def offer(self, name: bytes, presence: Key) -> None:
        """One that is there."""
        text = os.fsdecode(name)
        if presence.revision > self.since and any(fnmatchcase(text, p) for p in self._patterns):
            self.names.add(name)


def is_pattern(name: str) -> bool:
    return bool(set(name) & set("*?["))


class _Watch:
    """The library's watches of the agents, and of the namespace where there are patterns."""

    def __init__(self, settings: Settings, names: Sequence[str]) -> None:
        self._handle = observer(settings, is_quiet=True)
        self._poll = select.poll()
        self._poll.register(self._handle.fileno(), select.POLLIN)
        self._is_due = False
        self._followed: set[bytes] = set()
        if any(map(is_pattern, names)):
            self._handle.watch(None, self._on_event)
        for name in names:
            if not is_pattern(name):
                self.follow([os.fsencode(name)])

    def _on_event(self, event: Event) -> None:
        # All but SYNCED, CONTACT_LOST, RESYNC and the end.
        self._is_due |= event.agent != "" or event.type == EventType.CONTACT_REGAINED

    def follow(self, names: Iterable[bytes]) -> None:
        for name in names:
            if name not in self._followed:
                self._followed.add(name)
                self._handle.watch(name, self._on_event, blobs=True)

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Until there is something to look at, so long at most."""
        end = time.monotonic() + seconds
        while not self._is_due and not stop.is_set() and (left := end - time.monotonic()) > 0:
            self._poll.poll(min(left, 0.2) * 1000)
            self._handle.tick()
        self._is_due = False

    def close(self) -> None:
        self._handle.close()


class Keeper:
    """One thread renews the lease, another looks for keys. Each asks etcd by a gateway of its own,
    so that a slow answer to one does not hold up the other."""

    def __init__(
        self, settings: Settings, names: Sequence[str], ttl: int, tell: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._names = names
        self._ttl = ttl
        self._tell = tell
        self._namespace = Namespace(settings.namespace)
        self._chosen: Chosen | None = None
        self._kept: dict[bytes, Kept] = {}
        self._lease = 0
        # Agents whose keys a lost lease took and which are not all back.
        self._owed: set[bytes] = set()
        self._watch: _Watch | None = None
        self._stop = threading.Event()
        # Of the copies, and of which lease it is.
        self._lock = threading.RLock()
        self._threads: list[threading.Thread] = []
        self._trouble = ""

    # Life

    def prepare(self) -> None:
        """Before the command is started: the library, the lease, and the revision since when keys
        are new."""
        self._watch = _Watch(self._settings, self._names)
        with Gateway(self._settings) as gateway:
            self._begin(gateway)

    def close(self) -> None:
        """Of one that is not started."""
        if self._watch is not None:
            self._watch.close()

    def _begin(self, gateway: Gateway) -> None:
        if self._chosen is None:
            answer = gateway.range(self._namespace.root, keys_only=True)
            self._chosen = Chosen(self._names, int(answer["header"]["revision"]))
        self._grant(gateway)

    def start(self) -> None:
        for run in (self._renew_loop, self._look_loop):
            self._threads.append(threading.Thread(target=run, daemon=True))
            self._threads[-1].start()

    def end(self) -> None:
        """After the command: nothing is attached any more, and what is goes with the lease."""
        self._stop.set()
        deadline = time.monotonic() + END_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if not self._lease:
            return
        # One of them may still be waiting for an answer.
        if not self._lock.acquire(timeout=max(0.1, deadline - time.monotonic())):
            self._tell("the lease is not revoked: etcd does not answer; it ends by itself")
            return
        timeout = min(self._settings.timeout, END_SECONDS / len(self._settings.gateways))
        try:
            with Gateway(replace(self._settings, timeout=timeout)) as gateway:
                # What was put just before the end must not stay.
                try:
                    self._look(gateway)
                except EtcdError as refused:
                    self._tell(f"keys are not looked for: {refused.text}")
                gateway.revoke(self._lease)
        except EtcdError as refused:
            if "not found" not in refused.message:
                self._tell(f"the lease is not revoked: {refused.text}; it ends by itself")
        except Failure as failure:
            self._tell(f"the lease is not revoked: {failure.text}; it ends by itself")
        finally:
            self._lock.release()

    # The lease

    def _grant(self, gateway: Gateway) -> None:
        lease = new_lease_id()
        granted = gateway.grant(lease, self._ttl)
        if granted > self._ttl:
            self._tell(f"etcd grants a TTL of {granted} s, not of {self._ttl} s")
        self._lease = lease

    def _renew_loop(self) -> None:
        gateway = Gateway(self._settings)
        while not self._stop.wait(min(1.0, self._ttl / 6) if self._trouble else self._ttl / 3):
            try:
                with gateway:
                    self._renew(gateway)
                self._well()
            except Failure as failure:
                self._ill(f"the lease is not renewed: {failure.text}")
                gateway = Gateway(self._settings)

    def _renew(self, gateway: Gateway) -> None:
        if not self._lease:
            with self._lock:
                self._begin(gateway)
            return
        if gateway.keep_alive(self._lease, max(0.5, self._ttl / 6)) > 0:
            if self._owed:
                with self._lock:
                    self._put_back(gateway)
            return
        # Nobody may look meanwhile and take what the lost lease took for removed.
        with self._lock:
            self._tell("the lease is lost although the command lives; another is granted")
            self._grant(gateway)
            self._owed = set(self._kept)
            self._put_back(gateway)

    def _put_back(self, gateway: Gateway) -> None:
        """What the lost lease took, each key where nothing is in its place. An agent stays owed
        until that is done, whatever etcd does meanwhile."""
        for name in sorted(self._owed):
            if self._put_back_agent(gateway, name, self._kept[name]):
                self._owed.discard(name)

    def _put_back_agent(self, gateway: Gateway, name: bytes, kept: Kept) -> bool:
        """Whether it is done."""
        there = {key.key: key.lease for key in self._keys(gateway, name)}
        if any(there.get(key, 0) not in (0, self._lease) for key in kept.copies):
            self._tell(f"keys of {printable(name)} are on another lease: left as they are")
            kept.copies.clear()
            return True
        # The presence key is the least, so it goes first.
        keys = [
            (key, copy.value, self._lease)
            for key, copy in sorted(kept.copies.items())
            if copy.value is not None and key not in there
        ]
        for batch in batches(keys):
            revision = put_absent(gateway, batch)
            if not revision:
                return False
            for key, value, _ in batch:
                kept.copies[key] = Copy(value, revision)
        if keys:
            self._tell(f"put back {plural(len(keys), 'key')} of {printable(name)}")
        return True

    # The keys

    def _look_loop(self) -> None:
        """The library's watch says when; and now and then without it."""
        assert self._watch is not None
        watch = self._watch
        gateway = Gateway(self._settings)
        try:
            while not self._stop.is_set():
                try:
                    self._look(gateway)
                    watch.follow(self._kept)
                    watch.wait(LOOK_SECONDS, self._stop)
                except (Failure, NixlMDError) as failure:
                    words = failure.text if isinstance(failure, Failure) else str(failure)
                    self._ill(f"keys are not looked for: {words}")
                    gateway.close()
                    gateway = Gateway(self._settings)
                    self._stop.wait(1.0)
        finally:
            watch.close()
            gateway.close()

    def _look(self, gateway: Gateway) -> None:
        if self._chosen is None or not self._lease:
            return
        for name in self._agents(gateway):
            with self._lock:
                self._look_at(gateway, name)

    def _agents(self, gateway: Gateway) -> list[bytes]:
        assert self._chosen is not None
        if self._chosen.has_patterns:
            root = self._namespace.root
            # Only what was put since: etcd leaves the rest away.
            since = str(self._chosen.since + 1)
            answer = gateway.range(root, prefix_end(root), keys_only=True, min_mod_revision=since)
            for raw in answer.get("kvs", []):
                key = parse_key(raw, has_value=False)
                split = self._namespace.split(key.key)
                if split is not None and not split[1]:
                    self._chosen.offer(split[0], key)
        return sorted(self._chosen.names)

    def _look_at(self, gateway: Gateway, name: bytes) -> None:
        keys = self._keys(gateway, name)
        kept = self._kept.setdefault(name, Kept())
        if name not in self._owed:
            self._forget(gateway, kept, {key.key for key in keys})
        fresh = []
        for key in keys:
            copy = kept.copies.get(key.key)
            if copy is not None and copy.revision == key.revision:
                continue
            if kept.foreign.get(key.key) == key.revision:
                continue
            if key.lease not in (0, self._lease):
                self._tell_foreign(name, kept, key)
            else:
                fresh.append(key)
        for at in range(0, len(fresh), ATTACHED_AT_ONCE):
            self._attach(gateway, name, kept, fresh[at : at + ATTACHED_AT_ONCE])

    def _keys(self, gateway: Gateway, name: bytes) -> list[Key]:
        prefix = self._namespace.prefix(name)
        answer = gateway.range(prefix, prefix_end(prefix), keys_only=True, limit="10000")
        return [parse_key(raw, has_value=False) for raw in answer.get("kvs", [])]

    def _forget(self, gateway: Gateway, kept: Kept, there: set[bytes]) -> None:
        """Who has removed its own keys does not want them back; but where the lease is lost, it was
        the lease that took them."""
        missing = [key for key in kept.copies if key not in there]
        if missing and int(gateway.time_to_live(self._lease).get("TTL", 0)) > 0:
            for key in missing:
                del kept.copies[key]

    def _tell_foreign(self, name: bytes, kept: Kept, key: Key) -> None:
        if not kept.foreign:
            self._tell(
                f"a key of {printable(name)} hangs on another lease, {key.lease:x}: it is left "
                "alone until it is put again (an agent of nixl_md needs no guard)"
            )
        kept.foreign[key.key] = key.revision

    def _attach(self, gateway: Gateway, name: bytes, kept: Kept, keys: list[Key]) -> None:
        """Each put as it is, on the lease; only while all are as they were seen, on none. Their
        values come in the same answer, to be kept."""
        compares: list[Json] = []
        for key in keys:
            compares.append(same(key))
            compares.append(
                {"key": b64(key.key), "target": "LEASE", "result": "EQUAL", "lease": "0"}
            )
        puts: list[Json] = [
            {"request_put": {"key": b64(key.key), "ignore_value": True, "lease": str(self._lease)}}
            for key in keys
        ]
        answer = gateway.txn(compares, puts)
        if not answer.get("succeeded"):
            self._look_closer(gateway, name, kept, keys)
            return
        for key in keys:
            self._copy(gateway, kept, key.key)
        self._tell(f"{plural(len(keys), 'key')} of {printable(name)} on lease {self._lease:x}")

    def _look_closer(self, gateway: Gateway, name: bytes, kept: Kept, keys: list[Key]) -> None:
        """Not all are as they were seen. Those that hang on the lease already (an attachment was
        not answered, or etcd leaves leases out of keys-only answers) are kept; what has changed is
        attached alone, so that one that changes again and again does not hold up the others."""
        for each in keys:
            kvs = gateway.range(each.key, keys_only=False).get("kvs", [])
            if not kvs:
                continue
            key = parse_key(kvs[0], has_value=False)
            if key.lease == self._lease:
                self._keep(kept, key, kvs[0])
            elif key.lease:
                self._tell_foreign(name, kept, key)
            elif len(keys) > 1:
                self._attach(gateway, name, kept, [key])

    def _copy(self, gateway: Gateway, kept: Kept, key: bytes) -> None:
        kvs = gateway.range(key).get("kvs", [])
        if kvs and int(kvs[0].get("lease", 0)) == self._lease:
            self._keep(kept, parse_key(kvs[0], has_value=False), kvs[0])

    def _keep(self, kept: Kept, key: Key, raw: Json) -> None:
        value = unb64(raw.get("value", ""))
        kept.copies.pop(key.key, None)
        held = sum(
            len(copy.value or b"") for each in self._kept.values() for copy in each.copies.values()
        )
        if held + len(value) > COPY_BYTES:
            self._tell(f"no copy is kept of {len(value)} bytes: over {COPY_BYTES} in all")
        kept.copies[key.key] = Copy(
            value if held + len(value) <= COPY_BYTES else None, key.revision
        )

    # Messages

    def _ill(self, text: str) -> None:
        if text != self._trouble:
            self._trouble = text
            self._tell(text)

    def _well(self) -> None:
        if self._trouble:
            self._trouble = ""
            self._tell("etcd answers again")
