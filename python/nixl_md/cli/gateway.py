# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""etcd's JSON gateway (etcd documentation, 'gRPC gateway'): what the library's C interface does not
have, leases and guarded transactions of other people's keys."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Sequence
from typing import Any, cast

from .errors import (
    CredentialsRefused,
    EtcdError,
    Failure,
    NoGateway,
    NoSpace,
    Unanswered,
    Unreachable,
    Usage,
)
from .probe import listens
from .render import readable
from .settings import Endpoint, Settings

Json = dict[str, Any]

# google.rpc.Code
_INVALID_ARGUMENT, _DEADLINE, _DENIED, _PRECONDITION, _UNAVAILABLE, _UNAUTHENTICATED = (
    *(3, 4, 7, 9, 14, 16),
)
# What etcd says by other codes (etcd api/v3rpc/rpctypes/error.go).
_CREDENTIALS = (
    "user name is empty",
    "authentication failed",
    "invalid auth token",
    "revision of auth store is old",
    "authentication is not enabled",
)
_EXPIRED_TOKEN = ("invalid auth token", "revision of auth store is old")
ALARM = "/v3/maintenance/alarm"
# Of a server's words, so many are shown.
MAX_WORDS = 300
_WANTS_CERTIFICATE = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def unb64(text: str) -> bytes:
    return base64.b64decode(text)


def prefix_end(prefix: bytes) -> bytes:
    """The least key greater than every key with this prefix (etcd's range_end of a prefix)."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else b"\0"


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Of the files that were given; errors name the file."""
    try:
        context = ssl.create_default_context(cafile=settings.cacert)
    except (ssl.SSLError, OSError) as error:
        raise Usage(
            f"--cacert: {settings.cacert} is no PEM file of certificates: {error}"
        ) from error
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.cert is not None:
        try:
            context.load_cert_chain(settings.cert, settings.key)
        except (ssl.SSLError, OSError) as error:
            raise Usage(
                f"--cert {settings.cert} and --key {settings.key} are no pair of PEM files: {error}"
            ) from error
    context.set_alpn_protocols(["http/1.1"])
    return context


class _NamedConnection(http.client.HTTPSConnection):
    """Verifies another name than the endpoint's host."""

    def __init__(self, endpoint: Endpoint, context: ssl.SSLContext, settings: Settings) -> None:
        super().__init__(endpoint.host, endpoint.port, timeout=settings.timeout, context=context)
        self._named_context = context
        self._named = settings.server_name or endpoint.host

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        assert self.sock is not None
        self.sock = self._named_context.wrap_socket(self.sock, server_hostname=self._named)


def connection_failure(endpoint: Endpoint, error: Exception) -> Failure:
    """Why a member could not be asked."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unreachable(
            f"{endpoint}: its certificate cannot be verified: {error.verify_message}",
            "--cacert names the authority that signed it, --server-name the name that it is for.",
        )
    if isinstance(error, ssl.SSLError):
        reason = error.reason or str(error)
        if any(word in reason for word in _WANTS_CERTIFICATE):
            return CredentialsRefused(
                f"{endpoint}: it refuses this client's certificate, or the want of one: {reason}",
                "--cert and --key name a client certificate that etcd's authority has signed.",
            )
        return Unreachable(f"{endpoint}: no TLS there: {reason}", "Is it http:// and not https://?")
    if isinstance(error, (http.client.BadStatusLine, UnicodeDecodeError)) and not isinstance(
        error, http.client.RemoteDisconnected
    ):
        return no_gateway(endpoint, "what answers there is not HTTP/1.1")
    if isinstance(error, TimeoutError):
        return Unreachable(f"{endpoint}: no answer in time")
    if isinstance(error, (ConnectionResetError, BrokenPipeError)):
        closed = _closed(endpoint)
        if closed is not None:
            return closed
    words = error.strerror if isinstance(error, OSError) else None
    return Unreachable(f"{endpoint}: {words or error or type(error).__name__}")


def _closed(endpoint: Endpoint) -> Failure | None:
    """Why a member that accepts connections closes them: etcd 3.5 does not say it in words."""
    what = listens(endpoint)
    if what == "tls" and not endpoint.tls:
        return Unreachable(f"{endpoint}: it speaks TLS", "Write https:// before the host.")
    if what in ("http", "grpc") and endpoint.tls:
        return Unreachable(f"{endpoint}: no TLS there", "Is it http:// and not https://?")
    if what in ("grpc", "tls"):
        return no_gateway(endpoint, "it serves gRPC alone")
    return None


def no_gateway(endpoint: Endpoint, what: str) -> NoGateway:
    return NoGateway(
        f"{endpoint}: this is not etcd's JSON gateway: {what}",
        "It may be switched off (--enable-grpc-gateway=false), on another port "
        "(--listen-client-http-urls) or hidden by a proxy: --gateway names where it is.",
    )


def _safe(text: str) -> str:
    """A server's words, as they may be shown on a terminal."""
    return readable(text[:MAX_WORDS])


