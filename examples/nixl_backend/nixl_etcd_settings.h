/*
 * SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
 * SPDX-License-Identifier: Apache-2.0
 */
/**
 * @file nixl_etcd_settings.h
 * @brief Where etcd is and who asks, as NIXL's settings say. Needs nothing of NIXL.
 */
#ifndef NIXL_MD_EXAMPLES_NIXL_ETCD_SETTINGS_H
#define NIXL_MD_EXAMPLES_NIXL_ETCD_SETTINGS_H

#include <nixl_md.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>

/**
 * @struct nixlEtcdSettings
 * @brief The texts that the etcd backend gives to nixl_md. An empty one counts as not set, but for the
 * namespace, which is used byte for byte.
 *
 * What is incomplete, and a file that cannot be read, makes `read` throw std::runtime_error with the
 * name of the setting. A password is in none of its messages.
 */
struct nixlEtcdSettings {
    std::string endpoints;
    std::string nameSpace;
    std::string user;
    std::string password;
    std::string caFile;
    std::string certFile;
    std::string keyFile;
    std::string serverName;

    /**
     * @param get the setting of a name, if it is set: std::optional<std::string>(const std::string &)
     */
    template <typename Get> [[nodiscard]] static nixlEtcdSettings read(Get &&get) {
        const auto text = [&](const char *name, const char *otherwise = "") {
            return std::optional<std::string>(get(std::string(name))).value_or(otherwise);
        };
        nixlEtcdSettings settings;
        settings.endpoints = text("NIXL_ETCD_ENDPOINTS");
        if (settings.endpoints.empty()) throw std::runtime_error("NIXL_ETCD_ENDPOINTS is empty");
        settings.nameSpace = text("NIXL_ETCD_NAMESPACE", NIXL_MD_DEFAULT_NAMESPACE);
        settings.user = text("NIXL_ETCD_USER");
        settings.password = passwordOf(text("NIXL_ETCD_PASSWORD_FILE"), text("NIXL_ETCD_PASSWORD"));
        settings.caFile = text("NIXL_ETCD_CACERT");
        settings.certFile = text("NIXL_ETCD_CERT");
        settings.keyFile = text("NIXL_ETCD_KEY");
        settings.serverName = text("NIXL_ETCD_SERVER_NAME");
        settings.check();
        return settings;
    }

    nixlEtcdSettings() = default;
    nixlEtcdSettings(const nixlEtcdSettings &) = default;
    nixlEtcdSettings &operator=(const nixlEtcdSettings &) = default;

    /** nixl_md has a copy of its own of the password, and overwrites it too. */
    ~nixlEtcdSettings() { explicit_bzero(password.data(), password.size()); }

    /** The config points to the texts of this object: for as long as nixl_md_open() takes. */
    void apply(nixl_md_config_t &config) const {
        // All is given, so none is left to the library to read.
        config.flags |= NIXL_MD_CONFIG_IGNORE_ENVIRONMENT;
        config.endpoints = endpoints.c_str();
        config.name_space = nameSpace.c_str();
        config.user = orNull(user);
        config.password = orNull(password);
        config.ca_file = orNull(caFile);
        config.cert_file = orNull(certFile);
        config.key_file = orNull(keyFile);
        config.server_name = orNull(serverName);
    }

  private:
    [[nodiscard]] static const char *orNull(const std::string &text) {
        return text.empty() ? nullptr : text.c_str();
    }

    [[noreturn]] static void failed(const char *name, const std::string &file) {
        throw std::runtime_error(std::string(name) + ": " + file + ": " + std::strerror(errno));
    }

    /** The first line of the file, if one is named. */
    [[nodiscard]] static std::string passwordOf(const std::string &file, std::string given) {
        constexpr char name[] = "NIXL_ETCD_PASSWORD_FILE";
        if (file.empty()) return given;
        std::ifstream stream(file);
        if (!stream) failed(name, file);
        std::string line;
        std::getline(stream, line);
        if (stream.bad()) failed(name, file);
        if (!line.empty() && line.back() == '\r') line.pop_back();
        if (line.empty()) {
            throw std::runtime_error(std::string(name) + ": the first line of " + file +
                                     " is empty");
        }
        return line;
    }

    static void checkReadable(const char *name, const std::string &file) {
        if (!file.empty() && !std::ifstream(file)) failed(name, file);
    }

    void check() const {
        if (user.empty() != password.empty()) {
            throw std::runtime_error(
                user.empty() ? "there is a password for etcd, and no NIXL_ETCD_USER: set it"
                             : "NIXL_ETCD_USER is '" + user +
                                   "', and there is no password: set NIXL_ETCD_PASSWORD or "
                                   "NIXL_ETCD_PASSWORD_FILE");
        }
        if (certFile.empty() != keyFile.empty()) {
            throw std::runtime_error("NIXL_ETCD_CERT and NIXL_ETCD_KEY belong together: set both, "
                                     "or neither");
        }
        checkReadable("NIXL_ETCD_CACERT", caFile);
        checkReadable("NIXL_ETCD_CERT", certFile);
        checkReadable("NIXL_ETCD_KEY", keyFile);
    }
};

#endif // NIXL_MD_EXAMPLES_NIXL_ETCD_SETTINGS_H
