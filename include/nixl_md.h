/*
 * SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
 * SPDX-License-Identifier: Apache-2.0
 */
/**
 * @file nixl_md.h
 * @brief Agent metadata in etcd, under a lease, without a thread: the C interface of libnixl_md.
 *
 * An agent publishes opaque blobs under its name. They are attached to an etcd lease that the library renews
 * while the agent lives. When the agent dies, etcd removes them and every peer that watches gets the event GONE.
 * An agent without a heartbeat attaches its blobs to a lease that never ends: they stay until they are withdrawn.
 *
 * THE RULES FOR EVERY FUNCTION
 * ----------------------------
 *
 * Driving. All work happens inside nixl_md_tick(). The library has no thread: the host's own worker calls tick,
 * either periodically or whenever nixl_md_efd() is readable. A tick never blocks. A tick with nothing to do makes
 * one system call.
 *
 * Status. Functions return 0 (NIXL_MD_SUCCESS) or a negative status. The values from -2 to -11 are
 * those of `nixl_status_t`; finer ones lie below -1000 and nixl_md_status_fold() maps them to the
 * nearest `nixl_status_t`. A call that fails has changed nothing and written no output, and
 * nixl_md_last_error() names the wrong value and the remedy. nixl_md_tick() and nixl_md_efd() return a number of their
 * own, never negative, in place of 0. All other outputs go through pointers and are written only on success.
 *
 * Operations. A starting call (publish, unpublish, start/stop heartbeat, fetch, watch, invalidate,
 * list) checks its arguments, copies what it needs, queues the work and returns at once. Any thread may make it, also
 * from inside a callback. On success it writes an operation id. Ids are never 0 and are never reused within a handle.
 * The id is written before any callback can carry it, even if another thread ticks. The operation then completes
 * exactly once: its `on_done` runs with that id, a status, and the `user` pointer of its options. A watch completes
 * with the event ENDED instead. If a starting call fails, there is no operation and no callback.
 *
 * Callbacks run only inside nixl_md_tick() and nixl_md_close(), on the calling thread, one at a time, with no lock
 * held. A callback may make starting calls, and may call nixl_md_cancel(), nixl_md_shutdown() and the queries. It must
 * not call nixl_md_tick() or nixl_md_close() (NIXL_MD_ERR_IN_CALLBACK), and must not throw or longjmp through the
 * library.
 *
 * User data. The library never dereferences `user`. Free it after the completion of its operation has run (for a
 * watch: after ENDED has run, not when nixl_md_cancel() returns), or after nixl_md_close() has returned.
 *
 * The handle, `md`: from nixl_md_open(), valid until nixl_md_close(). NULL is refused.
 *
 * Pointers in. The library copies all arguments before the function returns. Names are pointer + length; the length
 * NIXL_MD_NUL_TERMINATED means that the text ends in NUL. Names are bytes: they need not be UTF-8 and are never
 * normalised, so names that differ by one byte are different.
 *
 * Pointers out. Pointers in a result or an event are valid until its callback returns. Names in events and lists come
 * from the store and may hold any byte, including NUL: use their lengths. They are never longer than
 * NIXL_MD_MAX_AGENT and NIXL_MD_MAX_LABEL. Other clients' keys with longer names are skipped and counted
 * (`names_left_out` of the counters); the log warns about the first.
 *
 * Structs. Every struct starts with its `size`. To fill one, zero it, set `size` to sizeof, and set the fields you
 * need; zero means the default. A struct may be longer than the library knows if the extra bytes are zero: a host
 * built with a newer header can use an older library as long as it uses no new field; otherwise it gets
 * NIXL_MD_ERR_NOT_SUPPORTED. A size that is below that of the struct's first version, over 1,024 bytes, or not a
 * multiple of 8 is NIXL_MD_ERR_INVALID_PARAM. A struct that the library fills (result, event) may be longer than this
 * header knows, never shorter.
 *
 * Threads. One thread at a time may tick a handle, not always the same one; a second tick is refused with
 * NIXL_MD_ERR_BUSY. nixl_md_open() and nixl_md_close() must not race with any other call on the same handle.
 * Different handles are independent.
 *
 * Fork. In a forked child every call on a handle of the parent returns NIXL_MD_ERR_FORKED and does nothing. The
 * exception is nixl_md_close(): it frees the child's copy, runs no callback, and does not touch the parent's
 * connection. All descriptors are close-on-exec. The child may open its own handle.
 *
 * Times are milliseconds of CLOCK_BOOTTIME, which includes time spent in suspend.
 *
 * WHICH FAILURE IS WORTH ANOTHER TRY
 * ----------------------------------
 * During an operation's time-out the library itself repeats what may be repeated, so a host needs no back-off. The error
 * text has the reason. NIXL_MD_ERR_...
 *
 *     status            try again
 *     TIMED_OUT         at once, or with a longer time-out
 *     MISMATCH          at once: a publish claims the name again
 *     CANCELED          at once, if it was not this host that canceled it
 *     NOT_FOUND         a fetch: at once, without NO_WAIT; anything else: never
 *     NOT_ALLOWED       name in use: when its owner is gone. An observer: never
 *     NO_SPACE          when an operator has made room in etcd
 *     PERMISSION        when an operator has granted the role
 *     UNAUTHENTICATED   when etcd has this user and password, or with a new handle that has the right ones
 *     BACKEND           when the reason in the text is mended
 *     LIMIT             when other operations have completed (labels: after an unpublish)
 *     BUSY, IN_CALLBACK when the other call, or the callback, has returned
 *     REPLACED          never: a newer call of this host counts
 *     SUPERSEDED        never: another process has the name. A new handle takes it back
 *     SHUT_DOWN, FORKED never with this handle
 *     INVALID_PARAM, TOO_LARGE, NOT_SUPPORTED
 *                       never with these arguments
 *
 * A watch that has ended with any status but CANCELED is started again by the same rules.
 *
 * A COMPLETE HOST
 * ---------------
 * @code
 *     static void on_done(const nixl_md_result_t *r, void *user) {
 *         fprintf(stderr, "%s: %s %s\n", (const char *)user, nixl_md_status_string(r->status), r->text);
 *     }
 *     static void on_event(const nixl_md_event_t *e, void *user) {
 *         (void)user;                                       // of the watch, and of this agent itself (from 101)
 *         if (e->type == NIXL_MD_EVENT_GONE) drop_peer(e->agent, e->agent_len);
 *         if (e->type == NIXL_MD_EVENT_SUPERSEDED) stopping = 1;
 *     }
 *
 *     nixl_md_config_t config;
 *     memset(&config, 0, sizeof config);
 *     config.size = sizeof config;
 *     config.agent = "alpha";
 *     config.agent_len = NIXL_MD_NUL_TERMINATED;
 *     config.on_event = on_event;
 *     nixl_md_t *md = NULL;
 *     if (nixl_md_open(&config, &md) != NIXL_MD_SUCCESS) die(nixl_md_last_error(NULL));
 *
 *     nixl_md_opts_t opts;
 *     memset(&opts, 0, sizeof opts);
 *     opts.size = sizeof opts;
 *     opts.on_done = on_done;
 *     opts.user = (void *)"publish";
 *     nixl_md_start_heartbeat(md, 0, 0, NULL, NULL);       // 5 s interval, 15 s TTL
 *     nixl_md_publish(md, NULL, 0, blob, blob_len, &opts, NULL);      // under "metadata"
 *     nixl_md_watch(md, "beta", NIXL_MD_NUL_TERMINATED, on_event, NULL, NULL);
 *
 *     struct pollfd p = {nixl_md_efd(md), POLLIN, 0};
 *     while (!stopping) {                                   // or: call nixl_md_tick every 100 ms
 *         poll(&p, 1, -1);
 *         nixl_md_tick(md);
 *     }
 *     nixl_md_shutdown(md, 2000);                           // write, withdraw; at most 2 s
 *     while (nixl_md_tick(md) != NIXL_MD_ERR_SHUT_DOWN) poll(&p, 1, -1);
 *     nixl_md_close(md);
 * @endcode
 */
