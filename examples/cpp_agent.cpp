/*
 * SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
 * SPDX-License-Identifier: Apache-2.0
 */
/*
 * An agent whose worker thread calls tick periodically, as NIXL's metadata worker does. The main thread gives it work:
 * starting calls may come from any thread, callbacks run on the worker.
 */
#include "common.hpp"

#include <atomic>
#include <chrono>
#include <csignal>
#include <pthread.h>
#include <thread>

namespace {

constexpr auto period = std::chrono::milliseconds(100);

void work(nixlmd::handle &md, const std::atomic<bool> &stopping) {
    bool is_draining = false;
    for (;;) {
        if (stopping && !is_draining) {
            is_draining = true;
            md.shutdown(2000);
        }
        if (md.tick() == NIXL_MD_ERR_SHUT_DOWN) return;
        std::this_thread::sleep_for(period);
    }
}

} // namespace

int main(int argc, char **argv) try {
    const example::arguments args = example::parse(argc, argv);

    // Before any thread begins, so that only sigwait takes them.
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);

    nixlmd::handle md = example::begin(args);
    std::atomic<bool> stopping{false};
    std::thread worker([&] { work(md, stopping); });

    example::fetch(md, args.peer);

    int signal = 0;
    sigwait(&signals, &signal);
    stopping = true;
    worker.join();
    return 0;
} catch (const nixlmd::error &e) {
    std::fprintf(stderr, "%s: %s\n", nixl_md_status_string(e.status()), e.what());
    return 1;
}
