// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
//
// The same work with etcd-cpp-apiv3, as NIXL uses it: SyncClient and Watcher.
// Usage: apiv3_bench ENDPOINT NAMESPACE publish|fetch|event SIZE COUNT
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <future>
#include <string>
#include <vector>

#include <etcd/Response.hpp>
#include <etcd/SyncClient.hpp>
#include <etcd/Watcher.hpp>

static const size_t WARM_UP = 20;

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void check(const etcd::Response &response) {
    if (response.is_ok()) return;
    fprintf(stderr, "%s\n", response.error_message().c_str());
    exit(1);
}

static void print_figures(uint64_t used, const std::vector<uint64_t> &latencies) {
    printf("{\"cpu_ns\": %llu, \"latency_ns\": [", (unsigned long long)used);
    for (size_t i = 0; i < latencies.size(); i++)
        printf("%s%llu", i ? ", " : "", (unsigned long long)latencies[i]);
    printf("]}\n");
}

template <typename Once> static void timed(size_t count, Once once) {
    std::vector<uint64_t> latencies;
    for (size_t i = 0; i < WARM_UP; i++) once();
    const uint64_t before = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (size_t i = 0; i < count; i++) {
        const uint64_t start = clock_ns(CLOCK_MONOTONIC);
        once();
        latencies.push_back(clock_ns(CLOCK_MONOTONIC) - start);
    }
    print_figures(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - before, latencies);
}

// A blob begins with the time at which it was written.
static void events(const etcd::SyncClient &client, const std::string &key, size_t count) {
    std::vector<uint64_t> latencies;
    std::promise<void> done;
    uint64_t before = 0;
    size_t seen = 0;
    etcd::Watcher watcher(client, key, [&](etcd::Response response) {
        for (const auto &event : response.events()) {
            uint64_t written = 0;
            memcpy(&written, event.kv().as_string().data(), sizeof written);
            if (++seen > WARM_UP) latencies.push_back(clock_ns(CLOCK_MONOTONIC) - written);
            if (seen == WARM_UP) before = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
            if (latencies.size() == count) done.set_value();
        }
    });
    printf("ready\n");
    fflush(stdout);
    done.get_future().wait();
    print_figures(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - before, latencies);
    fflush(stdout);
    // Its threads need not be waited for.
    _Exit(0);
}

int main(int count, char **words) {
    if (count != 6) {
        fprintf(stderr, "usage: apiv3_bench ENDPOINT NAMESPACE publish|fetch|event SIZE COUNT\n");
        return 2;
    }
    const std::string work = words[3], prefix = words[2];
    const std::string blob(strtoul(words[4], nullptr, 10), '\0');
    const size_t wanted = strtoul(words[5], nullptr, 10);
    etcd::SyncClient client{std::string(words[1])};
    const std::string key = prefix + "/bench/l";
    if (work == "event") {
        events(client, prefix + "/writer/l", wanted);
    } else if (work == "fetch") {
        check(client.put(key, blob));
        timed(wanted, [&] { check(client.get(key)); });
    } else {
        timed(wanted, [&] { check(client.put(key, blob)); });
    }
    return 0;
}