#ifndef NIXL_MD_H
#define NIXL_MD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The version of this header. Compare with nixl_md_version() for the library's. */
#define NIXL_MD_VERSION_MAJOR 0
#define NIXL_MD_VERSION_MINOR 1
#define NIXL_MD_VERSION_PATCH 0
#define NIXL_MD_VERSION \
    (NIXL_MD_VERSION_MAJOR * 1000000 + NIXL_MD_VERSION_MINOR * 1000 + NIXL_MD_VERSION_PATCH)

/** As a length: the text ends in NUL. */
#define NIXL_MD_NUL_TERMINATED ((size_t)-1)
/** As a time-out: never. As a deadline: none. */
#define NIXL_MD_NEVER UINT64_MAX

/* Limits. A call that exceeds one is refused; the error text names both sizes. */
#define NIXL_MD_MAX_NAMESPACE 1024           /**< bytes in the namespace */
#define NIXL_MD_MAX_AGENT 1024               /**< bytes in an agent's name */
#define NIXL_MD_MAX_LABEL 1024               /**< bytes in a label */
#define NIXL_MD_MAX_BLOB (10u * 1024 * 1024) /**< bytes in a blob; etcd's own limit is 1.5 MiB by default */
#define NIXL_MD_MAX_LABELS 4096              /**< labels published by one handle */
#define NIXL_MD_MAX_ENDPOINTS 64             /**< entries in the endpoint list */
#define NIXL_MD_MAX_OPERATIONS 65536         /**< open operations, watches included */
#define NIXL_MD_MAX_QUEUED_BYTES (256u * 1024 * 1024) /**< bytes of queued blobs, not sent yet */
#define NIXL_MD_MAX_TIMEOUT_MS 86400000u     /**< time-out, interval or TTL: one day (or NIXL_MD_NEVER) */
/**
 * The shortest interval of a heartbeat. Leases have whole seconds, so more renewals would make nothing safer, and
 * each one costs etcd's leader as much as the host.
 */
#define NIXL_MD_MIN_INTERVAL_MS 50u

/* Defaults. */
#define NIXL_MD_DEFAULT_NAMESPACE "/nixl/agents/"
#define NIXL_MD_DEFAULT_LABEL "metadata"  /**< the label of an agent's full metadata in stock NIXL */
#define NIXL_MD_DEFAULT_TIMEOUT_MS 10000u /**< of an operation */
#define NIXL_MD_DEFAULT_INTERVAL_MS 5000u /**< of the heartbeat; the default TTL is 3 x the interval */

/** An open handle. */
typedef struct nixl_md nixl_md_t;

/**
 * The status of a call or an operation: a value of `enum nixl_md_status`. A newer library may return a value that this
 * header does not have.
 */
typedef int32_t nixl_md_status_t;

/*
 * Enums have names so that a debugger shows them and a compiler checks a switch over them:
 * `(enum nixl_md_event_type)event->type`. Fields and parameters of these values are 32-bit integers,
 * whatever size a compiler gives an enum. In C++ and C23 the enums have that type too, and may hold values from a
 * newer library.
 */
#if defined(__cplusplus) || (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L)
#define NIXL_MD_ENUM(name, type) enum name : type
#else
#define NIXL_MD_ENUM(name, type) enum name
#endif

/** Status. Positive values and 0 are not errors. */
NIXL_MD_ENUM(nixl_md_status, int32_t) {
    NIXL_MD_IN_PROG = 1,              /**< not finished; no call returns it, hosts may use it */
    NIXL_MD_SUCCESS = 0,              /**< done */
    NIXL_MD_ERR_INVALID_PARAM = -2,   /**< an argument, or an environment value, is wrong */
    NIXL_MD_ERR_BACKEND = -3,         /**< etcd refused, or the system did (out of descriptors, ...) */
    NIXL_MD_ERR_NOT_FOUND = -4,       /**< no such key, label or operation */
    NIXL_MD_ERR_MISMATCH = -5,        /**< the store contradicts the request */
    NIXL_MD_ERR_NOT_ALLOWED = -6,     /**< not with this handle, or the agent's name is in use */
    NIXL_MD_ERR_UNKNOWN = -8,         /**< only from nixl_md_status_fold(), for an unknown value */
    NIXL_MD_ERR_NOT_SUPPORTED = -9,   /**< libcurl is too old or lacks TLS, or a struct uses a field of a newer library */
    NIXL_MD_ERR_REMOTE_DISCONNECT = -10, /**< reserved, not used today: with no reachable endpoint it is TIMED_OUT */
    NIXL_MD_ERR_CANCELED = -11,       /**< by nixl_md_cancel(), shutdown or close */

    NIXL_MD_ERR_TIMED_OUT = -1001,    /**< the operation's own time-out has passed */
    NIXL_MD_ERR_TOO_LARGE = -1002,    /**< over a limit of this library or of etcd */
    NIXL_MD_ERR_REPLACED = -1003,     /**< a newer publish or unpublish of the label took its place */
    NIXL_MD_ERR_SUPERSEDED = -1004,   /**< another process took over the agent's name: final */
    NIXL_MD_ERR_UNAUTHENTICATED = -1005, /**< user or password is wrong or missing */
    NIXL_MD_ERR_PERMISSION = -1006,   /**< etcd's role does not allow this key */
    NIXL_MD_ERR_FORKED = -1007,       /**< the handle belongs to the parent process */
    NIXL_MD_ERR_BUSY = -1008,         /**< another thread is inside tick or close */
    NIXL_MD_ERR_IN_CALLBACK = -1009,  /**< not from inside a callback */
    NIXL_MD_ERR_SHUT_DOWN = -1010,    /**< the handle is shut down or shutting down; from a tick: shutdown complete */
    NIXL_MD_ERR_LIMIT = -1011,        /**< too many open operations, watches, labels or queued bytes */
    NIXL_MD_ERR_NO_SPACE = -1012      /**< etcd's database is full (its NOSPACE alarm) */
};

