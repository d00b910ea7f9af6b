// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

#include "host.hpp"

#include <dlfcn.h>
#include <poll.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

namespace host {

void tick(Handle &handle) {
    handle.inTick = 0;
    const int32_t rc = nixl_md_tick(handle.md);
    if (rc >= 0 && static_cast<uint64_t>(rc) != handle.inTick) {
        Line("fatal")
            .text("text", "tick told another number of callbacks than have run")
            .add("told", static_cast<int64_t>(rc))
            .add("ran", handle.inTick);
    } else if (rc == NIXL_MD_ERR_SHUT_DOWN) {
        handle.isShutDown = true;
        Line("shut_down").add("h", handle.index);
    } else if (rc < 0) {
        Line("tick_failed")
            .add("h", handle.index)
            .add("rc", static_cast<int64_t>(rc))
            .text("error", nixl_md_last_error(handle.md));
    }
    tellLongTick(handle);
}

// Reported at once: a host that is killed has then reported every tick except the last. Most hosts
// have none over a millisecond.
void tellLongTick(Handle &handle) {
    nixl_md_stats_t stats;
    std::memset(&stats, 0, sizeof stats);
    stats.size = sizeof stats;
    if (nixl_md_get_stats(handle.md, &stats) != NIXL_MD_SUCCESS) return;
    const uint64_t step = 1'000'000;
    if (stats.tick_cpu_max_ns < handle.longestTold + step &&
        stats.tick_tls_setup_cpu_max_ns < handle.longestSetupTold + step) {
        return;
    }
    handle.longestTold = stats.tick_cpu_max_ns;
    handle.longestSetupTold = stats.tick_tls_setup_cpu_max_ns;
    Line("long_tick")
        .add("h", handle.index)
        .add("tick_cpu_max_ns", stats.tick_cpu_max_ns)
        .add("tick_tls_setup_cpu_max_ns", stats.tick_tls_setup_cpu_max_ns);
}

namespace {

// Counted by Tests/support/allocations.c, where a test has loaded that before all else.
uint64_t allocations() {
    void *count = dlsym(RTLD_DEFAULT, "allocations");
    return count == nullptr ? 0 : *static_cast<uint64_t *>(count);
}

} // namespace

// Ticks an idle handle as fast as it goes. The two lines on stdout mark the place in a trace.
void spin(Host &host, const Arguments &arguments) {
    nixl_md_t *md = host.at(arguments).md;
    const uint64_t count = arguments.number("count");
    uint64_t callbacks = 0;
    // A system call, unlike the other clock: outside of the marks.
    const uint64_t cpuBefore = cpuNanoseconds();
    {
        const Line mark("spin_begins");
    }
    const uint64_t allocationsBefore = allocations();
    const uint64_t before = monotonicNanoseconds();
    for (uint64_t i = 0; i < count; ++i) {
        if (nixl_md_tick(md) != 0) callbacks += 1;
    }
    const uint64_t took = monotonicNanoseconds() - before;
    const uint64_t allocated = allocations() - allocationsBefore;
    {
        const Line mark("spin_ended");
    }
    const uint64_t cpu = cpuNanoseconds() - cpuBefore;
    Line(arguments.request, 0)
        .add("took_ns", took)
        .add("cpu_ns", cpu)
        .add("not_idle", callbacks)
        .add("allocated", allocated);
}

namespace {

bool isDriven(const Handle &handle) {
    return handle.md != nullptr && !handle.isShutDown;
}

// Requests that came on stdin; false at its end.
bool readRequests(Host &host, std::string &pending) {
    std::vector<char> buffer(1 << 16);
    const ssize_t count = read(STDIN_FILENO, buffer.data(), buffer.size());
    if (count <= 0) return false;
    pending.append(buffer.data(), static_cast<size_t>(count));
    size_t end = 0;
    while (!host.isQuitting && (end = pending.find('\n')) != std::string::npos) {
        const std::string line = pending.substr(0, end);
        pending.erase(0, end + 1);
        perform(host, Arguments(line));
    }
    return true;
}

struct Wait {
    std::vector<pollfd> descriptors;
    std::vector<Handle *> handles;
    int timeout = -1;
};

Wait waitOf(Host &host, uint64_t nextTick) {
    Wait wait;
    wait.descriptors.push_back({STDIN_FILENO, POLLIN, 0});
    wait.handles.push_back(nullptr);
    const Driving &driving = host.driving;
    if (driving.isStalled || driving.mode == Driving::Mode::hand) return wait;
    if (driving.mode == Driving::Mode::period) {
        const uint64_t now = monotonicNanoseconds();
        wait.timeout = now >= nextTick ? 0 : static_cast<int>((nextTick - now) / 1'000'000 + 1);
        return wait;
    }
    for (auto &entry : host.handles) {
        if (!isDriven(entry.second)) continue;
        wait.descriptors.push_back({nixl_md_efd(entry.second.md), POLLIN, 0});
        wait.handles.push_back(&entry.second);
    }
    return wait;
}

void tickReady(Host &host, const Wait &wait) {
    for (size_t i = 1; i < wait.descriptors.size(); ++i) {
        if ((wait.descriptors[i].revents & POLLIN) == 0) continue;
        host.wakes.push_back(monotonicNanoseconds());
        if (isDriven(*wait.handles[i])) tick(*wait.handles[i]);
    }
}

void tickAll(Host &host) {
    for (auto &entry : host.handles) {
        if (isDriven(entry.second)) tick(entry.second);
    }
}

bool isPeriodic(const Driving &driving) {
    return driving.mode == Driving::Mode::period && !driving.isStalled;
}

void run(Host &host) {
    std::string pending;
    uint64_t nextTick = 0;
    while (!host.isQuitting) {
        Wait wait = waitOf(host, nextTick);
        if (poll(wait.descriptors.data(), wait.descriptors.size(), wait.timeout) < 0) continue;
        tickReady(host, wait);
        if (wait.descriptors[0].revents != 0 && !readRequests(host, pending)) return;
        if (isPeriodic(host.driving) && monotonicNanoseconds() >= nextTick) {
            nextTick = monotonicNanoseconds() + host.driving.period_ms * 1'000'000;
            tickAll(host);
        }
    }
}

}  // namespace

}  // namespace host

int main() {
    host::Host host;
    {
        const host::Line ready("ready");
    }
    host::run(host);
    host::closeAll(host);
    return 0;
}
