// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

#include "host.hpp"

#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

namespace host {

namespace {

// Larger ones are reported by size and checksum only.
constexpr size_t largestBlobTold = 4096;

// Without its prefix.
const char *eventName(int32_t type) {
    return nixl_md_event_string(type) + std::strlen("NIXL_MD_EVENT_");
}

void addBlob(Line &line, const void *blob, size_t size) {
    line.add("blob_len", static_cast<uint64_t>(size));
    if (blob == nullptr) return;
    line.add("blob_crc", static_cast<uint64_t>(checksum(blob, size)));
    if (size <= largestBlobTold) line.hex("blob", blob, size);
}

std::string agentsOf(const nixl_md_result_t &result) {
    std::string json = "[";
    for (size_t i = 0; i < result.agent_count; ++i) {
        const nixl_md_agent_t &agent = *result.agents[i];
        if (i > 0) json += ',';
        json += "[\"" + toHex(agent.name, agent.name_len) + "\"," +
                std::to_string(agent.incarnation) + ',' + std::to_string(agent.revision) + ',' +
                std::to_string(agent.lease_id) + ']';
    }
    return json + "]";
}

void countCallback(Handle &handle) {
    handle.inTick += 1;
}

void runInside(Context &context, uint64_t watch) {
    const std::string what = std::exchange(context.inside, std::string());
    if (!what.empty()) insideCallback(*context.handle, what, watch);
}

}  // namespace

nixl_md_opts_t optionsOf(const Arguments &arguments, Context *context) {
    nixl_md_opts_t options;
    std::memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.flags = static_cast<uint32_t>(arguments.number("flags"));
    options.timeout_ms = arguments.number("timeout");
    options.on_done = onDone;
    options.user = context;
    return options;
}

nixl_md_watch_opts_t watchOptionsOf(const Arguments &arguments, Context *context) {
    nixl_md_watch_opts_t options;
    std::memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.flags = static_cast<uint32_t>(arguments.number("flags"));
    options.user = context;
    return options;
}

void onDone(const nixl_md_result_t *result, void *user) {
    auto *context = static_cast<Context *>(user);
    countCallback(*context->handle);
    {
        Line line("done");
        line.add("h", context->handle->index)
            .add("op", result->op)
            .add("size", static_cast<uint64_t>(result->size))
            .add("status", static_cast<int64_t>(result->status))
            .add("op_kind", static_cast<int64_t>(result->kind))
            .text("text", result->text)
            .add("revision", result->revision)
            .add("ttl_ms", result->ttl_ms);
        addBlob(line, result->blob, result->blob_len);
        if (result->agents != nullptr) line.raw("agents", agentsOf(*result));
    }
    runInside(*context, 0);
    delete context;
}

void onEvent(const nixl_md_event_t *event, void *user) {
    auto *context = static_cast<Context *>(user);
    countCallback(*context->handle);
    {
        Line line("event");
        line.add("h", context->handle->index)
            .text("event", eventName(event->type))
            .add("type", static_cast<int64_t>(event->type))
            .add("size", static_cast<uint64_t>(event->size))
            .add("watch", event->watch)
            .hex("agent", event->agent, event->agent_len)
            .hex("label", event->label, event->label_len)
            .add("revision", event->revision)
            .add("incarnation", event->incarnation)
            .add("status", static_cast<int64_t>(event->status))
            .text("text", event->text);
        addBlob(line, event->blob, event->blob_len);
    }
    if (context->handle->linger_ms > 0)
        std::this_thread::sleep_for(std::chrono::milliseconds(context->handle->linger_ms));
    runInside(*context, event->watch);
    if (event->type == NIXL_MD_EVENT_ENDED) delete context;
}

void onLog(int32_t level, const char *text, void *user) {
    Line line("log");
    line.add("h", static_cast<const Handle *>(user)->index)
        .add("level", static_cast<int64_t>(level))
        .text("line", text);
}

}  // namespace host
