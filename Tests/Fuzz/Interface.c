// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
//
// Makes random calls of the whole interface from several threads, on handles that come and go, with
// an etcd and without one. It obeys the header: a handle is opened and closed while no other thread
// uses it. A trap, a sanitizer's report or a broken promise of the header is a finding. Usage:
// interface SECONDS SEED ENDPOINT...

#define _GNU_SOURCE
#include "nixl_md.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { handles = 6, callers = 4, blobSize = 70000 };

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "interface: line %d: " #condition "\n", __LINE__); \
            abort(); \
        } \
    } while (0)

// Written while it is opened and closed, read by all other calls.
static struct Slot {
    pthread_rwlock_t lock;
    nixl_md_t *md;
    // Completions and ENDs that are owed, delivered, and owed by calls under way.
    _Atomic int64_t open;
    _Atomic uint64_t lastOp;
} slots[handles];

static char **endpoints;
static int endpointCount;
static char blob[blobSize];
static _Atomic bool isOver;
static _Atomic uint64_t calls, refused, told, opened;

// Each thread has its own; also a callback's, which runs on it.
static _Thread_local uint64_t state;

static uint64_t chance(uint64_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
}

static const char *const nobody = "nobody";
static const char *const agents[] = {"alpha", "beta", "gamma", "", "a/b", "\xff\xfe", NULL};
static const char *const labels[] = {"metadata", "l", "a/b", "", "\xc2\x85", NULL};

static const char *pick(const char *const *from, size_t count) {
    // Mostly one that is right.
    return chance(8) ? from[chance(3)] : from[chance(count)];
}

static size_t lengthOf(const char *text) {
    if (text == NULL) return chance(2);
    return chance(3) ? strlen(text) : NIXL_MD_NUL_TERMINATED;
}

static void someCall(struct Slot *slot, bool isInCallback);

static void onDone(const nixl_md_result_t *result, void *user) {
    struct Slot *slot = user;
    CHECK(result->op != 0 && result->text != NULL);
    CHECK((result->status == NIXL_MD_SUCCESS) == (result->text[0] == '\0'));
    if (result->status == NIXL_MD_SUCCESS && result->kind == NIXL_MD_OP_LIST) {
        for (size_t i = 0; i < result->agent_count; i++) CHECK(result->agents[i]->name_len > 0);
    }
    atomic_fetch_sub(&slot->open, 1);
    atomic_fetch_add(&told, 1);
    if (chance(16) == 0) someCall(slot, true);
}

static void onEvent(const nixl_md_event_t *event, void *user) {
    struct Slot *slot = user;
    CHECK(event->watch != 0 && event->text != NULL);
    atomic_fetch_add(&told, 1);
    if (event->type == NIXL_MD_EVENT_ENDED) atomic_fetch_sub(&slot->open, 1);
    if (chance(64) == 0) someCall(slot, true);
}

static void onOwnEvent(const nixl_md_event_t *event, void *user) {
    (void)user;
    CHECK(event->watch == 0 && event->type >= NIXL_MD_EVENT_LOST);
    atomic_fetch_add(&told, 1);
}

static void onLog(int32_t level, const char *line, void *user) {
    (void)user;
    CHECK(level > 0 && line != NULL && strstr(line, "SECRET") == NULL);
}

static uint64_t someTime(void) {
    static const uint64_t times[] = {
        0, 1, 20, 500, 3000, NIXL_MD_NEVER, NIXL_MD_MAX_TIMEOUT_MS + 1u};
    return times[chance(sizeof times / sizeof *times)];
}

// Counts the operation that a starting call has returned.
static void started(struct Slot *slot, nixl_md_status_t status, bool isOwed, uint64_t op) {
    atomic_fetch_add(&calls, 1);
    if (status == NIXL_MD_SUCCESS) {
        CHECK(op != 0);
        atomic_store(&slot->lastOp, op);
        return;
    }
    CHECK(status < 0);
    CHECK(nixl_md_last_error(slot->md)[0] != '\0');
    atomic_fetch_add(&refused, 1);
    // It was counted before: a completion may come before the call returns.
    if (isOwed) atomic_fetch_sub(&slot->open, 1);
}

