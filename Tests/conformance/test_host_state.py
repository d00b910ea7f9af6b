# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""State of the host that the library must not change: the thread's OpenSSL errors, the environment,
descriptors; and its behaviour in a canceled thread, on a kernel that lacks something, and with
secrets."""

from __future__ import annotations

import asyncio
import ctypes
import os
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import capi
from certificates import Authority
from conftest import EtcdFactory, HostFactory
from etcd_server import Etcd, free_ports
from inprocess import Local

RESTARTS = 20
NATIVE = pytest.mark.native("not a C++ host")


def secured(own_etcd: EtcdFactory, directory: Path) -> tuple[Etcd, Authority]:
    authority = Authority(directory / "ca", "authority")
    certificate, key = authority.issue("server", "IP:127.0.0.1")
    context = ssl.create_default_context(cafile=str(authority.certificate))
    flags = ("--cert-file", str(certificate), "--key-file", str(key))
    return own_etcd("3.5", *flags, tls=context), authority


class ErrorQueue:
    """OpenSSL's, of this thread: the library that Python and libcurl share."""

    def __init__(self) -> None:
        self._crypto = ctypes.CDLL("libcrypto.so.3")
        self._crypto.ERR_peek_error.restype = ctypes.c_ulong
        self._crypto.ERR_peek_last_error.restype = ctypes.c_ulong

    def fill(self) -> None:
        for reason in (1234, 4321):
            self._crypto.ERR_new()
            self._crypto.ERR_set_debug(b"host.c", 7, b"host")
            self._crypto.ERR_set_error(128, reason, b"%s", b"the host's own")

    def look(self) -> tuple[int, int]:
        return self._crypto.ERR_peek_error(), self._crypto.ERR_peek_last_error()

    def clear(self) -> None:
        self._crypto.ERR_clear_error()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    finally:
        writer.close()


class EchoServer:
    """TLS, in a thread of its own: queues of errors are per thread."""

    def __init__(self, directory: Path) -> None:
        authority = Authority(directory / "echo", "echo")
        certificate, key = authority.issue("server", "IP:127.0.0.1")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self.client = ssl.create_default_context(cafile=str(authority.certificate))
        (self.port,) = free_ports(1)
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,))
        self._thread.start()
        assert started.wait(20)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve(started))
        self._loop.close()

    async def _serve(self, started: threading.Event) -> None:
        self._over = asyncio.Event()
        server = await asyncio.start_server(echo, "127.0.0.1", self.port, ssl=self._context)
        started.set()
        await self._over.wait()
        server.close()
        await server.wait_closed()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0.1)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()


@NATIVE
def test_opensslErrorsOfTheThread_areUntouched(own_etcd: EtcdFactory, tmp_path: Path) -> None:
    """An asyncio host with a TLS stream of its own, through restarts, freezes and refusals of an
    etcd over TLS; and with errors of its own in the queue."""
    etcd, authority = secured(own_etcd, tmp_path)
    server = EchoServer(tmp_path)
    queue = ErrorQueue()
    values = {"endpoints": etcd.endpoint.encode(), "name_space": b"/ns/", "agent_len": 5}
    ca_file = str(authority.certificate).encode()

    def open_handles() -> list[Local]:
        stranger = str(Authority(tmp_path / "stranger", "stranger").certificate).encode()
        return [
            Local(**values, agent=b"alpha", ca_file=ca_file),
            Local(**values, agent=b"gamma", ca_file=stranger),
        ]

    def tick(handles: list[Local], is_filled: bool) -> None:
        queue.clear()
        if is_filled:
            queue.fill()
        before = queue.look()
        for local in handles:
            assert local.call("tick") >= 0
            assert queue.look() == before
        queue.clear()

    async def live() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=server.client)
        handles = open_handles()
        for local in handles:
            assert local.call("start_heartbeat", 200, 5000, None, None) == capi.SUCCESS

        async def turn(text: bytes, is_filled: bool) -> None:
            tick(handles, is_filled)
            writer.write(text)
            assert await asyncio.wait_for(reader.readline(), 30) == text
            await asyncio.sleep(0.01)

        for number in range(RESTARTS):
            freezes = number % 4 == 3
            connects = handles[0].stats()["connects"]
            if freezes:
                etcd.freeze()
            else:
                etcd.kill()
            for count in range(60):
                if count == 10:
                    if freezes:
                        etcd.thaw()
                    else:
                        etcd.start()
                await turn(b"%d %d\n" % (number, count), is_filled=count % 2 == 1)
            deadline = time.monotonic() + 60
            while not (freezes or handles[0].stats()["connects"] > connects):
                assert time.monotonic() < deadline
                await turn(b"wait\n", is_filled=True)
        for local in handles:
            queue.fill()
            before = queue.look()
            local.close()
            assert queue.look() == before
            queue.clear()
        writer.write(b"end\n")
        assert await asyncio.wait_for(reader.readline(), 30) == b"end\n"
        writer.close()
        await writer.wait_closed()

    try:
        asyncio.run(live())
    finally:
        server.close()


