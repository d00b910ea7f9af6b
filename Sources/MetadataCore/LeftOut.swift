// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// Counts keys that are hidden from the host because a name in them is too long. Anybody may write such keys, and a
/// host's buffers have NIXL_MD_MAX_AGENT and NIXL_MD_MAX_LABEL bytes.
struct LeftOut {
    private(set) var count: UInt64 = 0
    /// The warning about the first one; nil: none yet, or already taken.
    private var warning: Text?

    /// The agent and label in a key. nil if the key is not an agent's, or if a name is too long; the latter is
    /// counted, so call this once for each key of a list or a change.
    mutating func tellable(
        _ key: Bytes, _ keyspace: Keyspace
    ) -> (agent: Bytes, label: Bytes)? {
        if !keyspace.isTooLong(key) {
            guard let (agent, label) = keyspace.parse(key) else { return nil }
            if agent.count <= Limits.agentBytes, label.count <= Limits.labelBytes {
                return (agent, label)
            }
        }
        note(key)
        return nil
    }

    private mutating func note(_ key: Bytes) {
        if count == 0 {
            warning = """
                the key '\(key, limit: 80)' is left out of events and lists: of its \(key.count) bytes, more than \
                \(Limits.agentBytes) are an agent's name or more than \(Limits.labelBytes) are a label. Further \
                ones are only counted, as names_left_out
                """
        }
        count &+= 1
    }

    mutating func takeWarning() -> Text? {
        defer { warning = nil }
        return warning
    }
}

/// How many keys a page should have.
enum PageSize {
    /// `bytes`: of the last page.
    static func adapt(_ limit: inout Int64, to bytes: Int, most: Int64) {
        if bytes < Limits.pageBytes / 2 {
            limit = max(limit, min(limit * 2, most))
        } else if bytes > Limits.pageBytes * 2 {
            limit = max(limit / 2, 1)
        }
    }

    /// A page of so many keys would have had `size` bytes.
    static func shrink(_ limit: inout Int64, from size: Int) {
        limit = max(1, min(limit / 2, limit * Int64(Limits.pageBytes) / Int64(max(size, 1))))
    }
}
