// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

#include "host.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

namespace host {

namespace {

void tell(const char *kind, const char *name, int32_t rc) {
    Line line(kind);
    line.text("call", name).add("rc", static_cast<int64_t>(rc));
    if (rc < 0) line.text("error", nixl_md_last_error(nullptr));
}

void ignoreDone(const nixl_md_result_t *, void *) {}
void ignoreEvent(const nixl_md_event_t *, void *) {}

nixl_md_opts_t ignoring() {
    nixl_md_opts_t options;
    std::memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.on_done = ignoreDone;
    return options;
}

// Every call of the header on a handle that belongs to the parent process.
void callEverything(nixl_md_t *md) {
    const nixl_md_opts_t options = ignoring();
    nixl_md_stats_t stats;
    std::memset(&stats, 0, sizeof stats);
    stats.size = sizeof stats;
    uint64_t number = 0;
    tell("child", "publish", nixl_md_publish(md, "l", 1, "b", 1, nullptr, &number));
    tell("child", "unpublish", nixl_md_unpublish(md, "l", 1, nullptr, &number));
    tell("child", "start_heartbeat", nixl_md_start_heartbeat(md, 0, 0, nullptr, &number));
    tell("child", "stop_heartbeat",
         nixl_md_stop_heartbeat(md, NIXL_MD_HEARTBEAT_KEEP, nullptr, &number));
    tell("child", "fetch", nixl_md_fetch(md, "a", 1, "l", 1, nullptr, &number));
    tell("child", "watch", nixl_md_watch(md, "a", 1, ignoreEvent, nullptr, &number));
    tell("child", "invalidate", nixl_md_invalidate(md, nullptr, &number));
    tell("child", "list", nixl_md_list(md, &options, &number));
    tell("child", "cancel", nixl_md_cancel(md, 1));
    tell("child", "shutdown", nixl_md_shutdown(md, 0));
    tell("child", "tick", nixl_md_tick(md));
    tell("child", "efd", nixl_md_efd(md));
    tell("child", "deadline_ms", nixl_md_deadline_ms(md, &number));
    tell("child", "get_stats", nixl_md_get_stats(md, &stats));
}

// The child opens a handle of its own and uses it.
void liveInChild(const Arguments &arguments) {
    const auto endpoints = arguments.bytes("endpoints");
    nixl_md_config_t config;
    std::memset(&config, 0, sizeof config);
    config.size = sizeof config;
    config.endpoints = endpoints ? endpoints->c_str() : nullptr;
    nixl_md_t *md = nullptr;
    tell("child", "open", nixl_md_open(&config, &md));
    if (md == nullptr) return;
    std::atomic<bool> isDone{false};
    nixl_md_opts_t options = ignoring();
    options.user = &isDone;
    options.on_done = [](const nixl_md_result_t *result, void *user) {
        tell("child", "own list", result->status);
        static_cast<std::atomic<bool> *>(user)->store(true);
    };
    tell("child", "list started", nixl_md_list(md, &options, nullptr));
    const uint64_t deadline = monotonicNanoseconds() + 5'000'000'000u;
    while (!isDone.load() && monotonicNanoseconds() < deadline) {
        nixl_md_tick(md);
        usleep(1000);
    }
    tell("child", "own close", nixl_md_close(md));
}

}  // namespace

namespace {

// The child lives beside its parent; then it ends as any program does.
[[noreturn]] void liveBeside(nixl_md_t *md, const std::string &how, uint64_t milliseconds) {
    if (how == "close") tell("child", "close", nixl_md_close(md));
    const uint64_t end = monotonicNanoseconds() + milliseconds * 1'000'000;
    uint64_t ticks = 0;
    int32_t rc = NIXL_MD_ERR_FORKED;
    while (how != "exit" && monotonicNanoseconds() < end) {
        if (how == "tick") {
            rc = nixl_md_tick(md);
            ticks += 1;
            if (rc != NIXL_MD_ERR_FORKED) break;
        }
        usleep(1000);
    }
    if (how == "tick") {
        tell("child", "tick", rc);
        Line("child_ticks").add("count", ticks);
    }
    std::exit(0);
}

}  // namespace

// A child that goes on while the parent does: `reap` waits for it.
void forkBeside(Host &host, const Arguments &arguments) {
    nixl_md_t *md = host.at(arguments).md;
    const pid_t child = fork();
    if (child == 0) liveBeside(md, arguments.word("how"), arguments.number("ms"));
    Line(arguments.request, child < 0 ? NIXL_MD_ERR_BACKEND : NIXL_MD_SUCCESS)
        .add("child", static_cast<int64_t>(child));
}

void reapChild(const Arguments &arguments) {
    int status = -1;
    waitpid(static_cast<pid_t>(arguments.number("child")), &status, 0);
    Line(arguments.request, 0).add("child_status", static_cast<int64_t>(status));
}

void forkChild(Host &host, const Arguments &arguments) {
    nixl_md_t *md = host.at(arguments).md;
    const pid_t child = fork();
    if (child == 0) {
        callEverything(md);
        const uint64_t before = ownNanoseconds();
        const int32_t rc = nixl_md_close(md);
        const uint64_t took = ownNanosecondsSince(before);
        Line("child")
            .text("call", "close")
            .add("rc", static_cast<int64_t>(rc))
            .add("took_ns", took);
        if (arguments.bytes("endpoints")) liveInChild(arguments);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    Line(arguments.request, 0).add("child_status", static_cast<int64_t>(status));
}

namespace {

std::atomic<uint64_t> stormCompleted;

struct Storm {
    nixl_md_t *md;
    uint64_t calls;
    std::atomic<uint64_t> running;
    std::atomic<uint64_t> started{0};
    std::atomic<uint64_t> refused{0};

    void count(int32_t rc) { (rc == NIXL_MD_SUCCESS ? started : refused) += 1; }
};

void countEnd(const nixl_md_event_t *event, void *) {
    if (event->type == NIXL_MD_EVENT_ENDED) stormCompleted += 1;
}

void makeCalls(Storm &storm, uint64_t number) {
    nixl_md_opts_t options = ignoring();
    options.on_done = [](const nixl_md_result_t *, void *) { stormCompleted += 1; };
    for (uint64_t i = 0; i < storm.calls; ++i) {
        const std::string label = "storm-" + std::to_string(number) + "-" + std::to_string(i % 8);
        uint64_t fetch = 0;
        uint64_t watch = 0;
        storm.count(nixl_md_publish(storm.md, label.data(), label.size(), label.data(),
                                    label.size(), &options, nullptr));
        storm.count(
            nixl_md_fetch(storm.md, "nobody", 6, label.data(), label.size(), &options, &fetch));
        storm.count(nixl_md_watch(storm.md, "nobody", 6, countEnd, nullptr, &watch));
        nixl_md_cancel(storm.md, fetch);
        nixl_md_cancel(storm.md, watch);
    }
    storm.running -= 1;
}

}  // namespace

// Many threads make calls of every kind while this one ticks.
void storm(Host &host, const Arguments &arguments) {
    const uint64_t count = arguments.number("threads");
    Storm storm{host.at(arguments).md, arguments.number("calls"), {count}};
    stormCompleted = 0;
    std::vector<std::thread> threads;
    for (uint64_t i = 0; i < count; ++i) {
        threads.emplace_back([&storm, i] { makeCalls(storm, i); });
    }
    const uint64_t deadline = monotonicNanoseconds() + 30'000'000'000u;
    while ((storm.running.load() > 0 || stormCompleted.load() < storm.started.load()) &&
           monotonicNanoseconds() < deadline) {
        nixl_md_tick(storm.md);
    }
    for (std::thread &thread : threads) thread.join();
    Line(arguments.request, 0)
        .add("started", storm.started.load())
        .add("refused", storm.refused.load())
        .add("completed", stormCompleted.load());
}

void insideCallback(Handle &handle, const std::string &what, uint64_t watch) {
    nixl_md_t *md = handle.md;
    if (what == "tick") {
        tell("inside", "tick", nixl_md_tick(md));
    } else if (what == "close") {
        tell("inside", "close", nixl_md_close(md));
    } else if (what == "cancel") {
        tell("inside", "cancel", nixl_md_cancel(md, watch));
    } else if (what == "shutdown") {
        tell("inside", "shutdown", nixl_md_shutdown(md, 1000));
    } else if (what == "publish") {
        nixl_md_opts_t options = ignoring();
        options.on_done = onDone;
        options.user = new Context{&handle, std::string()};  // freed by onDone
        tell("inside", "publish", nixl_md_publish(md, "inside", 6, "b", 1, &options, nullptr));
    } else if (what == "other_thread") {
        std::thread([md] {
            tell("inside", "other tick", nixl_md_tick(md));
            tell("inside", "other close", nixl_md_close(md));
        }).join();
    }
}

}  // namespace host
