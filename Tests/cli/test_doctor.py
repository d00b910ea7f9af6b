# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""`nixl-md doctor`: silent where all is well; finds each planted fault, and only that."""

from __future__ import annotations

import contextlib
import datetime
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certificates import Authority
from cluster import Cluster
from conftest import EtcdFactory, Plants, Tool, ToolFactory
from etcd_server import Etcd, Place
from gateway import Gateway, GatewayError
from gateway_proxy import LeaselessGateway
from proxy import Proxy
from screen import Screen

NAMESPACE = b"/d/"
LONG = 250
# The TTL of a lease that is not renewed any more: a third of it is left for a busy machine to look.
LATE = 120


def is_guarding(version: str) -> bool:
    """Whether this etcd asks what hangs on a lease that somebody renews."""
    return version == "sid"


def problems(tool: Tool, *arguments: str) -> dict[str, dict[str, str]]:
    """The problems, by check. Each has a remedy, and the exit status fits."""
    answer = tool("doctor", "--json", *arguments, status=None)
    found = {each["check"]: each for each in answer.json["findings"] if each["level"] != "OK"}
    assert answer.status == (1 if found else 0), answer
    assert all(each["remedy"] for each in found.values()), found
    return found


class Renewed:
    """Renews leases as heartbeats do, however long a test takes on a busy machine."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._leases: list[int] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, lease: int) -> int:
        self._leases.append(lease)
        return lease

    def stop(self, lease: int) -> None:
        self._leases.remove(lease)

    def _run(self) -> None:
        while not self._ended.wait(0.5):
            for lease in list(self._leases):
                with contextlib.suppress(GatewayError, OSError):
                    self._gateway.call("/v3/lease/keepalive", {"ID": str(lease)})

    def close(self) -> None:
        self._ended.set()
        self._thread.join()


def healthy(plants: Plants) -> None:
    """Three agents as they should be."""
    lease = plants.lease(LONG)
    for number in range(3):
        plants.agent(f"agent{number}", lease)


@pytest.fixture
def doctored(own_etcd: EtcdFactory, tool_for: ToolFactory, version: str) -> tuple[Tool, Plants]:
    etcd = own_etcd(version)
    plants = Plants(etcd.gateway, NAMESPACE)
    healthy(plants)
    return tool_for(etcd, NAMESPACE), plants


@pytest.fixture
def renewed(doctored: tuple[Tool, Plants]) -> Iterator[Renewed]:
    """The leases of the healthy agents too."""
    _, plants = doctored
    renewing = Renewed(plants.gateway)
    renewing.add(plants.gateway.range(plants.key("agent0"))[0].lease)
    yield renewing
    renewing.close()


def test_healthy_isSilent(doctored: tuple[Tool, Plants]) -> None:
    tool, _ = doctored
    quiet = tool("doctor", "-q")
    assert quiet.out == quiet.err == ""
    loud = tool("doctor")
    assert all(line.startswith("OK  ") for line in loud.lines[:-1]), loud
    assert loud.lines[-1].endswith("OK, 0 WARN, 0 FAIL")


def test_faultyAgents_areFound(doctored: tuple[Tool, Plants], renewed: Renewed) -> None:
    """One after the other, on one etcd: each is found when it is there and not before."""
    tool, plants = doctored
    seen: set[str] = set()

    def expect(check: str, word: str) -> None:
        found = problems(tool)
        assert set(found) - seen == {check}, found
        assert word in found[check]["text"], found[check]
        seen.add(check)

    plants.agent("stock")
    expect("permanent", "stock")
    plants.agent("quiet", plants.never_ending())
    expect("never-ending", "quiet")
    plants.orphan("left")
    expect("orphan", "left")
    plants.mixed("half", renewed.add(plants.lease(LONG)))
    expect("mixed", "half")
    plants.agent("long", renewed.add(plants.lease(3600)))
    expect("ttl-long", "long")
    plants.gateway.put(plants.key("agent0", "part"), b"", renewed.add(plants.lease(LONG)))
    expect("empty-value", "agent0")
    Plants(plants.gateway, b"/d").agent("theirs")
    expect("spelling", "under /d,")


def test_shortTtl_isFound(doctored: tuple[Tool, Plants], renewed: Renewed) -> None:
    """Renewed all the time; a busy machine may keep it from that, and then it is late as well."""
    tool, plants = doctored
    while True:
        plants.agent("short", renewed.add(plants.lease(4)))
        found = problems(tool)
        if plants.gateway.get(plants.key("short")) is not None and "ttl-short" in found:
            break
    assert set(found) - {"late"} == {"ttl-short"} and "short" in found["ttl-short"]["text"]


def test_lateRenewal_isFound(doctored: tuple[Tool, Plants], renewed: Renewed) -> None:
    """Nobody renews it: after two thirds of its TTL that shows."""
    tool, plants = doctored
    lease = renewed.add(plants.lease(LATE))
    plants.agent("stopped", lease)
    assert "late" not in problems(tool)
    renewed.stop(lease)
    while int(plants.gateway.call("/v3/lease/timetolive", {"ID": str(lease)})["TTL"]) * 3 > LATE:
        time.sleep(1)
    time.sleep(1)
    found = problems(tool)
    assert set(found) == {"late"} and "stopped" in found["late"]["text"]


def test_emptyLeases(doctored: tuple[Tool, Plants]) -> None:
    """Leases that are a minute old: an agent may be about to use a younger one. A lease with keys
    of another namespace is no stray."""
    tool, plants = doctored
    Plants(plants.gateway, b"/elsewhere/").agent("other", plants.never_ending())
    lease = plants.never_ending()
    assert problems(tool) == {}
    time.sleep(62)
    found = problems(tool)
    assert set(found) == {"empty-leases"} and f"{lease:x}" in found["empty-leases"]["text"]


def test_wrongNamespace_isFound(doctored: tuple[Tool, Plants]) -> None:
    tool, _ = doctored
    found = problems(tool, "--namespace", "/wrong/")
    assert set(found) == {"namespace"} and "/d/" in found["namespace"]["remedy"]


def test_endpointDown_isFound(doctored: tuple[Tool, Plants]) -> None:
    tool, _ = doctored
    both = "127.0.0.1:1," + tool.environment["NIXL_ETCD_ENDPOINTS"]
    found = problems(tool, "--endpoints", both)
    assert set(found) == {"endpoint", "grpc"} and "127.0.0.1:1" in found["endpoint"]["text"]


def test_endpointsOfTwoClusters_areFound(
    doctored: tuple[Tool, Plants], own_etcd: EtcdFactory, version: str
) -> None:
    tool, _ = doctored
    other = own_etcd(version)
    both = tool.environment["NIXL_ETCD_ENDPOINTS"] + "," + other.own_endpoint
    assert "cluster" in problems(tool, "--endpoints", both)


def test_slowRoundTrips_areFound(doctored: tuple[Tool, Plants]) -> None:
    tool, plants = doctored
    proxy = Proxy(plants.gateway._port, delay=lambda: 0.2)
    try:
        assert set(problems(tool, "--endpoints", proxy.endpoint)) == {"round-trip"}
    finally:
        proxy.close()


def test_blobNearTheRequestLimit_isFound(
    own_etcd: EtcdFactory, tool_for: ToolFactory, version: str
) -> None:
    etcd = own_etcd(version, "--max-request-bytes", "100000")
    plants = Plants(etcd.gateway, NAMESPACE)
    plants.agent("large", plants.lease(LONG), b"x" * 90_000)
    found = problems(tool_for(etcd, NAMESPACE))
    assert set(found) == {"request-limit", "large-value"}
    assert "large" in found["large-value"]["text"]


def test_databaseFull_isFound(own_etcd: EtcdFactory, tool_for: ToolFactory, version: str) -> None:
    """First nearly, then with the alarm."""
    etcd = own_etcd(version, "--quota-backend-bytes", str(4 << 20))
    plants = Plants(etcd.gateway, NAMESPACE)
    healthy(plants)
    tool = tool_for(etcd, NAMESPACE)
    assert problems(tool) == {}
    for number in range(40):
        try:
            etcd.gateway.put(f"/fill/{number}".encode(), os.urandom(400_000))
        except Exception as refused:
            assert "database space exceeded" in str(refused)
            break
    deadline = time.monotonic() + 60
    while "alarm-nospace" not in (found := problems(tool)):
        assert time.monotonic() < deadline, found
    assert set(found) == {"alarm-nospace", "quota"}


def test_memberDown_isFound(tool_for: ToolFactory, version: str) -> None:
    cluster = Cluster(version, [Place()] * 3)
    try:
        cluster.start()
        healthy(Plants(cluster.members[0].gateway, NAMESPACE))
        tool = tool_for(cluster.members[0], NAMESPACE)
        found = problems(tool)
        assert set(found) == {"members"} and "2 members of 3" in found["members"]["text"]
        every = ",".join(member.own_endpoint for member in cluster.members)
        assert problems(tool, "--endpoints", every) == {}
    finally:
        cluster.close()


def every(cluster: Cluster) -> tuple[str, str]:
    return "--endpoints", ",".join(member.own_endpoint for member in cluster.members)


def eventually_only(check: str, look: Callable[[], dict[str, dict[str, str]]]) -> dict[str, str]:
    """The findings while nothing else is wrong."""
    deadline = time.monotonic() + 120
    while set(found := look()) != {check}:
        assert time.monotonic() < deadline, found
    return found[check]


def test_noLeader_isFound(tool_for: ToolFactory, version: str) -> None:
    """Two of three are killed: the third runs, and cannot serve."""
    cluster = Cluster(version, [Place()] * 3)
    try:
        cluster.start()
        left = cluster.members[0]
        healthy(Plants(left.gateway, NAMESPACE))
        tool = tool_for(left, NAMESPACE)
        cluster.members[1].kill()
        cluster.members[2].kill()
        while int(left.status().get("leader", 0)):
            time.sleep(0.1)
        answer = tool("doctor", "--json", *every(cluster), "--timeout", "10", status=3)
        found = [x for x in answer.json["findings"] if x["level"] == "FAIL"]
        texts = {x["text"] for x in found if x["check"] == "leader"}
        assert texts == {f"{left.own_endpoint}: etcd runs there and knows no leader"}
        down = [x["text"] for x in found if x["check"] == "endpoint"]
        assert len(down) == 2 and not any(left.own_endpoint in text for text in down)
        assert all(x["remedy"] for x in found)
        # The restarted members complete the cluster.
        cluster.members[1].start()
        cluster.members[2].start()
        cluster.wait_healthy()
        assert problems(tool, *every(cluster)) == {}
    finally:
        cluster.close()


# An upgrade that has stopped half-way: the version before and after, and of how many members.
HALF_WAY = {"3.4": ("3.4", "3.5", 1), "3.5": ("3.4", "3.5", 2)}


def test_mixedVersions_areFound(tool_for: ToolFactory, version: str) -> None:
    before, after, count = HALF_WAY.get(version, ("3.5", version, 2))
    cluster = Cluster(before, [Place()] * 3)
    try:
        cluster.start()
        healthy(Plants(cluster.members[0].gateway, NAMESPACE))
        tool = tool_for(cluster.members[0], NAMESPACE)
        assert problems(tool, *every(cluster)) == {}
        for member in cluster.members[:count]:
            member.terminate()
            member.version = after
            member.start()
            cluster.wait_healthy()
        found = problems(tool, *every(cluster))
        assert set(found) == {"version"}
        versions = {member.status()["version"] for member in cluster.members}
        assert len(versions) == 2 and all(each in found["version"]["text"] for each in versions)
        for member in cluster.members[count:]:
            member.terminate()
            member.version = after
            member.start()
            cluster.wait_healthy()
        assert problems(tool, *every(cluster)) == {}
    finally:
        cluster.close()


def test_corruptMember_isFound(tool_for: ToolFactory, version: str) -> None:
    """A byte of one member's database is not what it was: etcd compares, and raises its alarm."""
    cluster = Cluster(version, [Place()] * 3, "--experimental-corrupt-check-time", "1s")
    try:
        cluster.start()
        plants = Plants(cluster.members[0].gateway, NAMESPACE)
        plants.agent("agent0", plants.lease(LONG), b"as all members have it")
        member = cluster.follower()
        member.terminate()
        database = member.directory / "data" / "member" / "snap" / "db"
        stored = database.read_bytes()
        assert b"as all members have it" in stored
        database.write_bytes(stored.replace(b"as all members have it", b"as one member has it !"))
        member.start()
        tool = tool_for(cluster.members[0], NAMESPACE)
        found = eventually_only("alarm-corrupt", lambda: problems(tool, *every(cluster)))
        assert f"others': {member.name} at {member.own_endpoint}." in found["text"]
        # A single member cannot know.
        assert "logs say" in problems(tool)["alarm-corrupt"]["text"]
        # Every change is refused: each command says why.
        for command in (
            ["purge", "agent0", "--force-live", "--yes"],
            ["guard", "--agent", "a", "--", "echo", "started"],
        ):
            answer = tool(*command, status=1)
            assert "members' data differ" in answer.err and "started" not in answer.out
        assert tool("ls", "-o", "name").lines == ["agent0"]
    finally:
        cluster.close()


