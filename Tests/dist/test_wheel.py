# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""The wheel, on a Debian that has python3 and neither libcurl nor any certificate."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path

import pytest

from certificates import Authority
from conftest import Served
from machine_root import RELEASES, TREE, Root, made

MAXIMUM_SIZE = 3_000_000
FIRST_REFUSED_GLIBC = (2, 36)
# The library's time to live and what is promised beyond it, and time for a busy machine.
GONE_SECONDS = 15 + 2 + 10
# Where Debian and Ubuntu, RHEL, Fedora, and SUSE have the authorities that they trust.
PLACES = (
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "etc/ssl/ca-bundle.pem",
)
OPEN = """
import sys, time
from nixl_md import Agent, NixlMDError
try:
    with Agent(endpoints=sys.argv[1], logger=None) as agent:
        print(agent.list().wait(10).agents)
except NixlMDError as failure:
    print(type(failure).__name__, failure)
"""


def example() -> str:
    """README's host in Python, which is beta and watches alpha."""
    blocks = re.findall(r"```python\n(.*?)```", (TREE / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    return str(blocks[0])


def place(text: str, endpoint: str) -> str:
    assert "127.0.0.1:2379" in text
    return text.replace("127.0.0.1:2379", endpoint)


def swapped(text: str) -> str:
    """The same with the two names exchanged."""
    return re.sub(
        r"alpha|beta", lambda name: {"alpha": "beta", "beta": "alpha"}[name.group()], text
    )


@pytest.fixture(scope="module", params=RELEASES)
def root(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Root]:
    """pip is run from its own wheel: it is not on the machine either."""
    directory = tmp_path_factory.mktemp("wheel")
    download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(directory)]
    subprocess.run([*download, "pip"], check=True)
    root = Root(request.param, directory / "root")
    try:
        (pip,) = directory.glob("pip-*.whl")
        wheel = root.take(made("*.whl"))
        assert root.try_run("sh", "-c", "ls /usr/lib/*/libcurl*").returncode != 0
        flags = ("--no-index", "--break-system-packages", "--root-user-action=ignore")
        root.run("python3", f"{root.take(pip)}/pip", "install", *flags, wheel)
        yield root
    finally:
        root.close()


@pytest.fixture(params=["cleartext", "secure"])
def served(request: pytest.FixtureRequest) -> Served:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Served)
    return found


def test_example_of_the_readme_gone_after_sigkill(root: Root, served: Served) -> None:
    environment = {}
    if served.authority:
        environment["SSL_CERT_FILE"] = root.take(served.authority)
    text = place(example(), served.endpoint)
    beta = root.start("python3", root.write("/root/beta.py", text), **environment)
    alpha = root.start("python3", root.write("/root/alpha.py", swapped(text)), **environment)
    for program, peer in ((beta, "alpha"), (alpha, "beta")):
        program.expect("b'blob'")
        program.expect(f"agent='{peer}'")
    assert "GONE" not in beta.output
    alpha.kill()
    seconds = beta.expect("GONE", GONE_SECONDS)
    print(f"{served.endpoint}: GONE {seconds:.1f} s after SIGKILL")


def test_https_without_authorities_names_the_searched_paths(
    root: Root, secure: Served
) -> None:
    told = root.run("python3", "-c", OPEN, secure.endpoint)
    assert told.startswith("InvalidParameter no trusted authorities for https")
    for each in PLACES:
        assert f"/{each}" in told
    assert "SSL_CERT_FILE" in told


def test_ssl_cert_file_that_is_missing_is_named(root: Root, secure: Served) -> None:
    told = root.run("python3", "-c", OPEN, secure.endpoint, SSL_CERT_FILE="/no/such.pem")
    assert told == "InvalidParameter SSL_CERT_FILE names '/no/such.pem', which cannot be read\n"


