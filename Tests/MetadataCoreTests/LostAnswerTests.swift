// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

@testable import MetadataCore

/// What becomes of the name when answers are lost, requests are carried out late, or refused.
@Suite struct LostAnswerTests: WorldSuite {
    let world = World()

    /// The n-th transaction from now on has this fate.
    func let_(_ fate: World.Fate, befall nth: Int) {
        for _ in 1..<nth { world.fates.append((.txn, .ordinary)) }
        world.fates.append((.txn, fate))
    }

    @Test func aPermanentClaimWhoseAnswerWasLostEndsAsOwner() {
        let alpha = world.add("alpha")
        let_(.answerLost, befall: 1)
        let operation = publish(alpha, "a", "1")
        world.advance(by: 2000)
        #expect(alpha.completions[operation]?.status == .success)
        #expect(alpha.ownership.isEmpty)
        #expect(stored("/nixl/agents//alpha/a")?.value == Bytes("1"))
    }

    @Test func whoMustNotTakeANameOverIsNotLockedOutOfItsOwn() {
        let alpha = world.add("alpha", refuseTakeover: true)
        let_(.answerLost, befall: 1)
        let operation = publish(alpha, "a", "1")
        world.advance(by: 2000)
        #expect(alpha.completions[operation]?.status == .success)
    }

    /// A request of a batch that is over etcd's limit, and whose first answer was lost, ends alone.
    @Test func aLabelThatIsTooLargeStopsNoMove() {
        let alpha = world.add("alpha")
        publish(alpha, "a", "1")
        let_(.late, befall: 1)
        let large = world.submit(
            alpha, .publish(label: Bytes("b"), blob: Bytes(repeating: 7, count: 3000)),
            timeout: 60_000)
        world.etcd.maximumRequest = 2000
        world.isDown = true
        world.cut(alpha)
        let start = world.submit(
            alpha, .startHeartbeat(interval: 1000, ttlSeconds: 5), timeout: 60_000)
        world.isDown = false
        world.advance(by: 5000)
        #expect(alpha.completions[large]?.status == .tooLarge)
        #expect(alpha.completions[start]?.status == .success)
        #expect(stored("/nixl/agents//alpha/a")?.lease == alpha.core.counters.leaseID)
    }

    /// Two claim one permanent name at once; the answer to the first Put is lost, and so might be the first's.
    @Test func aPermanentKeyThatMayBeAnothersHasOneOwnerAtTheEnd() {
        let old = world.add("alpha", seed: 1)
        let new = world.add("alpha", seed: 2)
        let_(.late, befall: 1)
        publish(old, "a", "1")
        publish(new, "b", "2")
        world.advance(by: 3000)
        let isOwner = { (node: World.Node) -> Bool in
            if case .owned = node.core.ownership { true } else { false }
        }
        #expect(world.nodes.filter(isOwner).count == 1)
        #expect(stored(presence) != nil)
    }

    @Test func aPublishThatTimedOutTakesNoNameFromAnother() {
        let alpha = world.add("alpha", seed: 1)
        let_(.late, befall: 1)
        let operation = world.submit(
            alpha, .publish(label: Bytes("a"), blob: Bytes("1")), timeout: 5)
        // Before it has a connection again.
        world.isDown = true
        world.advance(by: 100)
        #expect(alpha.completions[operation]?.status == .timedOut)
        world.isDown = false
        let beta = world.add("alpha", seed: 2)
        let start = heartbeat(beta)
        publish(beta, "b", "2")
        world.advance(by: 5000)
        #expect(beta.completions[start]?.status == .success)
        #expect(beta.ownership.isEmpty)
        #expect(stored("/nixl/agents//alpha/b")?.value == Bytes("2"))
    }

