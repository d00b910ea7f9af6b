// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CCurl
import EtcdProtocol

extension Transport {
    /// Readies libcurl (once per process) and says why it cannot be used; nil: it can.
    static func checkLibrary(tls: Bool) -> Text? {
        let result = ccurl_initialize()
        guard result == CURLE_OK else {
            return "libcurl cannot be initialised (curl_global_init: \(curl_easy_strerror(result)))"
        }
        guard let info = ccurl_version() else {
            return "libcurl does not report its version"
        }
        let version = info.pointee.version_num
        // CURLOPT_CONNECT_TO.
        guard version >= 0x073100 else {
            return "libcurl \(Self.name(version)) here is too old: 7.49.0 at least"
        }
        guard tls else { return nil }
        guard info.pointee.features & CURL_VERSION_SSL != 0 else {
            return "libcurl \(Self.name(version)) here is built without TLS, which https:// needs"
        }
        // Up to 7.86.0 libcurl hands its socket to OpenSSL (SSL_set_fd in lib/vtls/openssl.c), which writes
        // without MSG_NOSIGNAL: with CURLOPT_NOSIGNAL a dead peer would raise SIGPIPE in the host. Since 7.87.0
        // all writes go through libcurl's own send (bio_cf_out_write there).
        guard version >= 0x075700 else {
            return "libcurl \(Self.name(version)) here is too old for https://: 7.87.0 at least"
        }
        guard ccurl_has_openssl() else {
            return
                "libcurl \(Self.name(version)) here does TLS by \(info.pointee.ssl_version); https:// needs OpenSSL 3.0 at least"
        }
        return nil
    }

    private static func name(_ version: UInt32) -> Text {
        "\(version >> 16 & 255).\(version >> 8 & 255).\(version & 255)"
    }
}
