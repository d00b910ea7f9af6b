// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
#include "CSystem.h"

#include <time.h>

static uint64_t now(clockid_t clock) {
    struct timespec time = {0};
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

uint64_t csystem_boottime(void) {
    return now(CLOCK_BOOTTIME);
}

uint64_t csystem_monotonic(void) {
    return now(CLOCK_MONOTONIC);
}

uint64_t csystem_thread_cpu(void) {
    return now(CLOCK_THREAD_CPUTIME_ID);
}