/** Log levels, as in NIXL_LOG_LEVEL. */
NIXL_MD_ENUM(nixl_md_log_level, int32_t) {
    NIXL_MD_LOG_DEFAULT = 0, /**< in a config: $NIXL_LOG_LEVEL, else off (with a callback: WARN) */
    NIXL_MD_LOG_TRACE = 1,
    NIXL_MD_LOG_DEBUG = 2,
    NIXL_MD_LOG_INFO = 3,
    NIXL_MD_LOG_WARN = 4,
    NIXL_MD_LOG_ERROR = 5,
    NIXL_MD_LOG_FATAL = 6,
    NIXL_MD_LOG_OFF = 7
};

/** The kind of an operation; `kind` of a result. */
NIXL_MD_ENUM(nixl_md_op_kind, int32_t) {
    NIXL_MD_OP_PUBLISH = 1,
    NIXL_MD_OP_UNPUBLISH = 2,
    NIXL_MD_OP_START_HEARTBEAT = 3,
    NIXL_MD_OP_STOP_HEARTBEAT = 4,
    NIXL_MD_OP_FETCH = 5,
    NIXL_MD_OP_INVALIDATE = 6,
    NIXL_MD_OP_LIST = 7
};

/** Types of event. A watch gets the first group, the handle's `on_event` the second (from 101). */
NIXL_MD_ENUM(nixl_md_event_type, int32_t) {
    NIXL_MD_EVENT_PUT = 1,       /**< a label has a new blob: load it in place of an earlier one */
    NIXL_MD_EVENT_DELETE = 2,    /**< a label is gone, its agent is still present: drop that blob */
    NIXL_MD_EVENT_GONE = 3,      /**< the agent and all its labels are gone: drop its metadata */
    /**
     * A new process took the agent's name: drop its metadata and forget all its labels. With labels, PUT follows for
     * each label that the new process writes; with presence only, fetch what you need. Ignore a later DELETE of a
     * forgotten label. Starting or stopping a heartbeat is not a restart.
     */
    NIXL_MD_EVENT_RESTARTED = 4,
    /** The same process as before GONE is back. With labels, PUT follows for each; with presence only, fetch again. */
    NIXL_MD_EVENT_RETURNED = 5,
    NIXL_MD_EVENT_SYNCED = 6,    /**< the state at the start (or after RESYNC) is complete; changes follow */
    /**
     * Keep your peers, but they may be stale. `text` says why: etcd has not answered for 1 s since the library noticed
     * that (an etcd that hangs is noticed within some seconds), or this watch has not begun, or not finished its list,
     * within 5 s. Everything else may work.
     */
    NIXL_MD_EVENT_CONTACT_LOST = 7,
    /** Contact is back: do nothing. If events were missed, RESYNC comes as well, possibly before this event. */
    NIXL_MD_EVENT_CONTACT_REGAINED = 8,
    /**
     * Events may have been missed: the host was too slow, etcd compacted its history, or the store was replaced (a
     * lease that ended early counts as a sign of that). Do nothing: the differences follow as ordinary events, then
     * SYNCED.
     */
    NIXL_MD_EVENT_RESYNC = 9,
    /**
     * The watch is over; `status` says why. The last event of a watch, exactly once. After CANCELED you wanted it.
     * After any other status watch again, when what `text` names is mended.
     */
    NIXL_MD_EVENT_ENDED = 10,
    /**
     * The watch sees this agent for the first time: fetch its metadata if you need it (with labels, PUT follows). After
     * GONE the event is RETURNED or RESTARTED instead.
     */
    NIXL_MD_EVENT_PRESENT = 11,

    /**
     * This agent's lease ended although the process lives: it expired, was revoked, or the store was replaced. Peers
     * see GONE. Do nothing: the library writes the keys again.
     */
    NIXL_MD_EVENT_LOST = 101,
    /**
     * Every published label is back, under a new lease. Peers see RETURNED. Labels that etcd now refuses as too large
     * are missing; the log names them.
     */
    NIXL_MD_EVENT_RESTORED = 102,
    /** Another process took over this agent's name. Final: this handle writes nothing more. Close it after the tick. */
    NIXL_MD_EVENT_SUPERSEDED = 103,
    /**
     * Somebody deleted this agent's presence key. The library removes the rest and revokes the lease. Publish again to
     * claim the name. (A label that somebody else deletes alone has no event here, and is not written again.)
     */
    NIXL_MD_EVENT_WITHDRAWN = 104
};

/** One present agent, in the result of nixl_md_list(). */
typedef struct nixl_md_agent {
    uint32_t size;        /**< bytes filled by the library */
    uint32_t reserved;
    const char *name;     /**< not NUL-terminated */
    size_t name_len;
    uint64_t incarnation; /**< identifies the process behind the name; 0: unknown (no presence key) */
    int64_t revision;     /**< etcd revision at which it appeared */
    /**
     * The lease of its presence key. 0: an agent of stock NIXL, which uses no lease. The lowest bit is set on a lease
     * that never ends: that agent has no heartbeat, and its keys stay until they are withdrawn.
     */
    uint64_t lease_id;
} nixl_md_agent_t;

/** The completion of an operation. Valid until the callback returns. */
typedef struct nixl_md_result {
    uint32_t size;      /**< bytes filled by the library */
    nixl_md_status_t status; /**< NIXL_MD_SUCCESS or the reason of the failure */
    int32_t kind;       /**< enum nixl_md_op_kind */
    uint32_t reserved;
    uint64_t op;        /**< the id from the starting call */
    const char *text;   /**< on failure the cause and the remedy, else ""; NUL-terminated, never NULL */
    int64_t revision;   /**< etcd revision of the write, the fetched key or the list; else 0 */
    const void *blob;   /**< fetch: the blob; else NULL */
    size_t blob_len;
    const nixl_md_agent_t *const *agents; /**< list: sorted by name, bytewise; else NULL */
    size_t agent_count;
    uint64_t ttl_ms;    /**< start heartbeat: the TTL that etcd granted; else 0 */
} nixl_md_result_t;

/** An event. Valid until the callback returns. */
typedef struct nixl_md_event {
    uint32_t size;        /**< bytes filled by the library */
    int32_t type;         /**< enum nixl_md_event_type */
    uint64_t watch;       /**< id of the watch; 0 for the second group */
    const char *agent;    /**< not NUL-terminated; NULL if the event concerns no agent */
    size_t agent_len;
    const char *label;    /**< PUT, DELETE: not NUL-terminated, may hold '/'; NULL for all else */
    size_t label_len;
    const void *blob;     /**< PUT; NULL for all else */
    size_t blob_len;
    int64_t revision;     /**< etcd revision of the change; 0: none */
    uint64_t incarnation; /**< PRESENT, RESTARTED, RETURNED: identifies the process; else 0 */
    nixl_md_status_t status; /**< ENDED: the reason; else 0 */
    uint32_t reserved;
    const char *text;     /**< an explanation for people, or ""; NUL-terminated, never NULL */
} nixl_md_event_t;

