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
    // system call for every call of the host. NULL where the kernel has no such pages (gVisor): then it is asked.
    const volatile unsigned char *is_parent;
    size_t page_size;
    pid_t owner;
    // The thread that has the turn, as the address of a variable of its own; 0: none.
    _Atomic(uintptr_t) holder;
    pthread_mutex_t lock;
    // Whether the thread that has the turn, or the lock, could be canceled before, and when.
    int turn_cancel_state, turn_cancel_type, lock_cancel_state;
};

static _Thread_local char this_thread;

static uintptr_t identity(void) {
    return (uintptr_t)&this_thread;
}

// A page that is 1 here and 0 in a forked child; NULL: not available.
static const volatile unsigned char *new_page(size_t size) {
    unsigned char *page =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return NULL;
    if (madvise(page, size, MADV_WIPEONFORK) != 0) {
        munmap(page, size);
        return NULL;
    }
    *page = 1;
    return page;
}

csystem_guard *csystem_guard_new(int *error) {
    csystem_guard *guard = calloc(1, sizeof *guard);
    if (!guard) {
        *error = ENOMEM;
        return NULL;
    }
    guard->owner = getpid();
    guard->page_size = (size_t)sysconf(_SC_PAGESIZE);
    guard->is_parent = new_page(guard->page_size);
    pthread_mutex_init(&guard->lock, NULL);
    return guard;
}

void csystem_guard_free(csystem_guard *guard) {
    if (csystem_guard_is_inside(guard)) csystem_guard_leave(guard);
    if (guard->is_parent) munmap((void *)guard->is_parent, guard->page_size);
    pthread_mutex_destroy(&guard->lock);
    free(guard);
}

bool csystem_guard_is_forked(const csystem_guard *guard) {
    return guard->is_parent ? *guard->is_parent == 0 : getpid() != guard->owner;
}

// A request to cancel may be on its way as a signal that was sent before cancellation was disabled. glibc 2.36 obeys it
// anyway if the type is asynchronous, and every cancellation point sets that type during its system call
// (nptl/pthread_cancel.c, sigcancel_handler). So this module sets the type and makes raw system calls.
int csystem_guard_enter(csystem_guard *guard) {
    uintptr_t holder = 0;
    int state = 0, type = 0;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
    if (atomic_compare_exchange_strong_explicit(&guard->holder, &holder, identity(),
                                                memory_order_acquire, memory_order_relaxed)) {
        guard->turn_cancel_state = state;
        guard->turn_cancel_type = type;
        return CSYSTEM_TURN_TAKEN;
    }
    pthread_setcanceltype(type, NULL);
    pthread_setcancelstate(state, NULL);
    return holder == identity() ? CSYSTEM_TURN_IS_OURS : CSYSTEM_TURN_IS_ANOTHERS;
}

void csystem_guard_leave(csystem_guard *guard) {
    const int state = guard->turn_cancel_state, type = guard->turn_cancel_type;
    atomic_store_explicit(&guard->holder, 0, memory_order_release);
    pthread_setcanceltype(type, NULL);
    pthread_setcancelstate(state, NULL);
}

bool csystem_guard_is_inside(const csystem_guard *guard) {
    return atomic_load_explicit(&((csystem_guard *)guard)->holder, memory_order_relaxed) ==
           identity();
}

void csystem_guard_lock(csystem_guard *guard) {
    int before = 0;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    pthread_mutex_lock(&guard->lock);
    guard->lock_cancel_state = before;
}

void csystem_guard_unlock(csystem_guard *guard) {
    const int before = guard->lock_cancel_state;
    pthread_mutex_unlock(&guard->lock);
    pthread_setcancelstate(before, NULL);
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