def with_users(etcd: Etcd) -> None:
    etcd.ctl("user", "add", "root:rootpass")
    etcd.ctl("user", "grant-role", "root", "root")
    etcd.ctl("user", "add", "small:smallpass")
    etcd.ctl("role", "add", "agents")
    etcd.ctl("role", "grant-permission", "agents", "--prefix=true", "readwrite", "/d/")
    etcd.ctl("user", "grant-role", "small", "agents")
    etcd.ctl("auth", "enable")


def test_leaseWithoutARenewal_isFound(
    own_etcd: EtcdFactory, tool_for: ToolFactory, version: str
) -> None:
    """Where there are users, and etcd is older than 3.5.28: the same for an ordinary user, who may
    see less."""
    etcd = own_etcd(version)
    healthy(Plants(etcd.gateway, NAMESPACE))
    with_users(etcd)
    tool = tool_for(etcd, NAMESPACE)
    wanted = set() if is_guarding(version) else {"lease-guard"}
    for user in ("root", "small"):
        tool.environment["NIXL_ETCD_PASSWORD"] = f"{user}pass"
        assert set(problems(tool, "--user", user)) == wanted
    refused = tool("doctor", "--user", "root", NIXL_ETCD_PASSWORD="wrong", status=4)
    assert "FAIL" in refused.out and "--user" in refused.out


