# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""What doctor asks of etcd itself: each member, and the cluster."""

from __future__ import annotations

import datetime
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nixl_md import NixlMDError, NotFound

from .certificate import first_of_pem, not_after
from .errors import CredentialsRefused, EtcdError, Failure, Unreachable, of_library
from .findings import Finding, fail, ok, warn
from .gateway import Gateway, Json, b64
from .observer import observer
from .render import amount, plural, readable
from .settings import Endpoint, Settings
from .store import parse_version

ROUNDS = 5
# A renewal must be answered within TTL/6, at least 0.25 s (docs/configuration.md).
SLOW_SECONDS = 0.25
CERTIFICATE_WARN_DAYS, CERTIFICATE_FAIL_DAYS = 30, 3
QUOTA_PART = 0.8
# In place of a leader, for a user who may not know.
UNTOLD = "untold"
# etcd's default, and what gRPC takes on top (server/etcdserver/api/v3rpc/grpc.go,
# grpcOverheadBytes).
DEFAULT_REQUEST_BYTES = 1536 * 1024
GRPC_OVERHEAD = 512 * 1024
_LIMIT = re.compile(r"larger than max \(\d+ vs\. (\d+)\)")
NO_LEADER = (
    "Start the members that are down: a cluster needs more than half of them. See 'etcdctl "
    "endpoint status --cluster', and etcd's log."
)
_UPGRADE = "Upgrade etcd to 3.5.28, 3.6.9 or later."


@dataclass
class Member:
    """What one endpoint answered."""

    endpoint: Endpoint
    status: Json
    round_trip: float

    @property
    def version(self) -> tuple[int, ...]:
        return parse_version(str(self.status.get("version", "")))

    @property
    def id(self) -> str:
        return str(self.status["header"].get("member_id", "0"))

    @property
    def cluster(self) -> str:
        return str(self.status["header"].get("cluster_id", "0"))

    @property
    def leader(self) -> str:
        return str(self.status.get("leader", "0"))


def guards_leases(version: tuple[int, ...]) -> bool:
    """Whether it asks what hangs on a lease before somebody renews it."""
    return version >= (3, 6, 9) or (3, 5, 28) <= version < (3, 6)


