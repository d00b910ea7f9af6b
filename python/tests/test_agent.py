# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The package against a real etcd."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import gc
import logging
import math
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import nixl_md
import pytest
from etcd_server import Etcd
from nixl_md import Agent, Event, EventType, Status, _capi

Options = dict[str, Any]


def test_structures_are_those_of_the_header(tmp_path: Path) -> None:
    names = {
        "config": _capi.Config,
        "opts": _capi.Opts,
        "watch_opts": _capi.WatchOpts,
        "result": _capi.Result,
        "event": _capi.Event,
        "agent": _capi.Agent,
        "stats": _capi.Stats,
    }
    source = tmp_path / "sizes.c"
    prints = "".join(f'printf("%zu ", sizeof(nixl_md_{name}_t));' for name in names)
    source.write_text(
        f"#include <nixl_md.h>\n#include <stdio.h>\nint main(void) {{ {prints} return 0; }}\n"
    )
    include = Path(__file__).resolve().parents[2] / "include"
    subprocess.run(["cc", "-I", include, source, "-o", tmp_path / "sizes"], check=True)
    sizes = subprocess.run([tmp_path / "sizes"], check=True, capture_output=True, text=True)
    assert sizes.stdout.split() == [str(ctypes.sizeof(struct)) for struct in names.values()]


def test_every_status_has_its_name() -> None:
    for status in Status:
        name = nixl_md._agent.library().nixl_md_status_string(status).decode()
        assert name.removeprefix("NIXL_MD_").removeprefix("ERR_") == status.name


def test_every_type_of_event_has_its_name() -> None:
    for kind in EventType:
        name = nixl_md._agent.library().nixl_md_event_string(kind).decode()
        assert name == f"NIXL_MD_EVENT_{kind.name}"


def test_label_none_is_metadata(options: Options) -> None:
    with Agent("alpha", **options) as agent:
        agent.publish(None, b"1").wait(30)
        assert agent.fetch("alpha", "metadata", wait=False).wait(30).blob == b"1"
        assert agent.fetch("alpha", wait=False).wait(30).blob == b"1"
        agent.unpublish().wait(30)
        with pytest.raises(nixl_md.NotFound):
            agent.fetch("alpha", wait=False).wait(30)
        with pytest.raises(nixl_md.InvalidParameter, match="label is empty"):
            agent.publish("", b"1")


def test_publish_fetch_watch_withdraw(options: Options) -> None:
    events: list[Event] = []
    with Agent(**options) as peer:
        watch = peer.watch("alpha", events.append)
        waiting = peer.fetch("alpha")
        with Agent("alpha", **options) as alpha:
            assert alpha.start_heartbeat(2, 6).wait(30).ttl == 6
            blob = bytes(range(256)) * 1000
            revision = alpha.publish("metadata", blob).wait(30).revision
            assert waiting.wait(30).blob == blob
            assert waiting.result().revision == revision
            agents = peer.list().wait(30).agents
            assert [agent.name for agent in agents] == ["alpha"]
            assert agents[0].lease_id == alpha.stats().lease_id != 0
        peer.run_until(lambda: bool(events) and events[-1].type == EventType.GONE, 30)
        watch.close()
        peer.run_until(lambda: watch.ended is not None, 30)
    put = [event for event in events if event.type in (EventType.PRESENT, EventType.PUT)]
    assert [(event.type.name, event.label, event.blob) for event in put] == [
        ("PRESENT", "", None),
        ("PUT", "metadata", blob),
    ]
    assert events[-1].type == EventType.ENDED
    assert events[-1].status == Status.CANCELED


