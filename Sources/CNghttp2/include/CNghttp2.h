// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
//
// nghttp2 for Swift: a client session without I/O, whose callbacks have plain parameters.
#ifndef CNGHTTP2_H
#define CNGHTTP2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cnghttp2_session cnghttp2_session;

// Frame types and flags of RFC 9113, section 6.
enum { CNGHTTP2_DATA = 0, CNGHTTP2_HEADERS = 1, CNGHTTP2_SETTINGS = 4 };
enum { CNGHTTP2_FLAG_END_STREAM = 1, CNGHTTP2_FLAG_ACK = 1 };
// Error codes of RFC 9113, section 7.
enum { CNGHTTP2_NO_ERROR = 0, CNGHTTP2_REFUSED_STREAM = 7, CNGHTTP2_CANCEL = 8 };

// The part of a body that goes into the next DATA frame.
typedef struct {
    // Less than 0: nothing now; cnghttp2_resume() tells when there is more.
    int64_t length;
    // It is the last.
    bool ends;
} cnghttp2_body_part;

// Callbacks of a session. `context` is the session's, `stream` that of cnghttp2_request(), or NULL for a stream that we
// did not open. They must not call functions of this header.
typedef struct {
    // A frame has begun to come.
    void (*frame_begins)(void *context);
    // A complete frame of a stream, after the callbacks for its headers and data.
    void (*frame_received)(void *context, void *stream, int type, int flags);
    void (*header)(void *context,
                   void *stream,
                   const uint8_t *name,
                   size_t name_length,
                   const uint8_t *value,
                   size_t value_length);
    void (*data)(void *context, void *stream, const uint8_t *bytes, size_t count);
    // The last callback for this stream.
    void (*stream_closed)(void *context, void *stream, uint32_t error_code);
    void (*goaway)(void *context,
                   int32_t last_stream,
                   uint32_t error_code,
                   const uint8_t *text,
                   size_t count);
    // Why the session ends itself, in nghttp2's words.
    void (*failed)(void *context, const char *text, size_t count);
    cnghttp2_body_part (*body)(void *stream, size_t room);
    // Takes a frame's head of 9 bytes and `length` bytes of the body behind it. false: no room now.
    bool (*send_body)(void *context, void *stream, const uint8_t *head, size_t length);
} cnghttp2_handler;

// NULL: out of memory. Its settings are queued. Copies `handler`.
cnghttp2_session *cnghttp2_session_new(const cnghttp2_handler *handler,
                                       void *context,
                                       uint32_t stream_window,
                                       uint32_t connection_window);
void cnghttp2_session_free(cnghttp2_session *session);

typedef struct {
    const uint8_t *name;
    size_t name_length;
    const uint8_t *value;
    size_t value_length;
    // Not to be kept in a table of compression, by nobody on the way.
    bool is_secret;
} cnghttp2_header;

enum { CNGHTTP2_HEADERS_MAX = 16 };
// Queues a request with a body. The stream's number, or less than 0. Copies the headers.
int32_t cnghttp2_request(cnghttp2_session *session,
                         const cnghttp2_header *headers,
                         size_t count,
                         void *stream);
// There is more of its body.
void cnghttp2_resume(cnghttp2_session *session, int32_t stream);
void cnghttp2_reset(cnghttp2_session *session, int32_t stream, uint32_t error_code);

// Queues an empty SETTINGS frame, which the server must acknowledge.
void cnghttp2_probe(cnghttp2_session *session);
// How many of our SETTINGS frames it has acknowledged, the first one included.
int32_t cnghttp2_acknowledged(const cnghttp2_session *session);

// Takes what the server has sent. 0, or the error of nghttp2 that ends the session.
int cnghttp2_receive(cnghttp2_session *session, const uint8_t *bytes, size_t count);
// The next bytes to send, valid until the next call; 0: none now; less than 0: an error that ends the session. DATA
// frames go to `send_body` instead.
int64_t cnghttp2_send(cnghttp2_session *session, const uint8_t **bytes);
// It neither wants to read nor to write any more: it has ended.
bool cnghttp2_is_over(cnghttp2_session *session);

// Names of an nghttp2 error and of an HTTP/2 error code. Static strings.
const char *cnghttp2_error_text(int error);
const char *cnghttp2_code_name(uint32_t code);

#endif
