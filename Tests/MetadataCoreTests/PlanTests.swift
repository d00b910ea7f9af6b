// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import MetadataCore

/// Wanted state x observed state -> next step, row by row, and what holds in all rows.
@Suite struct PlanTests {
    /// Lease 8 is wanted; 6 is an older one of ours, 40 another process's.
    struct Situation {
        var wanted = Plan.Wanted(
            isLeaving: false, isOver: false, name: true,
            lease: Plan.Target(id: 8, state: .alive), refusesTakeover: false)
        var seen = Plan.Seen(
            presence: .ours(lease: 8, revision: 20), mustLook: false, doubt: nil,
            isFenceRefused: false, absence: nil, hasOwned: true, isKnownDead: false,
            evictions: 0, hasUnread: false, hasWrites: false, leavesBy: .revoking,
            hasLeftovers: false, spareLease: nil, deadLease: nil)

        /// State of the wanted one; nil: none is wanted.
        var lease: Leases.State? {
            get { wanted.lease?.state }
            set { wanted.lease = newValue.map { Plan.Target(id: 8, state: $0) } }
        }

        func step(now: Milliseconds = 1000) -> Plan.Step { Plan.step(wanted, seen, now: now) }
    }

    static let presences: [Plan.Presence] = [
        .absent(isMarked: false), .absent(isMarked: true), .ours(lease: 8, revision: 20),
        .ours(lease: 6, revision: 20), .anothers(lease: 40, revision: 20),
        .anothers(lease: 0, revision: 20),
    ]
    static let leases: [Leases.State?] = [nil, .wanted, .granting(since: 1), .inDoubt, .alive]
    static let doubts: [Plan.Doubt?] = [
        nil, Plan.Doubt(revision: 20, isAnswered: false),
        Plan.Doubt(revision: 20, isAnswered: true),
        Plan.Doubt(revision: 19, isAnswered: false),
    ]
    static let absences: [Plan.Absence?] = [
        nil, .asking([6, 8]), .asking([]), .leaseIsGone(6), .waiting(since: 0, lookAt: 1000),
        .waiting(since: 0, lookAt: 1001), .isBack([6]), .removed,
    ]

    private func expect(
        _ step: Plan.Step, _ location: SourceLocation = #_sourceLocation,
        _ change: (inout Situation) -> Void
    ) {
        var situation = Situation()
        change(&situation)
        let found = situation.step()
        #expect(found == step, sourceLocation: location)
    }

    // MARK: - Leaving, and over

    /// The other observations do not matter to an agent that leaves.
    @Test func leaving_anyState_revokesLeaseByLease() {
        each(Self.presences, Self.leases, Self.doubts, Self.absences) { situation in
            situation.wanted.isLeaving = true
            #expect(situation.step() == .left)
            situation.seen.spareLease = 6
            situation.seen.mustLook = true
            situation.seen.hasWrites = true
            situation.seen.hasUnread = true
            #expect(situation.step() == .revoke(6))
            situation.wanted.isOver = true
            #expect(situation.step() == .revoke(6))
        }
    }

    @Test func leaving_revocationRefused_removesTheKeysThatAreOurs() {
        expect(.remove(revision: 20)) { refused(&$0) }
        expect(.observe) {
            refused(&$0)
            $0.seen.mustLook = true
        }
        for presence in Self.presences {
            if case .ours = presence { continue }
            expect(.revoke(6)) {
                refused(&$0)
                $0.seen.presence = presence
            }
            expect(.left) {
                refused(&$0)
                $0.seen.presence = presence
                $0.seen.spareLease = nil
            }
        }
    }

    @Test func leaving_presenceKeyGoneAndLabelsLeft_removesThem() {
        for presence in Self.presences {
            guard presence.isAbsent else { continue }
            expect(.remove(revision: 0)) {
                refused(&$0)
                $0.seen.presence = presence
                $0.seen.hasLeftovers = true
            }
        }
    }

