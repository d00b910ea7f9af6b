# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Subinterpreters, which CPython alone has. From 3.13 on an extension module may be loaded into one
with a lock of its own."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from test_hostile import run_script

Options = dict[str, Any]


@pytest.mark.parametrize("is_isolated", [False, True] if sys.version_info >= (3, 13) else [False])
@pytest.mark.parametrize("in_thread", [False, True])
def test_subinterpreter(options: Options, is_isolated: bool, in_thread: bool) -> None:
    script = f"""
import sys, threading
if sys.version_info >= (3, 13):
    import _interpreters
    number = _interpreters.create("isolated" if {is_isolated} else "legacy")
    execute = _interpreters.exec
else:
    import _xxsubinterpreters as _interpreters
    number = _interpreters.create(isolated=False)
    execute = _interpreters.run_string
code = f'''
import sys
sys.path[:] = {{sys.path!r}}
from nixl_md import Agent
seen = []
with Agent("alpha", **{{options!r}}) as agent:
    agent.publish(None, b"1").wait(30)
    agent.watch("alpha", seen.append)
    agent.run_until(lambda: len(seen) > 2, 30)
    print(seen[1].blob, agent.list().wait(30).agents[0].name, flush=True)
'''
def run():
    told = execute(number, code)
    if told is not None:
        print(told)
    _interpreters.destroy(number)
if {in_thread}:
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
else:
    run()
"""
    assert run_script(script, options) == "b'1' alpha\n"
