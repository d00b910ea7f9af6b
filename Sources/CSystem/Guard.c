// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CSystem.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct csystem_guard {
    // A page that the kernel gives to a forked child empty (MADV_WIPEONFORK, Linux 4.14): getpid() would be a
    // system call for every call of the host.
    const volatile unsigned char *is_parent;
    size_t page_size;
    // The thread that has the turn, as the address of a variable of its own; 0: none.
    _Atomic(uintptr_t) holder;
    pthread_mutex_t lock;
};

static _Thread_local char this_thread;

static uintptr_t identity(void) {
    return (uintptr_t)&this_thread;
}

csystem_guard *csystem_guard_new(int *error) {
    csystem_guard *guard = calloc(1, sizeof *guard);
    if (!guard) {
        *error = ENOMEM;
        return NULL;
    }
    guard->page_size = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *page =
        mmap(NULL, guard->page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        *error = errno;
        free(guard);
        return NULL;
    }
    if (madvise(page, guard->page_size, MADV_WIPEONFORK) != 0) {
        *error = errno;
        munmap(page, guard->page_size);
        free(guard);
        return NULL;
    }
    *page = 1;
    guard->is_parent = page;
    pthread_mutex_init(&guard->lock, NULL);
    return guard;
}

void csystem_guard_free(csystem_guard *guard) {
    munmap((void *)guard->is_parent, guard->page_size);
    pthread_mutex_destroy(&guard->lock);
    free(guard);
}

bool csystem_guard_is_forked(const csystem_guard *guard) {
    return *guard->is_parent == 0;
}

int csystem_guard_enter(csystem_guard *guard) {
    uintptr_t holder = 0;
    if (atomic_compare_exchange_strong_explicit(&guard->holder, &holder, identity(),
                                                memory_order_acquire, memory_order_relaxed)) {
        return CSYSTEM_TURN_TAKEN;
    }
    return holder == identity() ? CSYSTEM_TURN_IS_OURS : CSYSTEM_TURN_IS_ANOTHERS;
}

void csystem_guard_leave(csystem_guard *guard) {
    atomic_store_explicit(&guard->holder, 0, memory_order_release);
}

bool csystem_guard_is_inside(const csystem_guard *guard) {
    return atomic_load_explicit(&((csystem_guard *)guard)->holder, memory_order_relaxed) ==
           identity();
}

void csystem_guard_lock(csystem_guard *guard) {
    pthread_mutex_lock(&guard->lock);
}

void csystem_guard_unlock(csystem_guard *guard) {
    pthread_mutex_unlock(&guard->lock);
}

bool csystem_guard_was_at_rest(csystem_guard *guard) {
    if (atomic_load_explicit(&guard->holder, memory_order_acquire) != 0) {
        return false;
    }
    if (pthread_mutex_trylock(&guard->lock) != 0) {
        return false;
    }
    pthread_mutex_unlock(&guard->lock);
    return true;
}
