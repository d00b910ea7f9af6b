// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
//
// A host that does one kind of work and prints its cost as one line of JSON. Tests/cost uses it too.
// Usage: nixl_md_bench ENDPOINT NAMESPACE WORK [NUMBER...]; $BENCH_CA_FILE is for https, and with $BENCH_QUIET no latencies
// are printed, which costs instructions for each.
#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "nixl_md.h"

enum { WARM_UP = 20, TIMEOUT_MS = 60000 };

static const char *endpoint, *name_space;
static long completed, events, agents_told, synced;
static uint64_t *latencies;
static long latency_count;

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t wall(void) {
    return clock_ns(CLOCK_MONOTONIC);
}

static uint64_t cpu(void) {
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static void check(int32_t status, const char *what) {
    if (status >= 0) return;
    fprintf(stderr, "%s: %s %s\n", what, nixl_md_status_string(status), nixl_md_last_error(NULL));
    exit(1);
}

static void on_done(const nixl_md_result_t *result, void *user) {
    (void)user;
    check(result->status, result->text);
    agents_told = (long)result->agent_count;
    completed++;
}

// A blob begins with the time at which it was written.
static void on_event(const nixl_md_event_t *event, void *user) {
    (void)user;
    if (event->type == NIXL_MD_EVENT_SYNCED) synced++;
    if (event->type == NIXL_MD_EVENT_PRESENT) agents_told++;
    if (event->type != NIXL_MD_EVENT_PUT) return;
    uint64_t written = 0;
    if (event->blob_len >= sizeof written) memcpy(&written, event->blob, sizeof written);
    if (latencies && latency_count < events + 1) latencies[latency_count++] = wall() - written;
    events++;
}

static nixl_md_t *opened(const char *agent) {
    nixl_md_config_t config = {.size = sizeof config,
                               .endpoints = endpoint,
                               .name_space = name_space,
                               .agent = agent,
                               .agent_len = agent ? strlen(agent) : 0,
                               .ca_file = getenv("BENCH_CA_FILE")};
    nixl_md_t *md = NULL;
    check(nixl_md_open(&config, &md), "open");
    return md;
}

static void turn(nixl_md_t *md) {
    struct pollfd wait = {.fd = nixl_md_efd(md), .events = POLLIN};
    if (poll(&wait, 1, TIMEOUT_MS) == 0) check(NIXL_MD_ERR_TIMED_OUT, "nothing happens");
    check(nixl_md_tick(md), "tick");
}

static void turn_until(nixl_md_t *md, const long *counter, long wanted) {
    while (*counter < wanted) turn(md);
}

static nixl_md_opts_t options(void) {
    return (nixl_md_opts_t){
        .size = sizeof(nixl_md_opts_t), .timeout_ms = TIMEOUT_MS, .on_done = on_done};
}

static void publish(nixl_md_t *md, const void *blob, size_t size) {
    nixl_md_opts_t opts = options();
    uint64_t op;
    const long wanted = completed + 1;
    check(nixl_md_publish(md, "l", 1, blob, size, &opts, &op), "publish");
    turn_until(md, &completed, wanted);
}

static void fetch(nixl_md_t *md, const char *agent) {
    nixl_md_opts_t opts = options();
    uint64_t op;
    const long wanted = completed + 1;
    check(nixl_md_fetch(md, agent, strlen(agent), "l", 1, &opts, &op), "fetch");
    turn_until(md, &completed, wanted);
}

// As agents of NIXL are: with a heartbeat.
static nixl_md_t *opened_alive(const char *agent, uint64_t interval, uint64_t ttl) {
    nixl_md_t *md = opened(agent);
    nixl_md_opts_t opts = options();
    uint64_t op;
    const long wanted = completed + 1;
    check(nixl_md_start_heartbeat(md, interval, ttl, &opts, &op), "heartbeat");
    turn_until(md, &completed, wanted);
    return md;
}

static uint64_t watch(nixl_md_t *md, const char *agent, uint32_t flags) {
    nixl_md_watch_opts_t opts = {.size = sizeof opts, .flags = flags};
    uint64_t id;
    check(nixl_md_watch(md, agent, agent ? strlen(agent) : 0, on_event, &opts, &id), "watch");
    return id;
}

// MARK: What is printed

static void print_latencies(uint64_t used) {
    if (getenv("BENCH_QUIET")) return;
    printf("{\"cpu_ns\": %llu, \"latency_ns\": [", (unsigned long long)used);
    for (long i = 0; i < latency_count; i++)
        printf("%s%llu", i ? ", " : "", (unsigned long long)latencies[i]);
    printf("]}\n");
}

static int descriptors(void) {
    int count = -3; // ., .. and the directory itself
    DIR *directory = opendir("/proc/self/fd");
    while (readdir(directory)) count++;
    closedir(directory);
    return count;
}

// A number of /proc/self/status.
static long status_of(const char *name) {
    char line[256];
    long value = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, name, strlen(name))) value = strtol(line + strlen(name), NULL, 10);
    fclose(file);
    return value;
}

