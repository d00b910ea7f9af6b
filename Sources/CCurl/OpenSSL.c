// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
//
// The OpenSSL that libcurl uses, found in the process: nothing is linked.
#define _GNU_SOURCE
#include "CCurl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

// Of OpenSSL's headers; the same in 1.1.1 and 3.x.
enum {
    SSL_CTRL_MODE = 33,
    SSL_CTRL_SET_READ_AHEAD = 41,
    SSL_CTRL_SET_GROUPS_LIST = 92,
    SSL_MODE_ENABLE_PARTIAL_WRITE = 1,
    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER = 2,
    SSL_MODE_RELEASE_BUFFERS = 16,
    ERR_LIB_SYS = 2,
    ERR_TXT_STRING = 2
};
static const unsigned long ERR_SYSTEM_FLAG = 0x80000000ul;

static struct {
    int (*set_alpn)(void *context, const unsigned char *protocols, unsigned length);
    long (*control)(void *context, int command, long number, void *pointer);
    void (*set_key_log)(void *context, void *callback);
    void (*selected_alpn)(const void *connection, const unsigned char **name, unsigned *length);
    unsigned long (*peek)(void);
    void (*clear)(void);
    // Since 3.0.
    unsigned long (
        *next)(const char **file, int *line, const char **function, const char **data, int *flags);
    void (*begin)(void);
    void (*set_place)(const char *file, int line, const char *function);
    void (*set_error)(int library, int reason, const char *format, ...);
} ssl;

static bool is_found;

static void look(void) {
    Dl_info libcurl;
    if (!dladdr((void *)(uintptr_t)curl_easy_init, &libcurl)) return;
    // Searches what libcurl depends on, and not what else the process may have of that name.
    void *handle = dlopen(libcurl.dli_fname, RTLD_NOLOAD | RTLD_LAZY);
    if (!handle) return;
    *(void **)&ssl.set_alpn = dlsym(handle, "SSL_CTX_set_alpn_protos");
    *(void **)&ssl.control = dlsym(handle, "SSL_CTX_ctrl");
    *(void **)&ssl.set_key_log = dlsym(handle, "SSL_CTX_set_keylog_callback");
    *(void **)&ssl.selected_alpn = dlsym(handle, "SSL_get0_alpn_selected");
    *(void **)&ssl.peek = dlsym(handle, "ERR_peek_error");
    *(void **)&ssl.clear = dlsym(handle, "ERR_clear_error");
    *(void **)&ssl.next = dlsym(handle, "ERR_get_error_all");
    *(void **)&ssl.begin = dlsym(handle, "ERR_new");
    *(void **)&ssl.set_place = dlsym(handle, "ERR_set_debug");
    *(void **)&ssl.set_error = dlsym(handle, "ERR_set_error");
    is_found = ssl.set_alpn && ssl.control && ssl.set_key_log && ssl.selected_alpn && ssl.peek &&
               ssl.clear && ssl.next && ssl.begin && ssl.set_place && ssl.set_error;
}

bool ccurl_has_openssl(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, look);
    return is_found;
}

// CURLOPT_SSL_CTX_FUNCTION.
static CURLcode on_context(CURL *easy, void *context, void *user) {
    (void)easy, (void)user;
    static const unsigned char h2[] = "\2h2";
    // Returns 0 on success, unlike the rest of OpenSSL.
    if (ssl.set_alpn(context, h2, sizeof h2 - 1) != 0) return CURLE_OUT_OF_MEMORY;
    // A send that was refused is repeated with more behind it, and a part of it may be accepted.
    ssl.control(context, SSL_CTRL_MODE,
                SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                    SSL_MODE_RELEASE_BUFFERS,
                NULL);
    ssl.control(context, SSL_CTRL_SET_READ_AHEAD, 1, NULL);
    // A server that asks for a finite field of 8,192 bits costs 116 ms of CPU before its certificate is seen.
    static const char groups[] = "X25519:P-256:P-384";
    if (ssl.control(context, SSL_CTRL_SET_GROUPS_LIST, 0, (void *)(uintptr_t)groups) != 1)
        return CURLE_SSL_CONNECT_ERROR;
    // SSLKEYLOGFILE is not ours to obey.
    ssl.set_key_log(context, NULL);
    return CURLE_OK;
}

CURLcode ccurl_set_tls_context(CURL *easy) {
    return curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, on_context);
}

bool ccurl_is_h2(CURL *easy) {
    struct curl_tlssessioninfo *info = NULL;
    if (curl_easy_getinfo(easy, CURLINFO_TLS_SSL_PTR, &info) != CURLE_OK || !info ||
        info->backend != CURLSSLBACKEND_OPENSSL || !info->internals)
        return false;
    const unsigned char *name = NULL;
    unsigned length = 0;
    ssl.selected_alpn(info->internals, &name, &length);
    return length == 2 && memcmp(name, "h2", 2) == 0;
}

// ---- The error queue of the thread.

// OpenSSL keeps so many at most (ERR_NUM_ERRORS).
enum { ERRORS_MAX = 16 };

typedef struct {
    unsigned long code;
    int line;
    bool has_data;
    char file[128], function[128], data[512];
} saved_error;

struct ccurl_errors {
    size_t count;
    saved_error errors[ERRORS_MAX];
};

static void copy(char *to, size_t size, const char *from) {
    size_t length = from ? strnlen(from, size - 1) : 0;
    if (length) memcpy(to, from, length);
    to[length] = 0;
}

ccurl_errors *ccurl_errors_take(void) {
    if (ssl.peek() == 0) return NULL;
    ccurl_errors *taken = calloc(1, sizeof *taken);
    if (!taken) return NULL;
    const char *file, *function, *data;
    int flags = 0;
    while (taken->count < ERRORS_MAX) {
        saved_error *saved = &taken->errors[taken->count];
        saved->code = ssl.next(&file, &saved->line, &function, &data, &flags);
        if (!saved->code) break;
        copy(saved->file, sizeof saved->file, file);
        copy(saved->function, sizeof saved->function, function);
        saved->has_data = (flags & ERR_TXT_STRING) != 0;
        copy(saved->data, sizeof saved->data, saved->has_data ? data : NULL);
        taken->count++;
    }
    return taken;
}

void ccurl_errors_put_back(ccurl_errors *taken) {
    if (taken || ssl.peek() != 0) ssl.clear();
    if (!taken) return;
    for (size_t i = 0; i < taken->count; i++) {
        const saved_error *saved = &taken->errors[i];
        const bool is_system = (saved->code & ERR_SYSTEM_FLAG) != 0;
        ssl.begin();
        ssl.set_place(saved->file, saved->line, saved->function);
        ssl.set_error(is_system ? ERR_LIB_SYS : (int)(saved->code >> 23 & 0xff),
                      (int)(saved->code & (is_system ? 0x7ffffffful : 0x7ffffful)),
                      saved->has_data ? "%s" : NULL, saved->data);
    }
    free(taken);
}
