# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""`nixl-md guard`: an agent that knows no lease is under one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import EtcdFactory, Figure, Plants, Tool, ToolFactory
from etcd_server import Etcd
from gateway import GatewayError
from gateway_proxy import HoldingGateway
from screen import Screen

TTL = 5
# The time that etcd takes to notice that a lease has run out, and to remove its keys.
EXPIRY = 2
PATIENCE = 180.0
AGENT = str(Path(__file__).with_name("stock_agent.py"))


def eventually(is_so: Callable[[], bool], what: str) -> float:
    """The monotonic time when it was so."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return time.monotonic()


class Guarded:
    """A stock agent under guard."""

    def __init__(self, tool: Tool, plants: Plants, *options: str, name: str = "alpha") -> None:
        self.plants = plants
        self.name = name
        command = tool.command("guard", *(options or ("--agent", name)), "--ttl", str(TTL))
        agent = [sys.executable, AGENT, str(plants.gateway._port), plants.namespace.decode(), name]
        self.process = subprocess.Popen(
            [*command, "--", *agent],
            env=tool.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = int(self.read().split()[1])

    def read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()
        return line.strip()

    def do(self, *words: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()
        if words[0] != "exit":
            assert self.read() == "done " + words[0]

    def end(self, status: int = 0) -> str:
        """The output of guard."""
        self.do("exit", str(status))
        _, err = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == status, err
        return err

    def keys(self) -> dict[bytes, int]:
        """Label and lease."""
        prefix = self.plants.key(self.name)
        return {kv.key[len(prefix) :]: kv.lease for kv in self.plants.gateway.range(prefix)}

    def lease(self) -> int:
        """The one on which all of them hang; 0: not all do."""
        found = self.keys()
        leases = set(found.values())
        return leases.pop() if len(found) >= 2 and len(leases) == 1 else 0

    def wait_attached(self, *labels: bytes) -> int:
        eventually(lambda: bool(self.lease()) and set(labels) <= set(self.keys()), "attached")
        return self.lease()

    def kill_all(self) -> None:
        self.process.kill()
        os.kill(self.pid, signal.SIGKILL)


Guards = Callable[..., Guarded]


@pytest.fixture
def guards(tool: Tool, plants: Plants) -> Iterator[Guards]:
    started: list[Guarded] = []

    def start(*options: str, **named: str) -> Guarded:
        started.append(Guarded(tool, plants, *options, **named))
        return started[-1]

    yield start
    for guarded in started:
        if guarded.process.poll() is None:
            guarded.kill_all()
        guarded.process.communicate()


def test_keysThatArePut_areAttached(guards: Guards) -> None:
    """At once what is there, and again after each put; the values stay as they are."""
    guarded = guards()
    lease = guarded.wait_attached(b"", b"metadata")
    guarded.do("put", "part/1", "more")
    assert guarded.wait_attached(b"part/1") == lease
    guarded.do("put", "metadata", "again")
    assert guarded.wait_attached() == lease
    values = {kv.key: kv.value for kv in guarded.plants.gateway.range(guarded.plants.key("alpha"))}
    assert sorted(values.values()) == [b"", b"again", b"more"]
    time.sleep(TTL + EXPIRY)
    assert guarded.lease() == lease, "it is renewed"


def test_exit_revokes(guards: Guards) -> None:
    """At once, not at TTL; the exit status is the command's."""
    guarded = guards()
    lease = guarded.wait_attached()
    assert f"on lease {lease:x}" in guarded.end(7)
    assert guarded.keys() == {}


def test_killedBySignal_statusIs128PlusSignal(guards: Guards) -> None:
    guarded = guards()
    guarded.wait_attached()
    os.kill(guarded.pid, signal.SIGKILL)
    assert guarded.process.wait(PATIENCE) == 128 + 9
    assert guarded.keys() == {}


def test_signals_areForwarded(guards: Guards) -> None:
    guarded = guards()
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
        guarded.process.send_signal(number)
        assert guarded.read() == f"signal {int(number)}"
    guarded.end()


def test_guardAndCommandKilled_keysEnd(guards: Guards, figure: Figure) -> None:
    """SIGKILL to the command and to guard: the keys go with the lease."""
    guarded = guards()
    guarded.wait_attached()
    begin = time.monotonic()
    guarded.kill_all()
    end = eventually(lambda: guarded.keys() == {}, "the keys go")
    figure("gone, since the kill", begin, end, TTL + EXPIRY)


