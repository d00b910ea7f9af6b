/*
 * SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
 * SPDX-License-Identifier: Apache-2.0
 */
/* A host around the part that a page shows. It ends when the publish has completed. */
#include <errno.h>
#include <nixl_md.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static volatile int stopping;

static void on_done(const nixl_md_result_t *r, void *user) {
    (void)user;
    printf("done %d\n", (int)r->status);
    stopping = 1;
}

static void do_other_work(void) {}

int main(void) {
    nixl_md_config_t config = {.size = sizeof config, .agent = "alpha", .agent_len = 5};
    nixl_md_t *md = NULL;
    if (nixl_md_open(&config, &md) != NIXL_MD_SUCCESS) return 1;
    nixl_md_opts_t opts = {.size = sizeof opts, .on_done = on_done};
    struct pollfd p = {.fd = nixl_md_efd(md), .events = POLLIN};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (nixl_md_start_heartbeat(md, 0, 0, NULL, NULL) != NIXL_MD_SUCCESS) return 2;
    if (nixl_md_publish(md, NULL, 0, "blob", 4, &opts, NULL) != NIXL_MD_SUCCESS) return 3;
#ifdef BEGINS_LATE
    while (!stopping && poll(&p, 1, -1) >= 0) nixl_md_tick(md);
#endif
    /* @@ */
    (void)p;
    (void)do_other_work;
    close(epoll);
    return stopping ? 0 : 4;
}
