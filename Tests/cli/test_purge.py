# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""`nixl-md purge` and `restore`: what changed after it was shown is never removed."""

from __future__ import annotations

import json
import random
import shlex
import stat
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nixl_md.cli.gateway import Gateway
from nixl_md.cli.model import Namespace
from nixl_md.cli.removal import Outcome, Return, Victim, put_back, remove
from nixl_md.cli.settings import Given, resolve
from nixl_md.cli.store import read

from conftest import PATIENCE, EtcdFactory, Plants, Tool, ToolFactory
from etcd_server import Etcd
from gateway import GatewayError
from screen import Screen

RACES = 200


def test_showsAndDoesNothing(tool: Tool, plants: Plants) -> None:
    plants.agent("stock")
    plants.agent("other")
    before = plants.gateway.range(plants.namespace)
    answer = tool("purge", "stock", status=1)
    assert "would remove 1 agent" in answer.out and "without --yes" in answer.out
    assert "permanent is not dead" in answer.err and "other" not in answer.out
    assert plants.gateway.range(plants.namespace) == before


def test_removes(tool: Tool, plants: Plants) -> None:
    lease = plants.lease()
    plants.agent("alive", lease)
    plants.agent("stock")
    plants.agent("kept", plants.never_ending())
    plants.orphan("left")
    plants.mixed("half", lease)
    answer = tool("purge", "--orphans", "--yes")
    assert "agent left: removed" in answer.out
    done = tool("purge", "--permanent", "--yes", "--json").json["done"]
    assert {(each["name"], each["outcome"]) for each in done} == {
        ("stock", "removed"),
        ("kept", "removed"),
    }
    assert tool("ls", "-o", "name").lines == ["alive", "half"]
    assert "nothing to remove" in tool("purge", "--orphans", "--permanent", "--yes").out


def test_leasedAgents_needForce(tool: Tool, plants: Plants) -> None:
    plants.agent("alive", plants.lease())
    plants.mixed("half", plants.lease())
    answer = tool("purge", "alive", "half", "nobody", "--yes", status=1)
    assert "not alive: leased" in answer.out and "--force-live" in answer.out
    assert "not half: mixed" in answer.out and "not nobody: not there" in answer.out
    assert len(plants.gateway.keys(plants.namespace)) == 4
    forced = tool("purge", "alive", "half", "--yes", "--force-live")
    assert "WITHDRAWN" in forced.err and plants.gateway.keys(plants.namespace) == []


def test_usage(tool: Tool, plants: Plants) -> None:
    assert "nothing is named" in tool("purge", "--yes", status=2).err
    tool("purge", "--observe", "soon", "--permanent", status=2)
    plants.agent("stock")
    # As "$FILE" is when it is not set.
    assert "names no file" in tool("purge", "stock", "--yes", "--backup", "", status=2).err
    nowhere = tool("purge", "stock", "--yes", "--backup", "/no/such/file", status=2)
    assert "No such file or directory" in nowhere.err
    assert len(plants.gateway.keys(plants.namespace)) == 2


def test_moreThanMax_removesNothing(tool: Tool, plants: Plants) -> None:
    for number in range(4):
        plants.agent(f"a{number}")
    answer = tool("purge", "--permanent", "--yes", "--max", "3", status=1)
    assert "nothing is removed" in answer.err and "--max 4" in answer.err
    assert len(plants.gateway.keys(plants.namespace)) == 8
    tool("purge", "--permanent", "--yes", "--max", "4")
    assert plants.gateway.keys(plants.namespace) == []


def test_namespaceBelow_isNotRemoved(tool: Tool, plants: Plants) -> None:
    """It looks like an orphan, and is a fleet."""
    Plants(plants.gateway, plants.namespace + b"/prod").agent("alpha", plants.lease())
    assert "nothing to remove" in tool("purge", "--orphans", "--yes").out
    assert "another namespace" in tool("purge", "prod", "--yes", status=1).out
    assert len(plants.gateway.keys(plants.namespace)) == 2
    # Also where there is an agent of this name.
    plants.agent("prod")
    assert "agents would go" in tool("purge", "--permanent", "prod", "--yes", status=1).out
    assert "agents would go" in tool("purge", "prod", "--force-live", "--yes", status=1).out
    assert len(plants.gateway.keys(plants.namespace)) == 4