def test_certificatesNearTheirEnd_areFound(
    own_etcd: EtcdFactory, tool_for: ToolFactory, version: str, tmp_path: Path
) -> None:
    """Two days are left: both must be renewed now."""
    authority = Authority(tmp_path, "ca")
    cert, key = authority.issue("server", "IP:127.0.0.1")
    client, client_key = authority.issue("client")
    context = ssl.create_default_context(cafile=str(authority.certificate))
    files = ("--cert-file", str(cert), "--key-file", str(key))
    etcd = own_etcd(version, *files, tls=context)
    healthy(Plants(etcd.gateway, NAMESPACE))
    tool = tool_for(etcd, NAMESPACE)
    trust = ("--cacert", str(authority.certificate))
    found = problems(tool, *trust)
    assert set(found) == {"certificate"} and "its certificate" in found["certificate"]["text"]
    both = tool("doctor", *trust, "--cert", str(client), "--key", str(client_key), status=1)
    assert both.out.count("Renew it now") == 2 and "client certificate" in both.out
    tomorrow = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=2)
    assert f"{tomorrow:%Y-%m-%d}" in both.out


def test_keysOnlyAnswersWithoutLeases_areHandled(doctored: tuple[Tool, Plants]) -> None:
    """As etcd 3.7.0 answers."""
    tool, plants = doctored
    with LeaselessGateway(plants.gateway._port) as proxy:
        found = problems(tool, "--gateway", proxy.endpoint)
    assert set(found) == {"keys-only"}


