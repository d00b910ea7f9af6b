// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// The state of our keys at one revision.
struct Observation: Hashable {
    struct Key: Hashable {
        var lease: Int64
        var revision: Int64
    }
    /// The part that must still be read.
    enum Rest: Hashable {
        /// Keys from here on.
        case keys(from: Bytes)
        /// The presence key with its value: etcd 3.7.0 and 3.7.1 leave the lease out of answers without values
        /// (https://github.com/etcd-io/etcd/issues/22209).
        case presence
    }
    private(set) var revision: Int64
    var presence: Key?
    /// nil: there is no mark.
    var markLease: Int64?
    var isMarked: Bool { markLease != nil }
    /// nil: only the presence key was read.
    var labels: [Published.Found]?
    var rest: Rest?
    private(set) var isLeaseKnown = false

    mutating func forEachRevision(_ body: (inout Int64) -> Void) {
        body(&revision)
        if var key = presence {
            body(&key.revision)
            presence = key
        }
        guard var found = labels else { return }
        for at in found.indices { body(&found[at].revision) }
        labels = found
    }

    /// The presence key was read with its value.
    mutating func leaseIsKnown() { isLeaseKnown = true }

    static func == (a: Observation, b: Observation) -> Bool {
        a.revision == b.revision && a.rest == b.rest
    }

    func hash(into hasher: inout Hasher) {
        hasher.combine(revision)
        hasher.combine(rest)
    }
}

/// The keys of one agent, as the registration reads and writes them.
struct RegistrationKeys: Hashable {
    let presence: Bytes
    /// In place of our presence key while we take a name over. No label: those hold no NUL.
    let mark: Bytes
    let end: Bytes

    init(presence: Bytes) {
        self.presence = presence
        mark = presence + [0]
        end = Keyspace.end(of: presence)
    }

    func label(_ name: Bytes) -> Bytes { presence + name }

    /// All keys without their values, those behind `from` only.
    func everything(from: Bytes? = nil, at revision: Int64 = 0) -> RangeRequest {
        RangeRequest(
            key: from ?? presence, rangeEnd: end, limit: Limits.ownKeys, revision: revision,
            keysOnly: true)
    }

    func read(_ key: Bytes) -> RangeRequest { RangeRequest(key: key) }

    // MARK: - What was read

    /// The observation from the answer to `everything` or to `read` of the presence key, with the part that is still
    /// missing.
    func observation(_ response: RangeResponse, isEverything: Bool) -> Observation {
        var seen = Observation(revision: response.header.revision)
        if isEverything { seen.labels = [] } else { seen.leaseIsKnown() }
        take(response, &seen)
        return seen
    }

    func take(_ response: RangeResponse, _ seen: inout Observation) {
        for kv in response.kvs {
            if kv.key == presence {
                seen.presence = Observation.Key(lease: kv.lease, revision: kv.modRevision)
            } else if kv.key == mark {
                seen.markLease = kv.lease
            } else if seen.labels?.count ?? 0 < 2 * Limits.labels {
                seen.labels?.append(
                    Published.Found(
                        label: Bytes(kv.key.dropFirst(presence.count)), revision: kv.modRevision,
                        lease: kv.lease))
            }
        }
        seen.rest = nil
        if response.more, let last = response.kvs.last {
            seen.rest = .keys(from: last.key + [0])
        } else if seen.presence?.lease == 0, !seen.isLeaseKnown {
            // A stock agent's has none; the next reading tells.
            seen.rest = .presence
        }
    }

    /// The observation from the answer to `look`; `presence`: the key that the transaction itself has put.
    func observation(
        _ responses: ArraySlice<ResponseOp>, at revision: Int64,
        presence put: Observation.Key? = nil
    ) -> Observation {
        var seen = Observation(revision: revision)
        seen.presence = put
        seen.leaseIsKnown()
        for (index, response) in responses.enumerated() {
            guard case .range(let range) = response else { continue }
            if index > 0 || put != nil { seen.labels = [] }
            take(range, &seen)
        }
        return seen
    }
}