def test_observe_agentsThatPutMeanwhile_areLeftOut(tool: Tool, plants: Plants) -> None:
    """Who puts anything meanwhile is left out: it lives."""
    plants.agent("dead")
    plants.agent("stock")
    process = tool.start("purge", "--permanent", "--observe", "6s", "--yes")
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        plants.gateway.put(plants.key("stock", "metadata"), b"again")
        time.sleep(0.3)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert "agent dead: removed" in out and "not stock: changed while it was observed" in out
    assert tool("ls", "-o", "name").lines == ["stock"]


def test_observe_interrupted_removesNothing(
    tool: Tool, plants: Plants, screens: Callable[..., Screen]
) -> None:
    plants.agent("stock")
    screen = screens(tool.environment, 100, 20)
    screen.run(*tool.command("purge", "--permanent", "--observe", "5m", "--yes"))
    screen.wait(lambda lines: any(line.startswith("observing, ") for line in lines), "it observes")
    screen.interrupt()
    status, lines = screen.status()
    assert status == 130 and not any("Traceback" in line for line in lines)
    assert len(plants.gateway.keys(plants.namespace)) == 2


def test_backupAndRestore(tool: Tool, plants: Plants, tmp_path: Path) -> None:
    lease = plants.lease()
    plants.agent("leased", lease, bytes(range(256)))
    plants.agent("stock", 0, b"\x00\xff" * 100)
    plants.gateway.put(plants.key("stock", "part/1"), b"more")
    before = {kv.key: (kv.value, kv.lease) for kv in plants.gateway.range(plants.namespace)}
    file = tmp_path / "saved"
    names = ("leased", "stock")
    answer = tool("purge", *names, "--force-live", "--yes", "--backup", str(file))
    assert f"nixl-md restore {file}" in answer.out
    assert plants.gateway.keys(plants.namespace) == []
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # A backup is not written over.
    assert "not there yet" in tool("purge", "x", "--yes", "--backup", str(file), status=2).err
    assert "would put back" in tool("restore", str(file), status=1).out
    assert plants.gateway.keys(plants.namespace) == []
    tool("restore", str(file), "--yes")
    after = {kv.key: (kv.value, kv.lease) for kv in plants.gateway.range(plants.namespace)}
    assert after == before
    again = tool("restore", str(file), "--yes", status=1)
    assert again.out.count("left alone") == 2
    # With its lease gone, an agent would stay forever.
    plants.gateway.call("/v3/lease/revoke", {"ID": str(lease)})
    assert "its lease has ended" in tool("restore", str(file), "--yes", status=1).out
    assert plants.gateway.keys(plants.key("leased")) == []
    tool("restore", str(file), "--yes", "--without-lease", status=1)
    assert [kv.lease for kv in plants.gateway.range(plants.key("leased"))] == [0, 0]


def test_largeAgents_comeBack(tool: Tool, plants: Plants, tmp_path: Path) -> None:
    """More keys, and more bytes, than one transaction of etcd's holds."""
    plants.agent("many")
    for number in range(250):
        plants.gateway.put(plants.key("many", f"part{number:03}"), b"%d" % number)
    plants.agent("large", plants.lease())
    for number in range(4):
        plants.gateway.put(plants.key("large", f"part{number}"), bytes([number]) * 900_000)
    before = {kv.key: (kv.value, kv.lease) for kv in plants.gateway.range(plants.namespace)}
    file = str(tmp_path / "saved")
    tool("purge", "many", "large", "--force-live", "--yes", "--backup", file)
    assert plants.gateway.keys(plants.namespace) == []
    tool("restore", file, "--yes")
    after = {kv.key: (kv.value, kv.lease) for kv in plants.gateway.range(plants.namespace)}
    assert after == before


def test_restore_whereTheNameIsTaken(tool: Tool, plants: Plants, tmp_path: Path) -> None:
    """An agent came back without any of the labels that were saved."""
    plants.agent("stock", 0, b"blob", "part")
    file = str(tmp_path / "saved")
    tool("purge", "stock", "--yes", "--backup", file)
    plants.gateway.put(plants.key("stock", "other"), b"new")
    assert "left alone" in tool("restore", file, "--yes", status=1).out
    assert plants.gateway.keys(plants.namespace) == [plants.key("stock", "other")]


