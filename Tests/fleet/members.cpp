// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
//
// A process with many agents of a fleet. Each has a heartbeat and a blob, and watches one other agent. Every 100 ms it prints how
// they are, as a line of JSON. It ends when its stdin is closed.
// Usage: members ENDPOINTS NAMESPACE FIRST COUNT OF_ALL OFFSET TTL_MS START_MS [CA_FILE]: agents FIRST to FIRST + COUNT - 1 of
// OF_ALL, each watching the one OFFSET places on; they start within START_MS.

#include <poll.h>
#include <sys/epoll.h>
#include <time.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <nixl_md.h>

namespace {

constexpr uint64_t reportEveryMs = 100;
constexpr size_t blobBytes = 4096;

uint64_t nowMs() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1000000;
}

void check(int32_t status, const char *what) {
    if (status >= 0) return;
    std::fprintf(stderr, "%s: %s %s\n", what, nixl_md_status_string(status),
                 nixl_md_last_error(nullptr));
    std::exit(1);
}

struct Member {
    nixl_md_t *md = nullptr;
    bool isPublished = false;
    bool isInContact = false;
    uint64_t gone = 0;
    uint64_t renewals = 0;
    uint64_t renewedAt = 0;
};

struct Settings {
    std::string endpoints, nameSpace, caFile;
    size_t first, count, ofAll, offset;
    uint64_t ttlMs, startMs;
};

void onDone(const nixl_md_result_t *result, void *user) {
    check(result->status, result->text);
    static_cast<Member *>(user)->isPublished = true;
}

void onEvent(const nixl_md_event_t *event, void *user) {
    Member &member = *static_cast<Member *>(user);
    switch (event->type) {
    case NIXL_MD_EVENT_SYNCED:
    case NIXL_MD_EVENT_CONTACT_REGAINED: member.isInContact = true; break;
    case NIXL_MD_EVENT_CONTACT_LOST:
    case NIXL_MD_EVENT_RESYNC: member.isInContact = false; break;
    case NIXL_MD_EVENT_GONE: member.gone += 1; break;
    default: break;
    }
}

void start(Member &member, const Settings &settings, size_t number, int queue) {
    const std::string name = "agent" + std::to_string(number);
    nixl_md_config_t config;
    std::memset(&config, 0, sizeof config);
    config.size = sizeof config;
    config.flags = NIXL_MD_CONFIG_IGNORE_ENVIRONMENT;
    config.endpoints = settings.endpoints.c_str();
    config.name_space = settings.nameSpace.c_str();
    config.agent = name.data();
    config.agent_len = name.size();
    if (!settings.caFile.empty()) config.ca_file = settings.caFile.c_str();
    check(nixl_md_open(&config, &member.md), "open");
    epoll_event wanted;
    std::memset(&wanted, 0, sizeof wanted);
    wanted.events = EPOLLIN;
    wanted.data.ptr = &member;
    if (epoll_ctl(queue, EPOLL_CTL_ADD, nixl_md_efd(member.md), &wanted) != 0) {
        std::perror("epoll_ctl");
        std::exit(1);
    }
    nixl_md_opts_t options;
    std::memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.timeout_ms = NIXL_MD_NEVER;
    options.on_done = onDone;
    options.user = &member;
    const std::string blob(blobBytes, 'x');
    const std::string peer = "agent" + std::to_string((number + settings.offset) % settings.ofAll);
    nixl_md_watch_opts_t watch;
    std::memset(&watch, 0, sizeof watch);
    watch.size = sizeof watch;
    watch.flags = NIXL_MD_WATCH_PRESENCE_ONLY;
    watch.user = &member;
    check(nixl_md_start_heartbeat(member.md, settings.ttlMs / 3, settings.ttlMs, nullptr, nullptr),
          "start_heartbeat");
    check(nixl_md_publish(member.md, nullptr, 0, blob.data(), blob.size(), &options, nullptr),
          "publish");
    check(nixl_md_watch(member.md, peer.data(), peer.size(), onEvent, &watch, nullptr), "watch");
}

struct Totals {
    uint64_t started = 0, published = 0, served = 0, lost = 0, connects = 0, failed = 0, gone = 0;
};

// Served: connected, in contact, and no renewal is late.
void add(Totals &totals, Member &member, const Settings &settings, uint64_t now) {
    nixl_md_stats_t stats;
    std::memset(&stats, 0, sizeof stats);
    stats.size = sizeof stats;
    check(nixl_md_get_stats(member.md, &stats), "stats");
    if (stats.renewals != member.renewals || member.renewedAt == 0) member.renewedAt = now;
    member.renewals = stats.renewals;
    const bool isRenewed = now - member.renewedAt <= settings.ttlMs / 3 + 1000;
    totals.started += 1;
    totals.published += member.isPublished;
    totals.served += stats.connected != 0 && member.isInContact && isRenewed;
    totals.lost += stats.leases_lost;
    totals.connects += stats.connects;
    totals.failed += stats.connects_failed;
    totals.gone += member.gone;
}

void report(std::vector<Member> &members, const Settings &settings, uint64_t now) {
    Totals totals;
    for (Member &member : members) {
        if (member.md != nullptr) add(totals, member, settings, now);
    }
    std::printf("{\"at\":%.3f,\"started\":%" PRIu64 ",\"published\":%" PRIu64 ",\"served\":%" PRIu64
                ",\"lost\":%" PRIu64 ",\"connects\":%" PRIu64 ",\"failed\":%" PRIu64
                ",\"gone\":%" PRIu64 "}\n",
                static_cast<double>(now) / 1000, totals.started, totals.published, totals.served,
                totals.lost, totals.connects, totals.failed, totals.gone);
    std::fflush(stdout);
}

bool isEnded() {
    pollfd input{0, POLLIN, 0};
    return poll(&input, 1, 0) != 0;
}

void run(const Settings &settings) {
    std::vector<Member> members(settings.count);
    const int queue = epoll_create1(EPOLL_CLOEXEC);
    const uint64_t begin = nowMs();
    uint64_t reportAt = begin;
    size_t started = 0;
    std::vector<epoll_event> ready(256);
    while (!isEnded()) {
        const uint64_t now = nowMs();
        while (started < settings.count &&
               now >= begin + settings.startMs * started / settings.count) {
            start(members[started], settings, settings.first + started, queue);
            started += 1;
        }
        if (now >= reportAt) {
            report(members, settings, now);
            reportAt = now + reportEveryMs;
        }
        const int count = epoll_wait(queue, ready.data(), static_cast<int>(ready.size()), 5);
        for (int i = 0; i < count; ++i) {
            check(nixl_md_tick(static_cast<Member *>(ready[i].data.ptr)->md), "tick");
        }
    }
}

} // namespace

int main(int count, char **words) {
    if (count < 9) return 2;
    Settings settings;
    settings.endpoints = words[1];
    settings.nameSpace = words[2];
    settings.first = std::strtoul(words[3], nullptr, 10);
    settings.count = std::strtoul(words[4], nullptr, 10);
    settings.ofAll = std::strtoul(words[5], nullptr, 10);
    settings.offset = std::strtoul(words[6], nullptr, 10);
    settings.ttlMs = std::strtoull(words[7], nullptr, 10);
    settings.startMs = std::strtoull(words[8], nullptr, 10);
    if (count > 9) settings.caFile = words[9];
    run(settings);
    // The kernel closes the connections, as when a process is killed.
    std::_Exit(0);
}
