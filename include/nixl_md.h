/*
 * SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
 * SPDX-License-Identifier: Apache-2.0
 */
/**
 * @file nixl_md.h
 * @brief Agent metadata in etcd, under a lease, without a thread: the C interface of libnixl_md.
 *
 * An agent publishes opaque blobs under its name. They hang on an etcd lease that is renewed while
 * the agent lives; when it dies, etcd removes them and every watching peer is told. An agent without a
 * heartbeat hangs them on a lease that never ends: they stay until they are withdrawn.
 *
 * THE RULES, valid for every function below
 * -----------------------------------------
 *
 * Driving. Nothing happens but inside nixl_md_tick(). The library has no thread; the host's own
 * worker calls tick, either periodically or whenever nixl_md_efd() is readable. A tick never
 * blocks, and one with nothing to do makes one system call.
 *
 * Status. Functions return 0 (NIXL_MD_SUCCESS) or a negative status. The values from -2 to -11 are
 * those of `nixl_status_t`; finer ones lie below -1000 and nixl_md_status_fold() maps them to the
 * nearest `nixl_status_t`. On failure nothing has changed, no output was written, and
 * nixl_md_last_error() names the value at fault and what to do about it. nixl_md_tick() and nixl_md_efd() return a
 * number of their own in place of 0; it is never negative. Every other output goes through a pointer.
 *
 * Operations. A starting call (publish, unpublish, start/stop heartbeat, fetch, watch, invalidate,
 * list) checks its arguments, copies what it needs, queues the work and returns at once. It may
 * be made from any thread, and from inside a callback. On success it writes an operation id, which
 * is never 0 and never used twice by one handle; it is written before a callback can have it, also
 * where another thread ticks. The operation then completes exactly once: its `on_done` runs with
 * that id, a status, and the `user` pointer of its options. A watch completes with its ENDED event
 * instead. When a starting call fails there is no operation and no callback.
 *
 * Callbacks run only inside nixl_md_tick() and nixl_md_close(), on the calling thread, one at a
 * time, with no lock held. A callback may make starting calls, and may call nixl_md_cancel(),
 * nixl_md_shutdown() and the queries. It may not tick and may not close
 * (NIXL_MD_ERR_IN_CALLBACK). It must not throw or longjmp through the library.
 *
 * User data. The library never touches what `user` points to. It may be freed after the completion
 * of its operation has run (for a watch: after ENDED has run, not when nixl_md_cancel() returns),
 * and in any case after nixl_md_close() has returned.
 *
 * The handle, `md`: what nixl_md_open() gave and nixl_md_close() has not freed yet. NULL is refused.
 *
 * Pointers in. Everything passed in is copied before the function returns. Names are pointer +
 * length; the length NIXL_MD_NUL_TERMINATED says that the text ends in NUL. Names are bytes: they
 * need not be UTF-8 and are never normalised, so names that differ by one byte are different.
 *
 * Pointers out. What a result or an event points to is valid until its callback returns. Names in
 * events and lists come from the store and may hold any byte, NUL included: use their lengths. They are never longer
 * than NIXL_MD_MAX_AGENT and NIXL_MD_MAX_LABEL: keys of others that have longer names are left out and counted
 * (`names_left_out` of the counters); the log warns of the first.
 *
 * Structs. Every struct starts with its `size`. For one that the caller fills: zero it, set `size`
 * to sizeof, set what is wanted; zero means the default. If it is longer than the library knows, the bytes
 * behind what the library knows must be zero: a host that was built with a newer header can use an older library
 * as long as it asks for nothing new, else it gets NIXL_MD_ERR_NOT_SUPPORTED. A size that is shorter than the first
 * version of the struct, over 1,024 bytes, or no multiple of 8 is NIXL_MD_ERR_INVALID_PARAM. A
 * struct that the library fills (result, event) may be longer than this header knows, never shorter.
 *
 * Threads. One handle is ticked by one thread at a time; a second tick is refused with
 * NIXL_MD_ERR_BUSY. Which thread may change. nixl_md_open() and nixl_md_close() must not race with
 * any other call on the same handle. Different handles are independent.
 *
 * Fork. In a forked child every call on a handle of the parent returns NIXL_MD_ERR_FORKED and does
 * nothing, except nixl_md_close(), which frees the child's copy, runs no callback, and leaves the
 * parent's connection alone. All descriptors are close-on-exec. The child may open a handle of its own.
 *
 * Time is in milliseconds, of CLOCK_BOOTTIME: a machine that was suspended has aged.
 *
 * A COMPLETE HOST
 * ---------------
 * @code
 *     static void on_done(const nixl_md_result_t *r, void *user) {
 *         fprintf(stderr, "%s: %s %s\n", (const char *)user, nixl_md_status_string(r->status), r->text);
 *     }
 *     static void on_event(const nixl_md_event_t *e, void *user) {
 *         (void)user;
 *         if (e->type == NIXL_MD_EVENT_GONE) drop_peer(e->agent, e->agent_len);
 *     }
 *
 *     nixl_md_config_t config;
 *     memset(&config, 0, sizeof config);
 *     config.size = sizeof config;
 *     config.agent = "alpha";
 *     config.agent_len = NIXL_MD_NUL_TERMINATED;
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
 *     struct pollfd p = {.fd = nixl_md_efd(md), .events = POLLIN};
 *     while (!stopping) {                                   // or: call nixl_md_tick every 100 ms
 *         poll(&p, 1, -1);
 *         nixl_md_tick(md);
 *     }
 *     nixl_md_shutdown(md, 2000);                           // withdraw, within 2 s
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

/* Limits. What exceeds them is refused with a text that names both sizes. */
#define NIXL_MD_MAX_NAMESPACE 1024           /**< bytes in the namespace */
#define NIXL_MD_MAX_AGENT 1024               /**< bytes in an agent's name */
#define NIXL_MD_MAX_LABEL 1024               /**< bytes in a label */
#define NIXL_MD_MAX_BLOB (10u * 1024 * 1024) /**< bytes in a blob; etcd's own limit is 1.5 MiB by default */
#define NIXL_MD_MAX_LABELS 4096              /**< labels published by one handle */
#define NIXL_MD_MAX_ENDPOINTS 64             /**< entries in the endpoint list */
#define NIXL_MD_MAX_OPERATIONS 65536         /**< open operations, watches included */
#define NIXL_MD_MAX_QUEUED_BYTES (256u * 1024 * 1024) /**< bytes of blobs that wait to be sent */
#define NIXL_MD_MAX_TIMEOUT_MS 86400000u     /**< any time-out, interval or TTL but NIXL_MD_NEVER: one day */
/**
 * The least interval of a heartbeat. A lease lives for whole seconds, so that renewing it more often makes nothing
 * safer, while each renewal costs etcd's leader as much as it costs the host: 20 a second are plenty.
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
 * What a call returned or an operation ended with: a value of `enum nixl_md_status`. A newer library may give one that
 * this header does not have.
 */
