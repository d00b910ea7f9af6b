# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The sources that use libcurl, compiled against the headers of this libcurl."""

from __future__ import annotations

import subprocess
from pathlib import Path

import libcurl
from conftest import TREE

SOURCES = TREE / "Sources"
# The modules that do not use libcurl, as `make` has built them.
BUILT_MODULES = TREE / ".build/embedded/release/Modules"
C_MODULES = sorted(path.name for path in SOURCES.iterdir() if (path / "include").is_dir())


def include_flags() -> list[str]:
    flags = [f"-I{SOURCES / name / 'include'}" for name in C_MODULES]
    return [*(f"-I{path}" for path in libcurl.include_directories()), *flags]


def check(command: list[str]) -> None:
    done = subprocess.run(command, cwd=TREE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_swift_sources_compile_with_its_headers(tmp_path: Path) -> None:
    module_map = tmp_path / "module.modulemap"
    module_map.write_text(
        "\n".join(
            f'module {name} {{ header "{SOURCES}/{name}/include/{name}.h" export * }}'
            for name in C_MODULES
        )
    )
    features = ("Embedded", "Lifetimes")
    check(
        [
            *("swiftc", "-typecheck", "-wmo", "-swift-version", "6", "-warnings-as-errors"),
            *(word for name in features for word in ("-enable-experimental-feature", name)),
            *("-module-name", "NixlMD", "-module-cache-path", str(tmp_path / "cache")),
            *("-I", str(BUILT_MODULES), "-Xcc", f"-fmodule-map-file={module_map}"),
            *(word for flag in include_flags() for word in ("-Xcc", flag)),
            *(str(path) for path in sorted((SOURCES / "NixlMD").rglob("*.swift"))),
        ]
    )


def test_c_sources_compile_with_its_headers() -> None:
    sources = [str(path) for name in C_MODULES for path in sorted((SOURCES / name).glob("*.c"))]
    warnings = ("-Wall", "-Wextra", "-Werror")
    check(["cc", "-std=gnu11", "-fsyntax-only", *warnings, *include_flags(), *sources])
