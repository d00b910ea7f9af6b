/*
 * SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
 * SPDX-License-Identifier: Apache-2.0
 */

#if HAVE_ETCD

#include "nixl_etcd_metadata_backend.h"

#include "common/configuration.h"
#include "common/nixl_log.h"
#include "nixl_metadata_context.h"
#include "nixl_types.h"

#include <algorithm>
#include <poll.h>
#include <stdexcept>
#include <thread>
#include <utility>

namespace {

using std::chrono::milliseconds;

constexpr std::uint64_t defaultHeartbeatSeconds = NIXL_MD_DEFAULT_INTERVAL_MS / 1000;
// The TTL is three times the interval, and limited by the library.
constexpr std::uint64_t maxHeartbeatSeconds = NIXL_MD_MAX_TIMEOUT_MS / 3 / 1000;

// How long an agent that ends waits for its last writes and its withdrawal.
constexpr milliseconds drainTime{2000};

// How long one that is missing from a store that came back empty may take to put its keys there: a TTL,
// as long as any other death goes unnoticed.
constexpr int intervalsInTTL = 3;

milliseconds heartbeatInterval() {
    constexpr char variable[] = "NIXL_ETCD_HEARTBEAT_INTERVAL";
    const auto seconds =
        nixl::config::getValueDefaulted<std::uint64_t>(variable, defaultHeartbeatSeconds);
    if (seconds > maxHeartbeatSeconds) {
        throw std::runtime_error(std::string(variable) + " is " + std::to_string(seconds) +
                                 ": at most " + std::to_string(maxHeartbeatSeconds) + " seconds");
    }
    return std::chrono::seconds(seconds);
}

// From the environment, else from NIXL's configuration file.
nixlEtcdSettings etcdSettings() {
    return nixlEtcdSettings::read(
        [](const std::string &name) { return nixl::config::getValueOptional<std::string>(name); });
}

// NIXL's logger decides what it shows; asked only to spare the making of what nobody sees.
std::int32_t logLevel() {
    if (ABSL_VLOG_IS_ON(2)) return NIXL_MD_LOG_TRACE;
    if (ABSL_VLOG_IS_ON(1)) return NIXL_MD_LOG_DEBUG;
    return NIXL_MD_LOG_INFO;
}

void onLog(std::int32_t level, const char *line, void *user) {
    const std::string &agent = static_cast<const nixlMetadataContext *>(user)->agentName();
    switch (level) {
    case NIXL_MD_LOG_FATAL:
    case NIXL_MD_LOG_ERROR: NIXL_ERROR << "[" << agent << "] etcd: " << line; break;
    case NIXL_MD_LOG_WARN: NIXL_WARN << "[" << agent << "] etcd: " << line; break;
    case NIXL_MD_LOG_INFO: NIXL_INFO << "[" << agent << "] etcd: " << line; break;
    default: NIXL_DEBUG << "[" << agent << "] etcd: " << line; break;
    }
}

nixl_status_t folded(std::int32_t status) {
    return static_cast<nixl_status_t>(nixl_md_status_fold(status));
}

} // namespace

nixlEtcdMetadataBackend::nixlEtcdMetadataBackend(nixlMetadataContext &ctx,
                                                 const nixlMDConfig &config)
    : nixlEtcdMetadataBackend(ctx, config, etcdSettings()) {}

nixlEtcdMetadataBackend::nixlEtcdMetadataBackend(nixlMetadataContext &ctx,
                                                 const nixlMDConfig &config,
                                                 const nixlEtcdSettings &settings)
    : ctx_(ctx), namespace_(settings.nameSpace),
      watchTimeout_(std::chrono::ceil<milliseconds>(config.etcdWatchTimeout)),
      workerDelay_(std::max(std::chrono::ceil<milliseconds>(config.workerDelay), milliseconds(1))),
      heartbeatInterval_(heartbeatInterval()),
      returnTime_(intervalsInTTL * (heartbeatInterval_.count() > 0
                                        ? heartbeatInterval_
                                        : milliseconds(NIXL_MD_DEFAULT_INTERVAL_MS))),
      handle_(open(settings)) {}

nixlEtcdMetadataBackend::~nixlEtcdMetadataBackend() {
    stop();
}

