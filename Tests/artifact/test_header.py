# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The headers compile alone, in every language and with every compiler that hosts use."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

INCLUDE = Path(__file__).resolve().parents[2] / "include"
STANDARDS = {"c99": "c", "c11": "c", "c++11": "c++", "c++17": "c++"}
# The wrapper is C++17; it is there or it is not, and what is there must compile.
CASES = [("nixl_md.h", standard) for standard in STANDARDS] + [
    (path.name, "c++17") for path in INCLUDE.glob("*.hpp")
]


def compiler(family: str, language: str) -> str:
    name = {
        ("gcc", "c"): "gcc",
        ("gcc", "c++"): "g++",
        ("clang", "c"): "clang",
        ("clang", "c++"): "clang++",
    }[family, language]
    path = shutil.which(name)
    if path is None and family == "clang":
        # Swift's toolchain brings one.
        swift = shutil.which("swift")
        beside = Path(swift).resolve().parent / name if swift else None
        path = str(beside) if beside and beside.is_file() else None
    assert path, f"{name} is missing"
    return path


@pytest.mark.parametrize("family", ["gcc", "clang"])
@pytest.mark.parametrize(("header", "standard"), CASES)
def test_compiles_without_a_warning(
    tmp_path: Path, header: str, standard: str, family: str
) -> None:
    language = STANDARDS[standard]
    source = tmp_path / ("source.c" if language == "c" else "source.cpp")
    source.write_text(f'#include "{header}"\n#include "{header}"\nint main(void) {{ return 0; }}\n')
    command = [
        compiler(family, language),
        f"-std={standard}",
        *("-Wall", "-Wextra", "-Wpedantic", "-Werror"),
        *("-I", str(INCLUDE), "-fsyntax-only", str(source)),
    ]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


# Names that the host loop at the top of the header uses without declaring them.
GIVEN = """
#include <nixl_md.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static void drop_peer(const char *name, size_t len) { fwrite(name, 1, len, stderr); }
static void die(const char *text) { fputs(text, stderr); exit(1); }
static volatile int stopping;
static const char blob[] = "blob";
static const size_t blob_len = sizeof blob;
"""


@pytest.mark.parametrize("family", ["gcc", "clang"])
def test_host_loop_of_the_header_compiles(tmp_path: Path, family: str) -> None:
    """As it stands there."""
    text = (INCLUDE / "nixl_md.h").read_text()
    code = text[text.index("@code") + len("@code") : text.index("@endcode")]
    lines = [line.removeprefix(" *").removeprefix("     ") for line in code.splitlines()]
    begin = lines.index("nixl_md_config_t config;")
    functions, body = "\n".join(lines[:begin]), "\n".join(lines[begin:])
    source = tmp_path / "loop.c"
    source.write_text(f"{GIVEN}{functions}\nint main(void) {{\n{body}\nreturn 0;\n}}\n")
    command = [
        *(compiler(family, "c"), "-std=c99", "-D_POSIX_C_SOURCE=200809L", "-fsyntax-only"),
        *("-Wall", "-Wextra", "-Werror", "-I", str(INCLUDE), str(source)),
    ]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


# One of each enum, and the structs that hold their values.
USES = """
#include <stdio.h>
#include <string.h>
#include <nixl_md.h>
int main(void) {
    nixl_md_config_t config;
    nixl_md_result_t result;
    nixl_md_event_t event;
    nixl_md_opts_t opts;
    nixl_md_watch_opts_t watch;
    memset(&config, 0, sizeof config);
    memset(&result, 0, sizeof result);
    memset(&event, 0, sizeof event);
    memset(&opts, 0, sizeof opts);
    memset(&watch, 0, sizeof watch);
    config.flags = NIXL_MD_CONFIG_REFUSE_TAKEOVER | NIXL_MD_CONFIG_IGNORE_ENVIRONMENT;
    config.log_level = NIXL_MD_LOG_WARN;
    result.status = NIXL_MD_ERR_TIMED_OUT;
    result.kind = NIXL_MD_OP_LIST;
    event.type = NIXL_MD_EVENT_WITHDRAWN;
    opts.flags = NIXL_MD_FETCH_NO_WAIT;
    watch.flags = NIXL_MD_WATCH_BLOBS;
    printf("%zu %zu %zu %zu %zu %d %d %d %u\\n", sizeof config, sizeof result, sizeof event,
           sizeof opts, sizeof watch, (int)result.status, (int)event.type,
           (int)NIXL_MD_HEARTBEAT_KEEP, (unsigned)(config.flags + opts.flags + watch.flags));
    return 0;
}
"""
ENUMS = set(re.findall(r"NIXL_MD_ENUM\((\w+), u?int32_t\)", (INCLUDE / "nixl_md.h").read_text()))


def build(tmp_path: Path, standard: str, family: str, *options: str) -> Path:
    language = STANDARDS[standard]
    source = tmp_path / ("uses.c" if language == "c" else "uses.cpp")
    source.write_text(USES)
    program = tmp_path / "uses"
    command = [
        *(compiler(family, language), f"-std={standard}", "-g", "-Wall", "-Wextra", "-Werror"),
        *(*options, "-I", str(INCLUDE), "-o", str(program), str(source)),
    ]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return program


def test_every_enum_has_a_name() -> None:
    text = (INCLUDE / "nixl_md.h").read_text()
    assert len(ENUMS) > 5
    assert not re.search(r"^(typedef )?enum\b", text, re.MULTILINE)


@pytest.mark.parametrize("standard", sorted(STANDARDS))
def test_debugger_knows_the_names_of_enums(tmp_path: Path, standard: str) -> None:
    program = build(tmp_path, standard, "gcc")
    command = ["readelf", "--debug-dump=info", str(program)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert {name for name in ENUMS if name in told} == ENUMS
    assert "NIXL_MD_EVENT_GONE" in told


@pytest.mark.parametrize("standard", sorted(STANDARDS))
def test_short_enums_change_no_struct(tmp_path: Path, standard: str) -> None:
    """A host may be compiled with enums as short as their values allow."""
    told = [
        subprocess.run(
            [build(tmp_path, standard, "gcc", *options)], capture_output=True, check=True
        )
        for options in ([], ["-fshort-enums"])
    ]
    assert told[0].stdout == told[1].stdout
    assert b"-1001" in told[0].stdout


@pytest.mark.parametrize("family", ["gcc", "clang"])
def test_compiler_warns_of_a_switch_that_leaves_types_out(tmp_path: Path, family: str) -> None:
    source = tmp_path / "switch.cpp"
    source.write_text(
        "#include <nixl_md.hpp>\n"
        "int told(const nixlmd::event &e) {\n"
        "    switch (nixlmd::type_of(e)) { case NIXL_MD_EVENT_GONE: return 1; }\n"
        "    return 0;\n}\n"
    )
    command = [
        *(compiler(family, "c++"), "-std=c++17", "-Wall", "-I", str(INCLUDE)),
        *("-fsyntax-only", str(source)),
    ]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "not handled in switch" in process.stderr