/** Runs once per operation. @param user `user` of its nixl_md_opts_t. */
typedef void (*nixl_md_done_cb)(const nixl_md_result_t *result, void *user);
/** Runs for each event. @param user `user` of the nixl_md_watch_opts_t, or `on_event_user` of the config. */
typedef void (*nixl_md_event_cb)(const nixl_md_event_t *event, void *user);
/**
 * Receives one line of log: no newline, NUL-terminated, valid until the callback returns. A line never holds a blob
 * or a secret. Runs inside open, tick and close, on their thread; the rules for callbacks apply.
 */
typedef void (*nixl_md_log_cb)(int32_t level, const char *line, void *user);

/** Flags of a config. */
NIXL_MD_ENUM(nixl_md_config_flag, uint32_t) {
    /** Publishing fails with NOT_ALLOWED while another process holds the agent's name (default: take over). */
    NIXL_MD_CONFIG_REFUSE_TAKEOVER = 1u << 0,
    /**
     * Resolve host names once, inside nixl_md_open(), on the caller's thread, which may block. Default: a short-lived
     * helper thread resolves them, at open and whenever all addresses of a name have failed; it is the one exception
     * to 'no thread'. Endpoints given as addresses need neither.
     */
    NIXL_MD_CONFIG_RESOLVE_IN_OPEN = 1u << 1,
    /** Do not read the environment. */
    NIXL_MD_CONFIG_IGNORE_ENVIRONMENT = 1u << 2,
    /** https: accept any certificate. For tests only. */
    NIXL_MD_CONFIG_TLS_NO_VERIFY = 1u << 3
};

/** Configuration for nixl_md_open(). Zero it, set `size`, set the fields you need. */
typedef struct nixl_md_config {
    uint32_t size;  /**< sizeof(nixl_md_config_t) */
    uint32_t flags; /**< enum nixl_md_config_flag */
    /**
     * Endpoints of one etcd cluster: `host:port`, `http://host:port` or `https://host:port`,
     * separated by ',' or ';'; IPv6 in brackets; the port defaults to 2379; one trailing '/',
     * spaces and empty items are ignored. NULL: $NIXL_ETCD_ENDPOINTS. The library starts at a random endpoint of the
     * list. Either all are https or none.
     */
    const char *endpoints;
    /**
     * Key prefix, used byte for byte. NULL: $NIXL_ETCD_NAMESPACE, else the default. An agent's keys are
     * `<namespace>/<agent>/`, the presence key, and `<namespace>/<agent>/<label>`: `/nixl/agents//alpha/metadata`.
     */
    const char *name_space;
    /** This agent's name: 1 to NIXL_MD_MAX_AGENT bytes without '/' or NUL. NULL: an observer, which cannot write. */
    const char *agent;
    size_t agent_len;
    const char *ca_file;     /**< https: PEM file of trusted authorities. NULL: the system's */
    const char *cert_file;   /**< https: PEM client certificate; with key_file, or neither */
    const char *key_file;    /**< https: PEM key of cert_file */
    const char *server_name; /**< https: the name to verify instead of the endpoint's host */
    const char *user;        /**< etcd user; with password, or neither */
    const char *password;    /**< kept in memory while the handle is open; never logged */
    nixl_md_event_cb on_event; /**< LOST, RESTORED, SUPERSEDED, WITHDRAWN of this agent; may be NULL */
    void *on_event_user;
    nixl_md_log_cb on_log;   /**< NULL: log to stderr if $NIXL_LOG_LEVEL is set, else nowhere */
    void *on_log_user;
    int32_t log_level;       /**< enum nixl_md_log_level: the lowest level to log */
    uint32_t reserved;       /**< zero */
} nixl_md_config_t;

/** Flags of an operation. */
NIXL_MD_ENUM(nixl_md_op_flag, uint32_t) {
    NIXL_MD_FETCH_NO_WAIT = 1u << 0 /**< fetch: complete as NOT_FOUND at once if the label is absent */
};

/** Options of every starting call except nixl_md_watch(). NULL for all defaults. */
typedef struct nixl_md_opts {
    uint32_t size;           /**< sizeof(nixl_md_opts_t) */
    uint32_t flags;          /**< see the function; any other bit is refused */
    /** 0: NIXL_MD_DEFAULT_TIMEOUT_MS; NIXL_MD_NEVER: none. Counts from the next tick. */
    uint64_t timeout_ms;
    nixl_md_done_cb on_done; /**< runs at the completion; may be NULL */
    void *user;              /**< passed to `on_done` */
} nixl_md_opts_t;

/** Flags of a watch; at most one. */
NIXL_MD_ENUM(nixl_md_watch_flag, uint32_t) {
    /** Presence only (PRESENT, GONE, RESTARTED, RETURNED), no labels and blobs. The default for the namespace. */
    NIXL_MD_WATCH_PRESENCE_ONLY = 1u << 0,
    NIXL_MD_WATCH_BLOBS = 1u << 1 /**< labels and blobs as well. The default for one agent */
};

/** Options of nixl_md_watch(), which has no time-out and ends with an event. NULL for all defaults. */
typedef struct nixl_md_watch_opts {
    uint32_t size;  /**< sizeof(nixl_md_watch_opts_t) */
    uint32_t flags; /**< enum nixl_md_watch_flag; any other bit is refused */
    void *user;     /**< passed to `on_event` */
} nixl_md_watch_opts_t;

/** Counters and gauges of a handle since it was opened. Times of ticks exclude callbacks. */
typedef struct nixl_md_stats {
    uint32_t size; /**< sizeof(nixl_md_stats_t), set by the caller */
    uint32_t reserved;
    uint64_t ticks;               /**< calls of nixl_md_tick() */
    uint64_t ticks_idle;          /**< ticks with nothing to do */
    uint64_t tick_cpu_max_ns;     /**< longest tick, CPU time of its thread (idle ones are not measured) */
    uint64_t tick_wall_max_ns;    /**< longest tick, wall time */
    uint64_t tick_cpu_total_ns;   /**< CPU time of all ticks that were not idle */
    /**
     * Ticks before the first answer over TLS. They may load a trust store, which takes tens of milliseconds, so they
     * do not count in tick_cpu_max_ns.
     */
    uint64_t ticks_tls_setup;
    uint64_t tick_tls_setup_cpu_max_ns; /**< the longest of these */
    uint64_t callbacks;           /**< callbacks run */
    uint64_t requests;            /**< unary requests sent */
    uint64_t requests_failed;     /**< requests answered with an error or not at all */
    uint64_t bytes_sent;          /**< payload bytes of requests */
    uint64_t bytes_received;      /**< payload bytes received */
    uint64_t connects;            /**< connections that answered */
    uint64_t connects_failed;     /**< connections that were lost or never answered */
    uint64_t renewals;            /**< lease renewals answered */
    uint64_t renewals_unanswered; /**< silences in which a lease renewal was owed */
    uint64_t leases_lost;         /**< leases that ended while the process lived */
    uint64_t restores;            /**< times that all labels were written again */
    uint64_t events;              /**< watch events delivered */
    uint64_t resyncs;             /**< RESYNC delivered */
    uint64_t names_left_out;      /**< keys skipped because a name is over its limit */
    uint64_t resolver_threads;    /**< helper threads started to resolve a name */
    uint64_t operations_open;     /**< gauge: open operations, watches included */
    uint64_t watches_open;        /**< gauge */
    uint64_t callbacks_queued;    /**< gauge: callbacks waiting for a tick */
    uint64_t connected;           /**< gauge: 1 while an etcd member answers */
    /** gauge: the lease of the heartbeat; 0: none (the heartbeat is off, or nothing is published) */
    uint64_t lease_id;
    uint64_t lease_ttl_ms;        /**< gauge: its TTL as granted */
    int64_t revision;             /**< gauge: highest etcd revision seen */
} nixl_md_stats_t;