nixlmd::handle nixlEtcdMetadataBackend::open(const nixlEtcdSettings &settings) const {
    nixl_md_config_t config = nixlmd::make_config();
    settings.apply(config);
    config.agent = ctx_.agentName().data();
    config.agent_len = ctx_.agentName().size();
    config.on_log = &onLog;
    config.on_log_user = &ctx_;
    config.log_level = logLevel();
    return nixlmd::handle(config);
}

void nixlEtcdMetadataBackend::start() {
    // From now on nixl_md writes nothing but on the lease, and waits for it as long as it takes.
    if (heartbeatInterval_.count() > 0) {
        const auto interval = static_cast<std::uint64_t>(heartbeatInterval_.count());
        (void)start("start the heartbeat", [&] {
            handle_.start_heartbeat(interval, 0,
                                    [this](const nixlmd::result &result) { leaseAnswered(result); },
                                    {NIXL_MD_NEVER});
        });
    }
    // The waiting is done in the poll, on the descriptor, so the worker itself need not wait.
    worker_.start([this] { serviceEvents(); }, std::chrono::microseconds(0));
}

void nixlEtcdMetadataBackend::stop() {
    std::call_once(finished_, [this] { finish(); });
}

void nixlEtcdMetadataBackend::leaseAnswered(const nixlmd::result &result) const {
    if (result.status == NIXL_MD_SUCCESS || stopping_) return;
    NIXL_ERROR << "[" << ctx_.agentName() << "] No lease from etcd yet: " << result.text;
}

template <typename Call>
nixl_status_t nixlEtcdMetadataBackend::start(const char *what, Call &&call) const {
    try {
        call();
        return NIXL_SUCCESS;
    } catch (const nixlmd::error &e) {
        NIXL_ERROR << "[" << ctx_.agentName() << "] Cannot " << what << " in etcd: " << e.what();
        return folded(e.status());
    }
}

nixlmd::done_callback nixlEtcdMetadataBackend::written(std::string what) {
    return [this, what = std::move(what)](const nixlmd::result &result) {
        --writes_;
        switch (result.status) {
        case NIXL_MD_SUCCESS:
        case NIXL_MD_ERR_REPLACED: // by a newer one, which has a result of its own
            NIXL_DEBUG << "[" << ctx_.agentName() << "] " << what
                       << " in etcd: " << nixl_md_status_string(result.status) << ", rev "
                       << result.revision;
            break;
        default:
            NIXL_ERROR << "[" << ctx_.agentName() << "] Failed to " << what
                       << " in etcd: " << result.text;
        }
    };
}

nixl_status_t nixlEtcdMetadataBackend::publish(const std::string &label, const nixl_blob_t &blob) {
    const std::string what = "store " + label;
    ++writes_;
    // Without a time-out: an etcd that is down, or full, for a while gets it afterwards.
    const nixl_status_t status =
        start(what.c_str(), [&] { handle_.publish(label, blob, written(what), {NIXL_MD_NEVER}); });
    if (status != NIXL_SUCCESS) --writes_;
    return status;
}

nixl_status_t nixlEtcdMetadataBackend::sendLocal(const nixl_opt_args_t * /*extra_params*/) {
    nixl_blob_t blob;
    const nixl_status_t status = ctx_.getLocalMD(blob);
    return status < 0 ? status : publish(default_metadata_label, blob);
}

nixl_status_t nixlEtcdMetadataBackend::sendLocalPartial(const nixl_reg_dlist_t &descs,
                                                        const nixl_opt_args_t *extra_params) {
    if (extra_params == nullptr || extra_params->metadataLabel.empty()) {
        NIXL_ERROR_FUNC << "metadata label is required for etcd send of local partial metadata";
        return NIXL_ERR_INVALID_PARAM;
    }
    nixl_blob_t blob;
    const nixl_status_t status = ctx_.getLocalPartialMD(descs, blob, extra_params);
    return status < 0 ? status : publish(extra_params->metadataLabel, blob);
}

nixl_status_t nixlEtcdMetadataBackend::invalidateLocal(const nixl_opt_args_t * /*extra_params*/) {
    ++writes_;
    const nixl_status_t status = start("withdraw metadata", [&] {
        handle_.invalidate(written("withdraw metadata"), {NIXL_MD_NEVER});
    });
    if (status != NIXL_SUCCESS) --writes_;
    return status;
}

