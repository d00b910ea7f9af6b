/*
 * SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
 * SPDX-License-Identifier: Apache-2.0
 */
/* What both C++ examples need: their arguments, and how they print. */
#ifndef NIXL_MD_EXAMPLES_COMMON_HPP
#define NIXL_MD_EXAMPLES_COMMON_HPP

#include <nixl_md.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace example {

struct arguments {
    std::string name;
    std::string peer;
    std::uint64_t interval_ms = 0;
    std::uint64_t ttl_ms = 0;
};

inline arguments parse(int argc, char **argv) {
    arguments parsed;
    for (int i = 1; i + 1 < argc; i += 2) {
        const std::string option = argv[i];
        const char *value = argv[i + 1];
        if (option == "--name") {
            parsed.name = value;
        } else if (option == "--peer") {
            parsed.peer = value;
        } else if (option == "--interval-ms") {
            parsed.interval_ms = std::strtoull(value, nullptr, 10);
        } else if (option == "--ttl-ms") {
            parsed.ttl_ms = std::strtoull(value, nullptr, 10);
        } else {
            parsed.name.clear();
            break;
        }
    }
    if (parsed.name.empty() || parsed.peer.empty() || argc % 2 == 0) {
        std::fprintf(stderr,
                     "usage: %s --name NAME --peer NAME [--interval-ms N] [--ttl-ms N]\n"
                     "etcd: NIXL_ETCD_ENDPOINTS, e.g. 127.0.0.1:2379\n",
                     argv[0]);
        std::exit(2);
    }
    return parsed;
}

/* One line for each event: TYPE AGENT LABEL BYTES. */
inline void print(const nixlmd::event &e) {
    const std::string agent(nixlmd::agent_of(e));
    const std::string label(nixlmd::label_of(e));
    const char *type = nixl_md_event_string(e.type) + std::strlen("NIXL_MD_EVENT_");
    std::printf("%s %s %s %zu\n", type, agent.c_str(), label.c_str(), e.blob_len);
    std::fflush(stdout);
}

/* For completions that have to succeed. */
inline void print_result(const char *what, const nixlmd::result &r) {
    if (r.status == NIXL_MD_SUCCESS) {
        std::printf("%s ok\n", what);
    } else {
        std::printf("%s %s: %s\n", what, nixl_md_status_string(r.status), r.text);
    }
    std::fflush(stdout);
}

/* Gets a peer's metadata, or waits until it is there. */
inline void fetch(nixlmd::handle &md, const std::string &peer) {
    md.fetch(peer, NIXL_MD_DEFAULT_LABEL,
             [](const nixlmd::result &r) {
                 std::printf("fetched %s\n", std::string(nixlmd::blob_of(r)).c_str());
                 std::fflush(stdout);
             },
             {NIXL_MD_NEVER});
}

/* Opens a handle and starts what an agent does for its peers; the rest is ticking. */
inline nixlmd::handle begin(const arguments &args) {
    nixl_md_config_t config = nixlmd::make_config();
    config.agent = args.name.data();
    config.agent_len = args.name.size();
    nixlmd::handle md(config, print);
    md.start_heartbeat(args.interval_ms, args.ttl_ms,
                       [](const nixlmd::result &r) { print_result("heartbeat", r); });
    md.publish(NIXL_MD_DEFAULT_LABEL, "metadata of " + args.name,
               [](const nixlmd::result &r) { print_result("publish", r); });
    md.watch(args.peer, print);
    return md;
}

} // namespace example

#endif /* NIXL_MD_EXAMPLES_COMMON_HPP */
