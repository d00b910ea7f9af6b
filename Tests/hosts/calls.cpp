// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

#include "host.hpp"

#include <memory>
#include <string>

namespace host {

namespace {

// Bytes that depend on the size and a seed alone, so that a test can know them without seeing them.
std::string madeBlob(size_t size, uint64_t seed) {
    std::string blob(size, '\0');
    for (size_t i = 0; i < size; ++i) blob[i] = static_cast<char>((seed + i * 7) & 0xff);
    return blob;
}

struct Name {
    explicit Name(const std::optional<std::string> &given) : given_(given) {}
    const char *data() const { return given_ ? given_->data() : nullptr; }
    size_t size() const { return given_ ? given_->size() : 0; }

  private:
    const std::optional<std::string> &given_;
};

int32_t start(nixl_md_t *md,
              const Arguments &arguments,
              const std::optional<std::string> &agent,
              const std::optional<std::string> &label,
              Context *context,
              uint64_t *op) {
    const nixl_md_opts_t given = optionsOf(arguments, context);
    const nixl_md_opts_t *options = &given;
    const std::string &command = arguments.command;
    const Name agentName(agent);
    const Name labelName(label);
    if (command == "publish") {
        const std::string blob = arguments.bytes("blob").value_or(
            madeBlob(arguments.number("size"), arguments.number("seed")));
        return nixl_md_publish(md, labelName.data(), labelName.size(), blob.data(), blob.size(),
                               options, op);
    }
    if (command == "unpublish") {
        return nixl_md_unpublish(md, labelName.data(), labelName.size(), options, op);
    }
    if (command == "start_heartbeat") {
        return nixl_md_start_heartbeat(md, arguments.number("interval"), arguments.number("ttl"),
                                       options, op);
    }
    if (command == "stop_heartbeat") {
        return nixl_md_stop_heartbeat(md, static_cast<int32_t>(arguments.number("mode")), options,
                                      op);
    }
    if (command == "fetch") {
        return nixl_md_fetch(md, agentName.data(), agentName.size(), labelName.data(),
                             labelName.size(), options, op);
    }
    if (command == "watch") {
        const nixl_md_watch_opts_t watching = watchOptionsOf(arguments, context);
        return nixl_md_watch(md, agentName.data(), agentName.size(), onEvent, &watching, op);
    }
    if (command == "invalidate") return nixl_md_invalidate(md, options, op);
    return nixl_md_list(md, options, op);
}

bool isCall(const std::string &command) {
    for (const char *name : {"publish", "unpublish", "start_heartbeat", "stop_heartbeat", "fetch",
                             "watch", "invalidate", "list"}) {
        if (command == name) return true;
    }
    return false;
}

// Makes the same call `repeat` times, with a number behind the agent's name or else the label.
int32_t startAll(Handle &handle, const Arguments &arguments, std::string &ids) {
    const uint64_t count = arguments.number("repeat", 1);
    const auto agent = arguments.bytes("agent");
    const auto label = arguments.bytes("label");
    for (uint64_t i = 0; i < count; ++i) {
        auto context = std::make_unique<Context>(Context{&handle, arguments.word("inside")});
        const std::string number = arguments.number("repeat") > 0 ? std::to_string(i) : "";
        std::optional<std::string> agentOfIt = agent;
        std::optional<std::string> labelOfIt = label;
        if (agent) {
            *agentOfIt += number;
        } else if (label) {
            *labelOfIt += number;
        }
        uint64_t op = 0;
        const int32_t rc = start(handle.md, arguments, agentOfIt, labelOfIt, context.get(), &op);
        if (rc != NIXL_MD_SUCCESS) return rc;
        context.release();
        ids += (ids.empty() ? "" : ",") + std::to_string(op);
    }
    return NIXL_MD_SUCCESS;
}

} // namespace

bool performCall(Host &host, const Arguments &arguments) {
    if (!isCall(arguments.command)) return false;
    std::string ids;
    const uint64_t before = monotonicNanoseconds();
    const int32_t rc = startAll(host.at(arguments), arguments, ids);
    Line line(arguments.request, rc);
    line.raw("ops", "[" + ids + "]").add("took_ns", monotonicNanoseconds() - before);
    return true;
}

} // namespace host