def test_gatewayOff_isFound(own_etcd: EtcdFactory, tool_for: ToolFactory) -> None:
    etcd = own_etcd.unstarted("3.5", "--enable-grpc-gateway=false")
    etcd.start()
    tool = tool_for(etcd, NAMESPACE)
    deadline = time.monotonic() + 60
    while "libnixl_md reaches it" not in (answer := tool("doctor", status=None)).out:
        assert time.monotonic() < deadline, answer
    assert answer.status == 5 and "--enable-grpc-gateway" in answer.out


def test_terminalOfAnyWidth_breaksNoWord(
    own_etcd: EtcdFactory, tool_for: ToolFactory, screens: Any
) -> None:
    """Wide, narrow, resized: no word is broken, what follows is indented."""
    etcd = own_etcd()
    plants = Plants(etcd.gateway, NAMESPACE)
    plants.agent("stock-agent-with-a-name")
    tool = tool_for(etcd, NAMESPACE)
    screen: Screen = screens(tool.environment, 120, 40)
    screen.run(*tool.command("doctor"))
    status, lines = screen.status()
    assert status == 1
    wide = [line for line in lines if line.startswith(("OK", "WARN", "      "))]
    screen.resize(50, 60)
    screen.clear()
    screen.run(*tool.command("doctor"))
    status, lines = screen.status()
    assert status == 1 and any("1 WARN, 0 FAIL" in line for line in lines)
    narrow = [line for line in lines if line.startswith(("OK", "WARN", "      "))]
    assert len(narrow) > len(wide)
    assert " ".join(" ".join(narrow).split()).count("stock-agent-with-a-name") == 1
    colored = [x for x in screen.lines(colors=True) if "WARN" in x]
    assert any("\x1b[" in line for line in colored)
    screen.clear()
    etcd.freeze()
    # The first is reported at once, the second does not answer.
    both = "127.0.0.1:1," + etcd.own_endpoint
    screen.run(*tool.command("doctor", "--timeout", "60", "--endpoints", both))
    screen.wait(lambda lines: any(line.startswith("FAIL") for line in lines), "it has begun")
    screen.interrupt()
    assert screen.status()[0] == 130
    etcd.thaw()