static void start(struct Slot *slot) {
    nixl_md_t *md = slot->md;
    const char *agent = pick(agents, sizeof agents / sizeof *agents);
    const char *label = pick(labels, sizeof labels / sizeof *labels);
    nixl_md_opts_t opts;
    memset(&opts, 0, sizeof opts);
    opts.size = chance(64) ? sizeof opts : (uint32_t)chance(sizeof opts);
    opts.flags = chance(16) ? 0 : (uint32_t)chance(4);
    opts.timeout_ms = someTime();
    opts.on_done = chance(8) ? onDone : NULL;
    opts.user = slot;
    bool isOwed = opts.on_done != NULL;
    const nixl_md_opts_t *given = chance(16) ? &opts : NULL;
    if (given == NULL) isOwed = false;
    uint64_t op = 0;
    nixl_md_status_t status;
    const uint64_t kind = chance(9);
    if (kind == 8) isOwed = true;
    if (isOwed) atomic_fetch_add(&slot->open, 1);
    switch (kind) {
    case 0:
    case 1:
        status = nixl_md_publish(md, label, lengthOf(label), blob,
                                 chance(8) ? chance(100) : chance(blobSize), given, &op);
        break;
    case 2: status = nixl_md_unpublish(md, label, lengthOf(label), given, &op); break;
    case 3:
        status = nixl_md_start_heartbeat(md, chance(4) * 500, chance(4) * 2000, given, &op);
        break;
    case 4: status = nixl_md_stop_heartbeat(md, (int32_t)chance(4), given, &op); break;
    case 5:
        status = nixl_md_fetch(md, agent, lengthOf(agent), label, lengthOf(label), given, &op);
        break;
    case 6: status = nixl_md_invalidate(md, given, &op); break;
    case 7: status = nixl_md_list(md, given, &op); break;
    default: {
        nixl_md_watch_opts_t watch;
        memset(&watch, 0, sizeof watch);
        watch.size = sizeof watch;
        watch.flags = (uint32_t)chance(chance(16) ? 3 : 5);
        watch.user = slot;
        status = nixl_md_watch(md, agent, lengthOf(agent), onEvent, &watch, &op);
    }
    }
    started(slot, status, isOwed, op);
}

static void someCall(struct Slot *slot, bool isInCallback) {
    nixl_md_t *md = slot->md;
    switch (chance(16)) {
    case 0:
        if (isInCallback) CHECK(nixl_md_tick(md) == NIXL_MD_ERR_IN_CALLBACK);
        break;
    case 1:
        if (isInCallback) CHECK(nixl_md_close(md) == NIXL_MD_ERR_IN_CALLBACK);
        break;
    case 2: nixl_md_cancel(md, chance(4) ? atomic_load(&slot->lastOp) : chance(100)); break;
    case 3:
        if (chance(20000) == 0) nixl_md_shutdown(md, someTime());
        break;
    case 4: {
        nixl_md_stats_t stats;
        memset(&stats, 0, sizeof stats);
        stats.size = sizeof stats;
        CHECK(nixl_md_get_stats(md, &stats) == NIXL_MD_SUCCESS && stats.size <= sizeof stats);
        break;
    }
    case 5: {
        uint64_t due = 0;
        CHECK(nixl_md_deadline_ms(md, &due) == NIXL_MD_SUCCESS);
        CHECK(nixl_md_efd(md) >= 0);
        break;
    }
    case 6: {
        const int32_t any = (int32_t)chance(3000) - 1500;
        CHECK(nixl_md_status_string(any) != NULL && nixl_md_event_string(any) != NULL);
        CHECK(nixl_md_status_fold(any) <= 1 && nixl_md_version() == NIXL_MD_VERSION);
        CHECK(nixl_md_last_error(md) != NULL && nixl_md_version_string()[0] != '\0');
        break;
    }
    default: start(slot);
    }
}

