// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// The leases of one process: their ids, their grants, their renewal.
///
/// A lease is granted once, and a generation is used once. etcd carries out a grant whenever it gets to it: one that
/// comes late would bring a revoked lease back, and a late Put with it (seen on 3.4.23, 3.5.30 and 3.7.1).
package struct Leases: Hashable {
    package enum Kind: Hashable {
        /// The longest TTL that etcd grants; never renewed.
        case neverEnding
        case renewed(seconds: Int64)

        var seconds: Int64 {
            switch self {
            case .neverEnding: Limits.neverEndingSeconds
            case .renewed(let seconds): seconds
            }
        }
    }
    package enum State: Hashable {
        /// Must be granted; nothing was sent.
        case wanted
        case granting(since: Milliseconds)
        /// The grant was not answered: etcd is asked whether the lease is there.
        case inDoubt
        case alive
    }
    /// The meaning of etcd's answer to a renewal.
    enum Verdict {
        case alive, unexpected
        /// The lease is gone; `early`: it had so much time left. It was revoked, or this is another store.
        case ended(early: Milliseconds)
    }
    /// Requests about a lease that etcd may have carried out without saying so, or may yet carry out.
    private struct Late: OptionSet, Hashable {
        let rawValue: UInt8
        /// It was refused in a way that leaves this open.
        static let grant = Late(rawValue: 1)
        /// It may put the presence key on the lease whenever there is none. Or an eviction: the mark.
        static let claim = Late(rawValue: 2)
        /// The end of the lease is never a loss then.
        static let revocation = Late(rawValue: 4)
    }
    private struct Lease: Hashable {
        let id: Int64
        let kind: Kind
        var state: State
        var late: Late = []
        var ttl: Milliseconds = 0
        var renewAt: Milliseconds = 0
        /// When the renewal was sent that is not answered yet.
        var sentAt: Milliseconds?
        /// It cannot have run out before; 0: not known.
        var endsAfter: Milliseconds = 0
        /// Nothing has been heard of it on this connection.
        var isFromBefore = false
    }
    private var random: Random
    private var incarnation: UInt64
    /// The highest generation ever used.
    private var top: UInt64 = 0
    private var leases: [Lease] = []
    /// The one on which everything is to hang; 0: none.
    private(set) var target: Int64 = 0
    /// The interval of the heartbeat.
    private var interval: Milliseconds = 0

    init(random: Random) {
        var random = random
        incarnation = Incarnation.choose(&random)
        self.random = random
    }

    private func index(_ id: Int64) -> Int? { leases.firstIndex { $0.id == id } }

    private mutating func change(_ id: Int64, _ body: (inout Lease) -> Void) {
        if let at = index(id) { body(&leases[at]) }
    }

    // MARK: - What there is

    /// All that may exist, the oldest first.
    var ids: [Int64] { leases.map { $0.id } }
    var count: Int { leases.count }
    func id(at index: Int) -> Int64 { leases[index].id }
    var isEmpty: Bool { leases.isEmpty }
    /// One more needs the place of another.
    var isFull: Bool { leases.count >= Limits.leases }
    var targetState: State? { index(target).map { leases[$0].state } }
    var targetKind: Kind? { index(target).map { leases[$0].kind } }
    /// The granted TTL of the target.
    var ttl: Milliseconds { index(target).map { leases[$0].ttl } ?? 0 }
    var hasRenewed: Bool { leases.contains { $0.kind != .neverEnding } }

    func isKnown(_ id: Int64) -> Bool { index(id) != nil }
    func isGranted(_ id: Int64) -> Bool { index(id).map { leases[$0].state == .alive } ?? false }
    func isAskedToGo(_ id: Int64) -> Bool { mayCome(.revocation, id) }

    /// Only this process can have put a key on it.
    func isOurs(_ id: Int64) -> Bool {
        id != 0 && (Incarnation.of(lease: id) == incarnation || index(id) != nil)
    }

    // MARK: - The target

    /// Sets the kind of lease for all keys (nil: none). `keeping`: leases to remember.
    mutating func want(_ kind: Kind?, keeping kept: [Int64]) {
        guard kind != targetKind else { return }
        dropUnsentTarget()
        target = 0
        if let kind { takeNextGeneration(kind, kept) }
    }

    /// The target is of no use any more: another of its kind.
    mutating func replaceTarget(keeping kept: [Int64]) {
        guard let kind = targetKind else { return }
        dropUnsentTarget()
        takeNextGeneration(kind, kept)
    }

    private mutating func dropUnsentTarget() {
        if targetState == .wanted { leases.drop { $0.id == target } }
    }

    /// The lowest bit says 'never ends', so that nobody has to ask.
    private mutating func takeNextGeneration(_ kind: Kind, _ kept: [Int64]) {
        let parity: UInt64 = kind == .neverEnding ? 1 : 0
        top += (top + 1) & 1 == parity ? 1 : 2
        if top > UInt64(UInt16.max) { takeNextIncarnation(parity) }
        target = Incarnation.lease(incarnation, generation: UInt16(truncatingIfNeeded: top))
        makeRoom(kept)
        leases.append(Lease(id: target, kind: kind, state: .wanted))
    }

    /// Older ones are kept for labels that could not be moved; so many that one must go need as many of those.
    private mutating func makeRoom(_ kept: [Int64]) {
        guard isFull else { return }
        let others = leases.indices.filter { leases[$0].id != target }
        let free = others.first { !kept.contains(leases[$0].id) }
        if let at = free ?? others.first { leases.remove(at: at) }
    }

    private mutating func takeNextIncarnation(_ parity: UInt64) {
        incarnation = Incarnation.choose(&random)
        top = 2 - parity
    }

    // MARK: - Granting

    mutating func grantIsSent(_ id: Int64, now: Milliseconds) {
        change(id) { $0.state = .granting(since: now) }
    }

    mutating func granted(_ id: Int64, seconds: Int64, now: Milliseconds) {
        guard let at = index(id), case .granting(let since) = leases[at].state else { return }
        let ttl = Self.milliseconds(seconds)
        let due = since &+ jittered(period(ttl))
        change(id) {
            $0.state = .alive
            $0.ttl = ttl
            $0.renewAt = due
            $0.endsAfter = since &+ ttl
        }
    }

    mutating func grantIsUnanswered(_ id: Int64) { change(id) { $0.state = .inDoubt } }

    /// Refused: the same is asked for again. `isCertain`: nothing was granted.
    mutating func grantIsRefused(_ id: Int64, isCertain: Bool) {
        change(id) {
            $0.state = .wanted
            if !isCertain { $0.late.insert(.grant) }
        }
    }

    /// Somebody else has a lease of this id, of 47 random bits: never by chance. Or it is ours: etcd may carry out a grant to
    /// which it answers 'no space' (server/etcdserver/apply, quotaApplierV3.LeaseGrant).
    mutating func idIsTaken(_ id: Int64) {
        guard id == target, let kind = targetKind else { return }
        if let at = index(id), leases[at].late.contains(.grant) {
            grantIsUnanswered(id)
            return
        }
        leases.drop { $0.id == id }
        takeNextIncarnation(kind == .neverEnding ? 1 : 0)
        target = Incarnation.lease(incarnation, generation: UInt16(truncatingIfNeeded: top))
        leases.append(Lease(id: target, kind: kind, state: .wanted))
    }

    /// etcd was asked about one whose grant was not answered. Where it is not there the grant may still come, so that
    /// its generation is not used any more.
    mutating func asked(
        _ id: Int64, seconds: Int64?, now: Milliseconds, keeping kept: [Int64]
    ) {
        guard let at = index(id), leases[at].state == .inDoubt else { return }
        guard let seconds else {
            if id == target { replaceTarget(keeping: kept) }
            return
        }
        isThere(id, seconds, now)
    }

    private mutating func isThere(_ id: Int64, _ seconds: Int64, _ now: Milliseconds) {
        change(id) {
            $0.state = .alive
            $0.ttl = Self.milliseconds(seconds)
            $0.renewAt = now
        }
    }

    /// Found in a store that has gone back, or brought back by a grant that came late; or somebody has granted it under an
    /// id of ours.
    mutating func adopt(_ id: Int64, now: Milliseconds, keeping kept: [Int64]) {
        guard index(id) == nil else { return }
        makeRoom(kept)
        if Incarnation.of(lease: id) == incarnation { top = max(top, UInt64(id & 0xffff)) }
        let isNeverEnding = id & 1 == 1
        leases.insert(
            Lease(id: id, kind: isNeverEnding ? .neverEnding : .renewed(seconds: 1), state: .alive),
            at: 0)
        isThere(id, 1, now)
    }

    // MARK: - Ending

    private func mayCome(_ late: Late, _ id: Int64) -> Bool {
        index(id).map { leases[$0].late.contains(late) } ?? false
    }

    func mayBeClaimed(_ id: Int64) -> Bool { mayCome(.claim, id) }
    mutating func claimIsUnanswered(_ id: Int64) { change(id) { $0.late.insert(.claim) } }
    mutating func isToGo(_ id: Int64) { change(id) { $0.late.insert(.revocation) } }
    mutating func isToStay(_ id: Int64) { change(id) { $0.late.remove(.revocation) } }

    /// It is gone, or nothing can be done about it.
    mutating func forget(_ id: Int64) {
        leases.drop { $0.id == id }
        if target == id { target = 0 }
    }

    // MARK: - Renewing

    /// From sending the last answered renewal to sending the next.
    private func period(_ ttl: Milliseconds) -> Milliseconds {
        interval == 0 ? ttl / 3 : min(interval, ttl / 3)
    }

    private mutating func jittered(
        _ period: Milliseconds, by perMille: UInt64 = Timing.renewalJitter
    ) -> Milliseconds {
        period &- random.below(period &* perMille / 1000 &+ 1)
    }

    /// A server's number: bounded, so that nothing computed from it can overflow.
    private static func milliseconds(_ seconds: Int64) -> Milliseconds {
        Milliseconds(max(1, min(seconds, Limits.ttlSeconds))) &* 1000
    }

    private func isRenewed(_ lease: Lease) -> Bool {
        lease.state == .alive && lease.kind != .neverEnding
    }

    /// The next one to renew now; it counts as sent.
    mutating func nextRenewal(now: Milliseconds) -> Int64? {
        for at in leases.indices
        where isRenewed(leases[at]) && leases[at].sentAt == nil && now >= leases[at].renewAt {
            leases[at].sentAt = now
            return leases[at].id
        }
        return nil
    }

    var shortestTTL: Milliseconds {
        var shortest = Milliseconds.max
        for lease in leases where isRenewed(lease) { shortest = min(shortest, lease.ttl) }
        return shortest == .max ? Timing.ttlWithoutLease : shortest
    }

    /// When the oldest renewal was sent that is not answered; `.max`: none.
    var renewalSince: Milliseconds {
        var oldest = Milliseconds.max
        for lease in leases { oldest = min(oldest, lease.sentAt ?? .max) }
        return oldest
    }

    var renewalsUnanswered: [Int64] {
        var ids: [Int64] = []
        for lease in leases where lease.sentAt != nil { ids.append(lease.id) }
        return ids
    }

    mutating func renewalAnswered(_ id: Int64, seconds: Int64, now: Milliseconds) -> Verdict {
        guard let at = index(id), let sentAt = leases[at].sentAt else { return .unexpected }
        guard seconds > 0 else {
            let early = timeLeft(id, now: now)
            // Keep a lease until its revocation is answered; this renewal is answered.
            let again = now &+ max(period(leases[at].ttl), Timing.retryPause)
            change(id) {
                $0.sentAt = nil
                $0.renewAt = again
            }
            return .ended(early: early)
        }
        let ttl = Self.milliseconds(seconds)
        let jitter =
            leases[at].isFromBefore ? Timing.renewalJitterFirst : Timing.renewalJitter
        let due = sentAt &+ jittered(period(ttl), by: jitter)
        change(id) {
            $0.sentAt = nil
            $0.ttl = ttl
            $0.endsAfter = sentAt &+ ttl
            $0.isFromBefore = false
            $0.renewAt = due
        }
        return .alive
    }

    /// The time left of a lease that is gone, if its end says something about the store because there was no
    /// connection.
    func timeLeft(_ id: Int64, now: Milliseconds) -> Milliseconds {
        guard let at = index(id) else { return 0 }
        let lease = leases[at]
        guard lease.isFromBefore, now < lease.endsAfter, !isAskedToGo(id) else { return 0 }
        return lease.endsAfter &- now
    }

    /// etcd refuses to renew: it is asked again in a while, and the lease ends if it goes on refusing.
    mutating func renewalsAreRefused(now: Milliseconds) {
        for at in leases.indices where leases[at].sentAt != nil {
            leases[at].sentAt = nil
            leases[at].renewAt = now &+ max(period(leases[at].ttl), Timing.retryPause)
        }
    }

    /// Leases whose renewal failed.
    mutating func renewAgain(at due: Milliseconds) {
        for at in leases.indices where leases[at].sentAt != nil {
            leases[at].sentAt = nil
            leases[at].renewAt = due
        }
    }

    /// After a new connection each is renewed at once: the interruption may have eaten its time.
    mutating func connectionIsLost(now: Milliseconds) {
        for at in leases.indices where isRenewed(leases[at]) {
            leases[at].sentAt = nil
            leases[at].renewAt = now
            leases[at].isFromBefore = true
        }
    }

    mutating func renewEvery(_ interval: Milliseconds, now: Milliseconds) {
        self.interval = interval
        for at in leases.indices where isRenewed(leases[at]) && leases[at].sentAt == nil {
            leases[at].renewAt = min(leases[at].renewAt, now &+ period(leases[at].ttl))
        }
    }

    var nextDeadline: Milliseconds? {
        var earliest: Milliseconds?
        for lease in leases where isRenewed(lease) {
            if lease.sentAt == nil { earliest = min(earliest ?? .max, lease.renewAt) }
        }
        return earliest
    }

    /// A broken invariant, checked after each input by assertions; nil: none.
    var broken: StaticString? {
        if target != 0, index(target) == nil { return "the wanted lease is not there" }
        for (at, lease) in leases.enumerated() {
            if index(lease.id) != at { return "a lease twice" }
            if (lease.id & 1 == 1) != (lease.kind == .neverEnding) {
                return "an id of another kind"
            }
            if lease.sentAt != nil, !isRenewed(lease) {
                return "a lease is renewed that must not be"
            }
            let isOfUs = Incarnation.of(lease: lease.id) == incarnation
            if isOfUs, UInt64(lease.id & 0xffff) > top {
                return "a generation that is not used yet"
            }
        }
        return nil
    }

    // MARK: - For tests

    /// Times and random numbers mean nothing to an exploration of states.
    package mutating func forgetTimes() {
        random = Random(seed: (0, 0))
        for at in leases.indices {
            leases[at].renewAt = .max
            leases[at].endsAfter = 0
            leases[at].isFromBefore = false
            if case .granting = leases[at].state { leases[at].state = .granting(since: 0) }
        }
    }
}