@pytest.mark.parametrize("where", PLACES)
def test_authorities_of_the_system(root: Root, secure: Served, where: str) -> None:
    assert secure.authority
    root.write(where, secure.authority.read_text())
    try:
        assert root.run("python3", "-c", OPEN, secure.endpoint) == "[]\n"
    finally:
        (root.path / where).unlink()


def test_server_of_another_authority_is_refused(
    root: Root, secure: Served, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Authority(tmp_path_factory.mktemp("stranger"), "stranger")
    file = root.take(stranger.certificate)
    told = root.run("python3", "-c", OPEN, secure.endpoint, SSL_CERT_FILE=file)
    assert told.startswith("TimedOut")
    assert "certificate" in told


def test_everything_it_loads_is_its_own(root: Root, secure: Served) -> None:
    """Except the C library, which the machine has."""
    text = OPEN + "print([line.split()[-1] for line in open('/proc/self/maps') if '.so' in line])"
    assert secure.authority
    file = root.take(secure.authority)
    loaded = root.run("python3", "-c", text, secure.endpoint, SSL_CERT_FILE=file)
    for name in ("libcurl", "libssl", "libcrypto", "libnghttp2"):
        found = set(re.findall(rf"'([^']*/{name}[^']*)'", loaded))
        assert len(found) == 1, f"{name}: {found}"
        assert "/nixl_md.libs/" in found.pop()


def test_beside_the_openssl_of_python(root: Root, secure: Served) -> None:
    """Which the process has loaded before: the functions that the library looks up are those of
    its own copy, and both work."""
    text = (
        "import ssl\n"
        + OPEN
        + "context = ssl.create_default_context(cafile=sys.argv[2])\n"
        # The authority of this test says less of itself than Python 3.13 asks for.
        + "context.verify_flags &= ~ssl.VERIFY_X509_STRICT\n"
        + "import urllib.request\n"
        + "url = sys.argv[1] + '/version'\n"
        + "print(urllib.request.urlopen(url, context=context).status)\n"
        + "print({line.split()[-1] for line in open('/proc/self/maps') if '/libssl' in line})"
    )
    assert secure.authority
    file = root.take(secure.authority)
    told = root.run("python3", "-c", text, secure.endpoint, file, SSL_CERT_FILE=file)
    assert told.startswith("[]\n200\n"), told
    assert len(re.findall(r"libssl", told)) == 2, told


def test_size_and_platform() -> None:
    wheel = made("*.whl")
    print(f"{wheel.name}: {wheel.stat().st_size} bytes")
    assert wheel.stat().st_size <= MAXIMUM_SIZE
    tag = re.fullmatch(r"nixl_md-[\d.]+-py3-none-manylinux_(\d+)_(\d+)_x86_64\.whl", wheel.name)
    assert tag, wheel.name
    assert (int(tag[1]), int(tag[2])) < FIRST_REFUSED_GLIBC


def test_metadata_licences_and_versions(tmp_path: Path) -> None:
    with zipfile.ZipFile(made("*.whl")) as wheel:
        names = wheel.namelist()
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        told = message_from_string(wheel.read(metadata).decode())
        (versions,) = [name for name in names if name == "nixl_md/libraries.txt"]
        bundled = dict(line.split() for line in wheel.read(versions).decode().splitlines())
    assert told["Name"] == "nixl-md"
    assert told["Requires-Python"] == ">=3.9"
    assert told["License-Expression"] == "Apache-2.0 AND curl AND MIT"
    assert told["Description-Content-Type"] == "text/markdown"
    for field in ("Summary", "Author", "Keywords", "Classifier", "Project-URL"):
        assert told[field], field
    for licence in ("LICENSE", "LICENSE.curl", "LICENSE.openssl", "LICENSE.nghttp2"):
        assert any(name.endswith(f"/licenses/{licence}") for name in names), licence
    assert set(bundled) == {"curl", "openssl", "nghttp2"}
    assert not any("tests" in name or name.endswith(".pyc") for name in names)