nixl_status_t nixlEtcdMetadataBackend::fetchRemote(const std::string &remote_name,
                                                   const nixl_opt_args_t *extra_params) {
    const bool has_label = extra_params != nullptr && !extra_params->metadataLabel.empty();
    const std::string label = has_label ? extra_params->metadataLabel : default_metadata_label;
    const bool waits = watchTimeout_.count() > 0;
    const auto timeout = static_cast<std::uint64_t>(waits ? watchTimeout_.count() : 0);
    const std::uint32_t flags = waits ? 0u : std::uint32_t{NIXL_MD_FETCH_NO_WAIT};
    return start("fetch metadata", [&] {
        handle_.fetch(
            remote_name, label,
            [this, remote_name, label](const nixlmd::result &result) {
                fetched(remote_name, label, result);
            },
            {timeout}, flags);
    });
}

void nixlEtcdMetadataBackend::serviceEvents() {
    try {
        pollfd readable = {handle_.efd(), POLLIN, 0};
        if (::poll(&readable, 1, static_cast<int>(workerDelay_.count())) != 0) handle_.tick();
        dropMissing();
    } catch (const nixlmd::error &e) {
        NIXL_ERROR << "[" << ctx_.agentName() << "] etcd: " << e.what();
        // The descriptor may still be readable: not in a circle.
        std::this_thread::sleep_for(workerDelay_);
    }
}

void nixlEtcdMetadataBackend::fetched(const std::string &remote_name,
                                      const std::string &label,
                                      const nixlmd::result &result) {
    if (result.status == NIXL_MD_SUCCESS) {
        load(remote_name, result);
        return;
    }
    if (stopping_) return;
    const bool late = result.status == NIXL_MD_ERR_TIMED_OUT;
    NIXL_ERROR << (late ? "Watch timed out for key: " : "Error fetching key: ") << namespace_ << "/"
               << remote_name << "/" << label << ": " << result.text;
    NIXL_ERROR << "Failed to fetch metadata from etcd for agent: " << remote_name;
}

void nixlEtcdMetadataBackend::load(const std::string &remote_name, const nixlmd::result &result) {
    const nixl_blob_t blob(nixlmd::blob_of(result));
    std::string loaded_name;
    nixl_status_t status = ctx_.loadRemoteMD(blob, loaded_name);
    if (const auto found = peers_.find(remote_name);
        status == NIXL_ERR_NOT_ALLOWED && found != peers_.end()) {
        // It contradicts what is loaded: another process has that name now, and its metadata came
        // before the watch told of it.
        drop(found);
        status = ctx_.loadRemoteMD(blob, loaded_name);
    }
    if (status != NIXL_SUCCESS) {
        NIXL_ERROR << "Failed to load remote metadata for agent: " << remote_name << ": " << status;
    } else if (loaded_name != remote_name) {
        NIXL_ERROR << "Metadata mismatch for agent: " << remote_name << " from md: " << loaded_name;
    } else {
        NIXL_DEBUG << "Successfully loaded metadata for agent: " << remote_name;
        watch(remote_name, result.revision);
    }
}

void nixlEtcdMetadataBackend::watch(const std::string &remote_name, std::int64_t revision) {
    const auto [found, is_new] = peers_.try_emplace(remote_name);
    peer &known = found->second;
    known.revision = is_new ? revision : std::min(known.revision, revision);
    if (!is_new) return;
    const nixl_status_t status = start("watch an agent", [&] {
        known.watch = handle_.watch(
            remote_name,
            [this, remote_name](const nixlmd::event &event) { noticed(remote_name, event); },
            NIXL_MD_WATCH_PRESENCE_ONLY);
    });
    if (status != NIXL_SUCCESS) peers_.erase(found);
}

