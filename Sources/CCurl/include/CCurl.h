// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
//
// libcurl for Swift: its variadic functions with types, and the few system calls on its sockets.
#ifndef CCURL_H
#define CCURL_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// curl_global_init, once per process; never undone, since other users of libcurl may live in it.
CURLcode ccurl_initialize(void);

// The libcurl that runs, not the one of the headers.
const curl_version_info_data *ccurl_version(void);

CURLcode ccurl_set_long(CURL *easy, CURLoption option, long value);
CURLcode ccurl_set_size(CURL *easy, CURLoption option, int64_t value);
CURLcode ccurl_set_text(CURL *easy, CURLoption option, const char *value);
CURLcode ccurl_set_pointer(CURL *easy, CURLoption option, void *value);
CURLcode ccurl_set_list(CURL *easy, CURLoption option, struct curl_slist *value);

// For CURLOPT_WRITEFUNCTION, CURLOPT_HEADERFUNCTION and CURLOPT_READFUNCTION, which share it.
typedef size_t (*ccurl_data_callback)(char *data, size_t size, size_t count, void *context);
CURLcode ccurl_set_data_callback(CURL *easy, CURLoption option, ccurl_data_callback callback);
CURLcode ccurl_set_open_socket(CURL *easy, curl_opensocket_callback callback);
CURLcode ccurl_set_close_socket(CURL *easy, curl_closesocket_callback callback);
// Nothing but http and https, whichever of the two options this libcurl knows.
CURLcode ccurl_set_protocols(CURL *easy);

// What CURLOPT_PRIVATE holds.
void *ccurl_private(CURL *easy);
// The errno of a failed connect; 0: none.
long ccurl_os_errno(CURL *easy);
// Bytes of the request's body that have left libcurl's buffer for HTTP/2.
int64_t ccurl_uploaded(CURL *easy);
// The file of trusted authorities that is built into this libcurl; NULL: none, or unknown.
const char *ccurl_default_ca_file(CURL *easy);
// Parsed authorities are kept for as long as the multi handle lives.
CURLcode ccurl_keep_authorities(CURL *easy);

// curl_multi_init, with close-on-exec on the socket pair behind curl_multi_wakeup, which older versions (7.88.1 does)
// create without. `wakeup`: its two ends, or -1 where libcurl has no such pair or it was not found for sure.
CURLM *ccurl_multi_create(int wakeup[2]);
CURLMcode ccurl_multi_set_long(CURLM *multi, CURLMoption option, long value);
CURLMcode ccurl_multi_set_pointer(CURLM *multi, CURLMoption option, void *value);
CURLMcode ccurl_multi_set_socket_callback(CURLM *multi, curl_socket_callback callback);
CURLMcode ccurl_multi_set_timer_callback(CURLM *multi, curl_multi_timer_callback callback);
// The next transfer that has ended; NULL: none.
CURL *ccurl_multi_next_ended(CURLM *multi, CURLcode *result);

// Macros that Swift does not import.
enum {
    CCURL_SOCKET_BAD = CURL_SOCKET_BAD,
    CCURL_SOCKET_TIMEOUT = CURL_SOCKET_TIMEOUT,
    CCURL_READ_PAUSE = CURL_READFUNC_PAUSE,
    CCURL_READ_ABORT = CURL_READFUNC_ABORT
};

// A socket for libcurl, close-on-exec and non-blocking, with a send buffer that stays as large as it is; -1: refused by
// the system.
int ccurl_socket_open(const struct curl_sockaddr *address);
void ccurl_socket_close(int socket);

// A socket's send buffer as the kernel counts: what it may hold, and what it holds, with what the kernel adds to it.
typedef struct {
    int64_t size;
    int64_t used;
    // Not so: the kernel does not tell, and `used` is a cautious guess from the bytes that were not acknowledged.
    bool is_exact;
} ccurl_send_buffer;
ccurl_send_buffer ccurl_socket_send_buffer(int socket);

// epoll_ctl with data.u64 = socket; 0, or the errno. `before` and `wanted` are event masks, 0: not registered.
int ccurl_epoll_change(int epoll, int socket, uint32_t before, uint32_t wanted);

// Whether `text` is an IPv4 or IPv6 address that libcurl takes without a resolver.
bool ccurl_is_address(const char *text);

// Changes when the file is replaced or rewritten; 0: it cannot be read.
uint64_t ccurl_file_stamp(const char *path);

#endif
