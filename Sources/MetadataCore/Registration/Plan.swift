// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// The next step of the registration, from what is wanted and what was seen: a pure function.
///
/// docs/registration.md has the same as a table.
package enum Plan {
    /// The presence key, as it was seen last.
    package enum Presence: Hashable {
        /// `isMarked`: a newcomer is on its way (see `Registration.evict`).
        case absent(isMarked: Bool)
        case ours(lease: Int64, revision: Int64)
        case anothers(lease: Int64, revision: Int64)

        var isAbsent: Bool { if case .absent = self { true } else { false } }

        /// For the exploration of states.
        mutating func forEachRevision(_ body: (inout Int64) -> Void) {
            switch self {
            case .absent: break
            case .ours(let lease, var revision):
                body(&revision)
                self = .ours(lease: lease, revision: revision)
            case .anothers(let lease, var revision):
                body(&revision)
                self = .anothers(lease: lease, revision: revision)
            }
        }
    }
    /// Writes that may yet be carried out, because they were not answered. All are bound to one revision of the presence
    /// key: while it stands there, they may.
    package struct Doubt: Hashable {
        var revision: Int64
        /// etcd has answered each with 'no space', and may still have applied it: a reading shows.
        var isAnswered: Bool
    }
    /// Our presence key is not there, though we did not remove it.
    package enum Absence: Hashable {
        /// Leases on which it may have hung, to be asked whether they live.
        case asking([Int64])
        case leaseIsGone(Int64)
        /// All live: somebody removed the key, perhaps to put his own. Looked for again at `lookAt`.
        case waiting(since: Milliseconds, lookAt: Milliseconds)
        /// It is there again, by a claim of ours that came late. Leases on which it had hung before, to be asked: if all live,
        /// somebody had removed it.
        case isBack([Int64])
        case removed
    }
    /// A lease of ours.
    struct Target {
        let id: Int64
        var state: Leases.State
    }
    struct Wanted {
        var isLeaving: Bool
        /// Another process has the name: final.
        var isOver: Bool
        /// Labels, and so the name.
        var name: Bool
        /// The lease for all keys; nil: neither the name nor a heartbeat is wanted.
        var lease: Target?
        var refusesTakeover: Bool
    }
    struct Seen {
        var presence: Presence
        var mustLook: Bool
        var doubt: Doubt?
        /// etcd has refused it on the lease on which the presence key hangs.
        var isFenceRefused: Bool
        var absence: Absence?
        var hasOwned: Bool
        /// The other's key is one that we have removed before: an older state of the store has come back.
        var isKnownDead: Bool
        var evictions: Int
        var hasUnread: Bool
        var hasWrites: Bool
        var leavesBy: Departure.Way
        /// Labels of ours may be there although the presence key is not.
        var hasLeftovers: Bool
        /// One of our leases that is not needed any more; of leaving: the next to revoke.
        var spareLease: Int64?
        /// The lease of another process that we have removed: perhaps empty, and never-ending.
        var deadLease: Int64?
    }
    package enum Step: Hashable {
        case nothing
        case observe, read, write
        case fence(revision: Int64, lease: Int64)
        case ask(Int64)
        case wait(until: Milliseconds)
        case grant(Int64)
        case claim(lease: Int64)
        case evict(revision: Int64, lease: Int64)
        case rehang(revision: Int64, from: Int64, to: Int64)
        case revoke(Int64)
        /// Remove our own keys without their lease; 0: those that are there without a presence key.
        case remove(revision: Int64)
        case askDead(Int64)
        // Conclusions: nothing is sent.
        case lose(lease: Int64)
        case withdrawn, superseded, nameIsTaken, contended
        /// Leaving, and etcd refuses to revoke this lease.
        case stays(Int64)
        /// A store that has gone back shows a key of ours that nobody wants.
        case leave
        case left
    }

    static func step(_ wanted: Wanted, _ seen: Seen, now: Milliseconds) -> Step {
        if wanted.isLeaving { return leaving(seen) }
        // An older state of the store may have brought leases of ours back.
        if wanted.isOver { return seen.spareLease.map { .revoke($0) } ?? .nothing }
        if seen.mustLook { return .observe }
        if let doubt = seen.doubt, case .ours(let lease, doubt.revision) = seen.presence {
            if doubt.isAnswered { return .observe }
            if !seen.isFenceRefused { return .fence(revision: doubt.revision, lease: lease) }
            guard let target = wanted.lease else { return .nothing }
            return granting(target) ?? .fence(revision: doubt.revision, lease: target.id)
        }
        if seen.hasUnread { return .read }
        if let absence = seen.absence { return missing(absence, now) }
        switch seen.presence {
        case .ours where !wanted.name: return .leave
        case .anothers where seen.hasOwned && !seen.isKnownDead: return .superseded
        case .anothers where wanted.name && wanted.refusesTakeover: return .nameIsTaken
        case .anothers where wanted.name && seen.evictions >= Limits.evictions: return .contended
        case .absent, .ours, .anothers: break
        }
        // Without a lease there is nothing to write on.
        guard let target = wanted.lease else { return idle(seen) }
        if let step = granting(target) { return step }
        return wanted.name ? owning(target.id, seen) : idle(seen)
    }

    /// nil: it is there.
    private static func granting(_ target: Target) -> Step? {
        switch target.state {
        case .alive: nil
        case .wanted: .grant(target.id)
        case .granting: .nothing
        case .inDoubt: .ask(target.id)
        }
    }

    private static func leaving(_ seen: Seen) -> Step {
        switch seen.leavesBy {
        case .revoking: break
        case .checking where seen.mustLook, .removing where seen.mustLook: return .observe
        case .checking(let lease, let isAsked): return isAsked ? .stays(lease) : .ask(lease)
        case .removing:
            switch seen.presence {
            case .ours(_, let revision): return .remove(revision: revision)
            case .absent where seen.hasLeftovers: return .remove(revision: 0)
            case .absent, .anothers: break
            }
        }
        if let lease = seen.spareLease { return .revoke(lease) }
        return .left
    }

    private static func missing(_ absence: Absence, _ now: Milliseconds) -> Step {
        switch absence {
        case .asking(let leases), .isBack(let leases): leases.first.map { .ask($0) } ?? .observe
        case .leaseIsGone(let lease): .lose(lease: lease)
        case .waiting(_, let lookAt): now >= lookAt ? .observe : .wait(until: lookAt)
        case .removed: .withdrawn
        }
    }

    /// On a lease that is there.
    private static func owning(_ target: Int64, _ seen: Seen) -> Step {
        switch seen.presence {
        case .absent: return .claim(lease: target)
        case .anothers(_, let revision): return .evict(revision: revision, lease: target)
        case .ours(let lease, let revision):
            if lease != target { return .rehang(revision: revision, from: lease, to: target) }
            return seen.hasWrites ? .write : idle(seen)
        }
    }

    private static func idle(_ seen: Seen) -> Step {
        if let lease = seen.spareLease { return .revoke(lease) }
        if let lease = seen.deadLease { return .askDead(lease) }
        return .nothing
    }
}