    @Test func leaving_revocationRefused_looksThenAsksForTheLease() {
        expect(.observe) {
            refused(&$0)
            $0.seen.mustLook = true
            $0.seen.leavesBy = .checking(6, isAsked: false)
        }
        expect(.stays(6)) {
            refused(&$0)
            $0.seen.leavesBy = .checking(6, isAsked: true)
        }
        expect(.ask(6)) {
            refused(&$0)
            $0.seen.leavesBy = .checking(6, isAsked: false)
        }
    }

    private func refused(_ situation: inout Situation) {
        situation.wanted.isLeaving = true
        situation.seen.leavesBy = .removing(6)
        situation.seen.spareLease = 6
    }

    @Test func over_anyState_onlyRevokes() {
        each(Self.presences, Self.leases, Self.doubts, Self.absences) { situation in
            situation.wanted.isOver = true
            situation.seen.mustLook = true
            situation.seen.hasWrites = true
            #expect(situation.step() == .nothing)
            // It came back with an older state of the store.
            situation.seen.spareLease = 6
            #expect(situation.step() == .revoke(6))
        }
    }

    // MARK: - Looking, and doubts

    @Test func mustLook_anyState_observes() {
        each(Self.presences, Self.leases, Self.doubts, Self.absences) { situation in
            situation.seen.mustLook = true
            situation.seen.hasUnread = true
            situation.seen.hasWrites = true
            #expect(situation.step() == .observe)
        }
    }

    @Test(arguments: [8, 6] as [Int64])
    func doubt_atTheKeysRevision_isFencedBeforeAllElse(lease: Int64) {
        for state in Self.leases {
            for absence in Self.absences {
                expect(.fence(revision: 20, lease: lease)) {
                    doubt(&$0, lease, isAnswered: false)
                    $0.lease = state
                    $0.seen.absence = absence
                }
                expect(.observe) {
                    doubt(&$0, lease, isAnswered: true)
                    $0.lease = state
                    $0.seen.absence = absence
                }
            }
        }
    }

    private func doubt(_ situation: inout Situation, _ lease: Int64, isAnswered: Bool) {
        situation.seen.presence = .ours(lease: lease, revision: 20)
        situation.seen.doubt = Plan.Doubt(revision: 20, isAnswered: isAnswered)
        situation.seen.hasUnread = true
        situation.seen.hasWrites = true
        situation.seen.spareLease = 4
    }

    @Test func doubt_fenceRefusedOnItsLease_isFencedOnTheNext() {
        let steps: [Plan.Step] = [
            .nothing, .grant(8), .nothing, .ask(8), .fence(revision: 20, lease: 8),
        ]
        for (state, step) in zip(Self.leases, steps) {
            expect(step) {
                doubt(&$0, 6, isAnswered: false)
                $0.seen.isFenceRefused = true
                $0.lease = state
            }
        }
    }

    /// It has ended: what was in doubt was bound to an older revision.
    @Test func doubt_atAnotherRevision_changesNothing() {
        each(Self.presences, Self.leases, [Self.doubts[3]], Self.absences) { situation in
            let step = situation.step()
            situation.seen.doubt = nil
            #expect(situation.step() == step)
        }
    }

    @Test func unreadLabel_anyStateWithoutDoubt_isRead() {
        each(Self.presences, Self.leases, [nil], Self.absences) { situation in
            situation.seen.hasUnread = true
            situation.seen.hasWrites = true
            #expect(situation.step() == .read)
        }
    }

    // MARK: - The key is missing

    @Test func absence_eachCase_hasItsStep() {
        let steps: [Plan.Step] = [
            .ask(6), .observe, .lose(lease: 6), .observe, .wait(until: 1001), .ask(6),
            .withdrawn,
        ]
        for (absence, step) in zip(Self.absences.dropFirst(), steps) {
            for presence in Self.presences[..<2] {
                for state in Self.leases {
                    expect(step) {
                        $0.seen.presence = presence
                        $0.seen.absence = absence
                        $0.lease = state
                        $0.seen.spareLease = 4
                    }
                }
            }
        }
    }

    // MARK: - Whose the name is

    @Test func presence_ours_nameNotWanted_leaves() {
        for lease in [8, 6] as [Int64] {
            for state in Self.leases {
                expect(.leave) {
                    $0.wanted.name = false
                    $0.seen.presence = .ours(lease: lease, revision: 20)
                    $0.lease = state
                }
            }
        }
    }