static void print_figures(uint64_t took, uint64_t used, long kib_before) {
    printf("{\"took_ns\": %llu, \"cpu_ns\": %llu, \"kib\": %ld, \"threads\": %ld, "
           "\"descriptors\": %d, \"told\": %ld}\n",
           (unsigned long long)took, (unsigned long long)used, status_of("VmRSS:") - kib_before,
           status_of("Threads:"), descriptors(), agents_told);
}

// MARK: Kinds of work

static void work_publish(long size, long count) {
    nixl_md_t *md = opened_alive("bench", 0, 0);
    char *blob = calloc(1, (size_t)size);
    for (long i = 0; i < WARM_UP; i++) publish(md, blob, (size_t)size);
    const uint64_t before = cpu();
    for (long i = 0; i < count; i++) {
        const uint64_t start = wall();
        publish(md, blob, (size_t)size);
        latencies[latency_count++] = wall() - start;
    }
    print_latencies(cpu() - before);
}

static void work_fetch(long size, long count) {
    nixl_md_t *md = opened_alive("bench", 0, 0);
    char *blob = calloc(1, (size_t)size);
    publish(md, blob, (size_t)size);
    for (long i = 0; i < WARM_UP; i++) fetch(md, "bench");
    const uint64_t before = cpu();
    for (long i = 0; i < count; i++) {
        const uint64_t start = wall();
        fetch(md, "bench");
        latencies[latency_count++] = wall() - start;
    }
    print_latencies(cpu() - before);
}

// The first events of `count` + WARM_UP are not measured. Prints 'ready' when they may be written.
static void work_event(long count) {
    nixl_md_t *md = opened(NULL);
    watch(md, "writer", 0);
    turn_until(md, &synced, 1);
    printf("ready\n");
    fflush(stdout);
    uint64_t *kept = latencies;
    latencies = NULL;
    turn_until(md, &events, WARM_UP);
    latencies = kept;
    const uint64_t before = cpu();
    turn_until(md, &events, WARM_UP + count);
    print_latencies(cpu() - before);
}

static void work_renew(long count) {
    nixl_md_t *md = opened_alive("bench", NIXL_MD_MIN_INTERVAL_MS, TIMEOUT_MS);
    nixl_md_stats_t stats = {.size = sizeof stats};
    while (stats.renewals < (uint64_t)count) {
        turn(md);
        check(nixl_md_get_stats(md, &stats), "stats");
    }
    printf("{}\n");
}

static void work_idle(long count) {
    nixl_md_t *md = opened("bench");
    publish(md, "blob", 4);
    watch(md, "nobody", 0);
    turn_until(md, &synced, 1);
    while (nixl_md_tick(md) != 0) {
    }
    const uint64_t start = wall(), before = cpu();
    for (long i = 0; i < count; i++) check(nixl_md_tick(md), "tick");
    print_figures(wall() - start, cpu() - before, 0);
}

