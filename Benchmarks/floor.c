// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
//
// The floor: nghttp2 on a blocking socket, without deadlines, reconnects, TLS and checks.
// Usage: nghttp2_bench http://ADDRESS:PORT NAMESPACE publish|fetch|event|write|fill SIZE COUNT
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WARM_UP = 20, WINDOW = 16 << 20 };

static int sock;
static nghttp2_session *session;
static unsigned char *out, *in;
static size_t out_len, out_done, in_len;
static bool is_over, stays;

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void check(bool is_right, const char *what) {
    if (is_right) return;
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static ssize_t
on_send(nghttp2_session *s, const uint8_t *data, size_t size, int flags, void *user) {
    (void)s, (void)flags, (void)user;
    return send(sock, data, size, MSG_NOSIGNAL);
}

static ssize_t on_read(nghttp2_session *s,
                       int32_t id,
                       uint8_t *to,
                       size_t room,
                       uint32_t *flags,
                       nghttp2_data_source *source,
                       void *user) {
    (void)s, (void)id, (void)source, (void)user;
    const size_t size = out_len - out_done < room ? out_len - out_done : room;
    if (!size && stays) return NGHTTP2_ERR_DEFERRED;
    memcpy(to, out + out_done, size);
    out_done += size;
    if (out_done == out_len && !stays) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)size;
}

static int on_data(nghttp2_session *s,
                   uint8_t flags,
                   int32_t id,
                   const uint8_t *data,
                   size_t size,
                   void *user) {
    (void)s, (void)flags, (void)id, (void)user;
    check(in_len + size < WINDOW, "too much");
    memcpy(in + in_len, data, size);
    in_len += size;
    return 0;
}

static int on_close(nghttp2_session *s, int32_t id, uint32_t code, void *user) {
    (void)s, (void)id, (void)user;
    check(code == 0, "a stream was reset");
    is_over = true;
    return 0;
}

static void connect_to(const char *url) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    char host[64];
    int port;
    check(sscanf(url, "http://%63[0-9.]:%d", host, &port) == 2, "http://ADDRESS:PORT is wanted");
    address.sin_port = htons((uint16_t)port);
    inet_pton(AF_INET, host, &address.sin_addr);
    sock = socket(AF_INET, SOCK_STREAM, 0);
    check(connect(sock, (struct sockaddr *)&address, sizeof address) == 0, "cannot connect");
    const int on = 1;
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    nghttp2_session_callbacks *callbacks;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_send_callback(callbacks, on_send);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_client_new(&session, callbacks, NULL);
    nghttp2_settings_entry entry = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW};
    nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, &entry, 1);
    nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, WINDOW);
}

static void turn(void) {
    static uint8_t buffer[256 << 10];
    check(nghttp2_session_send(session) == 0, "cannot send");
    const ssize_t size = recv(sock, buffer, sizeof buffer, 0);
    check(size > 0, "the server closed the connection");
    check(nghttp2_session_mem_recv(session, buffer, (size_t)size) == size, "not HTTP/2");
}

#define FIELD(name, value) \
    {(uint8_t *)(name), (uint8_t *)(value), sizeof(name) - 1, strlen(value), 0}

static void begin(const char *path) {
    const nghttp2_nv fields[] = {FIELD(":method", "POST"),
                                 FIELD(":scheme", "http"),
                                 FIELD(":path", path),
                                 FIELD(":authority", "etcd"),
                                 FIELD("content-type", "application/grpc"),
                                 FIELD("te", "trailers")};
    const nghttp2_data_provider provider = {.read_callback = on_read};
    out_done = in_len = 0;
    is_over = false;
    check(nghttp2_submit_request(session, NULL, fields, 6, &provider, NULL) > 0, "no stream");
}

static void call(const char *path) {
    begin(path);
    while (!is_over) turn();
    check(in_len >= 5 || !strcmp(path, "/etcdserverpb.Lease/LeaseGrant"), "no answer");
}

// MARK: Messages

static void put_number(uint64_t value) {
    for (; value > 127; value >>= 7) out[out_len++] = (unsigned char)(value | 128);
    out[out_len++] = (unsigned char)value;
}

static void put_field(unsigned char tag, const void *data, size_t size) {
    out[out_len++] = tag;
    put_number(size);
    if (data) memcpy(out + out_len, data, size);
    out_len += size;
}

static void finish_message(void) {
    const size_t size = out_len - 5;
    const unsigned char head[5] = {0, size >> 24, size >> 16 & 255, size >> 8 & 255, size & 255};
    memcpy(out, head, 5);
}

