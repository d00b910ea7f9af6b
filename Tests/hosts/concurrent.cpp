// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
//
// Calls whose result depends on another thread at that very moment.

#include "host.hpp"

#include <atomic>
#include <csignal>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace host {

namespace {

constexpr uint64_t second = 1'000'000'000;

bool waitUntil(const std::atomic<bool> &flag, uint64_t nanoseconds) {
    const uint64_t deadline = monotonicNanoseconds() + nanoseconds;
    while (!flag.load() && monotonicNanoseconds() < deadline) usleep(1000);
    return flag.load();
}

// The operation id is written to a page that rejects writes until the completion has come, or 0.3
// s.
struct {
    void *page;
    size_t size;
    std::atomic<bool> isBeingWritten{false};
    std::atomic<bool> isWritable{false};
    std::atomic<bool> isTold{false};
    std::atomic<bool> isToldBefore{false};
    std::atomic<uint64_t> told{0};
} slow;

void onFault(int, siginfo_t *info, void *) {
    if (info->si_addr != slow.page) _exit(4);
    slow.isBeingWritten = true;
    waitUntil(slow.isTold, second * 3 / 10);
    slow.isWritable = true;
    mprotect(slow.page, slow.size, PROT_READ | PROT_WRITE);
}

void onSlowDone(const nixl_md_result_t *result, void *) {
    slow.isToldBefore = !slow.isWritable.load();
    slow.told = result->op;
    slow.isTold = true;
}

} // namespace

// A call on another thread, which is slow to take its operation id, while this one ticks.
void slowID(Host &host, const Arguments &arguments) {
    nixl_md_t *md = host.at(arguments).md;
    slow.size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    slow.page = mmap(nullptr, slow.size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct sigaction action;
    struct sigaction before;
    std::memset(&action, 0, sizeof action);
    action.sa_sigaction = onFault;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, &before);
    int32_t rc = 0;
    std::thread caller([md, &rc] {
        nixl_md_opts_t options;
        std::memset(&options, 0, sizeof options);
        options.size = sizeof options;
        options.on_done = onSlowDone;
        // Completes in the next tick, with NOT_FOUND.
        rc = nixl_md_unpublish(md, "nothing", 7, &options, static_cast<uint64_t *>(slow.page));
    });
    waitUntil(slow.isBeingWritten, 5 * second);
    const uint64_t deadline = monotonicNanoseconds() + 10 * second;
    while (!slow.isTold.load() && monotonicNanoseconds() < deadline) nixl_md_tick(md);
    caller.join();
    sigaction(SIGSEGV, &before, nullptr);
    Line(arguments.request, rc)
        .add("op", *static_cast<uint64_t *>(slow.page))
        .add("told", slow.told.load())
        .add("told_before", static_cast<uint64_t>(slow.isToldBefore.load()));
    munmap(slow.page, slow.size);
}

namespace {

// A child that was forked at any moment checks each answer against the header; its exit status
// names the wrong one.
[[noreturn]] void checkInChild(nixl_md_t *md) {
    uint64_t op = 0;
    if (nixl_md_tick(md) != NIXL_MD_ERR_FORKED) _exit(10);
    if (nixl_md_publish(md, "l", 1, "b", 1, nullptr, &op) != NIXL_MD_ERR_FORKED) _exit(11);
    if (nixl_md_last_error(md)[0] == '\0') _exit(12);
    if (nixl_md_close(md) != NIXL_MD_SUCCESS) _exit(13);
    nixl_md_config_t config;
    std::memset(&config, 0, sizeof config);
    config.size = sizeof config;
    config.endpoints = "127.0.0.1:1";
    if (nixl_md_open(&config, &md) != NIXL_MD_SUCCESS) _exit(14);
    if (nixl_md_tick(md) < 0) _exit(15);
    if (nixl_md_close(md) != NIXL_MD_SUCCESS) _exit(16);
    _exit(0);
}

// The exit status of a child; -1: it hung, or was killed by a signal.
int exitStatus(pid_t child) {
    const uint64_t deadline = monotonicNanoseconds() + 20 * second;
    int status = 0;
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (monotonicNanoseconds() >= deadline) {
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
            return -1;
        }
        usleep(200);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::atomic<uint64_t> completed;

void countDone(const nixl_md_result_t *, void *) {
    completed += 1;
}

} // namespace

// This thread ticks, two make calls, and one forks: at whatever moment that is.
void forkStorm(Host &host, const Arguments &arguments) {
    nixl_md_t *md = host.at(arguments).md;
    const uint64_t forks = arguments.number("count");
    std::atomic<bool> isOver{false};
    std::atomic<uint64_t> started{0};
    completed = 0;
    std::vector<std::thread> threads;
    for (int number = 0; number < 2; ++number) {
        threads.emplace_back([md, number, &isOver, &started] {
            nixl_md_opts_t options;
            std::memset(&options, 0, sizeof options);
            options.size = sizeof options;
            options.on_done = countDone;
            const std::string label = "storm-" + std::to_string(number);
            while (!isOver.load()) {
                if (started.load() - completed.load() > 200) continue;
                const int32_t rc = nixl_md_publish(md, label.data(), label.size(), label.data(),
                                                   label.size(), &options, nullptr);
                if (rc == NIXL_MD_SUCCESS) started += 1;
            }
        });
    }
    std::string statuses;
    threads.emplace_back([md, forks, &isOver, &statuses] {
        for (uint64_t i = 0; i < forks; ++i) {
            const pid_t child = fork();
            if (child == 0) checkInChild(md);
            const int status = child < 0 ? -2 : exitStatus(child);
            statuses += (statuses.empty() ? "" : ",") + std::to_string(status);
        }
        isOver = true;
    });
    while (!isOver.load()) nixl_md_tick(md);
    for (std::thread &thread : threads) thread.join();
    const uint64_t deadline = monotonicNanoseconds() + 20 * second;
    while (completed.load() < started.load() && monotonicNanoseconds() < deadline) nixl_md_tick(md);
    Line(arguments.request, 0)
        .raw("statuses", "[" + statuses + "]")
        .add("started", started.load())
        .add("completed", completed.load());
}

} // namespace host
