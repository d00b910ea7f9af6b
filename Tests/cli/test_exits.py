# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Each exit status, and for each mistake a text that says what to do."""

from __future__ import annotations

import json
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from certificates import Authority
from conftest import Answer, EtcdFactory, Plants, Tool, ToolFactory
from etcd_server import Etcd, free_ports
from screen import Screen
from small_gateway import StrangeServer

COMMANDS = (["ls"], ["get", "alpha"], ["watch"], ["doctor"], ["purge", "--permanent"])


@pytest.fixture
def etcd(etcd34: Etcd) -> Etcd:
    """The version makes no difference here."""
    return etcd34


def says(answer: Answer, *words: str) -> None:
    for word in words:
        assert re.search(word, answer.err + answer.out), f"'{word}' is not in\n{answer}"


def test_usage(tool: Tool) -> None:
    tool("frobnicate", status=2)
    tool("ls", "--frobnicate", status=2)
    tool("get", status=2)
    tool("watch", "--interval", "x", status=2)


@pytest.mark.parametrize(
    ("endpoints", "text"),
    [
        ("ftp://a:1", "neither http:// nor https://"),
        ("a:99999", "no port from 1 to 65535"),
        ("a b:1", "Write HOST:PORT"),
        (",;", "names no endpoint"),
        ("http://a,https://b", "mixes http and https"),
        ("user:secret@host:2379", "is no endpoint"),
    ],
)
def test_impossibleEndpoints_areRefused(tool: Tool, endpoints: str, text: str) -> None:
    says(tool("ls", "--endpoints", endpoints, status=2), "--endpoints", text)
    says(tool("ls", NIXL_ETCD_ENDPOINTS=endpoints, status=2), "NIXL_ETCD_ENDPOINTS", text)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e9"])
def test_impossibleTimes_areRefused(tool: Tool, seconds: str) -> None:
    says(tool("ls", f"--timeout={seconds}", status=2), "--timeout", "between 0 and a day")
    for command in ("watch", "exporter"):
        tool(command, f"--interval={seconds}", status=2)


def test_noEndpoint(tool_for: ToolFactory) -> None:
    says(tool_for()("ls", status=2), "no endpoint", "NIXL_ETCD_ENDPOINTS")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_wrongEndpoint(tool_for: ToolFactory, command: list[str]) -> None:
    port, other = free_ports(2)
    tool = tool_for()
    one = tool(*command, "--endpoints", f"127.0.0.1:{port}", "--timeout", "2", status=3)
    says(one, r"refused", "--endpoints")
    both = f"127.0.0.1:{port},127.0.0.1:{other}"
    two = tool(*command, "--endpoints", both, "--timeout", "2", status=3)
    says(two, str(port) if command[0] != "watch" else "endpoints")


def test_unknownHost(tool_for: ToolFactory) -> None:
    answer = tool_for()("ls", "--endpoints", "no-such-host.invalid:2379", status=3)
    says(answer, "no-such-host.invalid", "--endpoints")


def test_oneOfTwoIsDown(tool: Tool, plants: Plants, etcd: Etcd) -> None:
    """The other answers."""
    plants.agent("alpha")
    (port,) = free_ports(1)
    for _ in range(2):
        both = f"127.0.0.1:{port},{etcd.own_endpoint}"
        assert tool("ls", "-o", "name", "--endpoints", both).lines == ["alpha"]


def test_etcdctlVariables(tool_for: ToolFactory, etcd: Etcd, plants: Plants) -> None:
    """They are the fallback; NIXL's own come first, and options before all."""
    plants.agent("alpha")
    tool = tool_for(None, plants.namespace)
    assert tool("ls", "-o", "name", ETCDCTL_ENDPOINTS=etcd.own_endpoint).lines == ["alpha"]
    wrong: dict[str, Any] = {
        "ETCDCTL_ENDPOINTS": "127.0.0.1:1",
        "NIXL_ETCD_ENDPOINTS": etcd.own_endpoint,
    }
    assert tool("ls", "-o", "name", **wrong).lines == ["alpha"]
    wrong["NIXL_ETCD_ENDPOINTS"] = "127.0.0.1:1"
    arguments = ("--endpoints", etcd.own_endpoint)
    assert tool(*arguments, "ls", "-o", "name", **wrong).lines == ["alpha"]
    assert tool("ls", "-o", "name", *arguments, **wrong).lines == ["alpha"]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_credentials(
    own_etcd: EtcdFactory, tool_for: ToolFactory, command: list[str], tmp_path: Path
) -> None:
    etcd = own_etcd("3.5" if command[0] != "ls" else "3.4")
    plants = Plants(etcd.gateway, b"/n/")
    plants.agent("alpha", plants.lease())
    etcd.ctl("user", "add", "root:rootpass")
    etcd.ctl("user", "grant-role", "root", "root")
    etcd.ctl("user", "add", "small:smallpass")
    etcd.ctl("role", "add", "elsewhere")
    etcd.ctl("role", "grant-permission", "elsewhere", "--prefix=true", "readwrite", "/other/")
    etcd.ctl("user", "grant-role", "small", "elsewhere")
    etcd.ctl("auth", "enable")
    tool = tool_for(etcd, b"/n/")
    says(tool(*command, status=4), "user", "--user")
    wrong = tool(*command, "--user", "root", NIXL_ETCD_PASSWORD="no", status=4)
    says(wrong, "(?i)authentication failed", "--user")
    denied = tool(*command, "--user", "small", ETCDCTL_PASSWORD="smallpass", status=4)
    says(denied, "permission denied")
    assert "smallpass" not in denied.err + denied.out
    if command[0] in ("watch", "doctor"):
        return
    secret = tmp_path / "secret"
    secret.write_text("rootpass\n")
    right = tool(*command, "--user", "root", "--password-file", str(secret), status=None)
    assert right.status == 0, right
    assert tool(*command, ETCDCTL_USER="root:rootpass", status=None).status == 0


