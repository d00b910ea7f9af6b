// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
//
// Embedded Swift takes all its memory from posix_memalign, also where the alignment is that of malloc. The shipped library
// is linked so that it finds this instead (Package.swift).
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

int __wrap_posix_memalign(void **memory, size_t alignment, size_t size);

int __wrap_posix_memalign(void **memory, size_t alignment, size_t size) {
    void *found = alignment <= _Alignof(max_align_t)
                      ? malloc(size)
                      : aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    if (!found) return ENOMEM;
    *memory = found;
    return 0;
}
