/*
 * SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
 * SPDX-License-Identifier: Apache-2.0
 */
/**
 * @file nixl_md.hpp
 * @brief nixl_md.h for C++17: a handle that closes itself, std::function callbacks, exceptions.
 *
 * Header-only, in namespace nixlmd (`nixl_md` is the name of a struct). The rules of nixl_md.h hold; in addition:
 * - a starting call that is refused throws nixlmd::error;
 * - an exception thrown by a callback is thrown again by the tick() that ran it (of several, the first); one thrown
 *   inside the destructor, which completes what is open, is dropped;
 * - callbacks may be empty, and live until their operation has completed, their watch has ENDED, or the handle is
 *   destroyed;
 * - a handle that was moved from refuses every call as one that is NULL, and may be assigned to or destroyed.
 */
#ifndef NIXL_MD_HPP
#define NIXL_MD_HPP

#include <nixl_md.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace nixlmd {

/** A refused call; what() is the last-error text. */
class error : public std::runtime_error {
  public:
    error(nixl_md_status_t status, const char *text) : std::runtime_error(text), status_(status) {}

    /** NIXL_MD_ERR_... */
    nixl_md_status_t status() const noexcept { return status_; }

  private:
    nixl_md_status_t status_;
};

/** Valid until the callback returns, like all that they point to. */
using result = nixl_md_result_t;
using event = nixl_md_event_t;
using done_callback = std::function<void(const result &)>;
using event_callback = std::function<void(const event &)>;

/** For a switch: the compiler then names the types that it leaves out. */
inline nixl_md_event_type type_of(const event &e) noexcept {
    return static_cast<nixl_md_event_type>(e.type);
}

inline std::string_view agent_of(const event &e) noexcept {
    return {e.agent == nullptr ? "" : e.agent, e.agent_len};
}

inline std::string_view label_of(const event &e) noexcept {
    return {e.label == nullptr ? "" : e.label, e.label_len};
}

inline std::string_view blob_of(const event &e) noexcept {
    return {e.blob == nullptr ? "" : static_cast<const char *>(e.blob), e.blob_len};
}

inline std::string_view blob_of(const result &r) noexcept {
    return {r.blob == nullptr ? "" : static_cast<const char *>(r.blob), r.blob_len};
}

/** How long an operation may take. */
struct timeout {
    std::uint64_t ms = 0; /**< 0: the default; NIXL_MD_NEVER */
};

/** A zeroed config with its size set, to be filled in. */
inline nixl_md_config_t make_config() noexcept {
    nixl_md_config_t config = {};
    config.size = sizeof config;
    return config;
}

/**
 * An open handle: movable, not copyable. Its destructor closes, and so must not run inside a callback, nor while another
 * thread ticks: the handle is then left open, with its callbacks.
 */
class handle {
  public:
    /** @param on_event LOST, RESTORED, SUPERSEDED, WITHDRAWN; replaces that of the config */
    explicit handle(nixl_md_config_t config, event_callback on_event = {})
        : state_(std::make_unique<state>()) {
        state_->own = std::move(on_event);
        config.on_event = &handle::tell_own;
        config.on_event_user = state_.get();
        check(nixl_md_open(&config, &md_));
    }

    handle(handle &&other) noexcept
        : state_(std::move(other.state_)), md_(std::exchange(other.md_, nullptr)) {}

    handle &operator=(handle &&other) noexcept {
        if (this != &other) {
            close();
            state_ = std::move(other.state_);
            md_ = std::exchange(other.md_, nullptr);
        }
        return *this;
    }

    ~handle() { close(); }

    /** The handle of the C interface, for what is not wrapped. */
    nixl_md_t *get() const noexcept { return md_; }