def test_failures_are_exceptions(options: Options) -> None:
    with pytest.raises(nixl_md.InvalidParameter, match="nonsense://"):
        Agent("alpha", endpoints="nonsense://x")
    with pytest.raises(nixl_md.InvalidParameter, match="/"):
        Agent("a/b", **options)
    with Agent("alpha", **options) as agent:
        with pytest.raises(nixl_md.NotFound) as found:
            agent.fetch("beta", wait=False).wait(30)
        assert found.value.status == Status.NOT_FOUND
        with pytest.raises(TimeoutError):
            agent.fetch("beta", timeout=0.2).wait(30)
        with pytest.raises(nixl_md.TooLarge, match="2097152"):
            agent.publish("a", bytes(2 << 20)).wait(30)
        with pytest.raises(nixl_md.InvalidParameter):
            agent.publish("", b"x")
        with pytest.raises(ValueError, match="greater than 0"):
            agent.fetch("beta", timeout=0)
        waiting = agent.fetch("beta", timeout=math.inf)
        with pytest.raises(RuntimeError):
            waiting.result()
        waiting.cancel()
        with pytest.raises(nixl_md.Canceled):
            waiting.wait(30)
        waiting.cancel()
    agent.close()
    with pytest.raises(nixl_md.ShutDown):
        agent.tick()
    with Agent(**options) as observer, pytest.raises(nixl_md.NotAllowed):
        observer.publish("a", b"x")


