// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
//
// nixl_md.hpp with callbacks that throw or destroy, and with handles that were moved. Needs no
// etcd: unpublishing an unknown label fails in the next tick. Run by test_wrapper.py, under
// AddressSanitizer.

#include <nixl_md.hpp>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace {

int failures = 0;

void expect(bool is_so, const char *what) {
    if (is_so) return;
    std::printf("not so: %s\n", what);
    failures += 1;
}

template <typename Call> std::int32_t refused(Call &&call) {
    try {
        call();
    } catch (const nixlmd::error &error) {
        return error.what()[0] == '\0' ? 0 : error.status();
    }
    return 0;
}

nixlmd::handle opened() {
    nixl_md_config_t config = nixlmd::make_config();
    config.endpoints = "127.0.0.1:1";
    config.agent = "alpha";
    config.agent_len = NIXL_MD_NUL_TERMINATED;
    return nixlmd::handle(config);
}

void exception_in_a_callback() {
    nixlmd::handle handle = opened();
    int completed = 0;
    for (int i = 0; i < 3; ++i) {
        handle.unpublish("nothing", [&completed](const nixlmd::result &result) {
            completed += result.status == NIXL_MD_ERR_NOT_FOUND ? 1 : 100;
            throw std::runtime_error("callback " + std::to_string(completed));
        });
    }
    std::string told;
    // One tick, unless the machine was busy for longer than callbacks may take in one.
    while (completed < 3) {
        const int before = completed;
        try {
            handle.tick();
        } catch (const std::runtime_error &error) {
            told = error.what();
        }
        expect(told == "callback " + std::to_string(before + 1),
               "tick throws what the first callback threw");
    }
    expect(completed == 3, "the other callbacks ran");
    expect(handle.tick() >= 0, "the handle goes on, and it is thrown once");
    handle.fetch("nobody", "l", [](const nixlmd::result &) { throw 1; });
}

void tick_in_a_callback() {
    nixlmd::handle handle = opened();
    handle.unpublish("nothing", [](const nixlmd::result &) { throw std::logic_error("first"); });
    std::int32_t status = 0;
    handle.unpublish(
        "nothing", [&](const nixlmd::result &) { status = refused([&handle] { handle.tick(); }); });
    std::string told;
    while (status == 0) {
        try {
            handle.tick();
        } catch (const std::logic_error &error) {
            told = error.what();
        }
    }
    expect(status == NIXL_MD_ERR_IN_CALLBACK, "a tick in a callback is refused, and that is all");
    expect(told == "first", "what was thrown before is for the tick that ran it");
}

void handles_that_moved() {
    nixlmd::handle first = opened();
    int completed = 0;
    first.unpublish("nothing", [&completed](const nixlmd::result &) { completed += 1; });
    nixlmd::handle second = std::move(first);
    expect(second.tick() == 1 && completed == 1, "callbacks move with their handle");
    expect(first.get() == nullptr, "a handle that was moved from has none");
    const auto invalid = NIXL_MD_ERR_INVALID_PARAM;
    expect(refused([&] { first.tick(); }) == invalid, "tick of a moved handle");
    expect(refused([&] { first.publish("l", "b"); }) == invalid, "publish of a moved handle");
    expect(refused([&] { first.watch_all({}); }) == invalid, "watch of a moved handle");
    expect(refused([&] { first.efd(); }) == invalid, "efd of a moved handle");
    expect(refused([&] { first.stats(); }) == invalid, "stats of a moved handle");
    expect(refused([&] { first.shutdown(0); }) == invalid, "shutdown of a moved handle");
    first = opened();
    expect(first.tick() >= 0, "it may be assigned to");
    std::swap(first, second);
    expect(first.tick() >= 0 && second.tick() >= 0, "and swapped");
}

void watch_of_no_name() {
    nixlmd::handle handle = opened();
    expect(refused([&] { handle.watch(std::string_view(), {}); }) == NIXL_MD_ERR_INVALID_PARAM,
           "a watch without a name is not one of the namespace");
}

void label_of_no_text() {
    nixlmd::handle handle = opened();
    int completed = 0;
    const auto done = [&completed](const nixlmd::result &result) {
        completed += result.status == NIXL_MD_ERR_NOT_FOUND ? 1 : 100;
    };
    handle.unpublish(std::string_view(), done);
    expect(handle.tick() == 1 && completed == 1, "a label without a text is the default one");
    expect(refused([&] { handle.unpublish("", done); }) == NIXL_MD_ERR_INVALID_PARAM,
           "an empty label is refused");
    expect(refused([&] { handle.publish("", "b"); }) == NIXL_MD_ERR_INVALID_PARAM,
           "an empty label is refused by publish, too");
}

// Against the rule, but it must not use what is freed.
void destroyed_in_a_callback() {
    auto handle = std::make_unique<nixlmd::handle>(opened());
    nixl_md_t *left = handle->get();
    int ended = 0;
    handle->fetch("nobody", "l", [&ended](const nixlmd::result &) { ended += 1; });
    handle->unpublish("nothing", [&handle](const nixlmd::result &) { handle.reset(); });
    expect(nixl_md_tick(left) == 1, "the tick goes on");
    expect(nixl_md_close(left) == NIXL_MD_SUCCESS && ended == 1, "what is left can be closed");
}

} // namespace

int main() {
    exception_in_a_callback();
    tick_in_a_callback();
    handles_that_moved();
    watch_of_no_name();
    label_of_no_text();
    destroyed_in_a_callback();
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
