// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

#include "host.hpp"

#include <array>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <sstream>

#include <unistd.h>

namespace host {

namespace {

std::mutex outputLock;

void escape(std::string &json, const std::string &value) {
    for (const char c : value) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte >= 0x7f || c == '"' || c == '\\') {
            std::array<char, 8> buffer{};
            std::snprintf(buffer.data(), buffer.size(), "\\u%04x", byte);
            json += buffer.data();
        } else {
            json += c;
        }
    }
}

int digit(char c) {
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

}  // namespace

namespace {

uint64_t nanoseconds(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

uint64_t monotonicNanoseconds() {
    return nanoseconds(CLOCK_MONOTONIC);
}

uint64_t ownNanoseconds() {
    uint64_t ran = 0;
    uint64_t waited = 0;
    std::ifstream("/proc/thread-self/schedstat") >> ran >> waited;
    return monotonicNanoseconds() - waited;
}

uint64_t ownNanosecondsSince(uint64_t before) {
    const uint64_t now = ownNanoseconds();
    return now > before ? now - before : 0;
}

uint64_t cpuNanoseconds() {
    return nanoseconds(CLOCK_THREAD_CPUTIME_ID);
}

std::string toHex(const void *data, size_t size) {
    static const char *const digits = "0123456789abcdef";
    std::string hex;
    hex.reserve(size * 2);
    const auto *bytes = static_cast<const unsigned char *>(data);
    for (size_t i = 0; i < size; ++i) {
        hex += digits[bytes[i] >> 4];
        hex += digits[bytes[i] & 15];
    }
    return hex;
}

// CRC-32 as in zlib, which the tests have at hand.
uint32_t checksum(const void *data, size_t size) {
    static const auto table = [] {
        std::array<uint32_t, 256> made{};
        for (uint32_t i = 0; i < 256; ++i) {
            uint32_t value = i;
            for (int bit = 0; bit < 8; ++bit) {
                value = (value & 1u) != 0 ? (value >> 1) ^ 0xedb88320u : value >> 1;
            }
            made[i] = value;
        }
        return made;
    }();
    const auto *bytes = static_cast<const unsigned char *>(data);
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < size; ++i) crc = table[(crc ^ bytes[i]) & 0xff] ^ (crc >> 8);
    return crc ^ 0xffffffffu;
}

Line::Line(const char *kind) : json_("{") {
    text("kind", kind);
    add("t", monotonicNanoseconds());
}

Line::Line(uint64_t request, int32_t rc) : Line("answer") {
    add("id", request);
    add("rc", static_cast<int64_t>(rc));
    if (rc < 0) text("error", nixl_md_last_error(nullptr));
}

Line::~Line() {
    json_ += "}\n";
    const std::lock_guard<std::mutex> guard(outputLock);
    size_t done = 0;
    while (done < json_.size()) {
        const ssize_t count = write(STDOUT_FILENO, json_.data() + done, json_.size() - done);
        if (count <= 0) _exit(3);  // Nobody listens any more.
        done += static_cast<size_t>(count);
    }
}

void Line::key(const char *name) {
    if (json_.size() > 1) json_ += ',';
    json_ += '"';
    json_ += name;
    json_ += "\":";
}

Line &Line::add(const char *name, int64_t value) {
    key(name);
    json_ += std::to_string(value);
    return *this;
}

Line &Line::add(const char *name, uint64_t value) {
    key(name);
    json_ += std::to_string(value);
    return *this;
}

Line &Line::text(const char *name, const std::string &value) {
    key(name);
    json_ += '"';
    escape(json_, value);
    json_ += '"';
    return *this;
}

Line &Line::hex(const char *name, const void *data, size_t size) {
    key(name);
    json_ += data == nullptr ? "null" : '"' + toHex(data, size) + '"';
    return *this;
}

Line &Line::raw(const char *name, const std::string &json) {
    key(name);
    json_ += json;
    return *this;
}

Arguments::Arguments(const std::string &line) {
    std::istringstream words(line);
    words >> request >> command;
    std::string item;
    while (words >> item) {
        const size_t equals = item.find('=');
        if (equals != std::string::npos) values_[item.substr(0, equals)] = item.substr(equals + 1);
    }
}

uint64_t Arguments::number(const char *name, uint64_t fallback) const {
    const auto found = values_.find(name);
    return found == values_.end() ? fallback : std::stoull(found->second);
}

std::string Arguments::word(const char *name) const {
    const auto found = values_.find(name);
    return found == values_.end() ? std::string() : found->second;
}

std::optional<std::string> Arguments::bytes(const char *name) const {
    const auto found = values_.find(name);
    if (found == values_.end()) return std::nullopt;
    std::string bytes;
    for (size_t i = 0; i + 1 < found->second.size(); i += 2) {
        bytes += static_cast<char>(digit(found->second[i]) << 4 | digit(found->second[i + 1]));
    }
    return bytes;
}

}  // namespace host
