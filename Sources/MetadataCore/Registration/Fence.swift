// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// Writes that were not answered, and may yet be carried out.
struct Fence: Hashable {
    private(set) var doubt: Plan.Doubt?

    var isInDoubt: Bool { doubt != nil }

    /// Comes before all other steps while the presence key has the revision of the doubt.
    func step(_ presence: Plan.Presence) -> Plan.Step? {
        guard let doubt, !doubt.isAnswered, case .ours(let lease, doubt.revision) = presence else {
            return nil
        }
        return .fence(revision: doubt.revision, lease: lease)
    }

    /// A write bound to this revision. False: the presence key does not stand there, so a look tells.
    mutating func mayBeCarriedOut(
        at revision: Int64, _ presence: Plan.Presence, isAnswered: Bool
    ) -> Bool {
        guard revision != 0, case .ours(_, revision) = presence else { return false }
        let wasAnswered = doubt?.revision == revision ? doubt?.isAnswered ?? true : true
        doubt = Plan.Doubt(revision: revision, isAnswered: wasAnswered && isAnswered)
        return true
    }

    /// `ours`: the revision of our presence key.
    mutating func saw(ours revision: Int64?, isFull: Bool) {
        guard let standing = doubt else { return }
        if revision != standing.revision || standing.isAnswered && isFull { doubt = nil }
    }

    mutating func isOver() { doubt = nil }

    /// A broken invariant, checked after each input by assertions; nil: none.
    var broken: StaticString? {
        doubt.map { $0.revision > 0 } ?? true ? nil : "a doubt about no revision"
    }

    // MARK: - For the exploration of states

    mutating func forEachRevision(_ body: (inout Int64) -> Void) {
        guard var doubt else { return }
        body(&doubt.revision)
        self.doubt = doubt
    }
}