    /** @return the number of callbacks run, or NIXL_MD_ERR_SHUT_DOWN; any other failure is thrown */
    std::int32_t tick() {
        state &open = open_state();
        const std::int32_t count = nixl_md_tick(md_);
        // Exceptions of callbacks belong to the call that runs them.
        if (count == NIXL_MD_ERR_BUSY || count == NIXL_MD_ERR_IN_CALLBACK) return check(count);
        if (std::exception_ptr thrown = std::exchange(open.thrown, nullptr)) {
            std::rethrow_exception(thrown);
        }
        return count == NIXL_MD_ERR_SHUT_DOWN ? count : check(count);
    }

    int efd() const { return check(nixl_md_efd(md_)); }

    void shutdown(std::uint64_t drain_ms) { check(nixl_md_shutdown(md_, drain_ms)); }

    /** @param label here and below: std::string_view() means "metadata", an empty text is refused */
    std::uint64_t publish(std::string_view label,
                          std::string_view blob,
                          done_callback done = {},
                          timeout t = {}) {
        return start(std::move(done), t, 0, [&](const nixl_md_opts_t *opts, std::uint64_t *op) {
            return nixl_md_publish(md_, label.data(), label.size(), blob.data(), blob.size(), opts,
                                   op);
        });
    }

    std::uint64_t unpublish(std::string_view label, done_callback done = {}, timeout t = {}) {
        return start(std::move(done), t, 0, [&](const nixl_md_opts_t *opts, std::uint64_t *op) {
            return nixl_md_unpublish(md_, label.data(), label.size(), opts, op);
        });
    }

    std::uint64_t start_heartbeat(std::uint64_t interval_ms,
                                  std::uint64_t ttl_ms,
                                  done_callback done = {},
                                  timeout t = {}) {
        return start(std::move(done), t, 0, [&](const nixl_md_opts_t *opts, std::uint64_t *op) {
            return nixl_md_start_heartbeat(md_, interval_ms, ttl_ms, opts, op);
        });
    }

    std::uint64_t stop_heartbeat(std::int32_t mode, done_callback done = {}, timeout t = {}) {
        return start(std::move(done), t, 0, [&](const nixl_md_opts_t *opts, std::uint64_t *op) {
            return nixl_md_stop_heartbeat(md_, mode, opts, op);
        });
    }

    /** @param flags 0 or NIXL_MD_FETCH_NO_WAIT */
    std::uint64_t fetch(std::string_view agent,
                        std::string_view label,
                        done_callback done,
                        timeout t = {},
                        std::uint32_t flags = 0) {
        return start(std::move(done), t, flags, [&](const nixl_md_opts_t *opts, std::uint64_t *op) {
            return nixl_md_fetch(md_, agent.data(), agent.size(), label.data(), label.size(), opts,
                                 op);
        });
    }

    std::uint64_t invalidate(done_callback done = {}, timeout t = {}) {
        return start(std::move(done), t, 0, [&](const nixl_md_opts_t *opts, std::uint64_t *op) {
            return nixl_md_invalidate(md_, opts, op);
        });
    }

    std::uint64_t list(done_callback done, timeout t = {}) {
        return start(std::move(done), t, 0, [&](const nixl_md_opts_t *opts, std::uint64_t *op) {
            return nixl_md_list(md_, opts, op);
        });
    }

    /** Watches one agent. @param flags 0, NIXL_MD_WATCH_PRESENCE_ONLY or NIXL_MD_WATCH_BLOBS */
    std::uint64_t watch(std::string_view agent, event_callback on_event, std::uint32_t flags = 0) {
        // An empty view may hold NULL, which means the namespace.
        const char *name = agent.empty() ? "" : agent.data();
        return start_watch(name, agent.size(), std::move(on_event), flags);
    }

    /** Watches the namespace. */
    std::uint64_t watch_all(event_callback on_event, std::uint32_t flags = 0) {
        return start_watch(nullptr, 0, std::move(on_event), flags);
    }

    /** Ends an operation, or a watch. */
    void cancel(std::uint64_t op) { check(nixl_md_cancel(md_, op)); }