def test_leaseLost_anotherIsGranted_keysArePutBack(guards: Guards) -> None:
    """While the command lives: what the lease took is put back."""
    guarded = guards()
    lease = guarded.wait_attached()
    guarded.do("put", "part", "more")
    guarded.wait_attached(b"part")
    guarded.plants.gateway.call("/v3/lease/revoke", {"ID": str(lease)})
    assert guarded.wait_attached(b"", b"metadata", b"part") != lease
    prefix = guarded.plants.key("alpha")
    values = {kv.key: kv.value for kv in guarded.plants.gateway.range(prefix)}
    assert values == {prefix: b"", prefix + b"metadata": b"blob", prefix + b"part": b"more"}
    assert "put back 3 keys" in guarded.end()
    assert guarded.keys() == {}


@pytest.mark.parametrize(("count", "size"), [(150, 10), (4, 900_000)])
def test_leaseLost_moreThanATransactionHolds(guards: Guards, count: int, size: int) -> None:
    """Limited by number, and by size."""
    guarded = guards()
    guarded.do("many", str(count), str(size))
    lease = guarded.wait_attached(f"part{count - 1:03}".encode())
    before = set(guarded.keys())
    guarded.plants.gateway.call("/v3/lease/revoke", {"ID": str(lease)})
    assert guarded.wait_attached(*before) != lease
    values = {len(kv.value) for kv in guarded.plants.gateway.range(guarded.plants.key("alpha"))}
    assert values == {0, 4, size}
    guarded.end()


def test_leaseLost_andPutAgainMeanwhile(guards: Guards) -> None:
    """The command has put one key itself: the others are put back beside it."""
    guarded = guards()
    lease = guarded.wait_attached()
    os.kill(guarded.process.pid, signal.SIGSTOP)
    guarded.plants.gateway.call("/v3/lease/revoke", {"ID": str(lease)})
    guarded.plants.gateway.put(guarded.plants.key("alpha", "metadata"), b"again")
    os.kill(guarded.process.pid, signal.SIGCONT)
    assert guarded.wait_attached(b"", b"metadata") != lease
    kv = guarded.plants.gateway.get(guarded.plants.key("alpha", "metadata"))
    assert kv is not None and kv.value == b"again"
    guarded.end()


def test_leaseLost_etcdDiesWhileItIsPutBack(etcd: Etcd, tool: Tool, plants: Plants) -> None:
    """A restore stays owed: the transaction that puts the agent back is not answered the first
    time."""
    with HoldingGateway(etcd.own_port, "/kv/txn", 1) as holding:
        holding.pause()
        tool.environment["NIXL_MD_GATEWAY"] = f"{holding.endpoint},{etcd.own_endpoint}"
        guarded = Guarded(tool, plants)
        try:
            lease = guarded.wait_attached()
            holding.resume()
            plants.gateway.call("/v3/lease/revoke", {"ID": str(lease)})
            assert holding.reached.wait(PATIENCE)
            holding.die()
            assert guarded.wait_attached(b"", b"metadata") != lease
            guarded.end()
        finally:
            guarded.process.kill()


def test_leaseLost_whatIsThereAlready_isNotTouched(guards: Guards) -> None:
    """Somebody has taken the name meanwhile: it is left alone."""
    guarded = guards()
    lease = guarded.wait_attached()
    guarded.plants.gateway.call("/v3/lease/revoke", {"ID": str(lease)})
    other = guarded.plants.lease(600)
    guarded.plants.agent("alpha", other, b"another process")
    time.sleep(TTL)
    err = guarded.end()
    assert "left as they are" in err or "another lease" in err
    assert set(guarded.keys().values()) == {other}


def test_invalidated_staysAway(guards: Guards) -> None:
    """Who removes its own keys does not want them back, though the lease is lost later."""
    guarded = guards()
    lease = guarded.wait_attached()
    guarded.do("invalidate")
    time.sleep(1.5)
    guarded.plants.gateway.call("/v3/lease/revoke", {"ID": str(lease)})
    time.sleep(TTL)
    assert guarded.keys() == {}
    guarded.end()


