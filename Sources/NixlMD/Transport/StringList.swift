// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CCurl
import EtcdProtocol

/// A list of strings in libcurl's memory (curl_slist). libcurl keeps only a pointer to it, so it must outlive the easy
/// handle that uses it.
struct StringList {
    private(set) var list: UnsafeMutablePointer<curl_slist>?

    /// nil: out of memory.
    init?(_ entry: Bytes) {
        list = entry.withCString { curl_slist_append(nil, $0) }
        if list == nil { return nil }
    }

    func free() { curl_slist_free_all(list) }
}
