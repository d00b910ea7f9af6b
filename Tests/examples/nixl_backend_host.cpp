/*
 * SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
 * SPDX-License-Identifier: Apache-2.0
 */
/**
 * @file nixl_backend_host.cpp
 * @brief What the backend for NIXL does with NIXL's settings, without NIXL: reads them, publishes on a
 * lease, fetches, and says what came of it. Usage: nixl_backend_host AGENT SECONDS
 */
#include "nixl_etcd_settings.h"

#include <nixl_md.hpp>

#include <cstdlib>
#include <iostream>
#include <poll.h>
#include <string>

namespace {

// NIXL reads its configuration file, too; this host has the environment only.
std::optional<std::string> get(const std::string &name) {
    const char *value = std::getenv(name.c_str());
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

void onLog(std::int32_t, const char *line, void *) {
    std::cerr << line << "\n";
}

nixlmd::handle open(const char *agent) {
    const nixlEtcdSettings settings = nixlEtcdSettings::read(get);
    nixl_md_config_t config = nixlmd::make_config();
    settings.apply(config);
    config.agent = agent;
    config.agent_len = NIXL_MD_NUL_TERMINATED;
    config.on_log = &onLog;
    config.log_level = NIXL_MD_LOG_WARN;
    return nixlmd::handle(config);
}

void run(const char *agent, std::uint64_t patienceMs) {
    nixlmd::handle handle = open(agent);
    int open = 3;
    const auto told = [&](const char *what) {
        return [&open, what](const nixlmd::result &result) {
            std::cout << what << " " << nixl_md_status_string(result.status) << " "
                      << nixlmd::blob_of(result) << " " << result.text << std::endl;
            --open;
        };
    };
    handle.start_heartbeat(2000, 6000, told("lease"), {patienceMs});
    handle.publish("metadata", "of " + std::string(agent), told("publish"), {patienceMs});
    handle.fetch(agent, "metadata", told("fetch"), {patienceMs});
    pollfd readable = {handle.efd(), POLLIN, 0};
    while (open > 0) {
        ::poll(&readable, 1, -1);
        handle.tick();
    }
    // Its keys stay until the lease has run out, for the test to look at.
}

} // namespace

int main(int count, char **arguments) {
    if (count != 3) return 2;
    try {
        run(arguments[1], std::stoul(arguments[2]) * 1000);
        return 0;
    } catch (const std::exception &refusal) {
        std::cout << "refused: " << refusal.what() << std::endl;
        return 1;
    }
}