/**
 * @brief The library's version, NIXL_MD_VERSION of its own header. Any thread, any time.
 */
uint32_t nixl_md_version(void);

/**
 * @brief The library's version as text, e.g. "0.1.0". Static; never NULL. Any thread, any time.
 */
const char *nixl_md_version_string(void);

/**
 * @brief A status as text, e.g. "NIXL_MD_ERR_TIMED_OUT". Static; never NULL ("NIXL_MD_ERR_?" for an unknown value).
 * Any thread, any time.
 */
const char *nixl_md_status_string(nixl_md_status_t status);

/**
 * @brief A type of event as text, e.g. "NIXL_MD_EVENT_GONE". Static; never NULL ("NIXL_MD_EVENT_?" for an unknown
 * value). Any thread, any time.
 *
 * @param type `type` of an event
 */
const char *nixl_md_event_string(int32_t type);

/**
 * @brief The `nixl_status_t` nearest to a status of this library: -12 to 1 are unchanged, finer ones are mapped,
 * unknown ones become -8. Any thread, any time.
 *
 * TIMED_OUT, NO_SPACE, LIMIT, BUSY -> BACKEND (-3); TOO_LARGE, IN_CALLBACK -> INVALID_PARAM (-2);
 * REPLACED, SHUT_DOWN -> CANCELED (-11); SUPERSEDED, UNAUTHENTICATED, PERMISSION, FORKED -> NOT_ALLOWED (-6).
 */
nixl_md_status_t nixl_md_status_fold(nixl_md_status_t status);

/**
 * @brief The error text of the last call that failed on this thread, on any handle. Any thread, any time.
 *
 * @param md ignored, may be NULL. The text is kept per thread: no other thread can replace it, and it is there after a
 *           failed open and in a forked child.
 * @return NUL-terminated, never NULL, "" if no call failed yet. Valid on this thread until another call of this
 *         library fails; a call that succeeds does not change it.
 */
const char *nixl_md_last_error(const nixl_md_t *md);

/**
 * @brief Opens a handle. Does not wait for the network, and succeeds while etcd is down (but see
 * NIXL_MD_CONFIG_RESOLVE_IN_OPEN).
 *
 * Reads the environment once: NIXL_ETCD_ENDPOINTS and NIXL_ETCD_NAMESPACE (each only if the config has NULL) and
 * NIXL_LOG_LEVEL. Reads no file; certificates are read when a tick connects. Any thread.
 *
 * @param config not NULL; copied
 * @param md     not NULL; on success the handle. Free it with nixl_md_close()
 * @retval NIXL_MD_SUCCESS open; nothing has been sent yet
 * @retval NIXL_MD_ERR_INVALID_PARAM a pointer is NULL, a size, flag or name is wrong, an endpoint or an
 *         environment value is malformed, or there is no endpoint
 * @retval NIXL_MD_ERR_NOT_SUPPORTED libcurl is too old, or has no OpenSSL 3 for https; or `config` uses a field of a
 *         newer library
 * @retval NIXL_MD_ERR_NOT_FOUND a name could not be resolved (only with RESOLVE_IN_OPEN)
 * @retval NIXL_MD_ERR_BACKEND the system has no descriptor or memory left
 */
nixl_md_status_t nixl_md_open(const nixl_md_config_t *config, nixl_md_t **md);

/**
 * @brief Begins a clean shutdown: writes what is queued, then withdraws. Keep ticking until nixl_md_tick() returns
 * NIXL_MD_ERR_SHUT_DOWN, which it then does on every call (the efd is readable), and close.
 *
 * From now on starting calls are refused, watches end, and waiting fetches complete as CANCELED. Queued writes are
 * sent. After them, or when only a quarter of `drain_ms` is left, the library revokes this agent's leases. That removes
 * everything this agent published and nothing else, even while etcd's database is full. Operations that are still open
 * after `drain_ms` complete as CANCELED. No status reports whether etcd has revoked them in time; if not, the log warns
 * that the drain ran out. Where you must know, wait for the completion of nixl_md_invalidate() first. Keys that were not
 * removed in time go with the TTL, or stay if there is no heartbeat. To leave the keys of an agent without a heartbeat in etcd, close the handle without a
 * shutdown. Any thread, and from callbacks.
 *
 * @param drain_ms the longest that the shutdown may take; 0: withdraw nothing, complete everything at the next tick
 * @retval NIXL_MD_SUCCESS shutting down
 * @retval NIXL_MD_ERR_INVALID_PARAM `md` is NULL, or `drain_ms` is over NIXL_MD_MAX_TIMEOUT_MS
 * @retval NIXL_MD_ERR_SHUT_DOWN the handle is already shutting down
 * @retval NIXL_MD_ERR_FORKED the handle belongs to the parent process
 */
nixl_md_status_t nixl_md_shutdown(nixl_md_t *md, uint64_t drain_ms);

/**
 * @brief Frees a handle. Never waits and sends nothing. Open operations complete as CANCELED and watches end with
 * CANCELED inside this call, on the calling thread; starting calls from those callbacks are refused with SHUT_DOWN.
 * With a heartbeat the keys then go when the TTL has passed; without one they stay until another process takes the
 * name. To withdraw them at once, shut down first.
 *
 * This also closes the efd: remove it from the host's poll set first. Any thread, while no other uses the handle.
 *
 * @param md NULL is refused; do not use it again after success
 * @retval NIXL_MD_SUCCESS closed; in a forked child only the child's copy
 * @retval NIXL_MD_ERR_INVALID_PARAM `md` is NULL
 * @retval NIXL_MD_ERR_IN_CALLBACK called from a callback of this handle; it stays open
 * @retval NIXL_MD_ERR_BUSY another thread is inside tick or close; it stays open
 */
nixl_md_status_t nixl_md_close(nixl_md_t *md);