class EtcdChecks:
    """Runs them; keeps who answered, and why others did not."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.members: list[Member] = []
        self.failures: list[Failure] = []
        self.request_limit = DEFAULT_REQUEST_BYTES
        self._names: dict[str, str] = {}

    def endpoints(self) -> Iterator[Finding]:
        for endpoint in self._settings.gateways:
            yield from self._gateway(endpoint)
        for endpoint in self._settings.endpoints:
            yield from self._grpc(endpoint)
        if self._settings.cert is not None:
            yield from client_certificate(self._settings.cert)

    def _gateway(self, endpoint: Endpoint) -> Iterator[Finding]:
        settings = self._settings.only(self._settings.endpoints[0], endpoint)
        try:
            with Gateway(settings) as gateway:
                times = []
                for _ in range(ROUNDS):
                    started = time.monotonic()
                    header = self._look(gateway)
                    times.append(time.monotonic() - started)
                status = _status(gateway, header)
                certificate = gateway.peer_certificate
        except Failure as failure:
            self.failures.append(failure)
            if isinstance(failure, Unreachable) and _lacks_leader(settings):
                yield fail("leader", f"{endpoint}: etcd runs there and knows no leader", NO_LEADER)
            else:
                yield fail("endpoint", failure.text, failure.remedy or "Is etcd running there?")
            return
        member = Member(endpoint, status, statistics.median(times))
        self.members.append(member)
        version = readable(str(status.get("version", "?")))
        role = ", leader" if member.leader == member.id else ", follower"
        role = "" if member.leader == UNTOLD else role
        text = f"{endpoint}: etcd {version}{role}, {member.round_trip * 1000:.1f} ms"
        if member.round_trip > SLOW_SECONDS:
            yield warn(
                "round-trip",
                f"{text}: renewals of short leases will be late",
                "Look at etcd's disk and load, and the network between; or take longer TTLs.",
            )
        else:
            yield ok("endpoint", text)
        if certificate is not None:
            yield expiry(f"{endpoint}: its certificate", not_after(certificate))

    def _look(self, gateway: Gateway) -> Json:
        """A linearizable read within the namespace: shows that there is a leader, and the role."""
        header: Json = gateway.range(self._settings.namespace + b"/", keys_only=True)["header"]
        return header

    def _grpc(self, endpoint: Endpoint) -> Iterator[Finding]:
        """As agents reach it."""
        handle = None
        try:
            handle = observer(self._settings.only(endpoint), is_quiet=True)
            timeout = self._settings.timeout
            handle.fetch(b"nobody", wait=False, timeout=timeout).wait(timeout + 1)
        except NotFound:
            yield ok("grpc", f"{endpoint}: libnixl_md reaches it")
        except NixlMDError as error:
            failure = of_library(error)
            self.failures.append(failure)
            yield fail("grpc", f"{endpoint}: libnixl_md: {error}", failure.remedy)
        finally:
            if handle is not None:
                handle.close()

    # The cluster

    def cluster(self, gateway: Gateway) -> Iterator[Finding]:
        yield from self._identity()
        yield from self._versions(gateway)
        yield from self._membership(gateway)
        yield from self._alarms(gateway)
        yield from self._quota(gateway)
        yield from self._requests(gateway)

    def _identity(self) -> Iterator[Finding]:
        clusters = {member.cluster for member in self.members}
        if len(clusters) > 1:
            listed = ", ".join(f"{each.endpoint} {int(each.cluster):x}" for each in self.members)
            yield fail(
                "cluster",
                f"the endpoints belong to {len(clusters)} clusters: {listed}",
                "Name the members of one cluster: agents of two never meet.",
            )
        if any(member.leader == "0" for member in self.members):
            yield fail("leader", "a member knows no leader", NO_LEADER)

    def _versions(self, gateway: Gateway) -> Iterator[Finding]:
        versions = {
            readable(str(member.status.get("version"))): member.version for member in self.members
        }
        if len(versions) > 1:
            yield warn(
                "version",
                f"members run different versions: {', '.join(sorted(versions))}",
                "Finish the upgrade: what one version does not have, the cluster does not.",
            )
        has_users = _has_users(gateway)
        old = sorted(text for text, version in versions.items() if not guards_leases(version))
        if has_users and old:
            yield warn(
                "lease-guard",
                f"etcd {', '.join(old)} lets anybody who reaches it renew any lease, whatever "
                "the roles say",
                _UPGRADE,
            )
        elif has_users:
            yield ok("auth", "etcd has users, and guards leases by roles")
        else:
            yield ok("auth", "etcd has no users: who reaches it may do anything")

    def _membership(self, gateway: Gateway) -> Iterator[Finding]:
        try:
            members = gateway.call("/v3/cluster/member/list", {}).get("members", [])
        except CredentialsRefused:
            yield ok("members", "this user may not list the members")
            return
        self._names = {str(m["ID"]): readable(str(m.get("name", ""))) for m in members}
        known = {member.id for member in self.members}
        unasked = [name or "(not started)" for x, name in self._names.items() if x not in known]
        if len(members) > 1 and unasked:
            yield warn(
                "members",
                f"{plural(len(unasked), 'member')} of {len(members)} cannot be reached by these "
                f"endpoints: {', '.join(unasked)}",
                "Name all members in NIXL_ETCD_ENDPOINTS: agents go to the next when one dies.",
            )
        else:
            yield ok("members", f"{plural(len(members), 'member')}, all are among the endpoints")

    def _alarms(self, gateway: Gateway) -> Iterator[Finding]:
        try:
            alarms = gateway.alarms()
        except CredentialsRefused:
            yield ok("alarms", "this user may not see alarms")
            return
        kinds = {str(alarm.get("alarm")) for alarm in alarms}
        if "NOSPACE" in kinds:
            yield fail(
                "alarm-nospace",
                "etcd's database is full: no agent can publish",
                "etcdctl compact, etcdctl defrag, then etcdctl alarm disarm; or a larger "
                "--quota-backend-bytes.",
            )
        if "CORRUPT" in kinds:
            which = ", ".join(self._others_data()) or "which one its members' logs say ('corrupt')"
            yield fail(
                "alarm-corrupt",
                f"the data of a member differ from the others': {which}. etcd refuses every "
                "change: no agent can publish, and those that die stay",
                "Replace that member (etcdctl member remove, member add with an empty data "
                "directory), then etcdctl alarm disarm.",
            )
        if not kinds:
            yield ok("alarms", "no alarm")

    def _others_data(self) -> list[str]:
        """Members whose data are not those of the most: etcd's alarm has 0 for the member."""
        revision = min(int(member.status["header"]["revision"]) for member in self.members)
        hashes: dict[str, tuple[int, int]] = {}
        for member in self.members:
            settings = self._settings.only(self._settings.endpoints[0], member.endpoint)
            try:
                with Gateway(settings) as gateway:
                    answer = gateway.call("/v3/maintenance/hash", {"revision": str(revision)})
            except Failure:
                continue
            found = int(answer.get("hash", 0)), int(answer.get("compact_revision", 0))
            hashes[f"{self._names.get(member.id, '?')} at {member.endpoint}"] = found
        (common, count), *_ = Counter(hashes.values()).most_common(1) or [((0, 0), 0)]
        if count * 2 <= len(hashes):
            return []
        return [name for name, found in hashes.items() if found != common]

    def _quota(self, gateway: Gateway) -> Iterator[Finding]:
        metrics = _metrics(gateway)
        quota = metrics.get("etcd_server_quota_backend_bytes", 0.0)
        size = metrics.get("etcd_mvcc_db_total_size_in_bytes", 0.0)
        if quota <= 0 or size <= 0:
            return
        text = f"its database has {amount(int(size))} bytes of {amount(int(quota))}"
        if size > quota * QUOTA_PART:
            yield warn(
                "quota",
                f"{text}: when it is full, no agent can publish",
                "Compact and defragment, or raise --quota-backend-bytes.",
            )
        else:
            yield ok("quota", text)

    def _requests(self, gateway: Gateway) -> Iterator[Finding]:
        """A key that is too large to be received: the refusal has the limit, and nothing is
        written."""
        too_much = DEFAULT_REQUEST_BYTES + GRPC_OVERHEAD + 4096
        try:
            gateway.call("/v3/kv/range", {"key": b64(b"\0" * too_much), "keys_only": True})
        except EtcdError as refused:
            match = _LIMIT.search(refused.message)
            if match is not None:
                self.request_limit = int(match[1]) - GRPC_OVERHEAD
        except Failure:
            # A proxy before it may have a limit of its own.
            yield ok("request-limit", "not known: so large a question is not let through")
            return
        else:
            self.request_limit = too_much - GRPC_OVERHEAD
        if self.request_limit < DEFAULT_REQUEST_BYTES:
            yield warn(
                "request-limit",
                f"etcd takes requests of {amount(self.request_limit)} bytes at most, less than "
                "its default",
                "Raise --max-request-bytes: larger blobs are refused.",
            )
        else:
            yield ok("request-limit", f"requests of {amount(self.request_limit)} bytes or more")


