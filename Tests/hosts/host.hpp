// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
//
// A scriptable host of libnixl_md. It does what lines on stdin tell it and reports everything that
// it sees as JSON lines on stdout. Uses nothing of the library but nixl_md.h.
//
// A request: `ID COMMAND [h=HANDLE] [NAME=VALUE]...`; values that are bytes are in hex.
// Its answer: {"id":ID,"rc":STATUS,...}. Everything else is reported as it happens.

#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <nixl_md.h>

namespace host {

// One JSON line; printed when it goes out of scope. Text is taken as Latin-1.
class Line {
  public:
    explicit Line(const char *kind);
    Line(uint64_t request, int32_t rc);
    ~Line();
    Line(const Line &) = delete;
    Line &operator=(const Line &) = delete;

    Line &add(const char *name, int64_t value);
    Line &add(const char *name, uint64_t value);
    Line &text(const char *name, const std::string &value);
    Line &hex(const char *name, const void *data, size_t size);
    Line &raw(const char *name, const std::string &json);

  private:
    void key(const char *name);
    std::string json_;
};

std::string toHex(const void *data, size_t size);
uint32_t checksum(const void *data, size_t size);
uint64_t monotonicNanoseconds();
// The CPU time of the calling thread.
uint64_t cpuNanoseconds();
// The time without that in which the calling thread waited for a processor: a machine that is busy makes
// nothing longer.
uint64_t ownNanoseconds();
// 0 where others ran between the two looks of which the former is made.
uint64_t ownNanosecondsSince(uint64_t before);

// The arguments of a request.
class Arguments {
  public:
    explicit Arguments(const std::string &line);
    uint64_t request = 0;
    std::string command;

    uint64_t number(const char *name, uint64_t fallback = 0) const;
    std::string word(const char *name) const;
    // nullopt: not given.
    std::optional<std::string> bytes(const char *name) const;

  private:
    std::map<std::string, std::string> values_;
};

struct Handle;

// A callback's user data; freed when the library has promised not to use it again.
struct Context {
    Handle *handle;
    std::string inside; // what to do inside the callback, once
};

struct Handle {
    uint64_t index = 0;
    nixl_md_t *md = nullptr;
    bool isShutDown = false;
    // Callbacks run in the tick that is running.
    uint64_t inTick = 0;
    uint64_t linger_ms = 0; // in each callback of an event
    // The longest ticks that were reported, in nanoseconds of CPU.
    uint64_t longestTold = 0;
    uint64_t longestSetupTold = 0;
    // The context of the handle's own events, until it is closed.
    std::unique_ptr<Context> owner;
};

// How the host drives its handles.
struct Driving {
    enum class Mode { hand, period, efd } mode = Mode::efd;
    uint64_t period_ms = 100;
    bool isStalled = false;
};

struct Host {
    std::map<uint64_t, Handle> handles;
    Driving driving;
    std::vector<uint64_t> wakes; // when an efd woke us, in nanoseconds
    bool isQuitting = false;

    Handle &at(const Arguments &arguments);
};

// callbacks.cpp
nixl_md_opts_t optionsOf(const Arguments &arguments, Context *context);
nixl_md_watch_opts_t watchOptionsOf(const Arguments &arguments, Context *context);
void onDone(const nixl_md_result_t *result, void *user);
void onEvent(const nixl_md_event_t *event, void *user);
void onLog(int32_t level, const char *line, void *user);

// commands.cpp
void perform(Host &host, const Arguments &arguments);
void closeAll(Host &host);

// calls.cpp: the starting calls
bool performCall(Host &host, const Arguments &arguments);

// driving.cpp
void tick(Handle &handle);
void tellLongTick(Handle &handle);
void spin(Host &host, const Arguments &arguments);

// special.cpp
void forkChild(Host &host, const Arguments &arguments);
void forkBeside(Host &host, const Arguments &arguments);
void reapChild(const Arguments &arguments);
void storm(Host &host, const Arguments &arguments);
void insideCallback(Handle &handle, const std::string &what, uint64_t watch);

// concurrent.cpp
void slowID(Host &host, const Arguments &arguments);
void forkStorm(Host &host, const Arguments &arguments);

} // namespace host
