/*
 * SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
 * SPDX-License-Identifier: Apache-2.0
 */
/*
 * A progress loop like that of a UCX worker: call progress until nothing is left, then arm, then sleep on the
 * descriptors. `worker` has the shape of ucp_worker_progress, ucp_worker_arm and ucp_worker_get_efd; nixl_md needs
 * no arming.
 */
#include "common.hpp"

#include <atomic>
#include <csignal>
#include <cstdint>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace {

std::atomic<bool> stopping{false};

/* Stands for a ucp_worker_h: its efd fires once after each arm. */
class worker {
  public:
    ~worker() { close(efd_); }

    unsigned progress() { return 0; }

    /* True: armed, the caller may sleep. False: something happened meanwhile, progress again. */
    bool arm() {
        std::uint64_t drained = 0;
        return read(efd_, &drained, sizeof drained) < 0;
    }

    int efd() const { return efd_; }

  private:
    int efd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
};

} // namespace

int main(int argc, char **argv) try {
    const example::arguments args = example::parse(argc, argv);
    nixlmd::handle md = example::begin(args);
    example::fetch(md, args.peer);
    worker ucx;

    struct sigaction action = {};
    action.sa_handler = [](int) { stopping = true; };
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    // Signals arrive inside ppoll only, so none is missed between the check and the sleep.
    sigset_t signals, before;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, &before);

    pollfd ready[] = {{md.efd(), POLLIN, 0}, {ucx.efd(), POLLIN, 0}};
    for (bool is_draining = false;;) {
        if (stopping && !is_draining) {
            is_draining = true;
            md.shutdown(2000);
        }
        while (ucx.progress() != 0) {
        }
        // An idle tick is one system call: a loop that spins calls it every few hundred rounds.
        const int callbacks = md.tick();
        if (callbacks == NIXL_MD_ERR_SHUT_DOWN) return 0;
        if (callbacks > 0 || !ucx.arm()) continue;
        ppoll(ready, 2, nullptr, &before);
    }
} catch (const nixlmd::error &e) {
    std::fprintf(stderr, "%s: %s\n", nixl_md_status_string(e.status()), e.what());
    return 1;
}