def test_agentOfNixlMd_isLeftAlone(guards: Guards, plants: Plants) -> None:
    """Its keys hang on its own lease: guard would supersede it."""
    own = plants.lease(600)
    plants.gateway.put(plants.key("alpha", "own"), b"x", own)
    guarded = guards()
    eventually(
        lambda: guarded.keys().get(b"metadata", 0) not in (0, own), "the others are attached"
    )
    assert guarded.keys()[b"own"] == own
    assert "needs no guard" in guarded.end()
    assert guarded.keys() == {b"own": own}


def test_putsFasterThanAttached_allEndOnTheLease(guards: Guards) -> None:
    """Puts faster than they are attached: in the end all hang on the lease, with the last value."""
    guarded = guards()
    guarded.do("storm", "200")
    guarded.wait_attached()
    kv = guarded.plants.gateway.get(guarded.plants.key("alpha", "metadata"))
    assert kv is not None and kv.value == b"199"
    guarded.end()


def test_startedAgainAtOnce(guards: Guards) -> None:
    """All is killed and started again within the TTL: the old lease takes nothing of the new."""
    first = guards()
    lease = first.wait_attached()
    first.kill_all()
    again = guards()
    eventually(lambda: again.lease() not in (0, lease), "on the new lease")
    new = again.lease()
    eventually(lambda: again.plants.gateway.time_to_live(lease) < 0, "the old lease ends")
    time.sleep(EXPIRY)
    assert again.wait_attached(b"", b"metadata") == new
    again.end()
    assert again.keys() == {}


def test_killedInTheWindow_isFound(guards: Guards, tool: Tool) -> None:
    """Between a put and its attachment: the key stays, as the documentation says, and doctor finds
    it."""
    guarded = guards()
    lease = guarded.wait_attached()
    os.kill(guarded.process.pid, signal.SIGSTOP)
    guarded.do("put", "part", "late")
    guarded.kill_all()
    eventually(lambda: guarded.plants.gateway.time_to_live(lease) < 0, "the lease ends")
    eventually(lambda: guarded.keys() == {b"part": 0}, "what was attached goes")
    assert "orphan" in tool("doctor", "-o", "name", status=1).lines


def test_guardAloneIsKilled_keysGoAtTtl(guards: Guards, figure: Figure) -> None:
    guarded = guards()
    guarded.wait_attached()
    begin = time.monotonic()
    guarded.process.kill()
    end = eventually(lambda: guarded.keys() == {}, "the keys go")
    figure("gone, since guard was killed", begin, end, TTL + EXPIRY)
    os.kill(guarded.pid, signal.SIGKILL)


def test_etcdIsFrozenAtTheEnd(own_etcd: EtcdFactory, tool_for: ToolFactory, figure: Figure) -> None:
    """Guard does not wait for what it will not get; the lease ends by itself."""
    etcd = own_etcd()
    plants = Plants(etcd.gateway, b"/g/")
    guarded = Guarded(tool_for(etcd, b"/g/"), plants)
    try:
        guarded.wait_attached()
        etcd.freeze()
        begin = time.monotonic()
        assert "it ends by itself" in guarded.end(9)
        # Two spans of END_SECONDS (keeper.py), and the command's own end.
        figure("guard ends", begin, time.monotonic(), 7.0)
        etcd.thaw()
        eventually(lambda: guarded.keys() == {}, "the keys go")
    finally:
        guarded.process.kill()


def test_withoutTheLibrary_theCommandIsNotStarted(tool: Tool) -> None:
    command = ("guard", "--agent", "a", "--", "echo", "started")
    answer = tool(*command, NIXL_MD_LIBRARY="/nowhere.so", status=1)
    assert answer.out == "" and "NIXL_MD_LIBRARY" in answer.err


def test_pattern_takesOnlyLaterAgents(guards: Guards, plants: Plants) -> None:
    """Not what was there before, and not what is called otherwise."""
    plants.agent("decode-1")
    guarded = guards("--agent", "decode-*", name="decode-2")
    plants.agent("prefill-1")
    guarded.wait_attached(b"", b"metadata")
    guarded.end()
    left = {kv.key.split(b"/")[-2] for kv in plants.gateway.range(plants.namespace)}
    assert left == {b"decode-1", b"prefill-1"}


