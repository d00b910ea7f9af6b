// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// Where things are in etcd: the one place that knows the layout of keys, stock NIXL's byte for byte.
///
///     label key     NS + "/" + AGENT + "/" + LABEL
///     presence key  NS + "/" + AGENT + "/"            (empty value)
///
/// The namespace is used as it is: the default one ends in "/", so its keys hold two slashes.
struct Keyspace {
    private static let slash = UInt8(ascii: "/")
    /// All keys of the namespace begin with this.
    let root: Bytes

    init(namespace: Bytes) {
        root = namespace + [Self.slash]
    }

    /// Key of `agent` under `label`; with an empty label the presence key.
    func key(agent: Bytes, label: Bytes = []) -> Bytes {
        var key = Bytes()
        key.reserveCapacity(root.count + agent.count + 1 + label.count)
        key.append(contentsOf: root)
        key.append(contentsOf: agent)
        key.append(Self.slash)
        key.append(contentsOf: label)
        return key
    }

    /// Agent and label of a key; nil for what is no agent's key. A label may hold "/", an agent's name not. The empty
    /// name is no agent: under `/nixl/agents` the range also holds the keys of `/nixl/agents/`.
    func parse(_ key: Bytes) -> (agent: Bytes, label: Bytes)? {
        guard key.hasPrefix(root) else { return nil }
        let rest = key[root.count...]
        guard let end = rest.firstIndex(of: Self.slash), end > rest.startIndex else { return nil }
        return (Bytes(rest[..<end]), Bytes(rest[(end + 1)...]))
    }

    /// Whether it is the presence key of an agent whose name is within its limit.
    func isPresence(_ key: Bytes) -> Bool {
        guard !isTooLong(key), key.last == Self.slash, key.hasPrefix(root) else { return false }
        return key[root.count...].firstIndex(of: Self.slash) == key.count - 1
            && key.count > root.count + 1
    }

    /// Whether agent and label cannot both be within their limits. Known without a look at the bytes, which may be a
    /// million for each of many keys.
    func isTooLong(_ key: Bytes) -> Bool {
        key.count > root.count + Limits.agentBytes + 1 + Limits.labelBytes
    }

    /// The end of the range of all keys that begin with `prefix` (etcd rpc.proto, RangeRequest.range_end): the
    /// prefix plus one. A prefix here always ends in "/", so there is no carry.
    static func end(of prefix: Bytes) -> Bytes {
        var end = prefix
        if let last = end.popLast() { end.append(last &+ 1) }
        return end
    }
}

/// Which process is behind an agent's name.
enum Incarnation {
    /// Lease ids are ours to choose: bit 63 clear, 47 random bits for the process, 16 for the generation. A restored lease
    /// then has the incarnation of the lost one. For a permanent key it is the revision that put it.
    static func of(_ presence: KeyValue) -> UInt64 {
        presence.lease != 0
            ? UInt64(bitPattern: presence.lease) >> 16 : UInt64(bitPattern: presence.modRevision)
    }

    static func of(lease: Int64) -> UInt64 {
        UInt64(bitPattern: lease) >> 16
    }

    /// A label on a lease that never ends may have been left by a process that died as it put its keys onto another lease:
    /// it counts only where there is a presence key. The lowest bit says so, of our leases; of another's it costs a
    /// question.
    static func mayOutliveItsProcess(_ lease: Int64) -> Bool { lease & 1 == 1 }

    /// 47 bits, not 0.
    static func choose(_ random: inout Random) -> UInt64 {
        let bits = random.next() >> 17
        return bits == 0 ? 1 : bits
    }

    static func lease(_ incarnation: UInt64, generation: UInt16) -> Int64 {
        Int64(bitPattern: incarnation << 16 | UInt64(generation))
    }
}