def test_an_exception_of_a_callback_leaves_tick(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    others: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", others.append)

    def fail(result: object) -> None:
        raise KeyError("mine")

    with Agent("alpha", **options) as agent:
        first = agent.publish("a", b"1", on_done=fail)
        second = agent.publish("b", b"1", on_done=fail)
        seen = 0
        while not (first.done() and second.done()):
            try:
                agent.run_until(lambda: False, 0.05)
            except KeyError:
                seen += 1
            except nixl_md.TimedOut:
                pass
        assert seen >= 1
        assert seen + len(others) == 2


def test_callbacks_may_start_and_may_not_tick(options: Options) -> None:
    chain: list[Status] = []
    with Agent("alpha", **options) as agent:

        def done(result: nixl_md.Result) -> None:
            chain.append(result.status)
            with pytest.raises(nixl_md.InCallback):
                agent.tick()
            if len(chain) < 5:
                agent.publish("a", bytes([len(chain)]), on_done=done)

        agent.publish("a", b"0", on_done=done)
        agent.run_until(lambda: len(chain) == 5, 30)
    assert chain == [Status.SUCCESS] * 5


def test_ownership_events(options: Options) -> None:
    told: list[EventType] = []
    with Agent("alpha", on_event=lambda event: told.append(event.type), **options) as first:
        first.publish("a", b"old").wait(30)
        with Agent("alpha", **options) as second:
            second.publish("a", b"new").wait(30)
            first.run_until(lambda: bool(told), 30)
            with pytest.raises(nixl_md.Superseded):
                first.invalidate().wait(30)
            assert second.fetch("alpha", "a").wait(30).blob == b"new"
    assert told[-1] == EventType.SUPERSEDED


def test_logging(options: Options, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("test.nixl_md")
    with (
        caplog.at_level(logging.DEBUG, logger="test.nixl_md"),
        Agent("alpha", logger=logger, log_level=3, **options) as agent,
    ):
        agent.publish("a", b"secret-blob").wait(30)
    assert any("connected" in record.getMessage() for record in caplog.records)
    assert "secret-blob" not in caplog.text


def test_of_several_exceptions_the_others_reach_the_default_hook(
    options: Options, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    agent = Agent("alpha", **options)
    for name in ("first", "second"):
        agent.fetch(name, on_done=functools.partial(_fail, name))
    with pytest.raises(KeyError, match="first"):
        agent.close()
    told = capfd.readouterr().err
    assert "KeyError: 'second'" in told
    assert "a callback of <Agent 'alpha', closed" in told
    assert "TypeError" not in told


def _fail(name: str, result: nixl_md.Result) -> None:
    raise KeyError(name)


def test_representations_tell_the_state(options: Options) -> None:
    agent = Agent("alpha", **options)
    waiting = agent.fetch("beta")
    watch = agent.watch(None, lambda event: None)
    assert repr(agent) == "<Agent 'alpha', open, 2 open operations>"
    assert repr(waiting) == f"<Operation {waiting.id}, open>"
    assert repr(watch) == f"<Watch {watch.id}, open>"
    agent.close()
    assert repr(agent) == "<Agent 'alpha', closed, 0 open operations>"
    assert repr(waiting) == f"<Operation {waiting.id}, CANCELED>"
    assert repr(watch) == f"<Watch {watch.id}, ended: CANCELED>"
    with Agent(**options) as observer:
        assert repr(observer).startswith("<Agent observer, open")


def test_endpoints_as_a_list(options: Options) -> None:
    endpoints = ["127.0.0.1:1", options["endpoints"]]
    with Agent("alpha", **{**options, "endpoints": endpoints}) as agent:
        agent.publish(None, b"1").wait(30)
    with pytest.raises(nixl_md.InvalidParameter, match="nonsense://"):
        Agent("alpha", endpoints=["127.0.0.1:1", "nonsense://x"])


def test_losing_the_name_is_logged_without_being_asked_for(
    options: Options, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[str]:
        return [r.getMessage() for r in caplog.records if r.name == "nixl_md"]

    with Agent("alpha", **options) as first:
        first.start_heartbeat(2, 6).wait(30)
        first.publish(None, b"1").wait(30)
        with Agent("alpha", **options) as second:
            second.start_heartbeat(2, 6).wait(30)
            second.publish(None, b"2").wait(30)
            first.run_until(lambda: bool(told()), 30)
    assert any(record.levelno == logging.WARNING for record in caplog.records)
    assert "another process" in " ".join(told())


def test_stats_are_those_of_the_header() -> None:
    names = [field.name for field in dataclasses.fields(nixl_md.Stats)]
    assert names == [*_capi.STATS_FIELDS, "revision"]


def test_stats_deadline_and_repeated_close(options: Options) -> None:
    agent = Agent("alpha", **options)
    agent.tick()
    assert agent.deadline() is None
    agent.publish("a", b"1").wait(30)
    stats = agent.stats()
    assert stats.connected == 1
    assert stats.requests >= 3
    assert stats.tick_cpu_max_ns < 20_000_000
    agent.close()
    agent.close()
    assert agent.closed


def test_close_completes_what_is_open(options: Options) -> None:
    agent = Agent(**options)
    waiting = agent.fetch("nobody", timeout=math.inf)
    watch = agent.watch(None, lambda event: None)
    agent.close()
    assert waiting.done()
    with pytest.raises(nixl_md.Canceled):
        waiting.result()
    assert watch.ended is not None


def test_an_unclosed_agent_is_warned_about_and_freed(options: Options) -> None:
    agent = Agent(**options)
    reference = weakref.ref(agent)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.warns(ResourceWarning, match="unclosed"):
        del agent
        gc.collect()
    assert reference() is None
    assert len(os.listdir("/proc/self/fd")) < descriptors


def test_finished_operations_are_forgotten(options: Options) -> None:
    with Agent("alpha", **options) as agent:
        for number in range(50):
            agent.publish("a", bytes([number])).wait(30)
        assert not agent._open


def test_refused_calls_leave_nothing(options: Options) -> None:
    """Neither what the library refuses, nor what ctypes does, nor what comes after the end."""
    agent = Agent("alpha", **options)
    nul: Any = bytearray(b"al")
    for refused in (
        lambda: agent.publish(nul, b"x"),
        lambda: agent.fetch(nul),
        lambda: agent.watch(nul, print),
    ):
        with pytest.raises(TypeError, match="str or bytes"):
            refused()
    with pytest.raises(nixl_md.InvalidParameter):
        agent.watch("a/b", print)
    with pytest.raises(nixl_md.InvalidParameter):
        agent.fetch("beta", timeout=1e30)
    assert not agent._open
    agent.close()
    with pytest.raises(nixl_md.ShutDown):
        agent.list()
    with pytest.raises(nixl_md.ShutDown):
        agent.watch(None, print)
    assert not agent._open


def test_blobs_are_bytes(options: Options) -> None:
    text: Any = "text"
    with Agent("alpha", drain=60, **options) as agent:
        with pytest.raises(TypeError):
            agent.publish("a", text)
        for blob in (bytearray(b"array"), memoryview(b"-view-")[1:-1]):
            agent.publish("a", blob).wait(30)
            assert agent.fetch("alpha", "a").wait(30).blob == bytes(blob)


def test_a_shutdown_of_the_application_is_completed(options: Options) -> None:
    """Leaving 'with' goes on with it: what was published is withdrawn."""
    with Agent(**options) as observer:
        with Agent("alpha", **options) as agent:
            agent.publish("a", b"1").wait(30)
            agent.shutdown(30)
        with Agent("beta", **options) as agent:
            agent.publish("a", b"1").wait(30)
            agent.shutdown(30)
            with pytest.raises(nixl_md.ShutDown):
                agent.run_until(lambda: False, 30)
        assert observer.list().wait(30).agents == []


@pytest.mark.parametrize("raised", [KeyError("mine"), nixl_md.ShutDown(Status.SHUT_DOWN, "mine")])
def test_a_callback_that_raises_does_not_end_the_shutdown(
    options: Options, raised: Exception
) -> None:
    """What was published is withdrawn first; ShutDown is what one gets that starts something."""

    def fail(result: nixl_md.Result) -> None:
        raise raised

    with Agent(**options) as observer:
        with (
            pytest.raises(type(raised), match="mine"),
            Agent("alpha", drain=60, **options) as agent,
        ):
            agent.publish("a", b"1").wait(30)
            agent.fetch("nobody", on_done=fail)
        assert agent.closed
        assert observer.list().wait(30).agents == []


def test_a_forked_child_is_refused(options: Options) -> None:
    with Agent("alpha", **options) as agent:
        agent.publish("a", b"1").wait(30)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                agent.tick()
            except nixl_md.Forked:
                agent.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        agent.publish("a", b"2").wait(30)


def test_the_library_is_found_or_named(tmp_path: Path) -> None:
    code = "import nixl_md; nixl_md.version()"
    package = Path(nixl_md.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    environment["NIXL_MD_LIBRARY"] = str(tmp_path / "missing.so")
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert b"missing.so" in run.stderr
    assert b"NIXL_MD_LIBRARY" in run.stderr


def test_a_lost_lease_is_logged_without_being_asked_for(
    options: Options, etcd: Etcd, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[EventType] = []
    with Agent("alpha", on_event=lambda event: events.append(event.type), **options) as agent:
        agent.start_heartbeat(2, 6).wait(30)
        agent.publish(None, b"1").wait(30)
        etcd.gateway.revoke(agent.stats().lease_id)
        agent.run_until(lambda: EventType.RESTORED in events, 30)
    warnings = [each.getMessage() for each in caplog.records if each.name == "nixl_md"]
    assert any("lease" in text for text in warnings), warnings
    assert events[:2] == [EventType.LOST, EventType.RESTORED]


def test_lost_contact_is_logged_without_being_asked_for(
    options: Options, caplog: pytest.LogCaptureFixture
) -> None:
    etcd = Etcd("3.4").start()
    try:
        etcd.wait_healthy()
        with Agent("alpha", drain=0.1, **{**options, "endpoints": etcd.endpoint}) as agent:
            agent.publish(None, b"1").wait(30)
            assert not caplog.records
            etcd.kill()
            agent.run_until(lambda: bool(caplog.records), 30)
    finally:
        etcd.close()
    assert {(each.name, each.levelname) for each in caplog.records} == {("nixl_md", "WARNING")}
    assert etcd.endpoint in caplog.text


def test_names_out_are_names_in(options: Options) -> None:
    """Also those that are no UTF-8, in str and in bytes."""
    names: list[str | bytes] = ["alpha", "λ 漢", b"\xff\xfe", "b\udcffd"]
    seen: list[Event] = []
    with Agent(**options) as observer:
        watch = observer.watch(None, seen.append, blobs=True)
        agents = [Agent(name, **options) for name in names]
        for name, agent in zip(names, agents):
            agent.publish(name, b"1").wait(30)
        expected = {name if isinstance(name, str) else os.fsdecode(name) for name in names}
        listed = {each.name for each in observer.list().wait(30).agents}
        assert listed == expected
        observer.run_until(lambda: {each.label for each in seen} == {"", *expected}, 30)
        for name in listed:
            assert observer.fetch(name, name).wait(30).blob == b"1"
        watch.close()
        for agent in agents:
            agent.close()
