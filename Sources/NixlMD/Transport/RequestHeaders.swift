// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CCurl
import EtcdProtocol

/// A list of strings in libcurl's memory (curl_slist). libcurl keeps only a pointer to it, so it must outlive the
/// transfers that use it: they count themselves in `users`. Freed by `free()`, never by deinit, since nothing
/// of libcurl may run in a forked child.
final class StringList {
    private(set) var list: UnsafeMutablePointer<curl_slist>?
    var users = 0
    /// To be freed when its last user is gone.
    var isRetired = false

    /// nil: out of memory.
    init?(_ entries: [Bytes]) {
        for entry in entries {
            guard let longer = entry.withCString({ curl_slist_append(list, $0) }) else {
                curl_slist_free_all(list)
                return nil
            }
            list = longer
        }
    }

    func free() {
        curl_slist_free_all(list)
        list = nil
    }

    /// One user less.
    func release() {
        users -= 1
        if users == 0, isRetired { free() }
    }

    /// No new users.
    func retire() {
        isRetired = true
        if users == 0 { free() }
    }
}

/// The request headers of a call or a stream.
final class RequestHeaders {
    private let plain: StringList
    private var token: Bytes = []
    private var authenticated: StringList?

    /// nil: out of memory.
    init?() {
        guard let list = StringList(Self.common) else { return nil }
        plain = list
    }

    /// The headers with `token` (empty: without). nil: out of memory, or the token is not one.
    func list(token: Bytes) -> StringList? {
        if token.isEmpty { return plain }
        if let authenticated, token == self.token { return authenticated }
        guard Self.isHeaderValue(token) else { return nil }
        guard let list = StringList(Self.common + [Bytes("token: ") + token]) else { return nil }
        authenticated?.retire()
        authenticated = list
        self.token = token
        return list
    }

    func free() {
        plain.retire()
        authenticated?.retire()
    }

    /// gRPC over HTTP2, "Requests"; an empty value takes a header away that libcurl would send. `hasleader` is etcd's
    /// rpctypes.MetadataRequireLeaderKey: a member that has lost its leader answers instead of staying silent.
    private static var common: [Bytes] {
        [
            Bytes("content-type: application/grpc"), Bytes("te: trailers"),
            Bytes("hasleader: true"),
            Bytes("Expect:"), Bytes("Accept:"),
        ]
    }

    /// The server chose the token; a line end in it would start a header of its own.
    private static func isHeaderValue(_ token: Bytes) -> Bool {
        for byte in token where byte <= 0x20 || byte >= 0x7f { return false }
        return true
    }
}