// What the watch finds at its start is compared with what was fetched: metadata is older than the
// presence of the process that wrote it only if that process is not the one present, and what the
// watch has seen is older than the metadata only if the store is another. What comes later is news.
void nixlEtcdMetadataBackend::noticed(const std::string &remote_name, const nixlmd::event &event) {
    const auto found = peers_.find(remote_name);
    if (found == peers_.end() || found->second.watch != event.watch) return;
    peer &known = found->second;
    switch (event.type) {
    case NIXL_MD_EVENT_PRESENT:
        known.present = true;
        if (event.revision > known.revision && event.incarnation != 0) drop(found);
        break;
    case NIXL_MD_EVENT_RESTARTED: drop(found); break;
    // A store that was replaced is empty at first, and those that live are still putting their keys back.
    case NIXL_MD_EVENT_GONE:
        if (!known.resyncing || !known.present) {
            drop(found);
            break;
        }
        known.present = false;
        known.missing = true;
        awaitReturn(known);
        break;
    case NIXL_MD_EVENT_RETURNED:
        known.present = true;
        known.missing = false;
        awaitReturn(known);
        break;
    // Nobody can put anything back while etcd is away.
    case NIXL_MD_EVENT_CONTACT_LOST:
        known.contact = false;
        awaitReturn(known);
        break;
    case NIXL_MD_EVENT_CONTACT_REGAINED:
        known.contact = true;
        awaitReturn(known);
        break;
    // The store may have been replaced: then it counts anew, and only what has changed is told. Of one that
    // is missing already there is no second GONE.
    case NIXL_MD_EVENT_RESYNC:
        known.revision = 0;
        known.resyncing = true;
        awaitReturn(known);
        break;
    case NIXL_MD_EVENT_SYNCED:
        known.resyncing = false;
        if (known.missing) break;
        if (!known.present || event.revision < known.revision) drop(found);
        break;
    case NIXL_MD_EVENT_ENDED:
        known.watch = 0;
        if (!stopping_) {
            NIXL_ERROR << "Watcher failed to watch agent " << remote_name
                       << " from etcd: " << event.text;
        }
        if (known.missing && !stopping_) {
            drop(found); // nobody would tell that it has returned
        } else {
            peers_.erase(found);
        }
        break;
    default: break;
    }
}

void nixlEtcdMetadataBackend::awaitReturn(peer &known) {
    const bool waits = known.missing && known.contact;
    known.dropAt = waits ? std::chrono::steady_clock::now() + returnTime_ : never;
    nextDrop_ = std::min(nextDrop_, known.dropAt);
}

void nixlEtcdMetadataBackend::dropMissing() {
    const auto now = std::chrono::steady_clock::now();
    if (now < nextDrop_) return;
    nextDrop_ = never;
    for (auto next = peers_.begin(); next != peers_.end();) {
        const auto found = next++;
        if (found->second.dropAt <= now) {
            drop(found);
        } else {
            nextDrop_ = std::min(nextDrop_, found->second.dropAt);
        }
    }
}

void nixlEtcdMetadataBackend::drop(peers::iterator found) {
    const std::string name = found->first;
    const std::uint64_t watch = found->second.watch;
    peers_.erase(found);
    if (watch != 0) (void)start("end a watch", [&] { handle_.cancel(watch); });
    const nixl_status_t status = ctx_.invalidateRemoteMD(name);
    if (status == NIXL_SUCCESS || status == NIXL_ERR_NOT_FOUND) { // the host may have been faster
        NIXL_DEBUG << "Invalidated remote metadata for agent: " << name;
    } else {
        NIXL_ERROR << "Failed to invalidate remote metadata for agent: " << name << ": " << status;
    }
}

// With a heartbeat the agent's keys are withdrawn; without one they stay, so there only the writes are awaited.
void nixlEtcdMetadataBackend::finish() {
    const bool withdraws = heartbeatInterval_.count() > 0;
    const auto deadline = std::chrono::steady_clock::now() + drainTime;
    while (!withdraws && writes_ > 0 && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::sleep_for(milliseconds(5));
    }
    stopping_ = true;
    try {
        handle_.shutdown(withdraws ? static_cast<std::uint64_t>(drainTime.count()) : 0);
        worker_.stop();
        pollfd readable = {handle_.efd(), POLLIN, 0};
        while (handle_.tick() != NIXL_MD_ERR_SHUT_DOWN) ::poll(&readable, 1, -1);
    } catch (const std::exception &e) {
        NIXL_ERROR << "[" << ctx_.agentName() << "] etcd: " << e.what();
        worker_.stop();
    }
}

#endif // HAVE_ETCD
