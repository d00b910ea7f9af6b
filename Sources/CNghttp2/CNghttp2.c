// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
#include "CNghttp2.h"

#include <nghttp2/nghttp2.h>
#include <stdlib.h>
#include <sys/types.h>

struct cnghttp2_session {
    nghttp2_session *nghttp2;
    cnghttp2_handler handler;
    void *context;
    int32_t acknowledged;
};

// Replies to PING and SETTINGS that may wait to be sent; more end the session (NGHTTP2_ERR_FLOODED).
enum { OUTBOUND_ACK_MAX = 100 };
// The limit for headers that we announce to the server; the session's owner enforces its own.
enum { HEADER_LIST_MAX = 64 << 10 };

static void *stream_of(nghttp2_session *session, int32_t id) {
    return nghttp2_session_get_stream_user_data(session, id);
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *head, void *user) {
    (void)session, (void)head;
    const cnghttp2_session *to = user;
    to->handler.frame_begins(to->context);
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user) {
    cnghttp2_session *to = user;
    if (frame->hd.type == NGHTTP2_SETTINGS && frame->hd.flags & NGHTTP2_FLAG_ACK) {
        to->acknowledged++;
    } else if (frame->hd.type == NGHTTP2_GOAWAY) {
        const nghttp2_goaway *goaway = &frame->goaway;
        to->handler.goaway(to->context, goaway->last_stream_id, goaway->error_code,
                           goaway->opaque_data, goaway->opaque_data_len);
    } else if (frame->hd.stream_id != 0) {
        void *stream = stream_of(session, frame->hd.stream_id);
        if (stream)
            to->handler.frame_received(to->context, stream, frame->hd.type, frame->hd.flags);
    }
    return 0;
}

static int on_header(nghttp2_session *session,
                     const nghttp2_frame *frame,
                     const uint8_t *name,
                     size_t name_length,
                     const uint8_t *value,
                     size_t value_length,
                     uint8_t flags,
                     void *user) {
    (void)flags;
    const cnghttp2_session *to = user;
    to->handler.header(to->context, stream_of(session, frame->hd.stream_id), name, name_length,
                       value, value_length);
    return 0;
}

static int on_data(nghttp2_session *session,
                   uint8_t flags,
                   int32_t id,
                   const uint8_t *bytes,
                   size_t count,
                   void *user) {
    (void)flags;
    const cnghttp2_session *to = user;
    void *stream = stream_of(session, id);
    if (stream) to->handler.data(to->context, stream, bytes, count);
    return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *user) {
    const cnghttp2_session *to = user;
    void *stream = stream_of(session, id);
    if (stream) to->handler.stream_closed(to->context, stream, code);
    return 0;
}

static int
on_error(nghttp2_session *session, int error, const char *text, size_t count, void *user) {
    (void)session, (void)error;
    const cnghttp2_session *to = user;
    to->handler.failed(to->context, text, count);
    return 0;
}

static ssize_t on_read(nghttp2_session *session,
                       int32_t id,
                       uint8_t *buffer,
                       size_t room,
                       uint32_t *flags,
                       nghttp2_data_source *source,
                       void *user) {
    (void)session, (void)id, (void)buffer;
    const cnghttp2_session *to = user;
    const cnghttp2_body_part part = to->handler.body(source->ptr, room);
    if (part.length < 0) return NGHTTP2_ERR_DEFERRED;
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (part.ends) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return part.length;
}

static int on_send_data(nghttp2_session *session,
                        nghttp2_frame *frame,
                        const uint8_t *head,
                        size_t length,
                        nghttp2_data_source *source,
                        void *user) {
    (void)session, (void)frame;
    const cnghttp2_session *to = user;
    return to->handler.send_body(to->context, source->ptr, head, length) ? 0
                                                                         : NGHTTP2_ERR_WOULDBLOCK;
}

static nghttp2_session *new_session(cnghttp2_session *to) {
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    nghttp2_session *session = NULL;
    if (nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0) {
        nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
        nghttp2_session_callbacks_set_error_callback2(callbacks, on_error);
        nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
        nghttp2_option_set_max_outbound_ack(option, OUTBOUND_ACK_MAX);
        if (nghttp2_session_client_new2(&session, callbacks, to, option) != 0) session = NULL;
    }
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return session;
}

cnghttp2_session *cnghttp2_session_new(const cnghttp2_handler *handler,
                                       void *context,
                                       uint32_t stream_window,
                                       uint32_t connection_window) {
    cnghttp2_session *session = malloc(sizeof *session);
    if (!session) return NULL;
    *session = (cnghttp2_session){new_session(session), *handler, context, 0};
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, stream_window},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADER_LIST_MAX},
    };
    if (session->nghttp2 &&
        nghttp2_submit_settings(session->nghttp2, NGHTTP2_FLAG_NONE, settings, 3) == 0 &&
        nghttp2_session_set_local_window_size(session->nghttp2, NGHTTP2_FLAG_NONE, 0,
                                              (int32_t)connection_window) == 0)
        return session;
    cnghttp2_session_free(session);
    return NULL;
}

void cnghttp2_session_free(cnghttp2_session *session) {
    nghttp2_session_del(session->nghttp2);
    free(session);
}

int32_t cnghttp2_request(cnghttp2_session *session,
                         const cnghttp2_header *headers,
                         size_t count,
                         void *stream) {
    nghttp2_nv list[CNGHTTP2_HEADERS_MAX];
    if (count > CNGHTTP2_HEADERS_MAX) return NGHTTP2_ERR_INVALID_ARGUMENT;
    for (size_t i = 0; i < count; i++)
        list[i] =
            (nghttp2_nv){(uint8_t *)headers[i].name, (uint8_t *)headers[i].value,
                         headers[i].name_length, headers[i].value_length,
                         headers[i].is_secret ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE};
    const nghttp2_data_provider body = {.source = {.ptr = stream}, .read_callback = on_read};
    return nghttp2_submit_request(session->nghttp2, NULL, list, count, &body, stream);
}

void cnghttp2_resume(cnghttp2_session *session, int32_t stream) {
    // Fails only where the body does not wait.
    nghttp2_session_resume_data(session->nghttp2, stream);
}

void cnghttp2_reset(cnghttp2_session *session, int32_t stream, uint32_t error_code) {
    // Fails only without memory: the stream goes on then, and its owner ignores it.
    nghttp2_submit_rst_stream(session->nghttp2, NGHTTP2_FLAG_NONE, stream, error_code);
}

void cnghttp2_probe(cnghttp2_session *session) {
    // Fails only without memory: silence then.
    nghttp2_submit_settings(session->nghttp2, NGHTTP2_FLAG_NONE, NULL, 0);
}

int32_t cnghttp2_acknowledged(const cnghttp2_session *session) {
    return session->acknowledged;
}

int cnghttp2_receive(cnghttp2_session *session, const uint8_t *bytes, size_t count) {
    const ssize_t result = nghttp2_session_mem_recv(session->nghttp2, bytes, count);
    return result < 0 ? (int)result : 0;
}

int64_t cnghttp2_send(cnghttp2_session *session, const uint8_t **bytes) {
    return nghttp2_session_mem_send(session->nghttp2, bytes);
}

bool cnghttp2_is_over(cnghttp2_session *session) {
    return !nghttp2_session_want_read(session->nghttp2) &&
           !nghttp2_session_want_write(session->nghttp2);
}

const char *cnghttp2_error_text(int error) {
    return nghttp2_strerror(error);
}

const char *cnghttp2_code_name(uint32_t code) {
    return nghttp2_http2_strerror(code);
}
