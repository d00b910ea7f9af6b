// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// On which leases our presence key may hang, and what follows where it is not there though we did not remove it.
struct Hanging: Hashable {
    private(set) var leases: [Int64] = []
    private(set) var absence: Plan.Absence?

    func contains(_ lease: Int64) -> Bool { leases.contains(lease) }

    mutating func mayBe(on lease: Int64) {
        if !leases.contains(lease) { leases.append(lease) }
    }

    mutating func isNowhere() { self = Hanging() }

    /// The key was seen on this lease. With a doubt about its revision others stay possible.
    mutating func isSeen(on lease: Int64, isInDoubt: Bool) {
        absence = nil
        if !isInDoubt { leases = [] }
        mayBe(on: lease)
    }

    mutating func isMoved(to lease: Int64, isInDoubt: Bool) {
        if !isInDoubt { leases = [lease] }
    }

    /// A late claim of ours has put it back; `before`: the leases that carried it until then.
    mutating func isBack(on lease: Int64, before: Hanging) {
        let unasked: [Int64]
        switch before.absence {
        case .isBack, .leaseIsGone, .removed:
            absence = before.absence
            return
        case .waiting: unasked = []
        case .asking(let leases): unasked = leases
        case nil: unasked = before.leases
        }
        let others = unasked.filter { $0 != lease }
        absence = others.isEmpty ? .removed : .isBack(others)
    }

    /// Somebody's key is there.
    mutating func isNoQuestion() { absence = nil }

    /// We have revoked it, or can do nothing about it.
    mutating func forget(_ lease: Int64) {
        leases.drop { $0 == lease }
        switch absence {
        case .asking(let rest) where rest != [lease]: absence = .asking(rest.filter { $0 != lease })
        case .isBack(let rest) where rest != [lease]: absence = .isBack(rest.filter { $0 != lease })
        case .asking, .isBack, .leaseIsGone(lease): absence = nil
        case .leaseIsGone, .waiting, .removed, nil: break
        }
        if leases.isEmpty { absence = nil }
    }

    /// `isKnown`: a lease of ours that may exist.
    mutating func isAbsent(isMarked: Bool, _ now: Milliseconds, isKnown: (Int64) -> Bool) {
        guard !leases.isEmpty else {
            absence = nil
            return
        }
        switch absence {
        case .waiting(let since, let lookAt) where now >= lookAt:
            // A mark announces a new process.
            let limit = since &+ (isMarked ? Timing.newcomer : Timing.absence)
            absence =
                now >= limit
                ? .removed : .waiting(since: since, lookAt: min(limit, now &+ Timing.absence))
        case .waiting, .removed, .leaseIsGone: break
        case .asking, .isBack, nil:
            let gone = leases.first { !isKnown($0) }
            absence = gone.map { .leaseIsGone($0) } ?? .asking(leases)
        }
    }

    /// etcd was asked for a lease. False: ask again in a moment.
    mutating func asked(
        _ lease: Int64, ttl: Int64, wasAskedToGo: Bool, _ now: Milliseconds
    ) -> Bool {
        let isBack: Bool
        var rest: [Int64]
        switch absence {
        case .asking(let leases): (rest, isBack) = (leases, false)
        case .isBack(let leases): (rest, isBack) = (leases, true)
        case .leaseIsGone, .waiting, .removed, nil: return true
        }
        if ttl < 0 {
            // Where we had asked it to go, nobody but we have removed the keys.
            absence = wasAskedToGo ? .removed : .leaseIsGone(lease)
        } else if ttl == 0 {
            // It is about to end, or has run out and is about to be revoked: in a moment it is known.
            return false
        } else {
            rest.drop { $0 == lease }
            if !rest.isEmpty {
                absence = isBack ? .isBack(rest) : .asking(rest)
            } else {
                absence =
                    isBack ? .removed : .waiting(since: now, lookAt: now &+ Timing.absence)
            }
        }
        return true
    }

    /// A broken invariant, checked after each input by assertions; nil: none.
    var broken: StaticString? {
        if leases.contains(0) { return "the presence key hangs on no lease" }
        if leases.indices.contains(where: { leases[..<$0].contains(leases[$0]) }) {
            return "a lease that is remembered twice"
        }
        switch absence {
        case .asking([]), .isBack([]): return "nothing is asked for"
        case .asking, .isBack, .leaseIsGone, .waiting, .removed, nil: return nil
        }
    }

    /// When to look again.
    var lookAt: Milliseconds? {
        if case .waiting(_, let lookAt) = absence { lookAt } else { nil }
    }

    mutating func rebase(_ moved: (Milliseconds) -> Milliseconds) {
        if case .waiting(let since, let lookAt) = absence {
            absence = .waiting(since: moved(since), lookAt: moved(lookAt))
        }
    }
}
