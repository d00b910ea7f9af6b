# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""A C and a C++ program find the installed library with pkg-config, CMake and meson, and run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
TREE = HERE.parents[1]
LANGUAGES = {"c": "C", "cpp": "C++"}
DEFINED = re.compile(r"#define NIXL_MD_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)")
VERSION = ".".join(DEFINED.findall((TREE / "include" / "nixl_md.h").read_text()))


def run(*command: str | Path, environment: dict[str, str] | None = None) -> str:
    """The command's output; if it fails, the failure shows it."""
    process = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert process.returncode == 0, f"{shlex.join(map(str, command))}:\n{process.stdout}"
    return process.stdout


def library_in(prefix: Path) -> Path:
    """Its directory: lib, or what the distribution calls it."""
    found = list(prefix.glob("lib*/**/libnixl_md.so"))
    assert len(found) == 1, f"one libnixl_md.so under {prefix}, not {found}"
    return found[0].parent


def check_runs(program: Path, language: str, prefix: Path) -> None:
    path = {"LD_LIBRARY_PATH": str(library_in(prefix))}
    assert run(program, environment=path) == f"{LANGUAGES[language]} {VERSION}\n"


def pkg_config_path(prefix: Path) -> dict[str, str]:
    return {"PKG_CONFIG_PATH": str(library_in(prefix) / "pkgconfig")}


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Installed into one place and moved to another: nothing in it may know where it was. With
    NIXL_MD_TARBALL, what that tarball has instead."""
    base = tmp_path_factory.mktemp("installed")
    first, moved = base / "first", base / "moved to"
    if tarball := os.environ.get("NIXL_MD_TARBALL"):
        first.mkdir()
        run("tar", "-xf", tarball, "-C", first)
        (unpacked,) = first.iterdir()
        shutil.move(unpacked, moved)
        return moved
    build = Path(os.environ.get("NIXL_MD_BUILD", TREE / "build"))
    run("cmake", "-S", TREE, "-B", build, f"-DCMAKE_INSTALL_PREFIX={first}")
    run("cmake", "--build", build)
    run("cmake", "--install", build, environment={"DESTDIR": ""})
    shutil.move(first, moved)
    return moved


@pytest.mark.parametrize("language", LANGUAGES)
def test_pkg_config(prefix: Path, tmp_path: Path, language: str) -> None:
    environment = pkg_config_path(prefix)
    flags = run("pkg-config", "--cflags", "--libs", "nixl_md", environment=environment)
    compiler = "cc" if language == "c" else "c++"
    program = tmp_path / "consumer"
    source = HERE / f"consumer.{language}"
    run(compiler, "-Wall", "-Wextra", "-Werror", source, *shlex.split(flags), "-o", program)
    check_runs(program, language, prefix)


def test_pkg_config_knows_the_version(prefix: Path) -> None:
    environment = pkg_config_path(prefix)
    assert run("pkg-config", "--modversion", "nixl_md", environment=environment).strip() == VERSION


def test_cmake(prefix: Path, tmp_path: Path) -> None:
    run("cmake", "-S", HERE, "-B", tmp_path, f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", tmp_path)
    for language in LANGUAGES:
        check_runs(tmp_path / f"consumer-{language}", language, prefix)


def test_cmake_refuses_another_version(prefix: Path, tmp_path: Path) -> None:
    """Before 1.0 each minor version is one of its own."""
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\n"
        "project(consumer LANGUAGES C)\n"
        "find_package(nixl_md 0.2 QUIET)\n"
        "if(nixl_md_FOUND)\n"
        "  message(FATAL_ERROR found)\n"
        "endif()\n"
    )
    run("cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}")


def test_meson(prefix: Path, tmp_path: Path) -> None:
    run("meson", "setup", tmp_path / "build", HERE, environment=pkg_config_path(prefix))
    run("meson", "compile", "-C", tmp_path / "build")
    for language in LANGUAGES:
        check_runs(tmp_path / "build" / f"consumer-{language}", language, prefix)


def test_installed_files_name_no_path_of_the_build(prefix: Path) -> None:
    files = [path for path in prefix.rglob("*") if path.suffix in {".pc", ".cmake", ".h", ".hpp"}]
    assert {path.name for path in files} >= {"nixl_md.h", "nixl_md.pc", "nixl_md-config.cmake"}
    for path in files:
        text = path.read_text()
        for place in (TREE, prefix.parent):
            assert str(place) not in text, f"{path} holds {place}"


def test_installed_links(prefix: Path) -> None:
    directory = library_in(prefix)
    assert os.readlink(directory / "libnixl_md.so") == "libnixl_md.so.0"
    assert os.readlink(directory / "libnixl_md.so.0") == f"libnixl_md.so.{VERSION}"


def test_make_install_honours_destdir(tmp_path: Path) -> None:
    run("make", "-C", TREE, "install", "PREFIX=/opt/nixl_md", f"DESTDIR={tmp_path}")
    assert (tmp_path / "opt/nixl_md/include/nixl_md.h").is_file()
    assert library_in(tmp_path / "opt/nixl_md").is_dir()


def test_example_of_the_readme(prefix: Path, tmp_path: Path) -> None:
    """As it stands there; without etcd's address it ends and says so."""
    blocks = re.findall(r"```c\n(.*?)```", (TREE / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    source = tmp_path / "host.c"
    source.write_text(blocks[0])
    flags = run("pkg-config", "--cflags", "--libs", "nixl_md", environment=pkg_config_path(prefix))
    program = tmp_path / "host"
    warnings = ("-Wall", "-Wextra", "-Werror")
    run(
        "cc",
        "-std=c99",
        "-D_POSIX_C_SOURCE=200809L",
        *warnings,
        source,
        *shlex.split(flags),
        "-o",
        program,
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NIXL_")}
    environment["LD_LIBRARY_PATH"] = str(library_in(prefix))
    process = subprocess.run(
        [program], env=environment, capture_output=True, text=True, check=False, timeout=20
    )
    assert process.returncode == 1
    assert "NIXL_ETCD_ENDPOINTS" in process.stderr