def test_restore_changedMeanwhile_isNotMixed(etcd: Etcd, plants: Plants, tmp_path: Path) -> None:
    """Between two transactions of one agent another process takes its name."""
    keys = [(plants.key("a"), b"", 0)]
    keys += [(plants.key("a", f"part{number:03}"), b"x", 0) for number in range(150)]
    settings = resolve(Given(endpoints=etcd.own_endpoint, namespace=plants.namespace.decode()), {})

    class Racing(Gateway):
        def txn(self, *arguments: Any, **named: Any) -> dict[str, Any]:
            answer = super().txn(*arguments, **named)
            plants.gateway.put(plants.key("a"), b"")
            return answer

    with Racing(settings) as gateway:
        assert put_back(gateway, plants.key("a"), keys) is Return.PART
    assert plants.key("a", "part149") not in plants.gateway.keys(plants.namespace)


def test_unwritableBackup_removesNothing(tool: Tool, plants: Plants, tmp_path: Path) -> None:
    """Nothing is removed unless it is on the disk: the file may have 64 KiB."""
    plants.agent("stock", 0, b"x" * 200_000)
    command = tool.command("purge", "stock", "--yes", "--backup", str(tmp_path / "saved"))
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 64; exec {shlex.join(command)}"],
        env=tool.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1 and "not removed" in done.stderr, done
    assert "Traceback" not in done.stderr and len(plants.gateway.keys(plants.namespace)) == 2


def test_damagedBackup(tool: Tool, tmp_path: Path) -> None:
    file = tmp_path / "saved"
    for text in ("", "hello", '{"format": "nixl-md backup 1"}\n{"agent": 1}\n'):
        file.write_text(text)
        tool("restore", str(file), "--yes", status=2)
    tool("restore", "/nowhere", status=2)


def test_emptyLeases(own_etcd: EtcdFactory, tool_for: ToolFactory, version: str) -> None:
    """Not one that is younger than a minute, not one with keys, not one that ends."""
    etcd = own_etcd(version)
    plants = Plants(etcd.gateway, b"/e/")
    used, empty = plants.never_ending(), plants.never_ending()
    finite = plants.lease(600, 12345)
    plants.agent("kept", used)
    tool = tool_for(etcd, b"/e/")
    assert "nothing to remove" in tool("purge", "--empty-leases", "--yes").out
    time.sleep(62)
    young = plants.never_ending()
    answer = tool("purge", "--empty-leases", status=1)
    assert f"lease {empty:x}: never ends, carries nothing" in answer.out
    tool("purge", "--empty-leases", "--yes")
    left = {int(x["ID"]) for x in etcd.gateway.call("/v3/lease/leases", {})["leases"]}
    assert left == {used, finite, young}


def changes(plants: Plants, lease: int) -> dict[str, Callable[[str], int]]:
    """Changes that a process may make to its keys; each returns the revision."""

    def restart(name: str) -> int:
        plants.gateway.delete_prefix(plants.key(name))
        return plants.agent(name, lease, b"new")

    def claim(name: str) -> int:
        return plants.gateway.put(plants.key(name), b"", lease)

    return {
        "publishes": lambda name: plants.gateway.put(plants.key(name, "metadata"), b"new"),
        "publishes more": lambda name: plants.gateway.put(plants.key(name, "more"), b"new"),
        "starts again": claim,
        "restarts": restart,
        "rehangs": lambda name: plants.agent(name, lease),
    }


