// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CSystem.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { READY_MAX = 16 };

static int result(int value) {
    return value < 0 ? -errno : value;
}

int csystem_epoll_open(void) {
    return result(epoll_create1(EPOLL_CLOEXEC));
}

int csystem_epoll_add(int epoll, int descriptor, bool once) {
    struct epoll_event event = {.events = EPOLLIN | (once ? EPOLLET : 0),
                                .data = {.u64 = (uint64_t)descriptor}};
    return result(epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event));
}

int csystem_epoll_poll(int epoll, csystem_ready *ready, int capacity) {
    struct epoll_event events[READY_MAX];
    // The wrapper is a cancellation point (see Guard.c).
    int count = (int)syscall(SYS_epoll_pwait, epoll, events,
                             capacity < READY_MAX ? capacity : READY_MAX, 0, NULL, 0);
    if (count < 0) {
        return -errno;
    }
    for (int i = 0; i < count; i++) {
        ready[i].descriptor = (int32_t)events[i].data.u64;
        ready[i].events = events[i].events;
    }
    return count;
}

int csystem_timer_open(void) {
    return result(timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK));
}

int csystem_timer_set(int timer, uint64_t at) {
    struct itimerspec time = {
        .it_value = {.tv_sec = (time_t)(at / 1000000000u), .tv_nsec = (long)(at % 1000000000u)}};
    return result(timerfd_settime(timer, TFD_TIMER_ABSTIME, &time, NULL));
}

int csystem_signal_open(void) {
    return result(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

void csystem_signal_set(int signal) {
    const uint64_t one = 1;
    // Fails only where the counter is full, and then it is readable already.
    long written = syscall(SYS_write, signal, &one, sizeof one);
    (void)written;
}

void csystem_signal_clear(int signal) {
    uint64_t count;
    // Fails only if there is nothing to clear.
    long taken = syscall(SYS_read, signal, &count, sizeof count);
    (void)taken;
}

void csystem_close(int descriptor) {
    syscall(SYS_close, descriptor);
}