static void open(struct Slot *slot) {
    nixl_md_config_t config;
    memset(&config, 0, sizeof config);
    config.size = sizeof config;
    config.endpoints = endpoints[chance((uint64_t)endpointCount)];
    config.name_space = "/fuzz/";
    config.agent = chance(4) ? agents[chance(3)] : NULL;
    config.agent_len = config.agent ? NIXL_MD_NUL_TERMINATED : 0;
    config.on_event = onOwnEvent;
    config.on_log = chance(2) ? onLog : NULL;
    config.log_level = config.on_log ? NIXL_MD_LOG_TRACE : NIXL_MD_LOG_DEFAULT;
    config.flags =
        NIXL_MD_CONFIG_IGNORE_ENVIRONMENT | (chance(8) ? 0 : NIXL_MD_CONFIG_REFUSE_TAKEOVER);
    CHECK(nixl_md_open(&config, &slot->md) == NIXL_MD_SUCCESS);
    atomic_fetch_add(&opened, 1);
}

static void close_(struct Slot *slot) {
    CHECK(nixl_md_close(slot->md) == NIXL_MD_SUCCESS);
    slot->md = NULL;
    // All that was open has ended inside close, each once.
    CHECK(atomic_load(&slot->open) == 0);
}

static void *callAnything(void *seed) {
    state = (uint64_t)(uintptr_t)seed * 0x9e3779b97f4a7c15u + 1;
    while (!isOver) {
        struct Slot *slot = &slots[chance(handles)];
        pthread_rwlock_rdlock(&slot->lock);
        for (uint64_t count = chance(20); slot->md != NULL && count > 0; count--)
            someCall(slot, false);
        pthread_rwlock_unlock(&slot->lock);
        if (chance(8) == 0) usleep(1000);
    }
    return NULL;
}

// Two of them, so that ticks of one handle meet.
static void *tick(void *seed) {
    state = (uint64_t)(uintptr_t)seed * 0x9e3779b97f4a7c15u + 1;
    while (!isOver) {
        struct Slot *slot = &slots[chance(handles)];
        pthread_rwlock_rdlock(&slot->lock);
        for (uint64_t count = chance(20); slot->md != NULL && count > 0; count--) {
            const int32_t status = nixl_md_tick(slot->md);
            CHECK(status >= 0 || status == NIXL_MD_ERR_BUSY || status == NIXL_MD_ERR_SHUT_DOWN);
        }
        pthread_rwlock_unlock(&slot->lock);
    }
    return NULL;
}

static void comeAndGo(void) {
    struct Slot *slot = &slots[chance(handles)];
    pthread_rwlock_wrlock(&slot->lock);
    if (slot->md != NULL) close_(slot);
    if (chance(8)) open(slot);
    pthread_rwlock_unlock(&slot->lock);
}

int main(int count, char **arguments) {
    if (count < 4) {
        fprintf(stderr, "usage: %s SECONDS SEED ENDPOINT...\n", arguments[0]);
        return 2;
    }
    const time_t end = time(NULL) + atol(arguments[1]);
    const uintptr_t seed = (uintptr_t)strtoull(arguments[2], NULL, 10) * 100;
    endpoints = arguments + 3;
    endpointCount = count - 3;
    state = (uint64_t)seed + 12345;
    memset(blob, 'b', sizeof blob);
    CHECK(nixl_md_open(NULL, NULL) == NIXL_MD_ERR_INVALID_PARAM &&
          nixl_md_tick(NULL) == NIXL_MD_ERR_INVALID_PARAM);
    CHECK(nixl_md_fetch(NULL, nobody, 6, NULL, 0, NULL, NULL) == NIXL_MD_ERR_INVALID_PARAM);
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    // Otherwise the thread that opens and closes waits forever.
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    for (int i = 0; i < handles; i++) {
        pthread_rwlock_init(&slots[i].lock, &attributes);
        open(&slots[i]);
    }
    pthread_t threads[callers + 2];
    for (int i = 0; i < callers + 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, i < callers ? callAnything : tick,
                             (void *)(seed + (uintptr_t)i + 1)) == 0);
    }
    while (time(NULL) < end) {
        usleep(100000);
        comeAndGo();
    }
    isOver = true;
    for (int i = 0; i < callers + 2; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < handles; i++) {
        if (slots[i].md != NULL) close_(&slots[i]);
    }
    printf("interface: %" PRIu64 " handles, %" PRIu64 " starting calls, %" PRIu64
           " of them refused, %" PRIu64 " callbacks\n",
           opened, calls, refused, told);
    return 0;
}
