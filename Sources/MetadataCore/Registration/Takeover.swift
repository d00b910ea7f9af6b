// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// The process that had the name before ours, and how often it was asked to go.
struct Takeover: Hashable {
    /// The state of its lease.
    private enum Rest: Hashable { case nothing, unknown, emptyLease }
    private var predecessor: Observation.Key?
    private var rest = Rest.nothing
    /// A key from before ours, which an older state of the store has brought back.
    private var risen: Observation.Key?
    private(set) var evictions = 0

    // MARK: - Evictions

    /// Whether or not an answer comes.
    mutating func isSent(_ presence: Plan.Presence) {
        guard case .anothers(let lease, let revision) = presence else { return }
        predecessor = Observation.Key(lease: lease, revision: revision)
        rest = .unknown
    }

    mutating func attempted() { evictions += 1 }

    /// The name is ours, or nobody's that was seen.
    mutating func isOver() { evictions = 0 }

    mutating func claimed() { risen = nil }

    mutating func storeIsAnother() { risen = predecessor }

    mutating func hasRisen(_ key: Observation.Key) { risen = key }

    /// It is one that we have removed before: an older state of the store has come back.
    func isKnownDead(_ presence: Plan.Presence) -> Bool {
        guard case .anothers(let lease, let revision) = presence, let risen else { return false }
        return lease == risen.lease && (lease != 0 || revision == risen.revision)
    }

    // MARK: - Its lease

    /// A lease that never ends, so somebody must revoke it.
    var lease: Int64? {
        guard rest != .nothing, let lease = predecessor?.lease, lease & 1 == 1 else { return nil }
        return lease
    }

    var emptyLease: Int64? { rest == .emptyLease ? lease : nil }

    mutating func asked(isEmpty: Bool) { rest = isEmpty ? .emptyLease : .nothing }

    mutating func forget(_ lease: Int64) {
        if predecessor?.lease == lease { rest = .nothing }
    }

    /// A broken invariant, checked after each input by assertions; nil: none.
    var broken: StaticString? {
        if rest != .nothing, predecessor == nil { return "nobody has left a lease" }
        return evictions > Limits.evictions ? "too many evictions" : nil
    }

    // MARK: - For the exploration of states

    mutating func forEachRevision(_ body: (inout Int64) -> Void) {
        if var predecessor {
            body(&predecessor.revision)
            self.predecessor = predecessor
        }
        if var risen {
            body(&risen.revision)
            self.risen = risen
        }
    }
}