/**
 * @brief Publishes a blob under a label of this agent and replaces an earlier one.
 *
 * The first publish claims the agent's name: it deletes the keys that an earlier process of that name left (peers see
 * RESTARTED) and puts the presence key. Every key is attached to a lease of this process. With the heartbeat on, the
 * library renews that lease, and writes nothing before etcd has granted it. Without a heartbeat the lease never ends
 * (9,000,000,000 s, not renewed), so the keys outlive the process, as stock NIXL's do. The library keeps a copy of each
 * published blob and writes it again if the lease is lost.
 *
 * A publish that is still queued when a newer publish or unpublish of its label arrives completes as REPLACED. While
 * etcd cannot be reached, or its database is full, a publish waits for its time-out and then completes as TIMED_OUT or
 * NO_SPACE; the text has the last refusal. UNAUTHENTICATED completes at once, PERMISSION after one attempt on another
 * lease. A publish that ends as TIMED_OUT, NO_SPACE or CANCELED before it was sent is dropped. If it was sent, its
 * outcome is in doubt, and the library continues until the label holds that blob or a later one. After any other failure
 * the label keeps its old blob, unless an earlier attempt was applied and its answer lost.
 * Any thread, and from callbacks.
 *
 * @param label, label_len 1 to NIXL_MD_MAX_LABEL bytes without NUL; may hold '/'. NULL: NIXL_MD_DEFAULT_LABEL,
 *              "metadata"; `label_len` is then ignored
 * @param blob, blob_len   1 to NIXL_MD_MAX_BLOB bytes
 * @param opts  NULL or options; no flags
 * @param op    NULL or where to write the operation id
 * @retval NIXL_MD_SUCCESS queued; completes with SUCCESS, REPLACED, TIMED_OUT, TOO_LARGE (etcd's limit: the
 *         text names both sizes), NOT_ALLOWED (name in use), MISMATCH (somebody removed this agent's keys
 *         before it was written), SUPERSEDED, UNAUTHENTICATED, PERMISSION, NO_SPACE, LIMIT (labels), BACKEND
 *         or CANCELED
 * @retval NIXL_MD_ERR_INVALID_PARAM an argument is wrong (blob NULL, label or blob empty, NUL in the label, size, flag, time-out)
 * @retval NIXL_MD_ERR_TOO_LARGE the label or the blob is over its limit
 * @retval NIXL_MD_ERR_NOT_ALLOWED the handle is an observer
 * @retval NIXL_MD_ERR_NOT_SUPPORTED `opts` uses a field of a newer library
 * @retval NIXL_MD_ERR_LIMIT too many open operations or queued bytes
 * @retval NIXL_MD_ERR_BACKEND the system has no memory for a copy of the blob
 * @retval NIXL_MD_ERR_SHUT_DOWN the handle is shut down, shutting down or closing
 * @retval NIXL_MD_ERR_FORKED the handle belongs to the parent process
 */
nixl_md_status_t nixl_md_publish(nixl_md_t *md,
                                 const char *label,
                                 size_t label_len,
                                 const void *blob,
                                 size_t blob_len,
                                 const nixl_md_opts_t *opts,
                                 uint64_t *op);

/**
 * @brief Removes one label of this agent. The agent stays present. Any thread, and from callbacks.
 *
 * @param label, label_len as in nixl_md_publish()
 * @param opts  NULL or options; no flags
 * @param op    NULL or where to write the operation id
 * @retval NIXL_MD_SUCCESS queued; completes with SUCCESS, NOT_FOUND (this handle has not published the label), or
 *         as nixl_md_publish() does: REPLACED, TIMED_OUT, NOT_ALLOWED, MISMATCH, SUPERSEDED, UNAUTHENTICATED,
 *         PERMISSION, NO_SPACE, BACKEND or CANCELED
 * @retval NIXL_MD_ERR_INVALID_PARAM an argument is wrong (empty, NUL in the label, size, flag, time-out)
 * @retval NIXL_MD_ERR_TOO_LARGE the label is over its limit
 * @retval NIXL_MD_ERR_NOT_ALLOWED the handle is an observer
 * @retval NIXL_MD_ERR_NOT_SUPPORTED `opts` uses a field of a newer library
 * @retval NIXL_MD_ERR_LIMIT too many open operations
 * @retval NIXL_MD_ERR_SHUT_DOWN the handle is shut down, shutting down or closing
 * @retval NIXL_MD_ERR_FORKED the handle belongs to the parent process
 */
nixl_md_status_t nixl_md_unpublish(nixl_md_t *md,
                                   const char *label,
                                   size_t label_len,
                                   const nixl_md_opts_t *opts,
                                   uint64_t *op);

/**
 * @brief Turns the heartbeat on: the library attaches all keys of this agent, now and later, to a lease that it renews.
 *
 * The heartbeat is a mode, not an attempt. From a call that returned NIXL_MD_SUCCESS until
 * nixl_md_stop_heartbeat(), every key is written on its lease, so no key outlives the process by more than a TTL.
 * Publishes wait for the lease, each until its own time-out. Labels that are already published move onto the lease. A
 * presence watch does not see the move; a watch with labels sees PUT for each, with the same blob. The operation
 * completes when the lease is granted and every label is on it. If it fails (refused, timed out, canceled), the mode
 * stays on: the library keeps asking for the lease, and writes nothing without it. Only SUPERSEDED turns it off.
 *
 * A call while the heartbeat is on changes its interval and TTL (0: the defaults again). A call while a stop is waiting
 * turns the heartbeat on again, and the stop completes as REPLACED. After nixl_md_invalidate(), or the event WITHDRAWN,
 * the next publish or the next call of this function gets the next lease.
 *
 * A renewal is due min(interval, TTL/3) after the last answered one was sent, minus a jitter of up to 20 %. So ticks, or
 * contact with etcd, may pause for TTL - min(interval, TTL/3) - one round trip before the lease expires. The default TTL
 * is 3 x the interval: with 2 x, a lost renewal would be repeated just when the lease expires. Peers see GONE within
 * TTL + 2 s of this process's death while etcd keeps its leader; an election or a restart of etcd gives every lease its full TTL
 * again. A TTL below 5 s does not survive a change of leader. etcd grants at least about 2 s.
 *
 * If the lease expires while the process lives (no ticks, no contact), `on_event` gets LOST, the library writes all
 * labels again under a new lease, and `on_event` gets RESTORED. Any thread, and from callbacks.
 *
 * @param interval_ms at least NIXL_MD_MIN_INTERVAL_MS; 0: a third of the TTL, or the default 5,000
 * @param ttl_ms      0: 3 x the interval. Rounded up to whole seconds; greater than the interval
 * @param opts NULL or options; no flags
 * @param op   NULL or where to write the operation id
 * @retval NIXL_MD_SUCCESS queued; completes with SUCCESS (`ttl_ms` of the result: as granted), NOT_ALLOWED (the
 *         name is in use), SUPERSEDED, TIMED_OUT, NO_SPACE (etcd's database was full until the time-out),
 *         UNAUTHENTICATED, PERMISSION, TOO_LARGE (etcd's limit is lower than at the publish), BACKEND or
 *         CANCELED (also by a stop). The heartbeat stays on, or waits for its lease, after all of these except
 *         SUPERSEDED and that stop.
 * @retval NIXL_MD_ERR_INVALID_PARAM TTL <= interval, over or under a limit, or another argument is wrong
 * @retval NIXL_MD_ERR_NOT_ALLOWED the handle is an observer
 * @retval NIXL_MD_ERR_NOT_SUPPORTED `opts` uses a field of a newer library
 * @retval NIXL_MD_ERR_LIMIT too many open operations
 * @retval NIXL_MD_ERR_SHUT_DOWN the handle is shut down, shutting down or closing
 * @retval NIXL_MD_ERR_FORKED the handle belongs to the parent process
 */
