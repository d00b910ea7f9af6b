// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// Everything is being withdrawn: why, who waits for it, and the calls that the host makes meanwhile.
struct Departure: Hashable {
    enum Reason: Hashable {
        case asked
        /// Somebody removed our keys.
        case withdrawn
        case superseded, nameIsTaken
    }
    /// How the keys are made to go.
    enum Way: Hashable {
        /// With their leases.
        case revoking
        /// etcd refuses to revoke this lease: read the keys first. `isAsked`: the lease is known to exist; an attempt
        /// may still have been applied.
        case checking(Int64, isAsked: Bool)
        /// etcd refuses to revoke this lease: one by one.
        case removing(Int64)
    }
    struct Leave: Hashable {
        let reason: Reason
        /// How publishes end that it overtakes.
        let status: Status
        /// The heartbeat ends with it.
        fileprivate(set) var stopsHeartbeat = false
        fileprivate(set) var way = Way.revoking
        /// The revision of the last removal.
        fileprivate(set) var revision: Int64 = 0
    }
    /// A call that the host made meanwhile.
    struct Later: Hashable {
        let operation: OperationID
        let blob: Bytes?
        /// It took the place of another one.
        let isSecond: Bool
    }
    private var leave: Leave?
    /// Why etcd refuses to revoke.
    private(set) var refusal: Pacing.Refusal?
    private var waiting: [OperationID] = []
    private var later = ByteMap<Later>()

    var isUnderWay: Bool { leave != nil }
    var reason: Reason? { leave?.reason }
    var stopsHeartbeat: Bool { leave?.stopsHeartbeat ?? false }
    var way: Way { leave?.way ?? .revoking }
    var revision: Int64 { leave?.revision ?? 0 }
    /// The host wants everything withdrawn.
    var isAskedFor: Bool { !waiting.isEmpty || stopsHeartbeat }
    var backlog: Int { later.count }

    // MARK: - Its course

    mutating func begin(_ reason: Reason, _ status: Status) {
        assert(leave == nil, "it is under way")
        leave = Leave(reason: reason, status: status)
    }

    mutating func stopHeartbeat(_ isToStop: Bool) { leave?.stopsHeartbeat = isToStop }

    mutating func goesOn(by way: Way) { leave?.way = way }

    mutating func isRefused(_ refusal: Pacing.Refusal, _ lease: Int64, isAsked: Bool) {
        leave?.way = .checking(lease, isAsked: isAsked)
        self.refusal = refusal
    }

    /// The next connection tries again.
    mutating func connectionIsLost() {
        if case .checking = way { leave?.way = .revoking }
    }

    mutating func removed(at revision: Int64) {
        leave?.way = .revoking
        leave?.revision = revision
    }

    mutating func revoked(at revision: Int64) { leave?.revision = revision }

    /// Nothing is left, or it is given up.
    mutating func end() -> Leave? {
        defer { (leave, refusal) = (nil, nil) }
        return leave
    }

    // MARK: - Who waits for it

    mutating func wait(_ operation: OperationID) { waiting.append(operation) }

    mutating func completeWaiting(
        _ status: Status, _ text: Text, revision: Int64 = 0, _ out: inout Effects
    ) {
        for operation in waiting { out.complete(operation, status, text, revision: revision) }
        waiting = []
    }

    mutating func abandon(_ operation: OperationID, label: Bytes?) {
        waiting.drop { $0 == operation }
        if let label, later[label]?.operation == operation { later[label] = nil }
    }

    // MARK: - Calls made meanwhile

    func hasRoom(for label: Bytes) -> Bool {
        later.count < Limits.labels || later[label] != nil
    }

    mutating func postpone(
        _ label: Bytes, _ blob: Bytes?, _ operation: OperationID, _ out: inout Effects
    ) {
        let first = later[label]
        out.complete(first?.operation, .replaced, Published.replacedText(label))
        later[label] = Later(operation: operation, blob: blob, isSecond: first != nil)
    }

    mutating func dropPostponed(_ text: Text, _ out: inout Effects) {
        later.forEach { _, call in out.complete(call.operation, .replaced, text) }
        later.removeAll()
    }

    mutating func takePostponed() -> ByteMap<Later> {
        defer { later.removeAll() }
        return later
    }

    // MARK: - Invariants

    /// A broken invariant, checked after each input by assertions; nil: none.
    var broken: StaticString? {
        guard leave == nil else { return nil }
        if !waiting.isEmpty { return "somebody waits for a withdrawal that is not under way" }
        return later.count > 0 ? "calls wait for a withdrawal that is not under way" : nil
    }

    // MARK: - For the exploration of states

    mutating func forgetRevision() { leave?.revision = 0 }
}