@pytest.mark.parametrize("state", ["permanent", "orphan"])
def test_purge_agentChangesMeanwhile_isNotRemoved(etcd: Etcd, plants: Plants, state: str) -> None:
    """200 times: while an agent is removed, something of it changes. Anything written after the
    list was shown survives, in each case; and anything not changed in time is removed."""
    settings = resolve(Given(endpoints=etcd.own_endpoint, namespace=plants.namespace.decode()), {})
    kinds = changes(plants, plants.lease())
    chance = random.Random(1)
    outcomes: Counter[Outcome] = Counter()
    with Gateway(settings) as gateway:
        for number in range(RACES // 2):
            name = f"agent{number}"
            if state == "permanent":
                plants.agent(name)
            else:
                plants.orphan(name)
            snapshot = read(gateway, Namespace(plants.namespace))
            victim = Victim(snapshot.agents[name.encode()], snapshot.revision, state)
            kind = chance.choice(list(kinds))
            written: list[int] = []

            def change(name: str = name, kind: str = kind, written: list[int] = written) -> None:
                time.sleep(chance.random() * 0.004)
                written.append(kinds[kind](name))

            racer = threading.Thread(target=change)
            racer.start()
            time.sleep(chance.random() * 0.004)
            outcome = remove(gateway, victim)
            racer.join()
            outcomes[outcome] += 1
            kvs = plants.gateway.range(plants.key(name))
            new = [kv for kv in kvs if kv.mod_revision > snapshot.revision]
            assert max((kv.mod_revision for kv in new), default=0) == written[0], (kind, outcome)
            if outcome is Outcome.REMOVED:
                assert new == kvs, f"{kind}: not all of what was shown is removed"
            plants.gateway.delete_prefix(plants.key(name))
    print(outcomes)
    # Both orders have happened, else nothing was raced.
    assert outcomes[Outcome.REMOVED] >= 5 and outcomes[Outcome.CHANGED] >= 5, outcomes


def test_unansweredRemoval_isReportedAsUncertain(
    own_etcd: EtcdFactory, tool_for: ToolFactory
) -> None:
    """etcd is frozen just before: whether it is carried out is not known."""
    etcd = own_etcd()
    plants = Plants(etcd.gateway, b"/u/")
    plants.agent("stock")
    settings = resolve(Given(endpoints=etcd.own_endpoint, namespace="/u/", timeout=1.0), {})
    with Gateway(settings) as gateway:
        snapshot = read(gateway, Namespace(b"/u/"))
        victim = Victim(snapshot.agents[b"stock"], snapshot.revision, "permanent")
        etcd.freeze()
        assert remove(gateway, victim) is Outcome.UNKNOWN
        etcd.thaw()
    with Gateway(settings) as gateway:
        assert remove(gateway, victim) in (Outcome.REMOVED, Outcome.GONE)


def fill(etcd: Etcd) -> None:
    """Far over its quota, which is lowered: one that fills up may have room for a transaction that
    only deletes when it refuses the first put."""
    for _ in range(6):
        etcd.gateway.put(b"/fill", b"x" * 400_000)
    etcd.terminate()
    etcd.flags = ("--quota-backend-bytes", str(1 << 20))
    etcd.start().wait_healthy()
    with pytest.raises(GatewayError, match="space"):
        etcd.gateway.put(b"/fill", b"x")


def test_fullDatabase_purgeMakesRoom(
    own_etcd: EtcdFactory, tool_for: ToolFactory, version: str
) -> None:
    """A guarded removal needs a transaction, which etcd 3.5.1 refuses while it is over its quota.
    The tool's advice makes room, and the removal works while the alarm is still on."""
    etcd = own_etcd(version)
    plants = Plants(etcd.gateway, b"/f/")
    plants.agent("first")
    plants.agent("second")
    fill(etcd)
    tool = tool_for(etcd, b"/f/")
    refuses = version == "3.5"
    answer = tool("purge", "first", "--yes", status=6 if refuses else 0)
    if refuses:
        assert "etcdctl compact" in answer.err and "etcdctl defrag" in answer.err
        assert "removed" not in answer.out and plants.gateway.get(plants.key("first")) is not None
        etcd.ctl("compact", "--physical", str(etcd.status()["header"]["revision"]))
        etcd.ctl("defrag")
        tool("purge", "first", "--yes")
    assert "NOSPACE" in etcd.ctl("alarm", "list")
    tool("purge", "second", "--yes")
    assert etcd.gateway.keys(b"/f/") == []


def test_fullDatabase_restoreAndGuard(
    own_etcd: EtcdFactory, tool_for: ToolFactory, version: str, tmp_path: Path
) -> None:
    """Both put keys: no version of etcd takes them."""
    etcd = own_etcd(version)
    plants = Plants(etcd.gateway, b"/f/")
    plants.agent("stock")
    tool = tool_for(etcd, b"/f/")
    file = str(tmp_path / "saved")
    tool("purge", "stock", "--yes", "--backup", file)
    fill(etcd)
    assert "database is full" in tool("restore", file, "--yes", status=6).err
    assert "database is full" in tool("guard", "--agent", "x", "--", "true", status=6).err


def test_jsonOfAPlan(tool: Tool, plants: Plants) -> None:
    plants.agent("stock")
    answer = json.loads(tool("purge", "--permanent", "--json", status=1).out)
    assert answer["acted"] is False and answer["done"] == []
    assert [each["name"] for each in answer["agents"]] == ["stock"]
