/*
 * SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * The smallest host: opens a handle, ticks it once, closes it. Needs no etcd.
 */
#include <nixl_md.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    nixl_md_config_t config;
    nixl_md_t *md = NULL;

    memset(&config, 0, sizeof config);
    config.size = sizeof config;
    config.endpoints = "127.0.0.1:1";
    config.agent = "consumer";
    config.agent_len = NIXL_MD_NUL_TERMINATED;
    if (nixl_md_version() != NIXL_MD_VERSION) return 1;
    if (nixl_md_open(&config, &md) != NIXL_MD_SUCCESS) {
        fprintf(stderr, "%s\n", nixl_md_last_error(NULL));
        return 1;
    }
    if (nixl_md_tick(md) != 0) return 1;
    if (nixl_md_close(md) != NIXL_MD_SUCCESS) return 1;
    printf("C %s\n", nixl_md_version_string());
    return 0;
}