nixl_md_status_t nixl_md_start_heartbeat(nixl_md_t *md,
                                         uint64_t interval_ms,
                                         uint64_t ttl_ms,
                                         const nixl_md_opts_t *opts,
                                         uint64_t *op);

/** The fate of the keys when the heartbeat stops. */
NIXL_MD_ENUM(nixl_md_heartbeat_mode, int32_t) {
    NIXL_MD_HEARTBEAT_KEEP = 1,    /**< they move onto a lease that never ends */
    NIXL_MD_HEARTBEAT_WITHDRAW = 2 /**< they are withdrawn, as nixl_md_invalidate() does */
};

/**
 * @brief Turns the heartbeat off and revokes its lease. Any thread, and from callbacks.
 *
 * With KEEP all keys move to a lease that never ends, and the operation completes when the old lease is revoked; peers
 * see the same as at the start. With WITHDRAW it does what nixl_md_invalidate() does. If the lease was never granted, or
 * nothing is published, it completes as SUCCESS. A start that is still waiting for the lease completes as CANCELED.
 *
 * @param mode NIXL_MD_HEARTBEAT_KEEP or NIXL_MD_HEARTBEAT_WITHDRAW
 * @param opts NULL or options; no flags
 * @param op   NULL or where to write the operation id
 * @retval NIXL_MD_SUCCESS queued; completes with SUCCESS, NOT_FOUND (the heartbeat is off), REPLACED (it was started
 *         again), SUPERSEDED, TIMED_OUT, NO_SPACE, UNAUTHENTICATED, PERMISSION, TOO_LARGE, BACKEND or CANCELED. With
 *         KEEP the heartbeat is off after all of these except REPLACED: the library moves the keys as soon as etcd
 *         permits, and renews the old lease while it still carries any. With WITHDRAW it is off after SUCCESS; a
 *         withdrawal that timed out or was canceled continues; after PERMISSION, UNAUTHENTICATED or BACKEND the keys
 *         are still there and the heartbeat is on
 * @retval NIXL_MD_ERR_INVALID_PARAM an argument is wrong (mode, size, flag, time-out)
 * @retval NIXL_MD_ERR_NOT_ALLOWED the handle is an observer
 * @retval NIXL_MD_ERR_NOT_SUPPORTED `opts` uses a field of a newer library
 * @retval NIXL_MD_ERR_LIMIT too many open operations
 * @retval NIXL_MD_ERR_SHUT_DOWN the handle is shut down, shutting down or closing
 * @retval NIXL_MD_ERR_FORKED the handle belongs to the parent process
 */
nixl_md_status_t nixl_md_stop_heartbeat(nixl_md_t *md, int32_t mode, const nixl_md_opts_t *opts, uint64_t *op);

/**
 * @brief Reads one label of an agent, and waits for it if it is absent.
 *
 * A waiting fetch delays nothing else, and any number may wait. An empty value counts as absent, and so does a label on
 * a lease that never ends if its agent has no presence key. Any thread, and from callbacks.
 *
 * @param agent, agent_len 1 to NIXL_MD_MAX_AGENT bytes without '/' or NUL
 * @param label, label_len as in nixl_md_publish()
 * @param opts NULL or options; flag NIXL_MD_FETCH_NO_WAIT
 * @param op   NULL or where to write the operation id
 * @retval NIXL_MD_SUCCESS queued; completes with SUCCESS (`blob`, `revision`), TIMED_OUT, NOT_FOUND (NO_WAIT),
 *         TOO_LARGE (over 16 MiB), UNAUTHENTICATED, PERMISSION, BACKEND or CANCELED
 * @retval NIXL_MD_ERR_INVALID_PARAM an argument is wrong (NULL, empty, '/' or NUL in the name, size, flag, time-out)
 * @retval NIXL_MD_ERR_TOO_LARGE a name is over its limit
 * @retval NIXL_MD_ERR_NOT_SUPPORTED `opts` uses a field of a newer library
 * @retval NIXL_MD_ERR_LIMIT too many open operations
 * @retval NIXL_MD_ERR_SHUT_DOWN the handle is shut down, shutting down or closing
 * @retval NIXL_MD_ERR_FORKED the handle belongs to the parent process
 */
nixl_md_status_t nixl_md_fetch(nixl_md_t *md,
                               const char *agent,
                               size_t agent_len,
                               const char *label,
                               size_t label_len,
                               const nixl_md_opts_t *opts,
                               uint64_t *op);

/**
 * @brief Watches one agent, or every agent of the namespace.
 *
 * The watch first delivers the current state (PRESENT, PUT; nothing of an absent agent), then SYNCED, then every change
 * exactly once, in the order of etcd's revisions, across reconnects and restarts of etcd. Keys that other clients put
 * under an agent's prefix count as its labels. An agent is present while its presence key exists or, if
 * the watch never saw one, while it has a label with a blob. GONE ends all labels of the agent. When the agent appears
 * again, the event is RETURNED (the same process) or RESTARTED (a new one). A watch of the namespace remembers at least
 * the 4,096 agents that departed last; an agent that departed before them may appear as PRESENT. Any thread, and from
 * callbacks.
 *
 * @param agent, agent_len as in nixl_md_fetch(); NULL: the namespace. Watching oneself is allowed.
 * @param on_event not NULL
 * @param opts  NULL or options
 * @param watch NULL or where to write the id of the watch, an operation id
 * @retval NIXL_MD_SUCCESS queued; ENDED reports the end: CANCELED, PERMISSION, UNAUTHENTICATED, TOO_LARGE (a value
 *         over 16 MiB), LIMIT (over 1,048,576 keys) or BACKEND
 * @retval NIXL_MD_ERR_INVALID_PARAM an argument is wrong (empty, '/' or NUL in the name, on_event, size, flag)
 * @retval NIXL_MD_ERR_TOO_LARGE the name is over its limit
 * @retval NIXL_MD_ERR_NOT_SUPPORTED `opts` uses a field of a newer library
 * @retval NIXL_MD_ERR_LIMIT too many open operations
 * @retval NIXL_MD_ERR_SHUT_DOWN the handle is shut down, shutting down or closing
 * @retval NIXL_MD_ERR_FORKED the handle belongs to the parent process
 */
