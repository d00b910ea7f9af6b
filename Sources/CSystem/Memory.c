// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
//
// Memory as Swift does not see it.
#define _GNU_SOURCE
#include "CSystem.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

// Far more than a tick needs, and within the smallest stack that a thread can have beside what the host needs itself.
enum { STACK_OF_A_TICK = 8 << 10 };

__attribute__((noinline)) void csystem_wipe_stack(void) {
    unsigned char room[STACK_OF_A_TICK];
    explicit_bzero(room, sizeof room);
}

// Embedded Swift takes all its memory from posix_memalign, also where the alignment is that of malloc. The shipped library
// is linked so that it finds this instead (Package.swift).
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size);

int __wrap_posix_memalign(void **memory, size_t alignment, size_t size) {
    void *found = alignment <= _Alignof(max_align_t)
                      ? malloc(size)
                      : aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    if (!found) return ENOMEM;
    *memory = found;
    return 0;
}