typedef int32_t nixl_md_status_t;

/*
 * Enums have names so that a debugger shows them and a compiler checks a switch over them:
 * `(enum nixl_md_event_type)event->type`. Fields and parameters that hold their values are integers of 32 bits,
 * whatever size a compiler gives an enum. In C++ and C23 the enums have that type too, and may hold values of a newer
 * library.
 */
#if defined(__cplusplus) || (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L)
#define NIXL_MD_ENUM(name, type) enum name : type
#else
#define NIXL_MD_ENUM(name, type) enum name
#endif

/** Status. Positive values and 0 are not errors. */
NIXL_MD_ENUM(nixl_md_status, int32_t) {
    NIXL_MD_IN_PROG = 1,              /**< not finished (never returned by a call; for hosts' own use) */
    NIXL_MD_SUCCESS = 0,              /**< done */
    NIXL_MD_ERR_INVALID_PARAM = -2,   /**< an argument, or an environment value, is wrong */
    NIXL_MD_ERR_BACKEND = -3,         /**< etcd refused, or the system did (out of descriptors, ...) */
    NIXL_MD_ERR_NOT_FOUND = -4,       /**< no such key, label or operation */
    NIXL_MD_ERR_MISMATCH = -5,        /**< what the store holds contradicts what was asked */
    NIXL_MD_ERR_NOT_ALLOWED = -6,     /**< not with this handle, or the agent's name is in use */
    NIXL_MD_ERR_UNKNOWN = -8,         /**< only from nixl_md_status_fold(), for a value that is no status */
    NIXL_MD_ERR_NOT_SUPPORTED = -9,   /**< libcurl is too old or lacks TLS, or a struct holds more than this library knows */
    NIXL_MD_ERR_REMOTE_DISCONNECT = -10, /**< reserved, not given today: where no endpoint can be reached, TIMED_OUT */
    NIXL_MD_ERR_CANCELED = -11,       /**< by nixl_md_cancel(), shutdown or close */

    NIXL_MD_ERR_TIMED_OUT = -1001,    /**< the operation's own time-out has passed */
    NIXL_MD_ERR_TOO_LARGE = -1002,    /**< over a limit of this library or of etcd */
    NIXL_MD_ERR_REPLACED = -1003,     /**< a newer publish or unpublish of the label took its place */
    NIXL_MD_ERR_SUPERSEDED = -1004,   /**< another process took over the agent's name: final */
    NIXL_MD_ERR_UNAUTHENTICATED = -1005, /**< user or password is wrong, or etcd wants them */
    NIXL_MD_ERR_PERMISSION = -1006,   /**< etcd's role does not allow this key */
    NIXL_MD_ERR_FORKED = -1007,       /**< the handle belongs to the parent process */
    NIXL_MD_ERR_BUSY = -1008,         /**< another thread is inside tick or close */
    NIXL_MD_ERR_IN_CALLBACK = -1009,  /**< not from inside a callback */
    NIXL_MD_ERR_SHUT_DOWN = -1010,    /**< the handle is, or is being, shut down; from a tick: done, the good end */
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

/** What an operation is; `kind` of a result. */
NIXL_MD_ENUM(nixl_md_op_kind, int32_t) {
    NIXL_MD_OP_PUBLISH = 1,
    NIXL_MD_OP_UNPUBLISH = 2,
    NIXL_MD_OP_START_HEARTBEAT = 3,
    NIXL_MD_OP_STOP_HEARTBEAT = 4,
    NIXL_MD_OP_FETCH = 5,
    NIXL_MD_OP_INVALIDATE = 6,
    NIXL_MD_OP_LIST = 7
};

/** Types of event. The first group comes to a watch, the second to the handle's `on_event`. */
NIXL_MD_ENUM(nixl_md_event_type, int32_t) {
    NIXL_MD_EVENT_PUT = 1,       /**< a label holds a (new) blob */
    NIXL_MD_EVENT_DELETE = 2,    /**< a label is gone while its agent is still present */
    NIXL_MD_EVENT_GONE = 3,      /**< the agent and all its labels are gone: drop its metadata */
    /**
     * The agent is another process now: drop what was fetched before and fetch again. Forget all labels of the agent;
     * PUT follows for each that is written again. Ignore a later DELETE for one that was forgotten. Starting or
     * stopping a heartbeat does not make another process.
     */
    NIXL_MD_EVENT_RESTARTED = 4,
    NIXL_MD_EVENT_RETURNED = 5,  /**< the same process as before GONE is back: its metadata is valid again */
    NIXL_MD_EVENT_SYNCED = 6,    /**< the state at the start (or after RESYNC) has been delivered */
    NIXL_MD_EVENT_CONTACT_LOST = 7,     /**< no etcd can be reached; what is known may be out of date */
    NIXL_MD_EVENT_CONTACT_REGAINED = 8, /**< the watch continues where it stopped */
    /**
     * Events may have been missed: the host was too slow, etcd compacted its history, or the store was replaced. (A
     * lease that ended before its time counts as a sign of that.) The differences follow as ordinary events, then
     * SYNCED.
     */
    NIXL_MD_EVENT_RESYNC = 9,
    /** The watch is over; `status` says why. The last event of a watch, exactly once. */
    NIXL_MD_EVENT_ENDED = 10,
    /** The watch sees this agent for the first time. Comes before its labels. After GONE, see RETURNED and RESTARTED. */
    NIXL_MD_EVENT_PRESENT = 11,

    /**
     * This agent's lease ended although the process lives: it ran out, was revoked, or the store was replaced. The keys
     * went with it and are being written again.
     */
    NIXL_MD_EVENT_LOST = 101,
    /**
     * Every published label is back, under a new lease. The log names labels that etcd now refuses as too large; those
     * are missing.
     */
    NIXL_MD_EVENT_RESTORED = 102,
    /** Another process took over this agent's name. Final: this handle writes nothing any more. */
    NIXL_MD_EVENT_SUPERSEDED = 103,
    /** Somebody deleted the keys. They stay deleted; the lease is revoked. The next publish claims the name again. */
    NIXL_MD_EVENT_WITHDRAWN = 104
};

/** One present agent, in the result of nixl_md_list(). */
typedef struct nixl_md_agent {
    uint32_t size;        /**< bytes filled by the library */
    uint32_t reserved;
    const char *name;     /**< not NUL-terminated */
    size_t name_len;
    uint64_t incarnation; /**< changes when the process behind the name does; 0: unknown (no presence key) */
    int64_t revision;     /**< etcd revision at which it (re)appeared */
    /**
     * The lease of its presence key. 0: an agent of stock NIXL, which uses no lease. The lowest bit is set where the
     * lease never ends: that agent has no heartbeat, and its keys stay until they are withdrawn.
     */
    uint64_t lease_id;
} nixl_md_agent_t;

/** The completion of an operation. Valid until the callback returns. */
typedef struct nixl_md_result {
    uint32_t size;      /**< bytes filled by the library */
    nixl_md_status_t status; /**< NIXL_MD_SUCCESS or why not */
    int32_t kind;       /**< enum nixl_md_op_kind */
    uint32_t reserved;
    uint64_t op;        /**< the id that the starting call gave */
    const char *text;   /**< on failure what went wrong and what to do, else ""; NUL-terminated, never NULL */
    int64_t revision;   /**< etcd revision of the write, of the fetched key, or of the list; else 0 */
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
    const char *agent;    /**< not NUL-terminated; NULL where no agent is meant */
    size_t agent_len;
    const char *label;    /**< PUT, DELETE: not NUL-terminated, may hold '/'; NULL for all else */
    size_t label_len;
    const void *blob;     /**< PUT; NULL for all else */
    size_t blob_len;
    int64_t revision;     /**< etcd revision of the change; 0 where none is meant */
    uint64_t incarnation; /**< PRESENT, RESTARTED, RETURNED: which process; else 0 */
    nixl_md_status_t status; /**< ENDED: why; else 0 */
    uint32_t reserved;
    const char *text;     /**< an explanation for people, or ""; NUL-terminated, never NULL */
} nixl_md_event_t;

/** Runs once per operation. @param user `user` of its nixl_md_opts_t. */
typedef void (*nixl_md_done_cb)(const nixl_md_result_t *result, void *user);
/** Runs for each event. @param user `user` of the nixl_md_watch_opts_t, or `on_event_user` of the config. */
typedef void (*nixl_md_event_cb)(const nixl_md_event_t *event, void *user);
/**
 * Takes a line of log: no newline, NUL-terminated, valid until it returns. Never holds a blob or a
 * secret. Called inside open, tick and close, on their thread; the rules of callbacks hold.
 */
typedef void (*nixl_md_log_cb)(int32_t level, const char *line, void *user);

/** Flags of a config. */
NIXL_MD_ENUM(nixl_md_config_flag, uint32_t) {
    /** Publishing fails with NOT_ALLOWED while another process holds the agent's name (default: take over). */
    NIXL_MD_CONFIG_REFUSE_TAKEOVER = 1u << 0,
    /**
     * Resolve host names inside nixl_md_open(), on the caller's thread, which may then block, and
     * never again. Default: a short-lived helper thread resolves them, at open and when all addresses
     * of a name have failed: the one exception to 'no thread'. Endpoints given as addresses need neither.
     */
    NIXL_MD_CONFIG_RESOLVE_IN_OPEN = 1u << 1,
    /** Do not read the environment. */
    NIXL_MD_CONFIG_IGNORE_ENVIRONMENT = 1u << 2,
    /** https: accept any certificate. For tests only. */
    NIXL_MD_CONFIG_TLS_NO_VERIFY = 1u << 3
};

/** What nixl_md_open() takes. Zero it, set `size`, set what is wanted. */
typedef struct nixl_md_config {
    uint32_t size;  /**< sizeof(nixl_md_config_t) */
    uint32_t flags; /**< enum nixl_md_config_flag */
    /**
     * Endpoints of one etcd cluster: `host:port`, `http://host:port` or `https://host:port`,
     * separated by ',' or ';'; IPv6 in brackets; the port defaults to 2379; one trailing '/',
     * spaces and empty items are ignored. NULL: $NIXL_ETCD_ENDPOINTS. The starting point in the list is
     * chosen at random. Either all are https or none.
     */
    const char *endpoints;
    const char *name_space; /**< key prefix, used byte for byte. NULL: $NIXL_ETCD_NAMESPACE, else the default */
    /** This agent's name: 1 to NIXL_MD_MAX_AGENT bytes without '/' or NUL. NULL: an observer, which writes nothing. */
    const char *agent;
    size_t agent_len;
    const char *ca_file;     /**< https: PEM file of trusted authorities. NULL: the system's */
    const char *cert_file;   /**< https: PEM client certificate; with key_file, or neither */
    const char *key_file;    /**< https: PEM key of it */
    const char *server_name; /**< https: the name to verify instead of the endpoint's host */
    const char *user;        /**< etcd user; with password, or neither */
    const char *password;    /**< kept in memory while the handle is open; never logged */
    nixl_md_event_cb on_event; /**< LOST, RESTORED, SUPERSEDED, WITHDRAWN of this agent; may be NULL */
    void *on_event_user;
    nixl_md_log_cb on_log;   /**< NULL: lines go to stderr if $NIXL_LOG_LEVEL asks for any, else nowhere */
    void *on_log_user;
    int32_t log_level;       /**< enum nixl_md_log_level: the least level that is told */
    uint32_t reserved;       /**< zero */
} nixl_md_config_t;

/** Flags of an operation. */
NIXL_MD_ENUM(nixl_md_op_flag, uint32_t) {
    NIXL_MD_FETCH_NO_WAIT = 1u << 0 /**< fetch: NOT_FOUND at once if it is not there */
};

/** Options of a starting call, but for a watch. NULL for all defaults. */
typedef struct nixl_md_opts {
    uint32_t size;           /**< sizeof(nixl_md_opts_t) */
    uint32_t flags;          /**< those that the function names; any other bit is refused */
    /** 0: NIXL_MD_DEFAULT_TIMEOUT_MS; NIXL_MD_NEVER. Runs from the next tick, which takes the call up. */
    uint64_t timeout_ms;
    nixl_md_done_cb on_done; /**< NULL: the completion is not told */
    void *user;              /**< handed to `on_done` */
} nixl_md_opts_t;

/** Flags of a watch; at most one. */
NIXL_MD_ENUM(nixl_md_watch_flag, uint32_t) {
    /** Tell who is present (PRESENT, GONE, RESTARTED, RETURNED), no labels, no blobs. The default for the namespace. */
    NIXL_MD_WATCH_PRESENCE_ONLY = 1u << 0,
    NIXL_MD_WATCH_BLOBS = 1u << 1 /**< tell labels and blobs, too. The default for one agent */
};

/** Options of nixl_md_watch(): it ends with an event and has no time-out. NULL for all defaults. */
typedef struct nixl_md_watch_opts {
    uint32_t size;  /**< sizeof(nixl_md_watch_opts_t) */
    uint32_t flags; /**< enum nixl_md_watch_flag; any other bit is refused */
    void *user;     /**< handed to `on_event` */
} nixl_md_watch_opts_t;

/** Counters and gauges of a handle since it was opened. Times of ticks exclude callbacks. */
typedef struct nixl_md_stats {
    uint32_t size; /**< sizeof(nixl_md_stats_t), set by the caller */
    uint32_t reserved;
    uint64_t ticks;               /**< calls of nixl_md_tick() */
    uint64_t ticks_idle;          /**< of them with nothing to do */
    uint64_t tick_cpu_max_ns;     /**< longest tick, CPU time of its thread (idle ones are not measured) */
    uint64_t tick_wall_max_ns;    /**< longest tick, wall time */
    uint64_t tick_cpu_total_ns;   /**< all ticks that were not idle */
    /**
     * Ticks that may have loaded a TLS trust store, which takes tens of milliseconds: those before an endpoint has
     * answered over TLS for the first time. Not in tick_cpu_max_ns.
     */
    uint64_t ticks_tls_setup;
    uint64_t tick_tls_setup_cpu_max_ns; /**< the longest of those */
    uint64_t callbacks;           /**< callbacks run */
    uint64_t requests;            /**< unary requests sent */
    uint64_t requests_failed;     /**< of them answered with an error or not at all */
    uint64_t bytes_sent;          /**< payload bytes of requests */
    uint64_t bytes_received;      /**< payload bytes received */
    uint64_t connects;            /**< connections that answered */
    uint64_t connects_failed;     /**< connections that were lost or never answered */
    uint64_t renewals;            /**< lease renewals answered */
    uint64_t renewals_unanswered; /**< lease renewals that missed their own deadline */
    uint64_t leases_lost;         /**< leases that ran out while the process lived */
    uint64_t restores;            /**< times everything was put back */
    uint64_t events;              /**< watch events told */
    uint64_t resyncs;             /**< RESYNC told */
    uint64_t names_left_out;      /**< keys left out of events and lists because a name is over its limit */
    uint64_t resolver_threads;    /**< helper threads started to resolve a name */
    uint64_t operations_open;     /**< gauge: open operations, watches included */
    uint64_t watches_open;        /**< gauge */
    uint64_t callbacks_queued;    /**< gauge: callbacks that wait for a tick */
    uint64_t connected;           /**< gauge: 1 while an etcd member answers */
    /** gauge: the lease of the heartbeat; 0: none is granted (the heartbeat is off, or nothing is to hang on it) */
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
 * @brief A status as text, e.g. "NIXL_MD_ERR_TIMED_OUT". Static; never NULL ("NIXL_MD_ERR_?" for a
 * value that is no status). Any thread, any time.
 */
const char *nixl_md_status_string(nixl_md_status_t status);

/**
 * @brief A type of event as text, e.g. "NIXL_MD_EVENT_GONE". Static; never NULL ("NIXL_MD_EVENT_?" for a
 * value that is no type). Any thread, any time.
 *
 * @param type `type` of an event
 */
const char *nixl_md_event_string(int32_t type);

/**
 * @brief The `nixl_status_t` nearest to any status of this library: -12 to 1 stay as they are, finer
 * ones are mapped, unknown ones become -8. Any thread, any time.
 *
 * TIMED_OUT, NO_SPACE, LIMIT, BUSY -> BACKEND (-3); TOO_LARGE, IN_CALLBACK -> INVALID_PARAM (-2);
 * REPLACED, SHUT_DOWN -> CANCELED (-11); SUPERSEDED, UNAUTHENTICATED, PERMISSION, FORKED -> NOT_ALLOWED (-6).
 */
nixl_md_status_t nixl_md_status_fold(nixl_md_status_t status);

/**
 * @brief Why the last call failed that the calling thread made, on any handle.
 *
 * @param md ignored, may be NULL: the text is kept per thread, so that no other thread can replace
 *           it and so that it works without a handle and in a forked child.
 * @return NUL-terminated, never NULL, "" if none failed yet. Valid on this thread until its next
 *         call of a function of this library that fails. A call that succeeds leaves it as it is. Any thread, any time.
 */
const char *nixl_md_last_error(const nixl_md_t *md);

/**
 * @brief Opens a handle. Does not wait for the network and succeeds while etcd is down (but see
 * NIXL_MD_CONFIG_RESOLVE_IN_OPEN).
 *
 * Reads the environment now and not again: NIXL_ETCD_ENDPOINTS, NIXL_ETCD_NAMESPACE (each only where the
 * config has NULL) and NIXL_LOG_LEVEL. Reads no file; certificates are read when a tick connects. Any thread.
 *
 * @param config not NULL; copied
 * @param md     not NULL; on success the handle, to be freed with nixl_md_close()
 * @retval NIXL_MD_SUCCESS open; nothing has been sent yet
 * @retval NIXL_MD_ERR_INVALID_PARAM a pointer is NULL, a size, flag or name is wrong, an endpoint or an
 *         environment value cannot be understood, no endpoint was given
 * @retval NIXL_MD_ERR_NOT_SUPPORTED libcurl here is too old, or does TLS without OpenSSL 3 for https; or `config` asks
 *         for what only a newer library has
 * @retval NIXL_MD_ERR_NOT_FOUND a name could not be resolved (only with RESOLVE_IN_OPEN)
 * @retval NIXL_MD_ERR_BACKEND the system has no descriptor or memory left
 */
nixl_md_status_t nixl_md_open(const nixl_md_config_t *config, nixl_md_t **md);

/**
 * @brief Begins to end a handle in good order. Ticks do the work; one returns NIXL_MD_ERR_SHUT_DOWN
 * when it is done, and so does every later one; the efd is readable then.
 *
 * Starting calls are refused from now on. Watches end and waiting fetches complete as CANCELED.
 * What is queued to be written is written; then, or when a quarter of the drain is left, this agent's
 * leases are revoked, and with them goes everything it published and nothing of anybody else, also
 * while etcd's database is full. What is not done after `drain_ms` completes as CANCELED. A handle
 * without a heartbeat that should leave its keys behind is closed without shutdown.
 * Any thread, and from callbacks.
 *
 * @param drain_ms at most this long; 0: withdraw nothing, complete everything at the next tick
 * @retval NIXL_MD_SUCCESS shutting down
 * @retval NIXL_MD_ERR_INVALID_PARAM `md` is NULL, or `drain_ms` is over NIXL_MD_MAX_TIMEOUT_MS
 * @retval NIXL_MD_ERR_SHUT_DOWN was called before
 * @retval NIXL_MD_ERR_FORKED the handle is the parent process's
 */
nixl_md_status_t nixl_md_shutdown(nixl_md_t *md, uint64_t drain_ms);

/**
 * @brief Frees a handle. Never waits, sends nothing that was not sent. Operations still open complete as
 * CANCELED and watches end with CANCELED, here, on the calling thread; starting calls made by those
 * callbacks are refused with SHUT_DOWN. With a heartbeat the keys then go when the TTL has passed; without
 * one they stay until another process takes the name. To withdraw them at once, shut down first.
 *
 * The efd is closed too: remove it from the host's poll set before. Any thread, while no other uses the handle.
 *
 * @param md NULL is refused; on success it must not be used again
 * @retval NIXL_MD_SUCCESS closed; in a forked child the child's copy
 * @retval NIXL_MD_ERR_INVALID_PARAM `md` is NULL
 * @retval NIXL_MD_ERR_IN_CALLBACK called from a callback of this handle; it stays open
 * @retval NIXL_MD_ERR_BUSY another thread is inside tick or close; it stays open
 */
nixl_md_status_t nixl_md_close(nixl_md_t *md);

/**
 * @brief Publishes a blob under a label of this agent, in place of an earlier one.
 *
 * The first publish claims the agent's name: it deletes the keys that an earlier process of that name left (peers see
 * RESTARTED) and puts the presence key. Every key hangs on a lease of this process. With the heartbeat on, that is the
 * lease that the heartbeat renews, and nothing is written before etcd has granted it. Without a heartbeat the lease
 * never ends (9,000,000,000 s, not renewed), so the keys outlive the process, as stock NIXL's do. The library keeps a
 * copy of each published blob and writes it again if the lease is lost.
 *
 * A publish that is still queued when a newer publish or unpublish of its label arrives completes as REPLACED. While
 * etcd cannot be reached, or its database is full, a publish waits for its time-out and then completes as TIMED_OUT or
 * NO_SPACE; the text has the last refusal. UNAUTHENTICATED completes at once, PERMISSION after one attempt on another
 * lease. A publish that ends as TIMED_OUT, NO_SPACE or CANCELED before it was sent is dropped. If it was sent, its
 * outcome is unknown, and the library continues until the label holds that blob or a later one. After any other failure
 * the label keeps its old blob, unless an earlier attempt, whose answer was lost with a connection, was applied.
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
 * @retval NIXL_MD_ERR_NOT_SUPPORTED `opts` asks for what only a newer library has
 * @retval NIXL_MD_ERR_LIMIT too many open operations or queued bytes
 * @retval NIXL_MD_ERR_BACKEND the system has no memory for a copy of the blob
 * @retval NIXL_MD_ERR_SHUT_DOWN the handle is, or is being, shut down or closed
 * @retval NIXL_MD_ERR_FORKED the handle is the parent process's
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
 * @retval NIXL_MD_ERR_NOT_SUPPORTED `opts` asks for what only a newer library has
 * @retval NIXL_MD_ERR_LIMIT too many open operations
 * @retval NIXL_MD_ERR_SHUT_DOWN the handle is, or is being, shut down or closed
 * @retval NIXL_MD_ERR_FORKED the handle is the parent process's
 */
nixl_md_status_t nixl_md_unpublish(nixl_md_t *md,
                                   const char *label,
                                   size_t label_len,
                                   const nixl_md_opts_t *opts,
                                   uint64_t *op);

/**
 * @brief Turns the heartbeat on: all keys of this agent, those published and those to come, hang on a lease that the
 * library renews.
 *
 * The heartbeat is a mode, not an attempt. From a call that returned NIXL_MD_SUCCESS until
 * nixl_md_stop_heartbeat(), every key is written on its lease, so no key outlives the process by more than a TTL.
 * Publishes wait for the lease, each until its own time-out. Labels that were published before move onto the lease. A
 * presence watch of a peer sees nothing of the move; a watch with labels sees PUT for each, with the same blob. The
 * operation completes when the lease is granted and everything published hangs on it. If it ends otherwise (refused,
 * timed out, canceled), the mode stays on: the library keeps asking for the lease, and writes nothing without it. Only
 * SUPERSEDED turns the heartbeat off.
 *
 * A call while the heartbeat is on changes its interval and TTL (0: the defaults again). A call while a stop waits turns
 * the heartbeat on again, and the stop completes as REPLACED. After nixl_md_invalidate(), or the event WITHDRAWN, the
 * next lease comes with the next publish or the next call.
 *
 * A renewal is due min(interval, TTL/3) after the last answered one was sent, less a jitter of up to 20 %. So contact
 * with etcd, or the ticking, may pause for TTL - interval - one round trip before the lease runs out. The default TTL is
 * 3 x the interval, not 2 x, because a lost renewal would then be repeated just when the lease expires. Peers see GONE
 * within TTL + 2 s of this process's death while etcd keeps its leader; an election or a restart of etcd gives every
 * lease its full TTL again. A TTL below 5 s does not survive a change of leader. etcd grants no less than about 2 s.
 *
 * If the lease runs out while the process lives (no ticks, no contact), `on_event` gets LOST, the library writes
 * everything again under a new lease, and `on_event` gets RESTORED. Any thread, and from callbacks.
 *
 * @param interval_ms at least NIXL_MD_MIN_INTERVAL_MS; 0: a third of the TTL, or the default 5,000
 * @param ttl_ms      0: 3 x the interval. Rounded up to whole seconds; greater than the interval
 * @param opts NULL or options; no flags
 * @param op   NULL or where to write the operation id
 * @retval NIXL_MD_SUCCESS queued; completes with SUCCESS (`ttl_ms` of the result: as granted), NOT_ALLOWED (the
 *         name is in use), SUPERSEDED, TIMED_OUT, NO_SPACE (etcd's database was full until the time-out),
 *         UNAUTHENTICATED, PERMISSION, TOO_LARGE (etcd takes less than when the labels were published), BACKEND or
 *         CANCELED (also by a stop). The heartbeat is on, or waits for its lease, after all of them but SUPERSEDED
 *         and that stop.
 * @retval NIXL_MD_ERR_INVALID_PARAM TTL <= interval, over or under a limit, or another argument is wrong
 * @retval NIXL_MD_ERR_NOT_ALLOWED the handle is an observer
 * @retval NIXL_MD_ERR_NOT_SUPPORTED `opts` asks for what only a newer library has
 * @retval NIXL_MD_ERR_LIMIT too many open operations
 * @retval NIXL_MD_ERR_SHUT_DOWN the handle is, or is being, shut down or closed
 * @retval NIXL_MD_ERR_FORKED the handle is the parent process's
 */
nixl_md_status_t nixl_md_start_heartbeat(nixl_md_t *md,
                                         uint64_t interval_ms,
                                         uint64_t ttl_ms,
                                         const nixl_md_opts_t *opts,
                                         uint64_t *op);

/** What becomes of the keys when the heartbeat stops. */
NIXL_MD_ENUM(nixl_md_heartbeat_mode, int32_t) {
    NIXL_MD_HEARTBEAT_KEEP = 1,    /**< they move onto a lease that never ends */
    NIXL_MD_HEARTBEAT_WITHDRAW = 2 /**< they are withdrawn, as by nixl_md_invalidate() */
};

/**
 * @brief Turns the heartbeat off and gives its lease back. Any thread, and from callbacks.
 *
 * With KEEP it completes when no key hangs on that lease any more and the lease is revoked; peers see as little of it as
 * of the start. With WITHDRAW it does what nixl_md_invalidate() does. If the lease was never granted, or nothing is
 * published, it completes as SUCCESS. A start that still waits for the lease completes as CANCELED.
 *
 * @param mode NIXL_MD_HEARTBEAT_KEEP or NIXL_MD_HEARTBEAT_WITHDRAW
 * @param opts NULL or options; no flags
 * @param op   NULL or where to write the operation id
 * @retval NIXL_MD_SUCCESS queued; completes with SUCCESS, NOT_FOUND (the heartbeat is off), REPLACED (it was started
 *         again), SUPERSEDED, TIMED_OUT, NO_SPACE, UNAUTHENTICATED, PERMISSION, TOO_LARGE, BACKEND or CANCELED. With
 *         KEEP the heartbeat is off after all of them but REPLACED: as soon as etcd lets it, the library moves the
 *         keys, and it renews the old lease while any hangs on it. With WITHDRAW it is off after SUCCESS; a withdrawal
 *         that timed out or was canceled goes on; after PERMISSION, UNAUTHENTICATED or BACKEND the keys are there and
 *         the heartbeat is on
 * @retval NIXL_MD_ERR_INVALID_PARAM an argument is wrong (mode, size, flag, time-out)
 * @retval NIXL_MD_ERR_NOT_ALLOWED the handle is an observer
 * @retval NIXL_MD_ERR_NOT_SUPPORTED `opts` asks for what only a newer library has
 * @retval NIXL_MD_ERR_LIMIT too many open operations
 * @retval NIXL_MD_ERR_SHUT_DOWN the handle is, or is being, shut down or closed
 * @retval NIXL_MD_ERR_FORKED the handle is the parent process's
 */
nixl_md_status_t nixl_md_stop_heartbeat(nixl_md_t *md, int32_t mode, const nixl_md_opts_t *opts, uint64_t *op);

/**
 * @brief Gets one label of an agent; if it is not there, waits for it to appear.
 *
 * A waiting fetch delays nothing else, and any number may wait. An empty value counts as absent. So does a label on a
 * lease that never ends whose agent has no presence key. Any thread, and from callbacks.
 *
 * @param agent, agent_len 1 to NIXL_MD_MAX_AGENT bytes without '/' or NUL
 * @param label, label_len as in nixl_md_publish()
 * @param opts NULL or options; flag NIXL_MD_FETCH_NO_WAIT
 * @param op   NULL or where to write the operation id
 * @retval NIXL_MD_SUCCESS queued; completes with SUCCESS (`blob`, `revision`), TIMED_OUT, NOT_FOUND (NO_WAIT),
 *         TOO_LARGE (over 16 MiB), UNAUTHENTICATED, PERMISSION, BACKEND or CANCELED
 * @retval NIXL_MD_ERR_INVALID_PARAM an argument is wrong (NULL, empty, '/' or NUL in the name, size, flag, time-out)
 * @retval NIXL_MD_ERR_TOO_LARGE a name is over its limit
 * @retval NIXL_MD_ERR_NOT_SUPPORTED `opts` asks for what only a newer library has
 * @retval NIXL_MD_ERR_LIMIT too many open operations
 * @retval NIXL_MD_ERR_SHUT_DOWN the handle is, or is being, shut down or closed
 * @retval NIXL_MD_ERR_FORKED the handle is the parent process's
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
 * The watch first tells what is there (PRESENT, PUT), then SYNCED, then every change, in the order of etcd's revisions,
 * exactly once, across reconnects and restarts of etcd. An agent is present while its presence key exists or, if the
 * watch never saw one, while it has a label with a blob. GONE ends all labels of the agent. When the agent appears
 * again it is RETURNED (the same process) or RESTARTED (another one). A watch of the namespace remembers at least the
 * 4,096 agents that departed last; one that departed earlier may appear as PRESENT. Any thread, and from callbacks.
 *
 * @param agent, agent_len as in nixl_md_fetch(); NULL: the namespace. Watching oneself is allowed.
 * @param on_event not NULL
 * @param opts  NULL or options
 * @param watch NULL or where to write the id of the watch, an operation id
 * @retval NIXL_MD_SUCCESS queued; ENDED tells its end: CANCELED, PERMISSION, UNAUTHENTICATED, TOO_LARGE (a value
 *         over 16 MiB), LIMIT (over 1,048,576 keys) or BACKEND
 * @retval NIXL_MD_ERR_INVALID_PARAM an argument is wrong (empty, '/' or NUL in the name, on_event, size, flag)
 * @retval NIXL_MD_ERR_TOO_LARGE the name is over its limit
 * @retval NIXL_MD_ERR_NOT_SUPPORTED `opts` asks for what only a newer library has
 * @retval NIXL_MD_ERR_LIMIT too many open operations
 * @retval NIXL_MD_ERR_SHUT_DOWN the handle is, or is being, shut down or closed
 * @retval NIXL_MD_ERR_FORKED the handle is the parent process's
 */
nixl_md_status_t nixl_md_watch(nixl_md_t *md,
                               const char *agent,
                               size_t agent_len,
                               nixl_md_event_cb on_event,
                               const nixl_md_watch_opts_t *opts,
                               uint64_t *watch);

/**
 * @brief Withdraws everything this agent published, now, not at TTL. Peers are told GONE.
 *
 * It revokes this agent's lease, which removes exactly what this process wrote, in one revision, also while etcd's
 * database is full. If another process has taken the name, its keys stay, and this completes as SUPERSEDED once that is
 * known. A publish still queued completes as REPLACED. The heartbeat stays on; its next lease comes with the next
 * publish, which claims the name again. Succeeds if nothing is published. A withdrawal that timed out or was canceled
 * continues; publishes made meanwhile are written after it. If etcd refuses to revoke the lease (somebody may have hung
 * a key on it that this user may not write), the library deletes the keys one by one. If that is refused as well,
 * nothing changes. If an earlier attempt that was never answered has removed everything, this completes as SUCCESS; if an
 * attempt takes effect later nevertheless, the event WITHDRAWN follows. Any thread, and from callbacks.
 *
 * @param opts NULL or options; no flags
 * @param op   NULL or where to write the operation id
 * @retval NIXL_MD_SUCCESS queued; completes with SUCCESS, SUPERSEDED, TIMED_OUT, UNAUTHENTICATED, PERMISSION,
 *         NO_SPACE, BACKEND or CANCELED
 * @retval NIXL_MD_ERR_INVALID_PARAM an argument is wrong (size, flag, time-out)
 * @retval NIXL_MD_ERR_NOT_ALLOWED the handle is an observer
 * @retval NIXL_MD_ERR_NOT_SUPPORTED `opts` asks for what only a newer library has
 * @retval NIXL_MD_ERR_LIMIT too many open operations
 * @retval NIXL_MD_ERR_SHUT_DOWN the handle is, or is being, shut down or closed
 * @retval NIXL_MD_ERR_FORKED the handle is the parent process's
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
 * @retval NIXL_MD_ERR_NOT_SUPPORTED `opts` asks for what only a newer library has
 * @retval NIXL_MD_ERR_LIMIT too many open operations
 * @retval NIXL_MD_ERR_SHUT_DOWN the handle is, or is being, shut down or closed
 * @retval NIXL_MD_ERR_FORKED the handle is the parent process's
 */
nixl_md_status_t nixl_md_list(nixl_md_t *md, const nixl_md_opts_t *opts, uint64_t *op);

/**
 * @brief Ends an open operation, or a watch, before its time. Any thread, and from callbacks.
 *
 * An operation completes as CANCELED in a later tick. A write that was already sent may still take effect. A watch ends
 * with ENDED and CANCELED in a later tick (or in close); when this is called on the ticking thread, no other event
 * comes after it returns. If the end is already queued, its status is the one that is reported.
 *
 * @param op the id that the starting call gave
 * @retval NIXL_MD_SUCCESS the completion, or ENDED, follows
 * @retval NIXL_MD_ERR_NOT_FOUND no open operation or watch has this id (it may just have ended)
 * @retval NIXL_MD_ERR_INVALID_PARAM `md` is NULL or `op` is 0
 * @retval NIXL_MD_ERR_FORKED the handle is the parent process's
 */
nixl_md_status_t nixl_md_cancel(nixl_md_t *md, uint64_t op);

/**
 * @brief Does what is due: reads, writes, renews, runs callbacks. Never blocks.
 *
 * Does a bounded amount of work (some 20 ms of CPU at most, also with blobs of NIXL_MD_MAX_BLOB; typically
 * microseconds); when more is left the efd stays readable. One thread at a time.
 *
 * @return the number of callbacks run, 0 if none, or
 * @retval NIXL_MD_ERR_SHUT_DOWN the shutdown is complete: the good end, told by every tick from then on. Only
 *         nixl_md_close() is left to call
 * @retval NIXL_MD_ERR_INVALID_PARAM `md` is NULL
 * @retval NIXL_MD_ERR_IN_CALLBACK called from a callback of this handle
 * @retval NIXL_MD_ERR_BUSY another thread is inside tick or close
 * @retval NIXL_MD_ERR_FORKED the handle is the parent process's, also where a callback of this tick has forked
 * @retval NIXL_MD_ERR_BACKEND the system refused an elementary call; the text says which. Tick again later.
 */
int32_t nixl_md_tick(nixl_md_t *md);

/**
 * @brief One descriptor to poll for reading (POLLIN, EPOLLIN, level-triggered, in one's own epoll set, in
 * asyncio): readable exactly when a tick has something to do, a passed deadline included. There is
 * no arming step. Owned by the library: never read, write or close it. Stays the same until
 * nixl_md_close(). Any thread.
 *
 * @return the descriptor, or
 * @retval NIXL_MD_ERR_INVALID_PARAM `md` is NULL
 * @retval NIXL_MD_ERR_FORKED the handle is the parent process's
 */
int32_t nixl_md_efd(const nixl_md_t *md);

/**
 * @brief How long until a tick has something to do that no peer needs to cause. For hosts that poll with a time-out.
 * Any thread.
 *
 * @param ms not NULL; 0: now; NIXL_MD_NEVER: nothing is due
 * @retval NIXL_MD_SUCCESS written
 * @retval NIXL_MD_ERR_INVALID_PARAM `md` or `ms` is NULL
 * @retval NIXL_MD_ERR_FORKED the handle is the parent process's
 */
nixl_md_status_t nixl_md_deadline_ms(const nixl_md_t *md, uint64_t *ms);

/**
 * @brief Copies the counters. Any thread; they are those at the end of the last tick.
 *
 * @param stats not NULL; `size` set by the caller: that many bytes at most are written, and `size` is set to
 *              how many were
 * @retval NIXL_MD_SUCCESS written
 * @retval NIXL_MD_ERR_INVALID_PARAM `md` or `stats` is NULL, or `size` is less than any version of it had
 * @retval NIXL_MD_ERR_FORKED the handle is the parent process's
 */
nixl_md_status_t nixl_md_get_stats(const nixl_md_t *md, nixl_md_stats_t *stats);

#ifdef __cplusplus
}
#endif

#endif /* NIXL_MD_H */
