/*
 * SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
 * SPDX-License-Identifier: Apache-2.0
 */
/**
 * @file nixl_etcd_metadata_backend.h
 * @brief NIXL's etcd metadata backend on nixl_md: under a lease, without a thread of its own.
 *
 * Takes the place of NIXL's file of the same name, see README.md beside it.
 */
#ifndef NIXL_MD_EXAMPLES_NIXL_ETCD_METADATA_BACKEND_H
#define NIXL_MD_EXAMPLES_NIXL_ETCD_METADATA_BACKEND_H

#if HAVE_ETCD

#include "nixl_etcd_settings.h"
#include "nixl_md_config.h"
#include "nixl_metadata_backend.h"
#include "nixl_metadata_worker.h"

#include <nixl_md.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

class nixlMetadataContext;

/**
 * @class nixlEtcdMetadataBackend
 * @brief Metadata exchange through etcd; NIXL's worker drives it.
 *
 * The four operations check and queue on the caller's thread, which nixl_md allows from any thread, so
 * what cannot work is refused there. The worker's poll waits on nixl_md's descriptor, for the worker's
 * delay at most, and ticks: answers, renewals and news of peers are handled when they come. Everything
 * after the queueing, `peers_` included, happens inside that tick.
 *
 * NIXL_ETCD_HEARTBEAT_INTERVAL, in seconds: how often the lease is renewed that this agent's keys hang
 * on. They go when it has not been renewed for three times as long, and at once when the agent is
 * destroyed. Default 5. 0: keys stay when the agent ends, as without nixl_md. Where etcd is and who asks:
 * nixl_etcd_settings.h.
 */
class nixlEtcdMetadataBackend final : public nixlMetadataBackend {
  public:
    /** Does not contact etcd. Throws when the configuration is unusable. */
    nixlEtcdMetadataBackend(nixlMetadataContext &ctx, const nixlMDConfig &config);
    ~nixlEtcdMetadataBackend() override;

    [[nodiscard]] std::string_view name() const override { return "ETCD"; }

    [[nodiscard]] nixl_status_t sendLocal(const nixl_opt_args_t *extra_params) override;

    [[nodiscard]] nixl_status_t sendLocalPartial(const nixl_reg_dlist_t &descs,
                                                 const nixl_opt_args_t *extra_params) override;

    /**
     * A fetch waits for a key that is not there for the watch time-out, and holds up nothing meanwhile.
     * Once loaded, the peer is watched: when it is gone, or another process has its name, its metadata
     * is dropped and the watch ends; the next fetch begins another.
     */
    [[nodiscard]] nixl_status_t fetchRemote(const std::string &remote_name,
                                            const nixl_opt_args_t *extra_params) override;

    [[nodiscard]] nixl_status_t invalidateLocal(const nixl_opt_args_t *extra_params) override;

    /** NIXL's metadata worker. */
    [[nodiscard]] bool usesThread() const override { return true; }

    void start() override;

    /** Takes 2 s at most, whatever etcd does. */
    void stop() override;

  private:
    static constexpr auto never = std::chrono::steady_clock::time_point::max();

    /** One whose metadata is loaded. */
    struct peer {
        std::uint64_t watch = 0; /**< 0: it has ended */
        std::int64_t revision = 0; /**< the lowest of what is loaded; 0: not comparable any more */
        bool present = false; /**< the watch has told so */
        bool resyncing = false; /**< between RESYNC and SYNCED */
        bool contact = true; /**< with etcd, as the watch has told */
        bool missing = false; /**< from a store that came back empty, where it may return */
        std::chrono::steady_clock::time_point dropAt = never; /**< see `awaitReturn` */
    };
    using peers = std::unordered_map<std::string, peer>;

    [[nodiscard]] nixlmd::handle open(const nixlEtcdSettings &settings) const;
    void leaseAnswered(const nixlmd::result &result) const;

    [[nodiscard]] nixl_status_t publish(const std::string &label, const nixl_blob_t &blob);

    /** Runs a starting call, and turns its refusal into a status and a line of log. */
    template <typename Call> [[nodiscard]] nixl_status_t start(const char *what, Call &&call) const;

    /** The completion of a write, told in the log if it failed. */
    [[nodiscard]] nixlmd::done_callback written(std::string what);

    // The worker's poll and what it leads to.
    void serviceEvents();
    void
    fetched(const std::string &remote_name, const std::string &label, const nixlmd::result &result);
    void load(const std::string &remote_name, const nixlmd::result &result);
    void watch(const std::string &remote_name, std::int64_t revision);
    void noticed(const std::string &remote_name, const nixlmd::event &event);
    void drop(peers::iterator found);
    /** Starts the wait for one that is missing anew, or stops it: where it is not, or etcd is away. */
    void awaitReturn(peer &known);
    /** Drops who has not returned in time. */
    void dropMissing();

    void finish();

    nixlEtcdMetadataBackend(nixlMetadataContext &ctx,
                            const nixlMDConfig &config,
                            const nixlEtcdSettings &settings);

    nixlMetadataContext &ctx_;
    const std::string namespace_;
    const std::chrono::milliseconds watchTimeout_;
    const std::chrono::milliseconds workerDelay_;
    const std::chrono::milliseconds heartbeatInterval_;
    const std::chrono::milliseconds returnTime_;

    std::once_flag finished_;
    std::atomic<bool> stopping_{false};
    std::atomic<int> writes_{0}; /**< those not completed */

    peers peers_;
    std::chrono::steady_clock::time_point nextDrop_ = never; /**< not after the first `dropAt` */

    // After the state that its callbacks use, which run once more as it closes.
    nixlmd::handle handle_;
    // Last: its thread uses all of the above.
    nixlMetadataWorker worker_;
};

#endif // HAVE_ETCD

#endif // NIXL_MD_EXAMPLES_NIXL_ETCD_METADATA_BACKEND_H