    nixl_md_stats_t stats() const {
        nixl_md_stats_t stats = {};
        stats.size = sizeof stats;
        check(nixl_md_get_stats(md_, &stats));
        return stats;
    }

  private:
    struct state;

    /** The user data of an operation; owned by the state while the operation is open. */
    struct slot {
        state *owner;
        done_callback done;
        event_callback on_event;
    };

    struct state {
        event_callback own;
        std::exception_ptr thrown;
        std::mutex mutex; /**< starting calls may come from any thread */
        std::unordered_map<slot *, std::unique_ptr<slot>> slots;

        slot *add(done_callback done, event_callback on_event) {
            auto made = std::unique_ptr<slot>(new slot{this, std::move(done), std::move(on_event)});
            slot *raw = made.get();
            const std::lock_guard<std::mutex> lock(mutex);
            slots.emplace(raw, std::move(made));
            return raw;
        }

        std::unique_ptr<slot> take(slot *raw) {
            const std::lock_guard<std::mutex> lock(mutex);
            const auto found = slots.find(raw);
            auto taken = std::move(found->second);
            slots.erase(found);
            return taken;
        }

        template <typename Call> void guarded(Call &&call) noexcept {
            try {
                call();
            } catch (...) {
                if (!thrown) thrown = std::current_exception();
            }
        }
    };

    static std::int32_t check(std::int32_t status) {
        if (status < 0) throw error(status, nixl_md_last_error(nullptr));
        return status;
    }

    state &open_state() const {
        if (state_ == nullptr) {
            throw error(NIXL_MD_ERR_INVALID_PARAM,
                        "the handle was moved from: use the one that took it over");
        }
        return *state_;
    }

    template <typename Call>
    std::uint64_t start(done_callback done, timeout t, std::uint32_t flags, Call &&call) {
        slot *made = open_state().add(std::move(done), {});
        nixl_md_opts_t opts = {};
        opts.size = sizeof opts;
        opts.flags = flags;
        opts.timeout_ms = t.ms;
        opts.on_done = &handle::tell_done;
        opts.user = made;
        std::uint64_t op = 0;
        const nixl_md_status_t status = call(&opts, &op);
        if (status < 0) state_->take(made);
        check(status);
        return op;
    }

    std::uint64_t start_watch(const char *agent,
                              std::size_t length,
                              event_callback on_event,
                              std::uint32_t flags) {
        slot *made = open_state().add({}, std::move(on_event));
        nixl_md_watch_opts_t opts = {};
        opts.size = sizeof opts;
        opts.flags = flags;
        opts.user = made;
        std::uint64_t id = 0;
        const nixl_md_status_t status =
            nixl_md_watch(md_, agent, length, &handle::tell_event, &opts, &id);
        if (status < 0) state_->take(made);
        check(status);
        return id;
    }

    static void tell_done(const result *r, void *user) {
        auto *raw = static_cast<slot *>(user);
        state *owner = raw->owner;
        const auto taken = owner->take(raw);
        if (taken->done) owner->guarded([&] { taken->done(*r); });
    }

    static void tell_event(const event *e, void *user) {
        auto *raw = static_cast<slot *>(user);
        state *owner = raw->owner;
        if (raw->on_event) owner->guarded([&] { raw->on_event(*e); });
        if (e->type == NIXL_MD_EVENT_ENDED) owner->take(raw);
    }

    static void tell_own(const event *e, void *user) {
        auto *owner = static_cast<state *>(user);
        if (owner->own) owner->guarded([&] { owner->own(*e); });
    }

    void close() noexcept {
        if (md_ == nullptr) return;
        const nixl_md_status_t status = nixl_md_close(std::exchange(md_, nullptr));
        // Its open operations still point to the callbacks.
        if (status != NIXL_MD_SUCCESS) static_cast<void>(state_.release());
    }

    std::unique_ptr<state> state_;
    nixl_md_t *md_ = nullptr;
};

} // namespace nixlmd

#endif /* NIXL_MD_HPP */