nixl_md_status_t nixl_md_watch(nixl_md_t *md,
                               const char *agent,
                               size_t agent_len,
                               nixl_md_event_cb on_event,
                               const nixl_md_watch_opts_t *opts,
                               uint64_t *watch);

/**
 * @brief Withdraws everything this agent published, now, not at TTL. Peers see GONE.
 *
 * It revokes this agent's lease, which removes exactly what this process wrote, in one revision, even while etcd's
 * database is full. If another process has taken the name, its keys stay, and this completes as SUPERSEDED once that is
 * known. A queued publish completes as REPLACED. The heartbeat stays on; the next publish claims the name again and gets
 * the next lease. If nothing is published, this succeeds. A withdrawal that timed out or was canceled continues;
 * publishes made in the meantime are written after it. If etcd refuses to revoke the lease (somebody may have attached a
 * key to it that this user may not write), the library deletes the keys one by one. If etcd refuses that as well,
 * nothing changes. If an earlier attempt without an answer has removed everything, this completes as SUCCESS; if it is
 * applied later, the event WITHDRAWN follows. Any thread, and from callbacks.
 *
 * @param opts NULL or options; no flags
 * @param op   NULL or where to write the operation id
 * @retval NIXL_MD_SUCCESS queued; completes with SUCCESS, SUPERSEDED, TIMED_OUT, UNAUTHENTICATED, PERMISSION,
 *         NO_SPACE, BACKEND or CANCELED
 * @retval NIXL_MD_ERR_INVALID_PARAM an argument is wrong (size, flag, time-out)
 * @retval NIXL_MD_ERR_NOT_ALLOWED the handle is an observer
 * @retval NIXL_MD_ERR_NOT_SUPPORTED `opts` uses a field of a newer library
 * @retval NIXL_MD_ERR_LIMIT too many open operations
 * @retval NIXL_MD_ERR_SHUT_DOWN the handle is shut down, shutting down or closing
 * @retval NIXL_MD_ERR_FORKED the handle belongs to the parent process
 */
nixl_md_status_t nixl_md_invalidate(nixl_md_t *md, const nixl_md_opts_t *opts, uint64_t *op);

/**
 * @brief Lists the agents that are present in the namespace, at one revision. Any thread, and from callbacks.
 *
 * @param opts NULL or options; no flags. Without `on_done` it is refused.
 * @param op   NULL or where to write the operation id
 * @retval NIXL_MD_SUCCESS queued; completes with SUCCESS (`agents`, `agent_count`, `revision`), TIMED_OUT, LIMIT
 *         (over 1,048,576 keys), TOO_LARGE (a key over 16 MiB), UNAUTHENTICATED, PERMISSION, BACKEND or CANCELED
 * @retval NIXL_MD_ERR_INVALID_PARAM an argument is wrong (no on_done, size, flag, time-out)
 * @retval NIXL_MD_ERR_NOT_SUPPORTED `opts` uses a field of a newer library
 * @retval NIXL_MD_ERR_LIMIT too many open operations
 * @retval NIXL_MD_ERR_SHUT_DOWN the handle is shut down, shutting down or closing
 * @retval NIXL_MD_ERR_FORKED the handle belongs to the parent process
 */
nixl_md_status_t nixl_md_list(nixl_md_t *md, const nixl_md_opts_t *opts, uint64_t *op);

/**
 * @brief Cancels an open operation or ends a watch. Any thread, and from callbacks.
 *
 * An operation completes as CANCELED in a later tick. A write that was already sent may still be applied. A watch ends
 * with ENDED and CANCELED in a later tick (or in close); if the ticking thread makes this call, no other event follows
 * its return. If the end is already queued, that status is reported.
 *
 * @param op the id from the starting call
 * @retval NIXL_MD_SUCCESS the completion, or ENDED, follows
 * @retval NIXL_MD_ERR_NOT_FOUND no open operation or watch has this id; it may just have ended
 * @retval NIXL_MD_ERR_INVALID_PARAM `md` is NULL or `op` is 0
 * @retval NIXL_MD_ERR_FORKED the handle belongs to the parent process
 */
nixl_md_status_t nixl_md_cancel(nixl_md_t *md, uint64_t op);

/**
 * @brief Does all work that is due: reads, writes, renews, runs callbacks. Never blocks.
 *
 * The work is bounded: typically microseconds, at most some 20 ms of CPU, even with blobs of NIXL_MD_MAX_BLOB. If more
 * is left, the efd stays readable. One thread at a time.
 *
 * @return the number of callbacks run, 0 if none, or
 * @retval NIXL_MD_ERR_SHUT_DOWN the shutdown is complete: not a failure. Every later tick returns it, too. Only
 *         nixl_md_close() is left to call
 * @retval NIXL_MD_ERR_INVALID_PARAM `md` is NULL
 * @retval NIXL_MD_ERR_IN_CALLBACK called from a callback of this handle
 * @retval NIXL_MD_ERR_BUSY another thread is inside tick or close
 * @retval NIXL_MD_ERR_FORKED the handle belongs to the parent process, or a callback of this tick has forked and this is the child
 * @retval NIXL_MD_ERR_BACKEND a system call failed; the text names it. Tick again after some milliseconds: the efd may
 *         be readable all the time
 */
int32_t nixl_md_tick(nixl_md_t *md);

/**
 * @brief One descriptor to poll for reading (POLLIN, EPOLLIN, level-triggered; it may be in an epoll set, libuv or
 * asyncio). It is readable exactly when a tick has work to do, including a passed deadline, so there is no arming step
 * and no time-out to compute. The library owns it: never read, write or close it. It stays the same until
 * nixl_md_close(). Any thread.
 *
 * @return the descriptor, or
 * @retval NIXL_MD_ERR_INVALID_PARAM `md` is NULL
 * @retval NIXL_MD_ERR_FORKED the handle belongs to the parent process
 */
int32_t nixl_md_efd(const nixl_md_t *md);

/**
 * @brief The time until the next deadline of the library. For hosts that poll the efd with a time-out. Any thread.
 *
 * @param ms not NULL; 0: now; NIXL_MD_NEVER: nothing is due
 * @retval NIXL_MD_SUCCESS written
 * @retval NIXL_MD_ERR_INVALID_PARAM `md` or `ms` is NULL
 * @retval NIXL_MD_ERR_FORKED the handle belongs to the parent process
 */
nixl_md_status_t nixl_md_deadline_ms(const nixl_md_t *md, uint64_t *ms);

/**
 * @brief Copies the counters as of the end of the last tick. Any thread.
 *
 * @param stats not NULL; set its `size` first. At most that many bytes are written, and `size` becomes their number
 * @retval NIXL_MD_SUCCESS written
 * @retval NIXL_MD_ERR_INVALID_PARAM `md` or `stats` is NULL, or `size` is below that of the first version
 * @retval NIXL_MD_ERR_FORKED the handle belongs to the parent process
 */
nixl_md_status_t nixl_md_get_stats(const nixl_md_t *md, nixl_md_stats_t *stats);

#ifdef __cplusplus
}
#endif

#endif /* NIXL_MD_H */
