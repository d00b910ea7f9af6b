// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

#include "host.hpp"

#include <cstring>

namespace host {

namespace {

const char *orNull(const std::optional<std::string> &text) {
    return text ? text->c_str() : nullptr;
}

void openHandle(Host &host, const Arguments &arguments) {
    const auto endpoints = arguments.bytes("endpoints");
    const auto nameSpace = arguments.bytes("namespace");
    const auto agent = arguments.bytes("agent");
    const auto ca = arguments.bytes("ca_file");
    const auto cert = arguments.bytes("cert_file");
    const auto key = arguments.bytes("key_file");
    const auto server = arguments.bytes("server_name");
    const auto user = arguments.bytes("user");
    const auto password = arguments.bytes("password");
    Handle &handle = host.handles[arguments.number("h")];
    handle = Handle{};
    handle.index = arguments.number("h");
    nixl_md_config_t config;
    std::memset(&config, 0, sizeof config);
    config.size = sizeof config;
    config.flags = static_cast<uint32_t>(arguments.number("flags"));
    config.endpoints = orNull(endpoints);
    config.name_space = orNull(nameSpace);
    config.agent = orNull(agent);
    config.agent_len = agent ? agent->size() : 0;
    config.ca_file = orNull(ca);
    config.cert_file = orNull(cert);
    config.key_file = orNull(key);
    config.server_name = orNull(server);
    config.user = orNull(user);
    config.password = orNull(password);
    config.on_event = onEvent;
    handle.owner = std::make_unique<Context>(Context{&handle, std::string()});
    config.on_event_user = handle.owner.get();
    config.on_log = arguments.number("log") != 0 ? onLog : nullptr;
    config.on_log_user = &handle;
    config.log_level = static_cast<int32_t>(arguments.number("log_level"));
    const uint64_t before = monotonicNanoseconds();
    const int32_t rc = nixl_md_open(&config, &handle.md);
    Line(arguments.request, rc).add("took_ns", monotonicNanoseconds() - before);
}

void tellStats(Host &host, const Arguments &arguments) {
    nixl_md_stats_t s;
    std::memset(&s, 0, sizeof s);
    s.size = sizeof s;
    const int32_t rc = nixl_md_get_stats(host.at(arguments).md, &s);
    Line line(arguments.request, rc);
#define ADD(name) line.add(#name, s.name)
    ADD(ticks);
    ADD(ticks_idle);
    ADD(tick_cpu_max_ns);
    ADD(tick_wall_max_ns);
    ADD(tick_cpu_total_ns);
    ADD(ticks_tls_setup);
    ADD(tick_tls_setup_cpu_max_ns);
    ADD(callbacks);
    ADD(requests);
    ADD(requests_failed);
    ADD(bytes_sent);
    ADD(bytes_received);
    ADD(connects);
    ADD(connects_failed);
    ADD(renewals);
    ADD(renewals_unanswered);
    ADD(leases_lost);
    ADD(restores);
    ADD(events);
    ADD(resyncs);
    ADD(names_left_out);
    ADD(resolver_threads);
    ADD(operations_open);
    ADD(watches_open);
    ADD(callbacks_queued);
    ADD(connected);
    ADD(lease_id);
    ADD(lease_ttl_ms);
    ADD(revision);
#undef ADD
}

void tellWakes(const Host &host, const Arguments &arguments) {
    std::string times;
    for (const uint64_t time : host.wakes) {
        times += (times.empty() ? "" : ",") + std::to_string(time);
    }
    Line(arguments.request, 0).raw("times", "[" + times + "]");
}

void closeHandle(Host &host, const Arguments &arguments) {
    Handle &handle = host.at(arguments);
    const uint64_t before = ownNanoseconds();
    const int32_t rc = nixl_md_close(handle.md);
    const uint64_t took = ownNanosecondsSince(before);
    if (rc == NIXL_MD_SUCCESS) handle.md = nullptr;
    Line(arguments.request, rc).add("took_ns", took);
}

void tellDeadline(Host &host, const Arguments &arguments) {
    uint64_t ms = 0;
    const int32_t rc = nixl_md_deadline_ms(host.at(arguments).md, &ms);
    Line(arguments.request, rc).add("ms", ms);
}

void setDriving(Host &host, const Arguments &arguments) {
    const std::string mode = arguments.word("mode");
    host.driving.mode = mode == "hand"     ? Driving::Mode::hand
                        : mode == "period" ? Driving::Mode::period
                                           : Driving::Mode::efd;
    host.driving.period_ms = arguments.number("period", 100);
    const Line answer(arguments.request, 0);
}

void tellSizes(const Arguments &arguments) {
    Line(arguments.request, 0)
        .add("config", static_cast<uint64_t>(sizeof(nixl_md_config_t)))
        .add("opts", static_cast<uint64_t>(sizeof(nixl_md_opts_t)))
        .add("watch_opts", static_cast<uint64_t>(sizeof(nixl_md_watch_opts_t)))
        .add("result", static_cast<uint64_t>(sizeof(nixl_md_result_t)))
        .add("event", static_cast<uint64_t>(sizeof(nixl_md_event_t)))
        .add("agent", static_cast<uint64_t>(sizeof(nixl_md_agent_t)))
        .add("stats", static_cast<uint64_t>(sizeof(nixl_md_stats_t)))
        .add("header_version", static_cast<uint64_t>(NIXL_MD_VERSION))
        .add("version", static_cast<uint64_t>(nixl_md_version()))
        .text("version_string", nixl_md_version_string());
}

void performSimple(Host &host, const Arguments &arguments) {
    nixl_md_t *md = host.at(arguments).md;
    const std::string &command = arguments.command;
    int32_t rc = NIXL_MD_SUCCESS;
    if (command == "cancel") {
        rc = nixl_md_cancel(md, arguments.number("op"));
    } else if (command == "shutdown") {
        rc = nixl_md_shutdown(md, arguments.number("drain"));
    } else if (command == "tick") {
        rc = nixl_md_tick(md);
        tellLongTick(host.at(arguments));
    } else if (command == "efd") {
        rc = nixl_md_efd(md);
    } else if (command == "stall") {
        host.driving.isStalled = true;
    } else if (command == "resume") {
        host.driving.isStalled = false;
    } else if (command == "linger") {
        host.at(arguments).linger_ms = arguments.number("ms");
    } else if (command == "quit") {
        host.isQuitting = true;
    } else {
        Line("fatal").text("text", "unknown command " + command);
        host.isQuitting = true;
    }
    const Line answer(arguments.request, rc);
}

}  // namespace

Handle &Host::at(const Arguments &arguments) {
    return handles[arguments.number("h")];
}

// So that what a host has left open is given back, too.
void closeAll(Host &host) {
    for (auto &entry : host.handles) {
        Handle &handle = entry.second;
        if (handle.md == nullptr) continue;
        const int32_t rc = nixl_md_close(handle.md);
        if (rc != NIXL_MD_SUCCESS) Line("fatal").text("text", "close: " + std::to_string(rc));
    }
}

void perform(Host &host, const Arguments &arguments) {
    if (performCall(host, arguments)) return;
    const std::string &command = arguments.command;
    if (command == "open") {
        openHandle(host, arguments);
    } else if (command == "close") {
        closeHandle(host, arguments);
    } else if (command == "stats") {
        tellStats(host, arguments);
    } else if (command == "wakes") {
        tellWakes(host, arguments);
    } else if (command == "deadline") {
        tellDeadline(host, arguments);
    } else if (command == "drive") {
        setDriving(host, arguments);
    } else if (command == "sizes") {
        tellSizes(arguments);
    } else if (command == "spin") {
        spin(host, arguments);
    } else if (command == "fork") {
        forkChild(host, arguments);
    } else if (command == "fork_beside") {
        forkBeside(host, arguments);
    } else if (command == "reap") {
        reapChild(arguments);
    } else if (command == "storm") {
        storm(host, arguments);
    } else if (command == "slow_id") {
        slowID(host, arguments);
    } else if (command == "fork_storm") {
        forkStorm(host, arguments);
    } else {
        performSimple(host, arguments);
    }
}

}  // namespace host