    @Test(arguments: [true, false], [40, 0] as [Int64])
    func presence_anothersAfterOurs_supersedes(isWanted: Bool, lease: Int64) {
        for state in Self.leases {
            expect(.superseded) {
                $0.wanted.name = isWanted
                $0.wanted.refusesTakeover = true
                $0.seen.presence = .anothers(lease: lease, revision: 20)
                $0.lease = state
                $0.seen.evictions = Limits.evictions
            }
        }
    }

    @Test func presence_anothers_neverOwned_isEvictedAtMostThreeTimes() {
        for evictions in 0..<5 {
            let step = Plan.Step.evict(revision: 20, lease: 8)
            expect(evictions < 3 ? step : .contended) {
                $0.seen.presence = .anothers(lease: 40, revision: 20)
                $0.seen.hasOwned = false
                $0.seen.evictions = evictions
            }
        }
    }

    /// It was evicted before: an older state of the store has brought it back.
    @Test func presence_anothersKnownDead_isEvicted() {
        expect(.evict(revision: 20, lease: 8)) {
            $0.seen.presence = .anothers(lease: 40, revision: 20)
            $0.seen.isKnownDead = true
        }
    }

    @Test(arguments: [true, false])
    func presence_anothers_takeoverRefused_isLeftAlone(isWanted: Bool) {
        for state in Self.leases where isWanted || state == nil {
            expect(isWanted ? .nameIsTaken : .nothing) {
                $0.wanted.name = isWanted
                $0.wanted.refusesTakeover = true
                $0.seen.presence = .anothers(lease: 40, revision: 20)
                $0.seen.hasOwned = false
                $0.lease = state
            }
        }
    }

    // MARK: - Granting and owning

    /// Nothing is written before the lease is there, and it is granted once.
    @Test func lease_notAlive_isGrantedOrAskedForFirst() {
        let steps: [Plan.Step] = [.grant(8), .nothing, .ask(8)]
        for (state, step) in zip(Self.leases[1...3], steps) {
            for presence in Self.presences {
                for isWanted in [true, false] {
                    if !isWanted, case .ours = presence { continue }
                    expect(step) {
                        $0.wanted.name = isWanted
                        $0.seen.presence = presence
                        $0.seen.hasOwned = false
                        $0.lease = state
                        $0.seen.hasWrites = true
                        $0.seen.spareLease = 4
                    }
                }
            }
        }
    }

    @Test(arguments: [true, false])
    func presence_absent_nameWanted_isClaimed(isMarked: Bool) {
        for hasOwned in [true, false] {
            expect(.claim(lease: 8)) {
                $0.seen.presence = .absent(isMarked: isMarked)
                $0.seen.hasOwned = hasOwned
                $0.seen.hasWrites = true
                $0.seen.spareLease = 4
            }
        }
    }

    @Test func presence_oursOnAnOlderLease_isRehung() {
        expect(.rehang(revision: 20, from: 6, to: 8)) {
            $0.seen.presence = .ours(lease: 6, revision: 20)
            $0.seen.hasWrites = true
            $0.seen.spareLease = 4
        }
    }

    @Test func presence_oursOnTheLease_writesThenTidiesUp() {
        expect(.write) { tidying(&$0) }
        expect(.revoke(4)) {
            tidying(&$0)
            $0.seen.hasWrites = false
        }
        expect(.askDead(41)) {
            tidying(&$0)
            $0.seen.hasWrites = false
            $0.seen.spareLease = nil
        }
        expect(.nothing) { _ in }
    }

    private func tidying(_ situation: inout Situation) {
        situation.seen.hasWrites = true
        situation.seen.spareLease = 4
        situation.seen.deadLease = 41
    }

    @Test func nothingWanted_notOurs_tidiesUp() {
        for presence in Self.presences {
            if case .ours = presence { continue }
            for state in [nil, .alive] as [Leases.State?] {
                expect(.nothing) { idle(&$0, presence, state) }
                expect(.revoke(4)) {
                    idle(&$0, presence, state)
                    $0.seen.spareLease = 4
                }
            }
        }
    }