def test_etcdRestarts(own_etcd: EtcdFactory, tool_for: ToolFactory, version: str) -> None:
    """It says so, and goes on."""
    etcd = own_etcd(version)
    plants = Plants(etcd.gateway, b"/g/")
    guarded = Guarded(tool_for(etcd, b"/g/"), plants)
    try:
        guarded.wait_attached()
        etcd.kill()
        time.sleep(TTL)
        etcd.start().wait_healthy()
        guarded.do("put", "part", "more")
        guarded.wait_attached(b"part")
        time.sleep(TTL + EXPIRY)
        assert guarded.lease()
        assert "etcd answers again" in guarded.end()
        assert guarded.keys() == {}
    finally:
        guarded.process.kill()


def test_etcdIsDownAtTheStart(own_etcd: EtcdFactory, tool_for: ToolFactory) -> None:
    """The command is started without it, and its exit status is kept."""
    etcd = own_etcd()
    tool = tool_for(etcd, b"/g/")
    etcd.kill()
    answer = tool("guard", "--agent", "a", "--timeout", "1", "--", "sh", "-c", "exit 3", status=3)
    assert "guarded when etcd answers" in answer.err
    refused = tool("guard", "--agent", "a*", "--timeout", "1", "--", "true", status=3)
    assert "guarded when" not in refused.err
    etcd.start().wait_healthy()


def test_usage(tool: Tool) -> None:
    assert "--agent NAME" in tool("guard", "--", "true", status=2).err
    assert "no command" in tool("guard", "--agent", "a", status=2).err
    assert "--ttl" in tool("guard", "--agent", "a", "--ttl", "1", "--", "true", status=2).err
    assert "holds '/'" in tool("guard", "--agent", "a/b", "--", "true", status=2).err


def test_commandThatCannotRun_hasTheShellsStatus(tool: Tool, plants: Plants) -> None:
    """As env(1) has it; and no lease stays behind."""
    tool("guard", "--agent", "a", "--", "/no/such/command", status=127)
    tool("guard", "--agent", "a", "--", "/etc/passwd", status=126)
    tool("guard", "--agent", "a", "--", "true", status=0)


def test_command_hasTheSameEnvironmentAsWithoutGuard(tool: Tool) -> None:
    """Its signals are neither blocked nor ignored, its options are its own, stdout is its own."""
    code = (
        "import signal; print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])));"
        "ignored = open('/proc/self/status').read().split('SigIgn:')[1].split()[0];"
        # glibc's posix_spawn leaves its own two, 32 and 33, ignored; no program sees them.
        "print(hex(int(ignored, 16) & ~(3 << 31)))"
    )
    plain = subprocess.run(
        ["env", "-i", sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True
    )
    guarded = tool("guard", "--agent", "a", "--", "env", "-i", sys.executable, "-S", "-c", code)
    assert guarded.out == plain.stdout
    assert tool("guard", "--agent", "a", "--", "echo", "--ttl", "-x", "--").out == "--ttl -x --\n"


def test_startedWithSigchldIgnored(tool: Tool) -> None:
    """As some supervisors start commands: guard still notices that the command has ended."""
    done = subprocess.run(
        tool.command("guard", "--agent", "a", "--", "sh", "-c", "exit 7"),
        env=tool.environment,
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
        timeout=PATIENCE,
    )
    assert done.returncode == 7


def test_ctrlC_reachesTheCommandOnce(
    tool: Tool, plants: Plants, screens: Callable[..., Screen]
) -> None:
    """From a terminal it goes to the command and to guard: guard does not send it again."""
    screen = screens(tool.environment, 100, 20)
    script = "trap 'echo got-it' INT; echo ready; sleep 100; sleep 1; sleep 1; exit 5"
    screen.run(*tool.command("guard", "-q", "--agent", "a", "--", "sh", "-c", script))
    screen.wait(lambda lines: "ready" in lines, "it runs")
    screen.interrupt()
    status, lines = screen.status()
    assert status == 5 and [x.removeprefix("^C") for x in lines].count("got-it") == 1, lines


def test_credentialsWithoutWrites(own_etcd: EtcdFactory, tool_for: ToolFactory) -> None:
    """A refusal by etcd is reported before the command is started."""
    etcd: Etcd = own_etcd("3.5")
    etcd.ctl("user", "add", "root:rootpass")
    etcd.ctl("user", "grant-role", "root", "root")
    etcd.ctl("auth", "enable")
    answer = tool_for(etcd, b"/g/")("guard", "--agent", "a", "--", "echo", "started", status=4)
    assert answer.out == "" and "--user" in answer.err
    with pytest.raises(GatewayError):
        etcd.gateway.put(b"x", b"")
