// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CSystem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

const char *csystem_environment(const char *name) {
    return secure_getenv(name);
}

bool csystem_random(void *bytes, size_t count) {
    unsigned char *at = bytes;
    while (count > 0) {
        ssize_t got = getrandom(at, count, 0);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return false;
        }
        at += got;
        count -= (size_t)got;
    }
    return true;
}

// Swift's hashing asks for this function, which glibc has only since 2.36. Hidden, so that nobody else in the
// process gets it. Its seed need not be secret from anybody who could make getrandom fail.
__attribute__((visibility("hidden"))) void arc4random_buf(void *bytes, size_t count) {
    csystem_random(bytes, count);
}

bool csystem_has_memory(size_t count) {
    // Volatile, or the compiler takes the two calls for nothing.
    void *volatile memory = malloc(count);
    free(memory);
    return memory != NULL;
}

int64_t csystem_read_file(const char *path, void *room, size_t size) {
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) return -errno;
    size_t done = 0;
    ssize_t got = 0;
    while (done < size && (got = read(file, (char *)room + done, size - done)) > 0)
        done += (size_t)got;
    const int error = errno;
    close(file);
    return got < 0 ? -error : (int64_t)done;
}

void csystem_standard_error(const void *bytes, size_t count) {
    // A log that cannot be written is lost; there is nobody to tell.
    ssize_t written = write(STDERR_FILENO, bytes, count);
    (void)written;
}

const char *csystem_error_text(int error) {
    switch (error) {
    case EMFILE: return "too many open descriptors in this process";
    case ENFILE: return "too many open descriptors in the system";
    case ENOMEM: return "out of memory";
    case ENOSPC: return "too many watched descriptors (fs.epoll.max_user_watches)";
    case EAGAIN: return "too many threads";
    case EINVAL: return "not supported by this kernel";
    case ENOSYS: return "not supported by this kernel";
    case EBADF: return "the descriptor was closed by somebody else";
    default: return "see errno(3)";
    }
}

size_t csystem_length(const char *text, size_t limit) {
    return strnlen(text, limit);
}

static _Thread_local char last_error[CSYSTEM_LAST_ERROR_SIZE];

void csystem_set_last_error(const void *text, size_t count) {
    size_t fitting = count < sizeof last_error ? count : sizeof last_error - 1;
    memcpy(last_error, text, fitting);
    last_error[fitting] = 0;
}

const char *csystem_last_error(void) {
    return last_error;
}