def _status(gateway: Gateway, header: Json) -> Json:
    """What a member says of itself; etcd 3.5.30 says it to root alone."""
    try:
        return gateway.status()
    except CredentialsRefused:
        return {"header": header, "version": gateway.version(), "leader": UNTOLD}


def _lacks_leader(settings: Settings) -> bool:
    """Whether what does not answer a read is a member that has lost its leader: what it says of
    itself it says without one."""
    try:
        with Gateway(settings) as gateway:
            return int(gateway.status().get("leader", 0)) == 0
    except Failure:
        return False


def _has_users(gateway: Gateway) -> bool:
    """By a failing login: 3.4 has no call for the state of authentication."""
    try:
        gateway.call("/v3/auth/authenticate", {"name": "", "password": ""})
    except CredentialsRefused as refused:
        return "not enabled" not in refused.text
    except EtcdError:
        return True
    return True


def _metrics(gateway: Gateway) -> dict[str, float]:
    """Those without labels; etcd may serve them elsewhere."""
    text = gateway.get("/metrics").decode("utf-8", "replace")
    found = re.findall(r"^(etcd_\w+) ([-+.\de]+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def expiry(what: str, until: datetime.datetime | None) -> Finding:
    if until is None:
        return ok("certificate", f"{what} does not say until when it is valid")
    days = (until - datetime.datetime.now(datetime.timezone.utc)).total_seconds() / 86400
    text = f"{what} is valid until {until:%Y-%m-%d %H:%M} UTC"
    if days < 0:
        return fail("certificate", f"{text}: it has expired", "Renew it now.")
    if days < CERTIFICATE_FAIL_DAYS:
        return fail("certificate", f"{text}, {days * 24:.0f} hours", "Renew it now.")
    if days < CERTIFICATE_WARN_DAYS:
        return warn("certificate", f"{text}, {days:.0f} days", "Renew it.")
    return ok("certificate", text)


def client_certificate(path: str) -> Iterator[Finding]:
    try:
        der = first_of_pem(Path(path).read_text())
    except (OSError, ValueError):
        return
    if der is not None:
        yield expiry(f"the client certificate {path}", not_after(der))