// Returns where the value is.
static unsigned char *make_put(const char *key, size_t size) {
    out_len = 5;
    put_field(0x0a, key, strlen(key));
    put_field(0x12, NULL, size);
    finish_message();
    return out + out_len - size;
}

// As the presence keys of agents do, the keys of a namespace hang on a lease.
enum { LEASE = 4711, LEASE_SECONDS = 86400 };

static void make_grant(void) {
    out_len = 5;
    out[out_len++] = 0x08;
    put_number(LEASE_SECONDS);
    out[out_len++] = 0x10;
    put_number(LEASE);
    finish_message();
}

static void make_presence(const char *key) {
    out_len = 5;
    put_field(0x0a, key, strlen(key));
    out[out_len++] = 0x18;
    put_number(LEASE);
    finish_message();
}

static void make_range(const char *key) {
    out_len = 5;
    put_field(0x0a, key, strlen(key));
    finish_message();
}

static void make_watch(const char *key) {
    out_len = 5;
    const size_t size = strlen(key);
    put_field(0x0a, NULL, size + 2); // the create request, with a key shorter than 128 bytes
    out_len -= size + 2;
    put_field(0x0a, key, size);
    finish_message();
}

// The next message of the stream; its size. `drop` forgets it.
static size_t next_message(void) {
    for (;;) {
        const size_t size = in_len < 5 ? 0 : (size_t)in[1] << 24 | in[2] << 16 | in[3] << 8 | in[4];
        if (in_len >= 5 && in_len >= size + 5) return size + 5;
        turn();
    }
}

static void drop(size_t size) {
    in_len -= size;
    memmove(in, in + size, in_len);
}

int main(int count, char **words) {
    check(count == 6,
          "usage: nghttp2_bench URL NAMESPACE publish|fetch|event|write|fill SIZE COUNT");
    const char *work = words[3];
    const size_t size = strtoul(words[4], NULL, 10), wanted = strtoul(words[5], NULL, 10);
    char key[256];
    out = calloc(1, WINDOW);
    in = calloc(1, WINDOW);
    uint64_t *latencies = calloc(wanted + 1, sizeof *latencies), used = 0;
    connect_to(words[1]);
    const bool is_write = !strcmp(work, "write"), is_event = !strcmp(work, "event");
    snprintf(key, sizeof key, "%s/%s/l", words[2], is_write || is_event ? "writer" : "floor");
    make_put(key, size);
    if (!is_write && !is_event) call("/etcdserverpb.KV/Put");
    if (is_event) {
        make_watch(key);
        stays = true;
        begin("/etcdserverpb.Watch/Watch");
        drop(next_message());
        printf("ready\n");
        fflush(stdout);
    } else if (!strcmp(work, "fetch")) {
        make_range(key);
    }
    const char *path = !strcmp(work, "fetch") ? "/etcdserverpb.KV/Range" : "/etcdserverpb.KV/Put";
    for (size_t i = 0; i < wanted + WARM_UP && strcmp(work, "fill"); i++) {
        if (i == WARM_UP) used = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        uint64_t start = clock_ns(CLOCK_MONOTONIC);
        if (is_write) memcpy(make_put(key, size), &start, sizeof start);
        if (!is_event) {
            call(path);
        } else {
            const size_t length = next_message();
            // The value is the last field of the only event.
            memcpy(&start, in + length - size, sizeof start);
            drop(length);
        }
        if (i >= WARM_UP) latencies[i - WARM_UP] = clock_ns(CLOCK_MONOTONIC) - start;
    }
    if (!strcmp(work, "fill")) {
        make_grant();
        call("/etcdserverpb.Lease/LeaseGrant"); // refused where it is there: the puts need it only
        for (size_t i = 0; i < wanted; i++) {
            snprintf(key, sizeof key, "%s/agent%06zu/", words[2], i);
            make_presence(key);
            call("/etcdserverpb.KV/Put");
            snprintf(key, sizeof key, "%s/agent%06zu/l", words[2], i);
            make_put(key, size);
            call("/etcdserverpb.KV/Put");
        }
    }
    used = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - used;
    printf("{\"cpu_ns\": %llu, \"latency_ns\": [", (unsigned long long)used);
    for (size_t i = 0; i < wanted; i++)
        printf("%s%llu", i ? ", " : "", (unsigned long long)latencies[i]);
    printf("]}\n");
    return 0;
}
