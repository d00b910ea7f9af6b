// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
//
// System calls for Swift, which has no C library in Embedded mode. Every descriptor is close-on-exec. Functions that
// block say so.
#ifndef CSYSTEM_H
#define CSYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// ---- Clocks, in nanoseconds. The first two cost no system call where the kernel maps them.

uint64_t csystem_boottime(void);
uint64_t csystem_monotonic(void);
// CPU time of the calling thread: one system call.
uint64_t csystem_thread_cpu(void);

// ---- The guard of a handle: who may be inside it.

typedef struct csystem_guard csystem_guard;

// NULL: the system refused, with the reason in *error (an errno).
csystem_guard *csystem_guard_new(int *error);
void csystem_guard_free(csystem_guard *guard);

// Whether this process is a forked child of the one that made the guard. No lock, no system call.
bool csystem_guard_is_forked(const csystem_guard *guard);

// The turn: held by the one thread that ticks or closes. Until it leaves it cannot be canceled (pthread_cancel).
enum { CSYSTEM_TURN_TAKEN = 0, CSYSTEM_TURN_IS_OURS = 1, CSYSTEM_TURN_IS_ANOTHERS = 2 };
int csystem_guard_enter(csystem_guard *guard);
void csystem_guard_leave(csystem_guard *guard);
// Whether the calling thread holds the turn: it is inside a callback.
bool csystem_guard_is_inside(const csystem_guard *guard);

// The lock over what several threads share; held for short, and its holder cannot be canceled.
void csystem_guard_lock(csystem_guard *guard);
void csystem_guard_unlock(csystem_guard *guard);
// In a forked child: whether the protected state is consistent, because no other thread was changing it at the fork.
bool csystem_guard_was_at_rest(csystem_guard *guard);

// ---- Descriptors. Results below 0 are negated errnos.

typedef struct {
    int32_t descriptor;
    uint32_t events;
} csystem_ready;

int csystem_epoll_open(void);
// Adds for reading. `once`: each change is reported once (EPOLLET).
int csystem_epoll_add(int epoll, int descriptor, bool once);
// The descriptors that are ready now; at most `capacity`, which is at most 16. Does not wait.
int csystem_epoll_poll(int epoll, csystem_ready *ready, int capacity);

int csystem_timer_open(void);
// Makes it readable at that time of csystem_boottime(); 0: never. Either way it is not readable before.
int csystem_timer_set(int timer, uint64_t at);

int csystem_signal_open(void);
void csystem_signal_set(int signal);
void csystem_signal_clear(int signal);

void csystem_close(int descriptor);

// ---- Sockets.

// The layout of struct iovec.
typedef struct {
    const void *bytes;
    size_t count;
} csystem_part;

// Bytes moved, or a negated errno. Never block, never raise SIGPIPE.
int64_t csystem_socket_receive(int socket, void *buffer, size_t size);
int64_t csystem_socket_send(int socket, const csystem_part *parts, size_t count);
// Whether such a result means: not now.
bool csystem_is_again(int64_t result);
// Whether TCP has acknowledged nothing for a second although bytes are on their way, or has not connected yet.
bool csystem_is_path_dead(int socket);
// In a forked child: puts an unconnected socket in its place, so that nothing reaches the parent's connection.
void csystem_socket_sever(int socket);

// ---- The process.

// The value of an environment variable, or NULL; valid until the environment is changed. Nothing is read in a process
// with more rights than its user (AT_SECURE).
const char *csystem_environment(const char *name);
// Random bytes of the kernel; false: not available.
bool csystem_random(void *bytes, size_t count);
// Whether the process could have so much more memory now.
bool csystem_has_memory(size_t count);
// Overwrites what earlier calls have left below the caller's frame. The loader saves vector registers there when it binds a
// function, with the last bytes that were copied (glibc, sysdeps/x86_64/dl-trampoline.h).
void csystem_wipe_stack(void);
// The first `size` bytes of a file; their number, or a negated errno.
int64_t csystem_read_file(const char *path, void *room, size_t size);
// One line to standard error, in one write.
void csystem_standard_error(const void *bytes, size_t count);
// The text of an errno; static.
const char *csystem_error_text(int error);
// The length of a text, at most `limit`.
size_t csystem_length(const char *text, size_t limit);

// ---- The last error of the calling thread.

enum { CSYSTEM_LAST_ERROR_SIZE = 1024 };
// Copies, shortened where it must be.
void csystem_set_last_error(const void *text, size_t count);
const char *csystem_last_error(void);

// ---- Names and addresses.

// Whether `text` is a textual IPv4 or IPv6 address.
bool csystem_is_ipv4(const char *text);
bool csystem_is_ipv6(const char *text);

enum { CSYSTEM_ADDRESSES_MAX = 32, CSYSTEM_ADDRESS_SIZE = 64 };
typedef struct {
    // The tag of the question.
    uint32_t tag;
    // 0, or why there are no addresses.
    int32_t error;
    uint32_t count;
    char addresses[CSYSTEM_ADDRESSES_MAX][CSYSTEM_ADDRESS_SIZE];
} csystem_resolution;

// One of its addresses, NUL-terminated.
const char *csystem_address(const csystem_resolution *result, uint32_t index);
// Asks the resolver of the system on this thread: blocks.
void csystem_resolve(const char *host, csystem_resolution *result);
// The text of an error of the resolver; static.
const char *csystem_resolve_error_text(int error);

// Where helper threads put what they found. The one place where this library has threads: each lives for one
// question, is detached, takes no signals, and touches nothing but its mailbox.
typedef struct csystem_mailbox csystem_mailbox;

// NULL: the system refused, with the reason in *error (an errno).
csystem_mailbox *csystem_mailbox_new(int *error);
// Readable while there is something to take.
int csystem_mailbox_descriptor(const csystem_mailbox *mailbox);
// Starts a thread that asks; 0, or an errno.
int csystem_mailbox_ask(csystem_mailbox *mailbox, const char *host, uint32_t tag);
// The next result; false: none.
bool csystem_mailbox_take(csystem_mailbox *mailbox, csystem_resolution *result);
// Threads that still ask keep the memory until they end; they no longer touch the descriptor.
void csystem_mailbox_close(csystem_mailbox *mailbox);
// In a forked child, where those threads are not: closes the descriptor and nothing else.
void csystem_mailbox_close_after_fork(csystem_mailbox *mailbox);

#endif