    private func idle(
        _ situation: inout Situation, _ presence: Plan.Presence, _ state: Leases.State?
    ) {
        situation.wanted.name = false
        situation.seen.presence = presence
        situation.lease = state
        situation.seen.hasOwned = false
    }

    // MARK: - In every row

    /// The rules, over the whole product of what is wanted and seen.
    @Test func everyRow_obeysTheRules() {
        var broken: [String: Int] = [:]
        each(Self.presences, Self.leases, Self.doubts, Self.absences) { base in
            for bits in 0..<4096 {
                let situation = Self.vary(base, bits)
                if let rule = Self.brokenRule(situation) { broken[rule, default: 0] += 1 }
            }
        }
        #expect(broken.isEmpty)
    }

    private static func vary(_ base: Situation, _ bits: Int) -> Situation {
        func bit(_ number: Int) -> Bool { bits >> number & 1 == 1 }
        var situation = base
        situation.wanted.isLeaving = bit(0)
        situation.wanted.name = bit(1)
        situation.wanted.refusesTakeover = bit(2)
        situation.seen.mustLook = bit(3)
        situation.seen.isFenceRefused = bit(4)
        situation.seen.hasOwned = bit(5)
        situation.seen.isKnownDead = bit(6)
        situation.seen.hasUnread = bit(7)
        situation.seen.hasWrites = bit(8)
        situation.seen.leavesBy = bit(9) ? .removing(6) : .revoking
        situation.seen.spareLease = bit(10) ? 4 : nil
        situation.seen.hasLeftovers = bit(11)
        return situation
    }

    private static func brokenRule(_ situation: Situation) -> String? {
        let (wanted, seen) = (situation.wanted, situation.seen)
        var revision: Int64 = 0
        var isOurs = false
        switch seen.presence {
        case .absent: break
        case .ours(_, let found): (revision, isOurs) = (found, true)
        case .anothers(_, let found): revision = found
        }
        let isDoubtful = isOurs && seen.doubt?.revision == revision
        let isAlive = situation.lease == .alive
        switch situation.step() {
        case .write, .rehang:
            if isDoubtful { return "something is written while a doubt stands" }
            if !isOurs || !isAlive { return "a write without the name, or without a lease" }
        case .claim(let lease):
            if revision != 0 || !isAlive || lease != wanted.lease?.id { return "a claim" }
        case .evict(let found, _):
            if isOurs || found != revision || !isAlive { return "an eviction of nobody" }
            if wanted.refusesTakeover { return "an eviction though takeovers are refused" }
            if seen.hasOwned, !seen.isKnownDead { return "who owned the name evicts" }
        case .fence(let found, let lease):
            if !isDoubtful || found != revision { return "a fence without a doubt" }
            if lease == wanted.lease?.id, case .ours(6, _) = seen.presence, !isAlive {
                return "a fence"
            }
        case .remove:
            if !wanted.isLeaving || !isOurs && !seen.hasLeftovers { return "keys are removed" }
        case .lose, .withdrawn:
            if seen.absence == nil { return "a loss though the key is there" }
            if wanted.isLeaving || seen.mustLook { return "a conclusion before the look" }
        case .superseded, .nameIsTaken, .contended:
            if revision == 0 || isOurs { return "another has the name, but who" }
            if wanted.isLeaving || seen.mustLook { return "a conclusion before the look" }
        case .leave, .left, .stays, .nothing, .observe, .read, .ask, .wait, .grant, .revoke,
            .askDead:
            break
        }
        return nil
    }

    /// All combinations of these.
    private func each(
        _ presences: [Plan.Presence], _ leases: [Leases.State?], _ doubts: [Plan.Doubt?],
        _ absences: [Plan.Absence?], _ body: (inout Situation) -> Void
    ) {
        for presence in presences {
            for lease in leases {
                for doubt in doubts {
                    for absence in absences {
                        var situation = Situation()
                        situation.seen.presence = presence
                        situation.lease = lease
                        situation.seen.doubt = doubt
                        situation.seen.absence = absence
                        body(&situation)
                    }
                }
            }
        }
    }
}