def test_passwordOnTheCommandLine_isRefused(tool: Tool) -> None:
    answer = tool("ls", "--user", "root:secret", status=2)
    says(answer, "NIXL_ETCD_PASSWORD", "--password-file")
    assert "secret" not in answer.err
    says(tool("ls", "--user", "root", status=2), "no password for user 'root'")
    says(tool("ls", "--user", "root", "--password-file", "/nowhere", status=2), "/nowhere")


def test_userWithoutUsers(tool: Tool) -> None:
    answer = tool("ls", "--user", "root", NIXL_ETCD_PASSWORD="x", status=4)
    says(answer, "not enabled", "leave --user")


class Tls:
    """An etcd that wants client certificates."""

    def __init__(self, own_etcd: EtcdFactory, directory: Path) -> None:
        authority = Authority(directory, "ca")
        cert, key = authority.issue("server", "IP:127.0.0.1")
        self.ca = str(authority.certificate)
        self.client = authority.issue("client")
        self.stranger = str(Authority(directory / "other", "other").certificate)
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(*self.client)
        self.etcd = own_etcd(
            "3.5",
            *("--cert-file", str(cert), "--key-file", str(key)),
            *("--client-cert-auth", "--trusted-ca-file", self.ca),
            tls=context,
        )
        self.files = (
            "--cacert",
            self.ca,
            "--cert",
            str(self.client[0]),
            "--key",
            str(self.client[1]),
        )


def test_tls(own_etcd: EtcdFactory, tool_for: ToolFactory, tmp_path: Path) -> None:
    tls = Tls(own_etcd, tmp_path)
    Plants(tls.etcd.gateway, b"/n/").agent("alpha")
    tool = tool_for(tls.etcd, b"/n/")
    assert tool("ls", "-o", "name", *tls.files).lines == ["alpha"]
    assert tool("get", "alpha", "--raw", *tls.files).out == "blob"
    # Without a scheme it is https, as etcdctl has it.
    bare = tls.etcd.own_endpoint.removeprefix("https://")
    assert tool("ls", "-o", "name", "--endpoints", bare, *tls.files).lines == ["alpha"]
    client = ("--cert", str(tls.client[0]), "--key", str(tls.client[1]))
    says(tool("ls", *client, status=3), "cannot be verified", "--cacert")
    says(tool("ls", "--cacert", tls.stranger, *client, status=3), "cannot be verified", "--cacert")
    named = tool("ls", *tls.files, "--server-name", "etcd.example", status=3)
    says(named, "cannot be verified", "--server-name")
    says(tool("ls", "--cacert", tls.ca, status=4), "certificate", "--cert and --key")
    plain = tls.etcd.own_endpoint.replace("https", "http")
    says(tool("ls", "--endpoints", plain, status=3), "Write https://")


