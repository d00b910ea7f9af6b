// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CCurl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static CURLcode global_result;

static void initialize(void) {
    const bool has_openssl = ccurl_has_openssl();
    ccurl_errors *errors = has_openssl ? ccurl_errors_take() : NULL;
    global_result = curl_global_init(CURL_GLOBAL_DEFAULT);
    if (has_openssl) ccurl_errors_put_back(errors);
}

CURLcode ccurl_initialize(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, initialize);
    return global_result;
}

const curl_version_info_data *ccurl_version(void) {
    return curl_version_info(CURLVERSION_NOW);
}

// curl's headers wrap curl_easy_setopt in a macro that wants the option as a constant; here it is a
// parameter, and its type is in the name of the function instead.
CURLcode ccurl_set_long(CURL *easy, CURLoption option, long value) {
    return (curl_easy_setopt)(easy, option, value);
}

CURLcode ccurl_set_text(CURL *easy, CURLoption option, const char *value) {
    return (curl_easy_setopt)(easy, option, value);
}

CURLcode ccurl_set_pointer(CURL *easy, CURLoption option, void *value) {
    return (curl_easy_setopt)(easy, option, value);
}

CURLcode ccurl_set_list(CURL *easy, CURLoption option, struct curl_slist *value) {
    return (curl_easy_setopt)(easy, option, value);
}

CURLcode ccurl_set_open_socket(CURL *easy, curl_opensocket_callback callback) {
    return curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, callback);
}

CURLcode ccurl_set_close_socket(CURL *easy, curl_closesocket_callback callback) {
    return curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, callback);
}

// Deprecated since 7.85.0, which brought CURLOPT_PROTOCOLS_STR; the one that runs may be older.
#define OLD_CURLOPT_PROTOCOLS ((CURLoption)181)

CURLcode ccurl_set_protocols(CURL *easy) {
#if LIBCURL_VERSION_NUM >= 0x075500
    CURLcode result = curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    if (result != CURLE_UNKNOWN_OPTION) return result;
#endif
    return (curl_easy_setopt)(easy, OLD_CURLOPT_PROTOCOLS,
                              (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
}

long ccurl_os_errno(CURL *easy) {
    long value = 0;
    return curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &value) == CURLE_OK ? value : 0;
}

void *ccurl_private(CURL *easy) {
    void *pointer = NULL;
    return curl_easy_getinfo(easy, CURLINFO_PRIVATE, &pointer) == CURLE_OK ? pointer : NULL;
}

int ccurl_active_socket(CURL *easy) {
    curl_socket_t socket = CURL_SOCKET_BAD;
    return curl_easy_getinfo(easy, CURLINFO_ACTIVESOCKET, &socket) == CURLE_OK ? socket
                                                                               : CURL_SOCKET_BAD;
}

CURLcode ccurl_keep_authorities(CURL *easy, bool keep) {
#if LIBCURL_VERSION_NUM >= 0x075700
    CURLcode result = curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, keep ? -1L : 0L);
    // A TLS library that has no such cache is no error.
    return result == CURLE_NOT_BUILT_IN || result == CURLE_UNKNOWN_OPTION ? CURLE_OK : result;
#else
    (void)easy, (void)keep;
    return CURLE_OK;
#endif
}

const char *ccurl_default_ca_file(CURL *easy) {
    char *path = NULL;
#if LIBCURL_VERSION_NUM >= 0x075400
    if (curl_easy_getinfo(easy, CURLINFO_CAINFO, &path) != CURLE_OK) path = NULL;
#else
    (void)easy;
#endif
    return path;
}

CURLMcode ccurl_multi_set_pointer(CURLM *multi, CURLMoption option, void *value) {
    return (curl_multi_setopt)(multi, option, value);
}

CURLMcode ccurl_multi_set_socket_callback(CURLM *multi, curl_socket_callback callback) {
    return curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, callback);
}

CURLMcode ccurl_multi_set_timer_callback(CURLM *multi, curl_multi_timer_callback callback) {
    return curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, callback);
}

CURL *ccurl_multi_next_ended(CURLM *multi, CURLcode *result) {
    int left = 0;
    for (CURLMsg *message; (message = curl_multi_info_read(multi, &left));) {
        if (message->msg == CURLMSG_DONE) {
            *result = message->data.result;
            return message->easy_handle;
        }
    }
    return NULL;
}

// Bytes that may queue in the kernel before it sends them. A longer queue would delay urgent requests.
enum { UNSENT_MAX = 256 << 10 };

int ccurl_socket_open(const struct curl_sockaddr *address) {
    const int opened = socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                              address->protocol);
    if (opened < 0) return -errno;
    const int unsent = UNSENT_MAX;
    setsockopt(opened, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
    return opened;
}

void ccurl_socket_close(int socket) {
    close(socket);
}

int ccurl_epoll_change(int epoll, int socket, uint32_t before, uint32_t wanted) {
    struct epoll_event event = {.events = wanted, .data = {.u64 = (uint64_t)socket}};
    int operation = !wanted ? EPOLL_CTL_DEL : before ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    return epoll_ctl(epoll, operation, socket, &event) == 0 ? 0 : errno;
}

bool ccurl_is_address(const char *text) {
    unsigned char address[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

uint64_t ccurl_file_stamp(const char *path) {
    struct stat file;
    if (stat(path, &file) != 0) return 0;
    const uint64_t parts[] = {(uint64_t)file.st_dev, (uint64_t)file.st_ino, (uint64_t)file.st_size,
                              (uint64_t)file.st_mtim.tv_sec, (uint64_t)file.st_mtim.tv_nsec};
    uint64_t stamp = 14695981039346656037u; // FNV-1a over whole words
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        stamp = (stamp ^ parts[i]) * 1099511628211u;
    return stamp ? stamp : 1;
}
