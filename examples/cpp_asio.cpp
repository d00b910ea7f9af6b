/*
 * SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
 * SPDX-License-Identifier: Apache-2.0
 */
/*
 * A host on Boost.Asio: a stream_descriptor waits for the efd. Works the same with standalone Asio.
 */
#include "common.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>

namespace {

namespace asio = boost::asio;
using boost::system::error_code;

void tick_when_readable(nixlmd::handle &md, asio::posix::stream_descriptor &efd) {
    efd.async_wait(asio::posix::stream_descriptor::wait_read, [&](error_code error) {
        if (error || md.tick() == NIXL_MD_ERR_SHUT_DOWN) return;
        tick_when_readable(md, efd);
    });
}

} // namespace

int main(int argc, char **argv) try {
    const example::arguments args = example::parse(argc, argv);
    nixlmd::handle md = example::begin(args);
    example::fetch(md, args.peer);

    asio::io_context context;
    asio::posix::stream_descriptor efd(context, md.efd());
    asio::signal_set signals(context, SIGINT, SIGTERM);
    signals.async_wait([&](error_code error, int) {
        if (!error) md.shutdown(2000);
    });
    tick_when_readable(md, efd);
    context.run();
    // The library owns the efd: Asio must not close it.
    efd.release();
    return 0;
} catch (const nixlmd::error &e) {
    std::fprintf(stderr, "%s: %s\n", nixl_md_status_string(e.status()), e.what());
    return 1;
}
