// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
//
// nixl_md_open with any configuration, in any environment. A trap is a find, and so is a refusal without a text, a handle
// that cannot be closed, and a password in a text.

#include "nixl_md.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) __builtin_trap(); \
    } while (0)

enum { most = 2048, texts = 10 };

// libFuzzer's bytes, read from the front; zeros after their end.
static struct {
    const uint8_t *at;
    size_t left;
} input;

static uint8_t byte(void) {
    if (input.left == 0) return 0;
    input.left--;
    return *input.at++;
}

static uint64_t bytes(int count) {
    uint64_t value = 0;
    for (int i = 0; i < count; i++) value = value << 8 | byte();
    return value;
}

static size_t take(char *text, size_t limit) {
    size_t count = byte();
    // Some are over a limit.
    if (count >= 250) count = (count - 249) * 300;
    if (count > limit) count = limit;
    for (size_t i = 0; i < count; i++) text[i] = (char)byte();
    text[count] = '\0';
    return count;
}

// The environment keeps pointing at this text, which is changed in place: setenv would leak each.
static char variables[3][most + 32];
static const char *const names[3] = {
    "NIXL_ETCD_ENDPOINTS=", "NIXL_ETCD_NAMESPACE=", "NIXL_LOG_LEVEL="};

static void setEnvironment(void) {
    static const char *const endpoints[4] = {"127.0.0.1:1", "[::1]", "https://e:2;https://f",
                                             "http://u:p@h"};
    static const char *const levels[4] = {"OFF", "off", "TRACE", "loud"};
    for (int i = 0; i < 3; i++) {
        char *text = variables[i];
        const bool isNew = *text == '\0';
        const uint8_t kind = byte();
        strcpy(text, names[i]);
        // Under another name it counts as unset.
        if (kind % 4 == 0) text[0] = 'X';
        char *value = text + strlen(text);
        if (kind % 4 == 1 && i == 0) {
            strcpy(value, endpoints[kind / 4 % 4]);
        } else if (kind % 4 == 1 && i == 2) {
            strcpy(value, levels[kind / 4 % 4]);
        } else {
            take(value, most);
        }
        if (isNew) putenv(text);
    }
}

static const char secret[] = "a password that no fuzzer guesses";

// Whether it is in the text. Without a comparison that a fuzzer could learn it from.
static bool shows(const char *text) {
    const size_t length = sizeof secret - 1;
    for (size_t count = strlen(text); count >= length; count--, text++) {
        unsigned difference = 0;
        for (size_t i = 0; i < length; i++) difference |= (unsigned)(text[i] ^ secret[i]);
        if (difference == 0) return true;
    }
    return false;
}

static void onLog(int32_t level, const char *line, void *user) {
    (void)user;
    CHECK(level >= NIXL_MD_LOG_TRACE && level <= NIXL_MD_LOG_FATAL);
    CHECK(!shows(line));
}

static void onEvent(const nixl_md_event_t *event, void *user) {
    (void)event;
    (void)user;
}

int LLVMFuzzerTestOneInput(const uint8_t *start, size_t count) {
    static char text[texts][most + 1];
    static const char *const endpoints[4] = {"127.0.0.1:2379", "[::1]:2379;localhost",
                                             "https://etcd", "a,,b"};
    input.at = start;
    input.left = count;
    setEnvironment();
    nixl_md_config_t config;
    memset(&config, 0, sizeof config);
    const uint8_t kind = byte();
    config.size = kind % 16 == 0 ? (uint32_t)bytes(2) : (uint32_t)sizeof config;
    // More than the struct has is not there to be read.
    if (config.size > sizeof config && config.size % 8 == 0 && config.size <= 1024)
        config.size = sizeof config;
    // Resolving in open would block.
    config.flags = (kind / 16 % 8 == 0 ? (uint32_t)bytes(4) : (uint32_t)(byte() & 13)) &
                   ~(uint32_t)NIXL_MD_CONFIG_RESOLVE_IN_OPEN;
    const uint16_t which = (uint16_t)bytes(2);
    size_t lengths[texts];
    const char *given[texts];
    for (int i = 0; i < texts; i++) {
        given[i] = NULL;
        if ((which & 1u << i) == 0) continue;
        lengths[i] = take(text[i], most);
        given[i] = text[i];
    }
    config.endpoints = byte() % 2 ? endpoints[byte() % 4] : given[0];
    config.name_space = given[1];
    config.agent = given[2];
    if (given[2]) config.agent_len = byte() % 4 ? lengths[2] : NIXL_MD_NUL_TERMINATED;
    config.ca_file = given[3];
    config.cert_file = given[4];
    config.key_file = given[5];
    config.server_name = given[6];
    config.user = given[7];
    config.password = given[8] ? secret : NULL;
    config.on_event = given[9] ? onEvent : NULL;
    config.on_log = onLog;
    config.log_level = (int32_t)(byte() % 10) - 1;
    config.reserved = byte() % 32 == 0;
    nixl_md_t *md = NULL;
    const nixl_md_status_t status = nixl_md_open(&config, &md);
    const char *error = nixl_md_last_error(md);
    CHECK(error != NULL && !shows(error));
    if (status != NIXL_MD_SUCCESS) {
        CHECK(status < 0 && md == NULL && error[0] != '\0');
        return 0;
    }
    CHECK(md != NULL);
    CHECK(nixl_md_efd(md) >= 0);
    CHECK(nixl_md_close(md) == NIXL_MD_SUCCESS);
    return 0;
}
