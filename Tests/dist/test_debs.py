# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The Debian packages, installed by apt on a Debian that has python3 and a C compiler."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from conftest import Served
from machine_root import TREE, Root, made, own_release
from test_wheel import GONE_SECONDS, example, place

PACKAGES = ("libnixl-md0", "libnixl-md-dev", "python3-nixl-md")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    root = Root(own_release(), tmp_path_factory.mktemp("debs") / "root")
    try:
        shutil.copy("/etc/resolv.conf", root.path / "etc/resolv.conf")
        packages = [root.take(made(f"{name}_*.deb")) for name in PACKAGES]
        apt = ("apt-get", "-q", "-o", "APT::Sandbox::User=root")
        root.run(*apt, "update")
        install = (*apt, "install", "-y", "--no-install-recommends")
        root.run(*install, *packages, "gcc", "libc6-dev", "pkg-config")
        yield root
    finally:
        root.close()


def test_examples_of_the_readme_in_c_and_python(root: Root, cleartext: Served) -> None:
    (text,) = re.findall(r"```c\n(.*?)```", (TREE / "README.md").read_text(), re.DOTALL)
    root.write("/root/host.c", text)
    flags = root.run("pkg-config", "--cflags", "--libs", "nixl_md").split()
    root.run("cc", "-Wall", "-Werror", "/root/host.c", *flags, "-o", "/root/host")
    # It says where it cannot reach an etcd.
    assert "NIXL_ETCD_ENDPOINTS" in root.try_run("/root/host").stderr
    python = root.write("/root/beta.py", place(example(), cleartext.endpoint))
    beta = root.start("python3", python)
    alpha = root.start("/root/host", NIXL_ETCD_ENDPOINTS=cleartext.endpoint)
    beta.expect("b'blob'")
    beta.expect("agent='alpha'")
    alpha.kill()
    seconds = beta.expect("GONE", GONE_SECONDS)
    print(f"GONE {seconds:.1f} s after SIGKILL")


def test_python_uses_the_library_of_the_package(root: Root) -> None:
    told = root.run("python3", "-c", "import nixl_md; print(nixl_md.library()._name)")
    assert told == "libnixl_md.so.0\n"


def test_purge_leaves_nothing(root: Root) -> None:
    root.run("dpkg", "--purge", *reversed(PACKAGES))
    left = root.run("sh", "-c", "find / -xdev -iname '*nixl*md*' -not -path '/root/*'")
    assert left == ""


@pytest.mark.parametrize("name", PACKAGES)
def test_lintian_finds_no_error(name: str) -> None:
    done = subprocess.run(
        ["lintian", "--fail-on", "error", str(made(f"{name}_*.deb"))],
        capture_output=True,
        text=True,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


def test_library_depends_on_libcurl_and_nghttp2_of_debian() -> None:
    package = str(made("libnixl-md0_*.deb"))
    field = subprocess.check_output(["dpkg-deb", "-f", package, "Depends"], text=True)
    names = {each.split()[0] for each in field.split(", ")}
    assert {"libc6", "libcurl4", "libnghttp2-14"} <= names, field