def test_keyLogFile_staysEmpty(hosts: HostFactory, own_etcd: EtcdFactory, tmp_path: Path) -> None:
    """libcurl creates the file that SSLKEYLOGFILE names; no key is written to it."""
    etcd, authority = secured(own_etcd, tmp_path)
    log = tmp_path / "keys"
    host = hosts(environment={"SSLKEYLOGFILE": str(log)})
    ca_file = str(authority.certificate).encode()
    host.open(etcd.endpoint, b"/ns/", agent=b"alpha", ca_file=ca_file)
    host.succeed("publish", label=b"l", blob=b"b")
    assert not log.exists() or log.read_text() == ""


def test_finiteFields_areNotUsed(hosts: HostFactory, tmp_path: Path) -> None:
    """The answer to a server's ffdhe8192 costs 116 ms of CPU, before its certificate is seen."""
    authority = Authority(tmp_path / "ca", "authority")
    certificate, key = authority.issue("server", "IP:127.0.0.1")
    (port,) = free_ports(1)
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-tls1_3", "-quiet"]
    command += ["-groups", "ffdhe8192", "-cert", str(certificate), "-key", str(key)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        host = hosts()
        ca_file = str(authority.certificate).encode()
        host.open(f"https://127.0.0.1:{port}", b"/ns/", agent=b"alpha", ca_file=ca_file)
        watch = host.start("watch", agent=b"beta")
        text = host.event("CONTACT_LOST", watch=watch, within=10)["text"]
        # The alert of the server; without a server the text is another.
        assert "handshake failure" in text, text
        stats = host.stats()
        # Of OpenSSL's beginning, too.
        assert stats["tick_tls_setup_cpu_max_ns"] < 60e6, stats
    finally:
        server.kill()
        server.communicate()


@pytest.mark.parametrize("fault", ["encrypted", "empty", "of another certificate", "no key"])
def test_unusableKey_errorSaysWhy(
    hosts: HostFactory, own_etcd: EtcdFactory, tmp_path: Path, fault: str
) -> None:
    etcd, authority = secured(own_etcd, tmp_path)
    certificate, key = authority.issue("client")
    if fault == "encrypted":
        command = ["openssl", "pkey", "-in", str(key), "-aes256", "-passout", "pass:secret"]
        encrypted = subprocess.run(command, check=True, capture_output=True).stdout
        key.write_bytes(encrypted)
    elif fault == "of another certificate":
        key = authority.issue("other")[1]
    else:
        key.write_text("" if fault == "empty" else "nothing of the kind\n")
    host = hosts()
    host.open(
        etcd.endpoint,
        b"/ns/",
        agent=b"alpha",
        ca_file=str(authority.certificate).encode(),
        cert_file=str(certificate).encode(),
        key_file=str(key).encode(),
    )
    lost = host.event("CONTACT_LOST", watch=host.start("watch", agent=b"beta"), within=10)
    words = {
        "encrypted": "is encrypted",
        "empty": "is empty",
        "of another certificate": "is not that of the certificate",
        "no key": "holds no private key",
    }
    assert words[fault] in lost["text"], lost["text"]


def test_noDescriptorLeft_errorSaysSo(own_etcd: EtcdFactory) -> None:
    """EMFILE is not 'could not connect'."""
    program = """
import resource, sys
sys.path[:0] = sys.argv[2:]
import capi
from inprocess import Local
local = Local(endpoints=sys.argv[1].encode(), name_space=b"/ns/", agent=b"alpha", agent_len=5)
texts = []
held = []
try:
    while True:
        held.append(open("/dev/null"))
except OSError:
    pass
import ctypes, time
def on_event(pointer, _):
    texts.append(pointer.contents.text or b"")
callback = capi.EventCallback(on_event)
assert local.call("watch", b"beta", 4, callback, None, None) == 0
deadline = time.monotonic() + 20
while not any(texts) and time.monotonic() < deadline:
    assert local.call("tick") >= 0
    time.sleep(0.005)
print(texts)
"""
    etcd = own_etcd("3.5")
    here = Path(__file__).resolve().parent
    done = subprocess.run(
        [
            *("sh", "-c", 'ulimit -n 64; exec "$@"', "sh", sys.executable, "-c", program),
            *(etcd.endpoint, str(here), str(here.parent / "support")),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "too many open descriptors in this process" in done.stdout, done.stdout


@NATIVE
def test_everyDescriptor_isCloseOnExec_whileOthersOpenFiles(etcd34: Etcd, namespace: bytes) -> None:
    """libcurl 7.88.1 opens a socket pair without it. Other threads open and close files."""
    over = threading.Event()

    def disturb() -> None:
        while not over.is_set():
            with open("/dev/null"), open("/dev/null"):
                pass

    threads = [threading.Thread(target=disturb) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(60):
            before = {int(name) for name in os.listdir("/proc/self/fd")}
            local = Local(
                endpoints=etcd34.endpoint.encode(), name_space=namespace, agent=b"a", agent_len=1
            )
            if number % 10 == 0:
                assert local.finish("publish", b"l", 1, b"b", 1)[0] == capi.SUCCESS
            for name in os.listdir("/proc/self/fd"):
                if int(name) not in before:
                    try:
                        assert not os.get_inheritable(int(name)), os.readlink(
                            f"/proc/self/fd/{name}"
                        )
                    except OSError:
                        continue  # The descriptor of a thread, closed already.
            local.close()
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("secure", [False, True])
def test_uncheckedTls_isWarnedOfAtOpen(hosts: HostFactory, secure: bool) -> None:
    host = hosts()
    values = {"user": b"root", "password": b"secret", "log": 1, "log_level": 4}
    scheme = "https" if secure else "http"
    flags = capi.CONFIG_TLS_NO_VERIFY if secure else 0
    host.open(f"{scheme}://127.0.0.1:1", b"/ns/", agent=b"alpha", flags=flags, **values)
    texts = [line["line"] for line in host.lines("log")]
    expected = "NIXL_MD_CONFIG_TLS_NO_VERIFY" if secure else "the password goes over http://"
    assert len([text for text in texts if expected in text]) == 1, texts
    assert len(texts) == 1, texts


SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/timerfd.h>

// A kernel without MADV_WIPEONFORK.
int madvise(void *start, size_t size, int advice) {
    static int (*real)(void *, size_t, int);
    if (!real) real = (int (*)(void *, size_t, int))dlsym(RTLD_NEXT, "madvise");
    if (advice == MADV_WIPEONFORK) {
        errno = EINVAL;
        return -1;
    }
    return real(start, size, advice);
}
#ifdef LATE
// A timer that never comes.
int timerfd_settime(int timer, int flags, const struct itimerspec *at, struct itimerspec *before) {
    (void)timer, (void)flags, (void)at, (void)before;
    return 0;
}
#endif
"""


def shim(directory: Path, *flags: str) -> dict[str, str]:
    return shared(directory, SHIM, *flags)


def shared(directory: Path, text: str, *flags: str) -> dict[str, str]:
    """The environment of a process that has this in front of the C library."""
    source, library = directory / "shim.c", directory / "shim.so"
    source.write_text(text)
    command = ["cc", "-shared", "-fPIC", *flags, str(source), "-o", str(library), "-ldl"]
    subprocess.run(command, check=True)
    return {"LD_PRELOAD": str(library)}


GUARDED = """
import os, sys
sys.path[:0] = sys.argv[2:]
import capi
from inprocess import Local
local = Local(endpoints=sys.argv[1].encode(), name_space=b"/ns/", agent=b"alpha", agent_len=5)
assert local.finish("publish", b"l", 1, b"b", 1)[0] == 0
child = os.fork()
if child == 0:
    os._exit(0 if local.library.nixl_md_tick(local.pointer) == capi.FORKED else 1)
assert os.waitpid(child, 0)[1] == 0
assert local.finish("publish", b"l", 1, b"c", 1)[0] == 0
local.close()
"""


def run_guarded(program: str, etcd: Etcd, environment: dict[str, str]) -> None:
    here = Path(__file__).resolve().parent
    done = subprocess.run(
        [sys.executable, "-c", program, etcd.endpoint, str(here), str(here.parent / "support")],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_fork_isNoticed_whereTheKernelHasNoWipeOnFork(
    own_etcd: EtcdFactory, tmp_path: Path
) -> None:
    run_guarded(GUARDED, own_etcd("3.5"), shim(tmp_path))


def test_forkedChild_closes_andTheParentsTlsGoesOn(
    hosts: HostFactory, own_etcd: EtcdFactory, tmp_path: Path
) -> None:
    """libcurl 7.88.1 says farewell in the child, on the connection that both have."""
    etcd, authority = secured(own_etcd, tmp_path)
    host = hosts()
    host.open(etcd.endpoint, b"/ns/", agent=b"alpha", ca_file=str(authority.certificate).encode())
    host.succeed("start_heartbeat", interval=500, ttl=5000)
    host.succeed("publish", label=b"l", blob=b"b")
    watch = host.start("watch", agent=b"beta")
    host.event("SYNCED", watch=watch)
    for number in range(3):
        assert host.do("fork")["child_status"] == 0
        host.succeed("publish", label=b"l", blob=b"%d" % number)
        etcd.gateway.put(b"/ns//beta/%d" % number, b"b")
        host.event("PUT", watch=watch, label=b"%d" % number)
    stats = host.stats()
    assert (stats["connects"], stats["connects_failed"], stats["leases_lost"]) == (1, 0, 0)


LATE = """
import sys, time
sys.path[:0] = sys.argv[2:]
from inprocess import Local
local = Local(endpoints=sys.argv[1].encode(), name_space=b"/ns/", agent=b"alpha", agent_len=5)
assert local.finish("start_heartbeat", 200, 2000)[0] == 0
local.tick_until(lambda: local.stats()["renewals"] >= 10, 60)
assert local.stats()["leases_lost"] == 0
local.close()
"""


def test_heartbeat_goesOn_whereTheTimerNeverComes(own_etcd: EtcdFactory, tmp_path: Path) -> None:
    """As under libfaketime: the host ticks at intervals, and the clock is enough."""
    run_guarded(LATE, own_etcd("3.5"), shim(tmp_path, "-DLATE"))


ENVIRONMENT = """
#include <nixl_md.h>

int main(void) {
    nixl_md_config_t config = {.size = sizeof config, .name_space = "/ns/"};
    nixl_md_t *md;
    if (nixl_md_open(&config, &md) != NIXL_MD_SUCCESS) return 10;
    nixl_md_close(md);
    return 0;
}
"""
# As glibc's does where the process has more rights than its user (AT_SECURE).
SECURE = """
#include <stddef.h>
char *secure_getenv(const char *name) {
    (void)name;
    return NULL;
}
"""


@NATIVE
@pytest.mark.parametrize("is_secure", [False, True])
def test_environment_isNotRead_underAtSecure(
    library: Path, soname_directory: Path, tmp_path: Path, is_secure: bool
) -> None:
    program = compiled(tmp_path, ENVIRONMENT, library, soname_directory)
    environment = {**os.environ, "NIXL_ETCD_ENDPOINTS": "127.0.0.1:2379"}
    if is_secure:
        environment |= shared(tmp_path, SECURE)
    done = subprocess.run([program], env=environment, timeout=60)
    assert done.returncode == (10 if is_secure else 0)


CANCELED = """
#include <nixl_md.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static nixl_md_t *md;
static volatile int ticks, done;

static void on_done(const nixl_md_result_t *result, void *user) {
    (void)user;
    done = result->status == NIXL_MD_SUCCESS ? 1 : -1;
}

static void *work(void *user) {
    if (user) pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    for (;;) {
        // The library's own system calls are the only places where a deferred request could act.
        nixl_md_tick(md);
        ticks++;
        pthread_testcancel();
    }
    return NULL;
}

int main(int argc, char **argv) {
    (void)argc;
    nixl_md_config_t config = {.size = sizeof config, .endpoints = argv[1], .name_space = "/ns/",
                               .agent = "alpha", .agent_len = 5};
    if (nixl_md_open(&config, &md) != NIXL_MD_SUCCESS) return 1;
    nixl_md_opts_t opts = {.size = sizeof opts, .on_done = on_done};
    for (int i = 0; i < 200; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, work, i % 2 ? md : NULL);
        nixl_md_publish(md, "l", 1, "b", 1, NULL, NULL);
        for (int before = ticks; ticks < before + 3;) usleep(10);
        pthread_cancel(thread);
        pthread_join(thread, NULL);
    }
    if (nixl_md_publish(md, "l", 1, "c", 1, &opts, NULL) != NIXL_MD_SUCCESS) return 2;
    for (int i = 0; i < 20000 && !done; i++) {
        if (nixl_md_tick(md) < 0) return 3;
        usleep(1000);
    }
    if (done != 1) return 4;
    return nixl_md_close(md) == NIXL_MD_SUCCESS ? 0 : 5;
}
"""


def compiled(directory: Path, text: str, library: Path, soname_directory: Path) -> Path:
    source, binary = directory / "program.c", directory / "program"
    source.write_text(text)
    include = Path(__file__).resolve().parents[2] / "include"
    command = ["cc", "-O1", "-pthread", f"-I{include}", str(source), "-o", str(binary)]
    subprocess.run([*command, str(library), f"-Wl,-rpath,{soname_directory}"], check=True)
    return binary


@NATIVE
def test_tickingThread_canceled_leavesTheHandleUsable(
    own_etcd: EtcdFactory, library: Path, soname_directory: Path, tmp_path: Path
) -> None:
    program = compiled(tmp_path, CANCELED, library, soname_directory)
    done = subprocess.run([program, own_etcd("3.5").endpoint], timeout=120)
    assert done.returncode == 0


SECRETS = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <nixl_md.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int done;

static void on_done(const nixl_md_result_t *result, void *user) {
    (void)user;
    done = result->status == NIXL_MD_SUCCESS ? 1 : -1;
}

// How often the text occurs in writable memory; `inverted` so that the search does not hold it.
static int count(const unsigned char *inverted, size_t length) {
    FILE *maps = fopen("/proc/self/maps", "r");
    int memory = open("/proc/self/mem", O_RDONLY), found = 0;
    char line[512];
    while (fgets(line, sizeof line, maps)) {
        unsigned long start, end;
        char mode[8];
        if (sscanf(line, "%lx-%lx %7s", &start, &end, mode) != 3 || mode[1] != 'w') continue;
        unsigned char *copy = malloc(end - start);
        ssize_t got = pread(memory, copy, end - start, (off_t)start);
        for (ssize_t i = 0; i + (ssize_t)length <= got; i++) {
            size_t k = 0;
            while (k < length && (unsigned char)~copy[i + (ssize_t)k] == inverted[k]) k++;
            found += k == length;
        }
        explicit_bzero(copy, end - start);
        free(copy);
    }
    fclose(maps);
    close(memory);
    return found;
}

int main(int argc, char **argv) {
    (void)argc;
    unsigned char inverted[] = {INVERTED};
    char password[sizeof inverted + 1] = {0};
    for (size_t i = 0; i < sizeof inverted; i++) password[i] = (char)~inverted[i];
    nixl_md_config_t config = {.size = sizeof config, .endpoints = argv[1], .name_space = "/ns/",
                               .agent = "alpha", .agent_len = 5, .user = "root",
                               .password = password};
    nixl_md_t *md;
    if (nixl_md_open(&config, &md) != NIXL_MD_SUCCESS) return 1;
    nixl_md_opts_t opts = {.size = sizeof opts, .on_done = on_done};
    if (nixl_md_publish(md, "l", 1, "c", 1, &opts, NULL) != NIXL_MD_SUCCESS) return 2;
    for (int i = 0; i < 20000 && !done; i++) {
        if (nixl_md_tick(md) < 0) return 3;
        usleep(1000);
    }
    if (done != 1) return 4;
    // The host's own, and the library's.
    int before = count(inverted, sizeof inverted);
    nixl_md_close(md);
    explicit_bzero(password, sizeof password);
    int after = count(inverted, sizeof inverted);
    printf("%d %d\\n", before, after);
    return before >= 2 && after == 0 ? 0 : 5;
}
"""


@NATIVE
def test_password_isNotInMemory_afterClose(
    own_etcd: EtcdFactory, library: Path, soname_directory: Path, tmp_path: Path
) -> None:
    etcd = own_etcd("3.5")
    password = "correct-horse-battery-staple"
    etcd.gateway.enable_auth(password)
    inverted = ",".join(str(~byte & 0xFF) for byte in password.encode())
    text = SECRETS.replace("INVERTED", inverted)
    program = compiled(tmp_path, text, library, soname_directory)
    done = subprocess.run([program, etcd.endpoint], timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
