// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import MetadataCore

/// The kinds of events in one exploration, and how many of each.
struct Bounds: Hashable {
    var processes = 1
    var labels = 1
    var losses = 1
    var operators = 1
    var stock = 0
    var expiries = 0
    var refusals = 0
    var noSpace = 0
    var republish = 0
    var moves = 0
    var snapshots = 0
    var changes = 1
    var leaves = 1
    var timeouts = 0
    var abandoned = 0
    var missed = 0
    /// Refusals of what reads, asks and grants.
    var reads = 0
    /// Grants that are refused, whether they were carried out or not.
    var grants = 0
    /// The heartbeat is stopped with WITHDRAW.
    var stops = 0
    var shutdowns = 0
    /// Calls while everything is being withdrawn.
    var laters = 0
    /// Renewals are refused.
    var renewals = 0
    /// Another client puts the presence key on the lease that it hangs on, or a mark.
    var peers = 0
    /// A bit for each process that takes no name over.
    var refusing = 0

    mutating func set(_ name: String, _ value: Int) -> Bool {
        switch name {
        case "procs": processes = value
        case "labels": labels = value
        case "losses": losses = value
        case "op": operators = value
        case "stock": stock = value
        case "expire": expiries = value
        case "refusals": refusals = value
        case "nospace": noSpace = value
        case "republish": republish = value
        case "move": moves = value
        case "snapshot": snapshots = value
        case "change": changes = value
        case "leave": leaves = value
        case "timeouts": timeouts = value
        case "abandon": abandoned = value
        case "missed": missed = value
        case "reads": reads = value
        case "grants": grants = value
        case "stop": stops = value
        case "shut": shutdowns = value
        case "later": laters = value
        case "renewals": renewals = value
        case "peer": peers = value
        case "refuse": refusing = value
        default: return false
        }
        return true
    }
}

/// A request on its way.
struct Request: Hashable {
    let process: Int
    var call: RegistrationCall
    var body: CallBody

    mutating func forEachRevision(_ visit: (inout Int64) -> Void) {
        call.forEachRevision(visit)
        switch body {
        case .range(var range):
            visit(&range.revision)
            body = .range(range)
        case .txn(var txn):
            for at in txn.compare.indices {
                if case .modRevision(var revision) = txn.compare[at].target {
                    visit(&revision)
                    txn.compare[at].target = .modRevision(revision)
                }
            }
            body = .txn(txn)
        case .grant, .revoke, .timeToLive, .authenticate: break
        }
    }
}

/// One process: its registration, its host, and what is on its way.
struct Process: Hashable {
    var registration: Registration
    var isStarted = false
    var isConnected = false
    var requests: [Request] = []
    /// Operations that have not ended, by what they are to make of a label: process-wide numbers.
    var open: [OperationID] = []
    var lastOperation: OperationID = 0
    /// For each label: the host's last call, its operation, and the value that the host last got as
    /// held.
    var asked: [UInt8] = []
    var askedBy: [OperationID] = []
    var confirmed: [UInt8] = []
    /// A bit for each label whose last call did not succeed; an earlier call decides what it holds.
    var refusedLabels: UInt8 = 0
    var hasHeartbeat = false
    var hasWithdrawn = false
    /// The host got the completion of a withdrawal, and has called for nothing since.
    var isGone = false
    /// It is being shut down.
    var isShut = false
    /// A publish that was called while everything was being withdrawn.
    var later: OperationID = 0
    var evictions: Int8 = 0
    /// An operator has removed its keys after it knew them, and no event has followed.
    var isRemoved = false
    /// LOST was reported, and not RESTORED yet.
    var isLost = false
    var told: Told = []

    struct Told: OptionSet, Hashable {
        let rawValue: UInt8
        static let lost = Told(rawValue: 1)
        static let withdrawn = Told(rawValue: 2)
        static let superseded = Told(rawValue: 4)
        static let another = Told(rawValue: 8)
        static let implausible = Told(rawValue: 16)
    }
}

/// Past events that the checks need.
struct Causes: OptionSet, Hashable {
    let rawValue: UInt16
    static let operators = Causes(rawValue: 1)
    static let stock = Causes(rawValue: 2)
    static let snapshot = Causes(rawValue: 4)
    static func ended(_ process: Int) -> Causes { Causes(rawValue: 16 << UInt16(process)) }
    static func evicted(by process: Int) -> Causes { Causes(rawValue: 64 << UInt16(process)) }
    static let evictedLate = Causes(rawValue: 256)
    /// A removal of its own was carried out without an answer: a revocation late, or one of the keys without their lease.
    static func removedUnseen(_ process: Int) -> Causes {
        Causes(rawValue: 1024 << UInt16(process))
    }
    /// Keys were removed without their lease, which etcd refused to revoke: a claim that comes late may use it.
    static let leaseIsLeft = Causes(rawValue: 512)
    /// etcd has refused to tell, of keys or of a lease.
    static let readingRefused = Causes(rawValue: 4096)
}

/// A state of the whole: store, processes, late requests, what may still happen.
struct Explored: Hashable {
    static let presence = Bytes("/n/a/")
    static let labels = [Bytes("x"), Bytes("y")]
    static let start: Milliseconds = 1_000_000

    var store = SmallStore(presence: Explored.presence)
    var processes: [Process]
    var late: [Request] = []
    var left: Bounds
    var causes: Causes = []
    var snapshot: SmallStore?

    init(_ bounds: Bounds) {
        left = bounds
        processes = (0..<bounds.processes).map { index in
            var process = Process(
                registration: Registration(
                    agent: Bytes("a"), presenceKey: Self.presence,
                    refusesTakeover: bounds.refusing >> index & 1 == 1, batchOperations: 2,
                    random: Random(seed: (UInt64(index + 1), 7))))
            process.asked = Array(repeating: 0, count: bounds.labels)
            process.askedBy = Array(repeating: 0, count: bounds.labels)
            process.confirmed = process.asked
            return process
        }
    }

    /// For people.
    var underWay: String {
        processes.map { process in
            process.requests.map { request in
                let labels = request.call.labels.map { String(decoding: $0, as: UTF8.self) }
                return "\(request.call.step) \(labels)"
            }.joined(separator: "; ")
        }.joined(separator: " | ")
    }

    /// Only the order of revisions matters: they are renumbered in their order.
    mutating func canonize() {
        var all: [Int64] = []
        forEachRevision { if $0 > 1 { all.append($0) } }
        all.sort()
        var last: Int64 = 0
        var names: [(from: Int64, to: Int64)] = []
        for revision in all where revision != last {
            last = revision
            names.append((revision, Int64(names.count + 2)))
        }
        forEachRevision { revision in
            guard revision > 1 else { return }
            var low = 0
            var high = names.count
            while low < high {
                let middle = (low + high) / 2
                if names[middle].from < revision { low = middle + 1 } else { high = middle }
            }
            revision = names[low].to
        }
        late.sort { $0.hashValue < $1.hashValue }
    }

    private mutating func forEachRevision(_ body: (inout Int64) -> Void) {
        store.forEachRevision(body)
        snapshot?.forEachRevision(body)
        for at in processes.indices {
            processes[at].registration.forEachRevision(body)
            for index in processes[at].requests.indices {
                processes[at].requests[index].forEachRevision(body)
            }
        }
        for at in late.indices { late[at].forEachRevision(body) }
    }
}
