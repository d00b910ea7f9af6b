// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol

/// One agent's state in the store: the checkers' own reading of the keys.
struct AgentState {
    /// The incarnation in the presence key; nil: no presence key.
    var incarnation: UInt64?
    /// Labels with a blob.
    var labels: [Bytes: Record] = [:]

    /// The agents that count as present at a revision, in the order of names.
    static func all(
        _ world: World, _ store: Store, at revision: Int64, agent: Bytes? = nil
    ) -> [(Bytes, AgentState)] {
        var start = world.namespace + Bytes("/")
        if let agent { start += agent + Bytes("/") }
        var end = start
        end[end.count - 1] += 1
        var found: [(Bytes, AgentState)] = []
        for record in store.range(start, end, at: revision) {
            guard let (name, label) = world.parse(record.key) else { continue }
            if found.last?.0 != name { found.append((name, AgentState())) }
            let last = found.count - 1
            if label.isEmpty {
                found[last].1.incarnation = Self.incarnation(record)
            } else if !record.value.isEmpty {
                found[last].1.labels[label] = record
            }
        }
        // Without a presence key it is what stock NIXL has left, or a ghost: what hangs on a lease belongs to a presence key.
        found.removeAll { _, state in
            state.incarnation == nil && !state.labels.values.contains { $0.lease == 0 }
        }
        return found.sorted { $0.0.lexicographicallyPrecedes($1.0) }
    }

    /// The upper 48 bits of the lease, or the revision of a permanent presence key.
    static func incarnation(_ presence: Record) -> UInt64 {
        presence.lease != 0
            ? UInt64(bitPattern: presence.lease) >> 16 : UInt64(bitPattern: presence.modRevision)
    }
}

extension World {
    func key(_ agent: Bytes, _ label: Bytes) -> Bytes {
        namespace + Bytes("/") + agent + Bytes("/") + label
    }

    func parse(_ key: Bytes) -> (agent: Bytes, label: Bytes)? {
        let root = namespace.count + 1
        guard key.count > root, let slash = key[root...].firstIndex(of: UInt8(ascii: "/")) else {
            return nil
        }
        return (Bytes(key[root..<slash]), Bytes(key[(slash + 1)...]))
    }
}
