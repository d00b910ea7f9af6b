// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
//
// Close-on-exec for the socket pair behind curl_multi_wakeup, which libcurl up to 8.10 creates without.
#define _GNU_SOURCE
#include "CCurl.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { CANDIDATES_MAX = 4096 };

typedef struct {
    int descriptor;
    // Bytes that wait at it, and at its peer, when it was looked at last.
    int received, sent;
} end;

typedef struct {
    end ends[CANDIDATES_MAX];
    size_t count;
} candidates;

static int queued(int socket, unsigned long request) {
    int bytes = 0;
    return ioctl(socket, request, &bytes) == 0 ? bytes : -1;
}

// A socket of AF_UNIX and SOCK_STREAM that a program started meanwhile would inherit.
static bool is_candidate(int descriptor) {
    struct stat status;
    if (fstat(descriptor, &status) != 0 || !S_ISSOCK(status.st_mode)) return false;
    const int flags = fcntl(descriptor, F_GETFD);
    if (flags < 0 || flags & FD_CLOEXEC) return false;
    int domain = 0, type = 0;
    socklen_t length = sizeof domain;
    return getsockopt(descriptor, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 &&
           domain == AF_UNIX && getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &length) == 0 &&
           type == SOCK_STREAM;
}

static void collect(candidates *all) {
    DIR *directory = opendir("/proc/self/fd");
    if (!directory) return;
    for (struct dirent *entry; (entry = readdir(directory)) && all->count < CANDIDATES_MAX;) {
        const int descriptor = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || !is_candidate(descriptor)) continue;
        all->ends[all->count++] =
            (end){descriptor, queued(descriptor, FIONREAD), queued(descriptor, SIOCOUTQ)};
    }
    closedir(directory);
}

// Keeps those at which exactly one more byte waits, or more at their peer.
static void keep_changed(candidates *all) {
    size_t kept = 0;
    for (size_t i = 0; i < all->count; i++) {
        end now = {all->ends[i].descriptor, queued(all->ends[i].descriptor, FIONREAD),
                   queued(all->ends[i].descriptor, SIOCOUTQ)};
        if (now.received == all->ends[i].received + 1 || now.sent > all->ends[i].sent)
            all->ends[kept++] = now;
    }
    all->count = kept;
}

void ccurl_close_wakeup_on_exec(CURLM *multi) {
    candidates *all = calloc(1, sizeof *all);
    if (!all) return;
    collect(all);
    // libcurl writes one byte to its own pair for each wakeup. Two writes tell that pair from any other.
    for (int i = 0; i < 2 && all->count; i++)
        if (curl_multi_wakeup(multi) == CURLM_OK) keep_changed(all);
    for (size_t i = 0; i < all->count; i++) fcntl(all->ends[i].descriptor, F_SETFD, FD_CLOEXEC);
    free(all);
}
