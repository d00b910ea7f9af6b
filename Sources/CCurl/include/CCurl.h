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
CURLcode ccurl_set_text(CURL *easy, CURLoption option, const char *value);
CURLcode ccurl_set_pointer(CURL *easy, CURLoption option, void *value);
CURLcode ccurl_set_list(CURL *easy, CURLoption option, struct curl_slist *value);
CURLcode ccurl_set_open_socket(CURL *easy, curl_opensocket_callback callback);
CURLcode ccurl_set_close_socket(CURL *easy, curl_closesocket_callback callback);
// Nothing but http and https, whichever of the two options this libcurl knows.
CURLcode ccurl_set_protocols(CURL *easy);

// The errno of a failed connect; 0: none.
long ccurl_os_errno(CURL *easy);
// The socket of a connection that stands; CCURL_SOCKET_BAD: none.
int ccurl_active_socket(CURL *easy);
// CURLOPT_PRIVATE; NULL: none.
void *ccurl_private(CURL *easy);
// The file of trusted authorities that is built into this libcurl; NULL: none, or unknown.
const char *ccurl_default_ca_file(CURL *easy);
// Whether parsed authorities are kept for as long as the multi handle lives, and used.
CURLcode ccurl_keep_authorities(CURL *easy, bool keep);

CURLMcode ccurl_multi_set_pointer(CURLM *multi, CURLMoption option, void *value);
CURLMcode ccurl_multi_set_socket_callback(CURLM *multi, curl_socket_callback callback);
CURLMcode ccurl_multi_set_timer_callback(CURLM *multi, curl_multi_timer_callback callback);
// The next transfer that has ended; NULL: none.
CURL *ccurl_multi_next_ended(CURLM *multi, CURLcode *result);
// Finds the descriptors behind curl_multi_wakeup, whatever other threads open meanwhile.
void ccurl_close_wakeup_on_exec(CURLM *multi);

// Macros that Swift does not import, or not everywhere: some are enumerators in older headers.
enum {
    CCURL_SOCKET_BAD = CURL_SOCKET_BAD,
    CCURL_SOCKET_TIMEOUT = CURL_SOCKET_TIMEOUT,
    CCURL_NETRC_IGNORED = CURL_NETRC_IGNORED,
    CCURL_HTTP_VERSION_1_1 = CURL_HTTP_VERSION_1_1,
    CCURL_SSLVERSION_TLSv1_2 = CURL_SSLVERSION_TLSv1_2
};

// ---- Sockets.

// A socket for libcurl, close-on-exec and non-blocking; less than 0: a negated errno.
int ccurl_socket_open(const struct curl_sockaddr *address);
void ccurl_socket_close(int socket);

// epoll_ctl with data.u64 = socket; 0, or the errno. `before` and `wanted` are event masks, 0: not registered.
int ccurl_epoll_change(int epoll, int socket, uint32_t before, uint32_t wanted);

// Whether `text` is an IPv4 or IPv6 address that libcurl takes without a resolver.
bool ccurl_is_address(const char *text);

// Changes when the file is replaced or rewritten; 0: it cannot be read.
uint64_t ccurl_file_stamp(const char *path);

// ---- The OpenSSL behind libcurl.

// Whether it was found, with all that is used of it. Looked for once per process.
bool ccurl_has_openssl(void);
// How its connections are made: 'h2' by ALPN, elliptic groups only, no key log.
CURLcode ccurl_set_tls_context(CURL *easy);
// Whether the server has agreed to 'h2'. Only known after the first curl_easy_recv.
bool ccurl_is_h2(CURL *easy);

// The thread's queue of errors belongs to the host, and libcurl clears and fills it: taken before, put back after.
typedef struct ccurl_errors ccurl_errors;
// NULL: it was empty.
ccurl_errors *ccurl_errors_take(void);
void ccurl_errors_put_back(ccurl_errors *taken);

#endif