// CPU of a host with a heartbeat and a watch that has nothing to do.
static void work_rest(long seconds) {
    nixl_md_t *md = opened_alive("bench", 0, 0);
    publish(md, "blob", 4);
    watch(md, NULL, 0);
    turn_until(md, &synced, 1);
    const uint64_t start = wall(), before = cpu();
    const uint64_t end = start + (uint64_t)seconds * 1000000000u;
    while (wall() < end) {
        struct pollfd wait = {.fd = nixl_md_efd(md), .events = POLLIN};
        poll(&wait, 1, (int)((end - wall()) / 1000000u) + 1);
        check(nixl_md_tick(md), "tick");
    }
    print_figures(wall() - start, cpu() - before, 0);
}

static void work_watches(long count) {
    nixl_md_t *md = opened(NULL);
    watch(md, "first", 0);
    turn_until(md, &synced, 1);
    const long kib = status_of("VmRSS:");
    const uint64_t start = wall(), before = cpu();
    for (long i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "agent%ld", i);
        watch(md, name, 0);
    }
    turn_until(md, &synced, 1 + count);
    print_figures(wall() - start, cpu() - before, kib);
}

static void work_handles(long count) {
    nixl_md_t **handles = calloc((size_t)count, sizeof *handles);
    const long kib = status_of("VmRSS:");
    const uint64_t start = wall(), before = cpu();
    for (long i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "handle%ld", i);
        handles[i] = opened(name);
        publish(handles[i], "blob", 4);
    }
    print_figures(wall() - start, cpu() - before, kib);
    fflush(stdout);
    for (long i = 0; i < count; i++) check(nixl_md_close(handles[i]), "close");
}

static void work_cold(void) {
    const uint64_t start = wall(), before = cpu();
    publish(opened("bench"), "blob", 4);
    print_figures(wall() - start, cpu() - before, 0);
}

static void work_list(void) {
    nixl_md_t *md = opened("bench");
    publish(md, "blob", 4);
    const long kib = status_of("VmRSS:");
    const uint64_t start = wall(), before = cpu();
    nixl_md_opts_t opts = options();
    uint64_t op;
    check(nixl_md_list(md, &opts, &op), "list");
    turn_until(md, &completed, 2);
    print_figures(wall() - start, cpu() - before, kib);
}

static void work_namespace(void) {
    nixl_md_t *md = opened("bench");
    publish(md, "blob", 4);
    const long kib = status_of("VmRSS:");
    const uint64_t start = wall(), before = cpu();
    agents_told = 0;
    watch(md, NULL, 0);
    turn_until(md, &synced, 1);
    print_figures(wall() - start, cpu() - before, kib);
}

int main(int count, char **words) {
    if (count < 4) {
        fprintf(stderr, "usage: nixl_md_bench ENDPOINT NAMESPACE WORK [NUMBER...]\n");
        return 2;
    }
    endpoint = words[1];
    name_space = words[2];
    const char *work = words[3];
    const long first = count > 4 ? atol(words[4]) : 0, second = count > 5 ? atol(words[5]) : 0;
    latencies = calloc((size_t)(first > second ? first : second) + 1, sizeof *latencies);
    if (!strcmp(work, "publish"))
        work_publish(first, second);
    else if (!strcmp(work, "fetch"))
        work_fetch(first, second);
    else if (!strcmp(work, "event"))
        work_event(second);
    else if (!strcmp(work, "renew"))
        work_renew(first);
    else if (!strcmp(work, "idle"))
        work_idle(first);
    else if (!strcmp(work, "rest"))
        work_rest(first);
    else if (!strcmp(work, "watches"))
        work_watches(first);
    else if (!strcmp(work, "handles"))
        work_handles(first);
    else if (!strcmp(work, "cold"))
        work_cold();
    else if (!strcmp(work, "list"))
        work_list();
    else if (!strcmp(work, "namespace"))
        work_namespace();
    else
        return fprintf(stderr, "there is no work '%s'\n", work), 2;
    return 0;
}
