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
    struct Leave: Hashable {
        let reason: Reason
        /// How publishes end that it overtakes.
        let status: Status
        /// The heartbeat ends with it.
        fileprivate(set) var stopsHeartbeat = false
        /// etcd refuses to revoke.
        fileprivate var isRefused = false
        /// Of the last removal.
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
    private var waiting: [OperationID] = []
    private var later = ByteMap<Later>()

    var isUnderWay: Bool { leave != nil }
    var reason: Reason? { leave?.reason }
    var stopsHeartbeat: Bool { leave?.stopsHeartbeat ?? false }
    /// So the keys are removed one by one.
    var isRevocationRefused: Bool { leave?.isRefused ?? false }
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

    mutating func revocationIsRefused() { leave?.isRefused = true }

    mutating func removed(at revision: Int64) {
        leave?.isRefused = false
        leave?.revision = revision
    }

    mutating func revoked(at revision: Int64) { leave?.revision = revision }

    /// Nothing is left, or it is given up.
    mutating func end() -> Leave? {
        defer { leave = nil }
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
        waiting.removeAll { $0 == operation }
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

    /// What must hold after each input, and does not; nil: all holds. Only asserted.
    var broken: StaticString? {
        guard leave == nil else { return nil }
        if !waiting.isEmpty { return "somebody waits for a withdrawal that is not under way" }
        return later.count > 0 ? "calls wait for a withdrawal that is not under way" : nil
    }

    // MARK: - For the exploration of states

    mutating func forgetRevision() { leave?.revision = 0 }
}
