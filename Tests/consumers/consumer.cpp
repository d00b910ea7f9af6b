// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
//
// The same from C++, with an operation whose completion comes back through a callback.
#include <nixl_md.h>

#include <iostream>

namespace {

void remember(const nixl_md_result_t *result, void *user) {
    *static_cast<int32_t *>(user) = result->status;
}

} // namespace

int main() {
    nixl_md_config_t config{};
    config.size = sizeof config;
    config.endpoints = "127.0.0.1:1";
    config.agent = "consumer";
    config.agent_len = NIXL_MD_NUL_TERMINATED;
    nixl_md_t *md = nullptr;
    if (nixl_md_open(&config, &md) != NIXL_MD_SUCCESS) {
        std::cerr << nixl_md_last_error(nullptr) << '\n';
        return 1;
    }
    int32_t status = NIXL_MD_IN_PROG;
    nixl_md_opts_t opts{};
    opts.size = sizeof opts;
    opts.on_done = remember;
    opts.user = &status;
    if (nixl_md_publish(md, "metadata", NIXL_MD_NUL_TERMINATED, "blob", 4, &opts, nullptr) != 0)
        return 1;
    if (nixl_md_close(md) != NIXL_MD_SUCCESS || status != NIXL_MD_ERR_CANCELED) return 1;
    std::cout << "C++ " << nixl_md_version_string() << '\n';
    return 0;
}
