/*
 * SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
 * SPDX-License-Identifier: Apache-2.0
 */
/*
 * A host with an epoll loop of its own, single-threaded. It sleeps on the efd alone: no time-out, no polling.
 */
#include "common.hpp"

#include <csignal>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace {

int add(int epoll, int descriptor) {
    epoll_event interest = {};
    interest.events = EPOLLIN;
    interest.data.fd = descriptor;
    return epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &interest);
}

int watch_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    return signalfd(-1, &signals, SFD_CLOEXEC);
}

/* Runs until the shutdown that a signal begins is complete; the number of times it woke. */
unsigned long run(nixlmd::handle &md, int epoll, int signals) {
    unsigned long wakes = 0;
    for (;;) {
        epoll_event ready = {};
        if (epoll_wait(epoll, &ready, 1, -1) < 1) continue;
        ++wakes;
        if (ready.data.fd == signals) {
            epoll_ctl(epoll, EPOLL_CTL_DEL, signals, nullptr);
            md.shutdown(2000);
        } else if (md.tick() == NIXL_MD_ERR_SHUT_DOWN) {
            return wakes;
        }
    }
}

} // namespace

int main(int argc, char **argv) try {
    const example::arguments args = example::parse(argc, argv);
    nixlmd::handle md = example::begin(args);
    example::fetch(md, args.peer);
    const int signals = watch_signals();
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (signals < 0 || epoll < 0 || add(epoll, signals) != 0 || add(epoll, md.efd()) != 0) {
        std::perror("epoll");
        return 1;
    }
    const unsigned long wakes = run(md, epoll, signals);
    std::printf("woke %lu times for %llu renewals\n", wakes,
                static_cast<unsigned long long>(md.stats().renewals));
    // The efd is closed with the handle: it leaves the set first.
    epoll_ctl(epoll, EPOLL_CTL_DEL, md.efd(), nullptr);
    close(epoll);
    close(signals);
    return 0;
} catch (const nixlmd::error &e) {
    std::fprintf(stderr, "%s: %s\n", nixl_md_status_string(e.status()), e.what());
    return 1;
}
