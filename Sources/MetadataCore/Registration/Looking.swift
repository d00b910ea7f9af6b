// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// Decides when our own keys must be read, and how much of them etcd lets us read.
struct Looking: Hashable {
    /// The reads that the role permits.
    private enum Sight: Hashable { case everything, presence, nothing }
    private var sight = Sight.everything
    /// The keys may have changed since they were last read.
    private(set) var isWanted = true
    /// The revision of the newest observation.
    private(set) var revision: Int64 = 0
    /// The newest revision from the self-watch.
    private var watchedAt: Int64 = 0
    private var reading: Observation?
    /// The newest observation showed nothing at all under the agent's name.
    private(set) var sawNothing = false

    var isDue: Bool { isWanted || watchedAt > revision }
    var readsLabels: Bool { sight == .everything }
    var canRead: Bool { sight != .nothing }

    // MARK: - Wishes

    mutating func again() { isWanted = true }

    /// Roles may have been put right.
    mutating func begin() {
        sight = .everything
        isWanted = true
    }

    /// The reading under way got no answer: it is asked for again.
    mutating func isFailed() {
        reading = nil
        isWanted = true
    }

    mutating func storeIsAnother() {
        (revision, watchedAt) = (0, 0)
        reading = nil
        isWanted = true
        sawNothing = false
    }

    /// An event of the self-watch only asks for a new reading; nothing else is concluded from it.
    mutating func presenceChanged(at revision: Int64) { watchedAt = max(watchedAt, revision) }

    /// Less is read from here on.
    mutating func isRefused() {
        sight = sight == .everything ? .presence : .nothing
        isWanted = sight != .nothing
        reading = nil
    }

    // MARK: - Readings

    mutating func request(_ keys: RegistrationKeys) -> RangeRequest {
        switch reading?.rest {
        case .keys(let from): return keys.everything(from: from, at: reading?.revision ?? 0)
        case .presence: return keys.read(keys.presence)
        case nil:
            reading = nil
            return readsLabels ? keys.everything() : keys.read(keys.presence)
        }
    }

    /// The whole, when it is there.
    mutating func answered(_ response: RangeResponse, _ keys: RegistrationKeys) -> Observation? {
        var found = reading ?? keys.observation(response, isEverything: readsLabels)
        switch reading?.rest {
        case nil: break
        case .keys: keys.take(response, &found)
        case .presence:
            found.leaseIsKnown()
            found.rest = nil
            guard response.kvs.first?.modRevision == found.presence?.revision else {
                reading = nil  // It has changed meanwhile.
                return nil
            }
            found.presence?.lease = response.kvs.first?.lease ?? 0
        }
        reading = found.rest == nil ? nil : found
        return reading == nil ? found : nil
    }

    /// All that may be read was.
    func isFull(_ found: Observation) -> Bool { found.labels != nil || !readsLabels }

    mutating func saw(_ found: Observation, isOurs: Bool) {
        revision = found.revision
        isWanted = isOurs && !isFull(found)
        sawNothing = found.presence == nil && !found.isMarked && found.labels?.isEmpty ?? false
    }

    /// A write of ours shows the store at this revision.
    mutating func wrote(at revision: Int64) {
        self.revision = max(self.revision, revision)
        sawNothing = false
    }

    mutating func claimed() { isWanted = false }

    /// A broken invariant, checked after each input by assertions; nil: none.
    var broken: StaticString? {
        if let reading, reading.rest == nil { return "a reading that is over" }
        return sight == .nothing && reading != nil ? "a reading of what cannot be read" : nil
    }

    // MARK: - For the exploration of states

    mutating func forEachRevision(_ body: (inout Int64) -> Void) {
        body(&revision)
        body(&watchedAt)
        guard var reading else { return }
        reading.forEachRevision(body)
        self.reading = reading
    }
}