    /// The lease on which a Put may still come is given back with the claim.
    @Test func theLeaseOfAClaimThatWasGivenUpIsGivenBack() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        let lease = alpha.core.counters.leaseID
        let_(.late, befall: 1)
        let operation = world.submit(
            alpha, .publish(label: Bytes("a"), blob: Bytes("1")), timeout: 5)
        world.advance(by: 2000)
        #expect(alpha.completions[operation]?.status == .timedOut)
        world.executeLate()
        world.advance(by: 2000)
        #expect(stored(presence) == nil)
        #expect(alpha.core.counters.leaseID != lease)
        #expect(world.etcd.leases[lease] == nil)
    }

    @Test func ownMoveToAPermanentKeyIsNoTakeover() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha, "a", "1")
        let_(.answerLost, befall: 1)
        let stop = world.submit(alpha, .stopHeartbeat(keep: true))
        world.advance(by: 5000)
        #expect(alpha.completions[stop]?.status == .success)
        #expect(alpha.ownership.isEmpty)
        #expect(stored("/nixl/agents//alpha/a")?.lease == 0)
        #expect(stored(presence)?.lease == 0)
    }

    /// The move had made the key permanent, so no lease took it away.
    @Test func whatAnOperatorRemovedAfterAMoveIsNotPutBack() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha, "a", "1")
        let lease = alpha.core.counters.leaseID
        let_(.answerLost, befall: 1)
        world.isDown = true
        _ = world.submit(alpha, .stopHeartbeat(keep: true), timeout: 60_000)
        world.isDown = false
        world.advance(by: 10)
        world.isDown = true
        world.cut(alpha)
        world.etcd.apply([
            .deleteRange(
                key: Bytes(presence), rangeEnd: Keyspace.end(of: Bytes(presence)))
        ])
        world.etcd.revoke(lease)
        world.isDown = false
        world.advance(by: 5000)
        #expect(!alpha.ownership.contains("SUPERSEDED"))
        #expect(alpha.ownership.last == "WITHDRAWN")
        #expect(stored(presence) == nil)
    }

    /// With the presence key go the labels, so that no lease that ends amid a move leaves some for ever.
    @Test func aMoveIsOneTransactionWhereItFits() {
        let alpha = world.add("alpha")
        for index in 0..<50 {
            world.submit(alpha, .publish(label: [1, UInt8(index)], blob: Bytes("x")))
        }
        let before = world.etcd.revision
        heartbeat(alpha)
        #expect(world.etcd.revision == before + 1)
        #expect(world.etcd.store.allSatisfy { $0.kv.lease == alpha.core.counters.leaseID })
    }

    @Test func whatAMoveHasLeftIsWithdrawn() {
        let alpha = world.add("alpha")
        for index in 0..<250 {
            world.submit(
                alpha, .publish(label: [1, UInt8(index)], blob: Bytes(repeating: 7, count: 10)))
        }
        // The second of three transactions of the move to a lease is not carried out.
        let_(.late, befall: 2)
        world.isDown = false
        heartbeat(alpha)
        world.isDown = true
        world.cut(alpha)
        let lease = alpha.core.counters.leaseID
        world.etcd.revoke(lease)
        #expect(!world.etcd.store.isEmpty)
        let invalidate = world.submit(alpha, .invalidate, timeout: 60_000)
        world.isDown = false
        world.advance(by: 5000)
        #expect(alpha.completions[invalidate]?.status == .success)
        #expect(world.etcd.store.isEmpty)
    }

    @Test func aRefusedWithdrawalIsNotCarriedOutLater() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha, "a", "1")
        let_(.refused(permission), befall: 1)
        let operation = world.submit(alpha, .invalidate)
        #expect(alpha.completions[operation]?.status == .permission)
        world.advance(by: 20_000)
        #expect(stored("/nixl/agents//alpha/a")?.value == Bytes("1"))
        #expect(alpha.ownership.isEmpty)
    }

    @Test func aStopWhoseWithdrawalIsRefusedLeavesTheHeartbeat() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha, "a", "1")
        let_(.refused(permission), befall: 1)
        let operation = world.submit(alpha, .stopHeartbeat(keep: false))
        #expect(alpha.completions[operation]?.status == .permission)
        world.advance(by: 20_000)
        #expect(stored("/nixl/agents//alpha/a")?.lease == alpha.core.counters.leaseID)
        #expect(alpha.core.counters.leaseID != 0)
    }

    @Test func aWithdrawalThatWasCanceledAndCarriedOutIsNobodyElses() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha, "a", "1")
        let_(.answerLost, befall: 1)
        world.fates.append((.range, .ordinary))
        // The second attempt finds nothing of ours; the look at why is late enough for the cancel.
        world.fates.append((.txn, .ordinary))
        world.fates.append((.range, .late))
        let operation = world.submit(alpha, .invalidate, timeout: 60_000)
        for _ in 0..<300 where !world.fates.isEmpty { world.advance(by: 10) }
        alpha.core.cancel(operation, now: world.now)
        world.advance(by: 5000)
        #expect(alpha.completions[operation]?.status == .canceled)
        #expect(alpha.ownership.isEmpty)
    }

    /// A move writes what was sent last, not what was last confirmed.
    @Test func aMoveBringsNoOldValueBack() {
        let alpha = world.add("alpha")
        publish(alpha, "a", "1")
        let_(.answerLost, befall: 1)
        world.submit(alpha, .publish(label: Bytes("a"), blob: Bytes("2")), timeout: 60_000)
        world.isDown = true
        world.cut(alpha)
        alpha.core.submit(
            .startHeartbeat(interval: 1000, ttlSeconds: 5), operation: 99, timeout: nil,
            now: world.now)
        world.isDown = false
        world.advance(by: 5000)
        let values = world.etcd.history.filter { $0.kv.key == Bytes("/nixl/agents//alpha/a") }
            .map { $0.kv.value }
        var distinct: [Bytes] = []
        for value in values where distinct.last != value { distinct.append(value) }
        #expect(distinct == [Bytes("1"), Bytes("2")])
    }

    /// A permanent agent loses nothing with a lease that it has not moved to.
    @Test func aLeaseThatHoldsNothingTakesNothing() {
        let alpha = world.add("alpha")
        publish(alpha, "a", "1")
        let_(.late, befall: 1)
        _ = world.submit(
            alpha, .startHeartbeat(interval: 1000, ttlSeconds: 5), timeout: 60_000)
        world.advance(by: 5000)
        #expect(alpha.ownership.isEmpty)
        #expect(stored(presence)?.lease == alpha.core.counters.leaseID)
    }

    /// The self-watch is interrupted by a compaction while labels are being moved: somebody may have removed them.
    @Test func anOperatorIsHeardAlthoughHistoryWasCompactedAmidAMove() {
        let alpha = world.add("alpha")
        for index in 0..<250 {
            world.submit(
                alpha, .publish(label: [1, UInt8(index)], blob: Bytes(repeating: 7, count: 10)))
        }
        let_(.late, befall: 2)
        world.isDown = false
        heartbeat(alpha)
        world.isDown = true
        world.cut(alpha)
        world.etcd.apply([
            .deleteRange(
                key: Bytes(presence), rangeEnd: Keyspace.end(of: Bytes(presence)))
        ])
        world.etcd.compact(to: world.etcd.revision)
        world.isDown = false
        world.advance(by: 3000)
        #expect(alpha.ownership == ["WITHDRAWN"])
    }

    @Test func whatWaitsForARefusedHeartbeatIsNotMadePermanent() {
        world.isDown = true
        let alpha = world.add("alpha")
        let start = heartbeat(alpha)
        let operation = publish(alpha, "a", "1")
        world.fates.append((.leaseGrant, .refused(permission)))
        world.isDown = false
        world.advance(by: 2000)
        #expect(alpha.completions[start]?.status == .permission)
        #expect(alpha.completions[operation]?.status == .permission)
        #expect(world.etcd.store.isEmpty)
    }

    /// A snapshot that was restored, or a copy of the data that was put back.
    @Test func whatAnOlderStateOfTheStoreBringsBackIsRemoved() {
        let alpha = world.add("alpha")
        publish(alpha, "a", "1")
        publish(alpha, "old", "1")
        let (store, revision) = (world.etcd.store, world.etcd.revision)
        world.submit(alpha, .unpublish(label: Bytes("old")))
        publish(alpha, "a", "2")
        world.etcd.store = store
        world.etcd.revision = revision
        world.etcd.cluster += 1
        world.cut(alpha)
        world.advance(by: 5000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        #expect(stored("/nixl/agents//alpha/a")?.value == Bytes("2"))
        #expect(stored("/nixl/agents//alpha/old") == nil)
    }

    @Test func toRemoveWhatIsWithdrawnTakesNoName() {
        let alpha = world.add("alpha")
        publish(alpha, "a", "1")
        alpha.core.submit(.invalidate, operation: 100, timeout: nil, now: world.now)
        alpha.core.submit(
            .unpublish(label: Bytes("a")), operation: 101, timeout: nil, now: world.now)
        alpha.core.advance(now: world.now)
        world.advance(by: 1000)
        #expect(alpha.completions[101]?.status == .success)
        #expect(world.etcd.store.isEmpty)
    }

    @Test func whatWaitsForAHeartbeatThatTimedOutIsNotMadePermanent() {
        world.isDown = true
        let alpha = world.add("alpha")
        world.submit(alpha, .startHeartbeat(interval: 1000, ttlSeconds: 5), timeout: 1000)
        let operation = world.submit(
            alpha, .publish(label: Bytes("a"), blob: Bytes("1")), timeout: 60_000)
        world.advance(by: 2000)
        world.isDown = false
        world.advance(by: 5000)
        #expect(alpha.completions[operation]?.status == .timedOut)
        #expect(world.etcd.store.isEmpty)
    }

    @Test func whatWaitsForAHeartbeatThatIsCanceledIsNotMadePermanent() {
        world.isDown = true
        let alpha = world.add("alpha")
        let start = heartbeat(alpha)
        let operation = world.submit(
            alpha, .publish(label: Bytes("a"), blob: Bytes("1")), timeout: 60_000)
        alpha.core.cancel(start, now: world.now)
        world.isDown = false
        world.advance(by: 5000)
        #expect(alpha.completions[start]?.status == .canceled)
        #expect(alpha.completions[operation]?.status == .canceled)
        #expect(world.etcd.store.isEmpty)
    }

    /// A move onto a lease that the heartbeat has not any more.
    @Test func aMoveIsGivenUpWithItsHeartbeat() {
        let alpha = world.add("alpha")
        publish(alpha, "a", "1")
        let_(.late, befall: 1)
        world.submit(
            alpha, .startHeartbeat(interval: 1000, ttlSeconds: 5), timeout: 60_000)
        world.isDown = true
        world.cut(alpha)
        world.submit(alpha, .stopHeartbeat(keep: true), timeout: 1000)
        world.advance(by: 10_000)
        world.isDown = false
        let requests = world.etcd.requests
        world.advance(by: 5000)
        #expect(world.etcd.requests - requests < 20)
        #expect(alpha.ownership.isEmpty)
        let again = publish(alpha, "b", "2")
        #expect(alpha.completions[again]?.status == .success)
    }

    /// Only deletions are carried out: so is a withdrawal amid a move that cannot go on.
    @Test func aWithdrawalDoesNotWaitForAMove() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        for index in 0..<250 {
            world.submit(
                alpha, .publish(label: [1, UInt8(index)], blob: Bytes(repeating: 7, count: 10)))
        }
        world.fates.append((.txn, .ordinary))
        for _ in 0..<3 { world.fates.append((.txn, .refused(permission))) }
        world.submit(alpha, .stopHeartbeat(keep: true), timeout: 60_000)
        world.fates = [(.txn, .refused(permission))]
        world.advance(by: 500)
        world.fates = []
        let operation = world.submit(alpha, .invalidate)
        world.advance(by: 5000)
        #expect(alpha.completions[operation]?.status == .success)
        #expect(world.etcd.store.isEmpty)
    }

    @Test func aKeyOfTwoStoresAgoIsKnown() {
        let alpha = world.add("alpha")
        publish(alpha, "a", "1")
        let (store, revision) = (world.etcd.store, world.etcd.revision)
        world.etcd.wipe()
        world.fates = [(.range, .ordinary), (.range, .late)]
        world.cut(alpha)
        world.etcd.store = store
        world.etcd.revision = revision
        world.etcd.cluster += 1
        world.cut(alpha)
        world.advance(by: 5000)
        #expect(!alpha.ownership.contains("SUPERSEDED"))
        #expect(stored("/nixl/agents//alpha/a")?.value == Bytes("1"))
    }

    /// Amid a restore, too, what was put back is known as ours when somebody removes it.
    @Test func whatIsRemovedAmidARestoreIsWithdrawn() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha, "a", "1")
        let lease = alpha.core.counters.leaseID
        world.isDown = true
        world.cut(alpha)
        world.etcd.revoke(lease)
        _ = world.submit(alpha, .stopHeartbeat(keep: true), timeout: 60_000)
        for nth in [3, 1, 1, 1] { let_(.refused(permission), befall: nth) }
        world.isDown = false
        for _ in 0..<300 where stored(presence) == nil { world.advance(by: 10) }
        #expect(stored(presence)?.lease == 0)
        world.etcd.apply([.deleteRange(key: Bytes(presence), rangeEnd: [])])
        world.advance(by: 5000)
        #expect(alpha.ownership == ["LOST", "WITHDRAWN"])
        #expect(stored(presence) == nil)
        #expect(stored("/nixl/agents//alpha/a") == nil)
    }
}