def refusal(endpoint: Endpoint, status: int, text: bytes) -> Failure:
    """What an answer other than 200 means."""
    try:
        answer = json.loads(text)
        message = _safe(str(answer.get("message") or answer["error"]))
        code = int(answer["code"])
    except (ValueError, KeyError, AttributeError, TypeError):
        words = _safe(text.decode(errors="replace").strip().split("\n")[0])
        if "HTTP request to an HTTPS server" in words:
            return Unreachable(f"{endpoint}: it speaks TLS", "Write https:// before the host.")
        if status in (502, 503, 504):
            return Unreachable(f"{endpoint}: a proxy answers {status}: {words}")
        return no_gateway(endpoint, f"it answers {status} {words}")
    message = message.replace("etcdserver: ", "")
    if code in (_DENIED, _UNAUTHENTICATED) or any(word in message for word in _CREDENTIALS):
        return CredentialsRefused(
            f"{endpoint}: etcd refused the credentials: {message}", _remedy(message)
        )
    if code in (_UNAVAILABLE, _DEADLINE):
        return Unreachable(
            f"{endpoint}: etcd answers and cannot serve: {message}",
            "See its log and 'etcdctl endpoint status': it may have lost its leader.",
        )
    if "database space exceeded" in message:
        return NoSpace(code, message)
    if "corrupt cluster" in message:
        return Failure(
            f"{endpoint}: etcd refuses every change: it has found that its members' data differ",
            "'nixl-md doctor' names the member: replace it, then 'etcdctl alarm disarm'.",
        )
    return EtcdError(code, message)


def is_expired(failure: Failure) -> bool:
    """Whether another token is all that is wanted."""
    is_refusal = isinstance(failure, CredentialsRefused)
    return is_refusal and any(word in failure.text for word in _EXPIRED_TOKEN)


def _remedy(message: str) -> str:
    if "user name is empty" in message:
        return "It wants a user: --user, and the password in NIXL_ETCD_PASSWORD."
    if "not enabled" in message:
        return "It has no users: leave --user, NIXL_ETCD_USER and ETCDCTL_USER away."
    if "permission denied" in message:
        return "The role of this user does not reach these keys: etcdctl role grant-permission."
    return "Check --user and the password (NIXL_ETCD_PASSWORD, ETCDCTL_PASSWORD)."


