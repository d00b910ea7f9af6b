/*
 * SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
 * SPDX-License-Identifier: Apache-2.0
 */
/*
 * A host on libuv: uv_poll_t watches the efd. No timer: the efd is readable at the library's deadlines too.
 */
#include "common.hpp"

#include <csignal>
#include <uv.h>

namespace {

struct agent {
    nixlmd::handle md;
    uv_poll_t poll;
    uv_signal_t interrupt;
    uv_signal_t termination;
};

template <class Handle> void close(Handle *handle) {
    uv_close(reinterpret_cast<uv_handle_t *>(handle), nullptr);
}

void on_readable(uv_poll_t *poll, int, int) {
    agent *self = static_cast<agent *>(poll->data);
    if (self->md.tick() != NIXL_MD_ERR_SHUT_DOWN) return;
    // With its last handle closed, uv_run returns. The efd leaves the loop before md closes it.
    close(&self->poll);
    close(&self->interrupt);
    close(&self->termination);
}

void on_signal(uv_signal_t *signal, int) {
    agent *self = static_cast<agent *>(signal->data);
    uv_signal_stop(&self->interrupt);
    uv_signal_stop(&self->termination);
    self->md.shutdown(2000);
}

} // namespace

int main(int argc, char **argv) try {
    const example::arguments args = example::parse(argc, argv);
    uv_loop_t *loop = uv_default_loop();
    agent self = {example::begin(args), {}, {}, {}};
    example::fetch(self.md, args.peer);

    self.poll.data = self.interrupt.data = self.termination.data = &self;
    uv_poll_init(loop, &self.poll, self.md.efd());
    uv_signal_init(loop, &self.interrupt);
    uv_signal_init(loop, &self.termination);
    uv_poll_start(&self.poll, UV_READABLE, on_readable);
    uv_signal_start(&self.interrupt, on_signal, SIGINT);
    uv_signal_start(&self.termination, on_signal, SIGTERM);
    uv_run(loop, UV_RUN_DEFAULT);
    return uv_loop_close(loop) == 0 ? 0 : 1;
} catch (const nixlmd::error &e) {
    std::fprintf(stderr, "%s: %s\n", nixl_md_status_string(e.status()), e.what());
    return 1;
}