def test_unusableTlsFiles_areRefused(tool: Tool, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    https = ("--endpoints", "https://127.0.0.1:1")
    says(tool("ls", "--cacert", "/nowhere.pem", status=2), "--cacert: /nowhere.pem", "PEM file")
    says(tool("ls", "--cacert", str(broken), *https, status=2), "--cacert", "no PEM file")
    says(tool("ls", "--cert", str(broken), status=2), "--cert and --key belong together")
    pair = ("--cert", str(broken), "--key", str(broken))
    says(tool("ls", *pair, *https, status=2), "no pair of PEM files")
    says(tool("ls", "--cacert", str(broken), "--endpoints", "http://a", status=2), "Write https://")
    says(tool("ls", ETCDCTL_CACERT="/nowhere.pem", status=2), "ETCDCTL_CACERT")


def test_httpsToPlainEtcd(tool: Tool, etcd: Etcd) -> None:
    https = etcd.own_endpoint.replace("http", "https")
    says(tool("ls", "--endpoints", https, status=3), "no TLS there", "http://")


def test_impossibleNamespace_isRefused(tool: Tool) -> None:
    says(tool("ls", "--namespace", "x" * 1025, status=2), "--namespace", "1025 bytes")
    says(tool("ls", "--namespace", "", status=2), "--namespace", "empty")


def test_gatewaySwitchedOff(
    own_etcd: EtcdFactory,
    tool_for: ToolFactory,
    tmp_path: Path,
    screens: Callable[..., Screen],
) -> None:
    """The library's findings are shown; the other checks say what they need."""
    etcd = own_etcd.unstarted("3.5", "--enable-grpc-gateway=false")
    etcd.start()
    tool = tool_for(etcd, b"/n/")
    seeded(etcd, b"/n/")
    listed = tool("ls", "-o", "name", status=5)
    assert listed.lines == ["alpha"]
    says(listed, "only what the library sees", "--gateway")
    shown = tool("get", "alpha", status=5)
    says(shown, r"metadata .*4 .*blob", "enable-grpc-gateway")
    assert tool("get", "alpha", "--raw").out == "blob"
    says(tool("purge", "--permanent", status=5), "--enable-grpc-gateway", "--gateway")
    says(tool("guard", "--agent", "x", "--", "true", status=5), "--enable-grpc-gateway")
    keys = [{"key": "L24vL2Ev", "value": "", "lease": "77"}]
    saved = {"agent": "YQ==", "prefix": "L24vL2Ev", "keys": keys}
    file = tmp_path / "saved"
    file.write_text(json.dumps({"format": "nixl-md backup 1"}) + "\n" + json.dumps(saved) + "\n")
    says(tool("restore", str(file), "--yes", status=5), "--enable-grpc-gateway")
    screen = screens(tool.environment, 100, 20)
    screen.run(*tool.command("watch", "--top"))
    status, lines = screen.status()
    assert status == 5 and "--enable-grpc-gateway" in "".join(lines)


def seeded(etcd: Etcd, namespace: bytes) -> None:
    """Without the gateway, by etcdctl, once etcd is there."""
    for _ in range(600):
        done = subprocess.run(
            ["/usr/bin/etcdctl", "--endpoints", etcd.own_endpoint, "endpoint", "health"],
            env={"ETCDCTL_API": "3"},
            capture_output=True,
        )
        if done.returncode == 0:
            break
    etcd.ctl("put", f"{namespace.decode()}/alpha/", "")
    etcd.ctl("put", f"{namespace.decode()}/alpha/metadata", "blob")


def test_gatewayOnAnotherPort(own_etcd: EtcdFactory, tool_for: ToolFactory) -> None:
    """etcd 3.5.10 and later can serve HTTP apart from gRPC."""
    (port,) = free_ports(1)
    http = f"http://127.0.0.1:{port}"
    etcd = own_etcd.unstarted("sid", "--listen-client-http-urls", http)
    etcd.start()
    tool = tool_for(etcd, b"/n/")
    seeded(etcd, b"/n/")
    answer = tool("ls", "-o", "name", status=5)
    assert answer.lines == ["alpha"]
    says(answer, "--gateway")
    assert tool("ls", "-o", "name", "--gateway", http).lines == ["alpha"]
    assert tool("ls", "-o", "name", NIXL_MD_GATEWAY=http).lines == ["alpha"]


@pytest.mark.parametrize(
    "kind",
    ["html", "not-found", "json", "unavailable", "empty", "no-header", "no-result", "terminal"],
)
def test_somethingElseAnswers(tool_for: ToolFactory, kind: str) -> None:
    """Say, a proxy that knows nothing of etcd."""
    with StrangeServer(kind) as server:
        tool = tool_for()
        status = 3 if kind == "unavailable" else 5
        answer = tool("purge", "--permanent", "--endpoints", server.endpoint, status=status)
    says(answer, server.endpoint, "proxy")
    assert not set("\x1b\x07\x9b") & set(answer.err), "a terminal would obey"


def test_refusalWithControlBytes_isEscaped(tool_for: ToolFactory) -> None:
    with StrangeServer("refusal") as server:
        answer = tool_for()("ls", "--endpoints", server.endpoint, status=1)
    says(answer, r"etcd refused: \\x1b\[2Jno\\ud800")


@pytest.mark.parametrize("command", [["watch"], ["exporter", "--listen", "127.0.0.1:0"]])
def test_interrupted(tool: Tool, command: list[str]) -> None:
    process = tool.start(*command)
    assert process.stdout is not None and process.stderr is not None
    (process.stdout if command == ["watch"] else process.stderr).readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert "Traceback" not in process.communicate()[1]


def test_silentServer(tool_for: ToolFactory) -> None:
    with StrangeServer("silent") as server:
        answer = tool_for()("ls", "--endpoints", server.endpoint, "--timeout", "1", status=3)
    says(answer, "no answer in time")


def test_withoutTyper_saysWhatToInstall(tool: Tool) -> None:
    code = "import sys; sys.modules['typer'] = None; from nixl_md.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=tool.environment, capture_output=True, text=True
    )
    assert done.returncode == 1 and "pip install typer rich" in done.stderr


def test_withoutTheLibrary(tool: Tool) -> None:
    answer = tool("watch", NIXL_MD_LIBRARY="/nowhere.so", status=1)
    says(answer, "libnixl_md.so cannot be loaded", "NIXL_MD_LIBRARY")