class Gateway:
    """Asks the members in turn until one answers, and stays with that one. For one thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._context = tls_context(settings) if settings.gateways[0].tls else None
        self._order: list[Endpoint] = list(settings.gateways)
        self._connection: http.client.HTTPConnection | None = None
        self._token: str | None = None

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def endpoint(self) -> Endpoint:
        """The member that is asked now."""
        return self._order[0]

    @property
    def peer_certificate(self) -> bytes | None:
        """DER, of the member that was asked last."""
        sock = None if self._connection is None else self._connection.sock
        return sock.getpeercert(True) if isinstance(sock, ssl.SSLSocket) else None

    def connected(self) -> http.client.HTTPConnection:
        """A new connection to the member; raises Unreachable and the like."""
        endpoint = self.endpoint
        if self._context is not None:
            connection: http.client.HTTPConnection = _NamedConnection(
                endpoint, self._context, self.settings
            )
        else:
            connection = http.client.HTTPConnection(
                endpoint.host, endpoint.port, timeout=self.settings.timeout
            )
        try:
            connection.connect()
        except OSError as error:
            raise connection_failure(endpoint, error) from error
        return connection

    def headers(self) -> dict[str, str]:
        """With a token, which is fetched where a user is given."""
        headers = {"Content-Type": "application/json"}
        if self.settings.user is not None:
            if self._token is None:
                body = {"name": self.settings.user, "password": self.settings.password}
                answer = self._exchange("/v3/auth/authenticate", body, {}, None)
                self._token = str(answer.get("token", ""))
            headers["Authorization"] = self._token
        return headers

    def call(
        self, path: str, body: Json, *, write: bool = False, timeout: float | None = None
    ) -> Json:
        """One request. A read is sent to the next member where one does not answer; a write only
        while it has not been sent, else it raises Unanswered."""
        failures: list[Failure] = []
        for _ in range(len(self._order)):
            try:
                return self._authorized(path, body, write, timeout)
            except Unanswered:
                raise
            except (Unreachable, NoGateway) as failure:
                failures.append(failure)
                self.close()
                self._order.append(self._order.pop(0))
                self._token = None
        raise _of_all(failures)

    def _authorized(self, path: str, body: Json, write: bool, timeout: float | None) -> Json:
        if write:
            # One that has been idle may be closed by the member just as it is used.
            self.close()
        try:
            return self._exchange(path, body, self.headers(), timeout, write)
        except CredentialsRefused as refused:
            if self._token is None or not is_expired(refused):
                raise
            self._token = None
            return self._exchange(path, body, self.headers(), timeout, write)

    def _exchange(
        self,
        path: str,
        body: Json,
        headers: dict[str, str],
        timeout: float | None,
        write: bool = False,
    ) -> Json:
        is_new = self._connection is None
        if self._connection is None:
            self._connection = self.connected()
        connection = self._connection
        if connection.sock is not None:
            connection.sock.settimeout(timeout or self.settings.timeout)
        try:
            connection.request("POST", path, json.dumps(body).encode(), headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
            self.close()
            if not is_new and not write and not isinstance(error, TimeoutError):
                return self._exchange(path, body, headers, timeout)
            failure = connection_failure(self.endpoint, error)
            if write and type(failure) is Unreachable:
                raise Unanswered(failure.text, "It may have been done: look again.") from error
            raise failure from error
        if response.status != 200:
            raise refusal(self.endpoint, response.status, text)
        return self._parsed(path, text)

    def _parsed(self, path: str, text: bytes) -> Json:
        try:
            answer = json.loads(text)
        except ValueError as error:
            raise no_gateway(self.endpoint, "its answer is not JSON") from error
        if not isinstance(answer, dict):
            raise no_gateway(self.endpoint, "its answer is not etcd's")
        # The gateway reports a stream's failure within an answer 200.
        if isinstance(answer.get("error"), dict):
            raise refusal(self.endpoint, 0, json.dumps(answer["error"]).encode())
        # Each of etcd's answers but that about alarms has a header, those of a stream in `result`.
        result = answer.get("result", answer)
        header = result.get("header") if isinstance(result, dict) else None
        if not isinstance(header, dict) and path != ALARM:
            raise no_gateway(self.endpoint, "its answer is not etcd's")
        return answer

    # What commands ask

    def range(self, key: bytes, end: bytes | None = None, **options: object) -> Json:
        body: Json = {"key": b64(key), **options}
        if end is not None:
            body["range_end"] = b64(end)
        return self.call("/v3/kv/range", body)

    def txn(
        self, compare: Sequence[Json], success: Sequence[Json], failure: Sequence[Json] = ()
    ) -> Json:
        body = {"compare": list(compare), "success": list(success), "failure": list(failure)}
        return self.call("/v3/kv/txn", body, write=True)

    def alarms(self) -> list[Json]:
        alarms: list[Json] = self.call(ALARM, {"action": "GET"}).get("alarms", [])
        return alarms

    def status(self) -> Json:
        return self.call("/v3/maintenance/status", {})

    def version(self) -> str:
        """Of the member, "" if it does not say. etcd 3.5.30 shows the status to root only, and
        serves /version to everybody."""
        try:
            return str(self.status().get("version", ""))
        except CredentialsRefused:
            try:
                return str(json.loads(self.get("/version")).get("etcdserver", ""))
            except (ValueError, AttributeError):
                return ""

    def get(self, path: str) -> bytes:
        """A plain GET, on a connection of its own; empty if it is not there."""
        connection = self.connected()
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            text = response.read()
            return text if response.status == 200 else b""
        except (OSError, http.client.HTTPException, UnicodeDecodeError):
            return b""
        finally:
            connection.close()

    def leases(self) -> list[int]:
        answer = self.call("/v3/lease/leases", {})
        return [int(lease["ID"]) for lease in answer.get("leases", [])]

    def time_to_live(self, lease: int, keys: bool = False) -> Json:
        return self.call("/v3/lease/timetolive", {"ID": str(lease), "keys": keys})

    def grant(self, lease: int, ttl: int) -> int:
        """The TTL as granted."""
        body = {"ID": str(lease), "TTL": str(ttl)}
        return int(self.call("/v3/lease/grant", body, write=True)["TTL"])

    def revoke(self, lease: int) -> None:
        self.call("/v3/lease/revoke", {"ID": str(lease)}, write=True)

    def keep_alive(self, lease: int, timeout: float) -> int:
        """Seconds that it has now; 0: there is no such lease."""
        answer = self.call("/v3/lease/keepalive", {"ID": str(lease)}, timeout=timeout)
        return int(cast(Json, answer.get("result", {})).get("TTL", 0))


def _of_all(failures: list[Failure]) -> Failure:
    """One failure of several members'."""
    if len(failures) == 1:
        failure = failures[0]
        if type(failure) is Unreachable and not failure.remedy:
            failure.remedy = "Check --endpoints (NIXL_ETCD_ENDPOINTS), and whether etcd runs."
        return failure
    gateways = [failure for failure in failures if isinstance(failure, NoGateway)]
    if gateways:
        return gateways[0]
    reasons = "".join(f"\n  {failure.text}" for failure in failures)
    remedies = dict.fromkeys(failure.remedy for failure in failures if failure.remedy)
    return Unreachable(
        f"none of {len(failures)} endpoints answers:{reasons}",
        " ".join(remedies) or "Check --endpoints (NIXL_ETCD_ENDPOINTS), and whether etcd runs.",
    )
