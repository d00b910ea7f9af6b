// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CCurl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static CURLcode global_result;

static void initialize(void) {
    global_result = curl_global_init(CURL_GLOBAL_DEFAULT);
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

CURLcode ccurl_set_size(CURL *easy, CURLoption option, int64_t value) {
    return (curl_easy_setopt)(easy, option, (curl_off_t)value);
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

CURLcode ccurl_set_data_callback(CURL *easy, CURLoption option, ccurl_data_callback callback) {
    return (curl_easy_setopt)(easy, option, callback);
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

void *ccurl_private(CURL *easy) {
    char *value = NULL;
    return curl_easy_getinfo(easy, CURLINFO_PRIVATE, &value) == CURLE_OK ? value : NULL;
}

long ccurl_os_errno(CURL *easy) {
    long value = 0;
    return curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &value) == CURLE_OK ? value : 0;
}

int64_t ccurl_uploaded(CURL *easy) {
    curl_off_t bytes = 0;
    return curl_easy_getinfo(easy, CURLINFO_SIZE_UPLOAD_T, &bytes) == CURLE_OK ? bytes : 0;
}

CURLcode ccurl_keep_authorities(CURL *easy) {
#if LIBCURL_VERSION_NUM >= 0x075700
    CURLcode result = curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, -1L);
    // A TLS library that has no such cache is no error.
    return result == CURLE_NOT_BUILT_IN || result == CURLE_UNKNOWN_OPTION ? CURLE_OK : result;
#else
    (void)easy;
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

CURLMcode ccurl_multi_set_long(CURLM *multi, CURLMoption option, long value) {
    return (curl_multi_setopt)(multi, option, value);
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

// The next two descriptors that the system will give out, if no other thread takes them first.
static bool next_descriptors(int next[2]) {
    for (int i = 0; i < 2; i++) next[i] = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < 2; i++)
        if (next[i] >= 0) close(next[i]);
    return next[0] >= 0 && next[1] >= 0;
}

static bool is_stream_pair_end(int socket) {
    int domain = 0, type = 0;
    socklen_t length = sizeof domain;
    return getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_UNIX &&
           getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM;
}

// Bytes that wait at `socket` to be read (FIONREAD) or at its peer (SIOCOUTQ); 0 on failure.
static int queued(int socket, unsigned long request) {
    int bytes = 0;
    return ioctl(socket, request, &bytes) == 0 ? bytes : 0;
}

CURLM *ccurl_multi_create(int wakeup[2]) {
    wakeup[0] = wakeup[1] = -1;
    int next[2];
    const bool known = next_descriptors(next);
    CURLM *multi = curl_multi_init();
    if (!multi || !known || !is_stream_pair_end(next[0]) || !is_stream_pair_end(next[1]))
        return multi;
    if (queued(next[0], FIONREAD) || queued(next[1], SIOCOUTQ)) return multi;
    // What libcurl writes to one end and has not read from the other proves whose pair it is.
    if (curl_multi_wakeup(multi) != CURLM_OK || !queued(next[0], FIONREAD) ||
        !queued(next[1], SIOCOUTQ))
        return multi;
    for (int i = 0; i < 2; i++) {
        wakeup[i] = next[i];
        fcntl(next[i], F_SETFD, FD_CLOEXEC);
    }
    return multi;
}

// The most that Linux lets a process ask for by default (net.core.wmem_max); it doubles what is asked.
enum { SEND_BUFFER = 212992 };

int ccurl_socket_open(const struct curl_sockaddr *address) {
    const int opened = socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                              address->protocol);
    if (opened < 0) return opened;
    // Without a size of its own the kernel grows and shrinks the buffer as it likes.
    const int size = SEND_BUFFER;
    setsockopt(opened, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    // A limit of the system for what was not sent yet (net.ipv4.tcp_notsent_lowat) makes a buffer full that has room.
    const int unsent = INT_MAX;
    setsockopt(opened, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
    return opened;
}

ccurl_send_buffer ccurl_socket_send_buffer(int socket) {
    uint32_t counters[SK_MEMINFO_VARS] = {0};
    socklen_t length = sizeof counters;
    if (getsockopt(socket, SOL_SOCKET, SO_MEMINFO, counters, &length) == 0)
        return (ccurl_send_buffer){counters[SK_MEMINFO_SNDBUF], counters[SK_MEMINFO_WMEM_QUEUED],
                                   true};
    int size = 0;
    length = sizeof size;
    if (getsockopt(socket, SOL_SOCKET, SO_SNDBUF, &size, &length) != 0) size = 0;
    return (ccurl_send_buffer){size, 3 * (int64_t)queued(socket, SIOCOUTQ), false};
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
