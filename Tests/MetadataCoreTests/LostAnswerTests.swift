// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

@testable import MetadataCore

/// Requests whose answers are lost, and requests that etcd carries out late.
@Suite struct LostAnswerTests: WorldSuite {
    let world = World()

    private var isOwnedOnce: Bool {
        world.nodes.filter { $0.owns(world.etcd, Bytes(presence)) }.count == 1
    }

    // MARK: - Claims and grants

    @Test(arguments: [true, false], [true, false])
    func claim_answerLost_ownsTheName(isLeased: Bool, refusesTakeover: Bool) {
        let alpha = world.add("alpha", refuseTakeover: refusesTakeover)
        if isLeased { heartbeat(alpha) }
        befall(.answerLost)
        let operation = publish(alpha)
        world.advance(by: 2000)
        #expect(status(alpha, operation) == .success)
        #expect(alpha.ownership.isEmpty)
        #expect(stored(a)?.value == Bytes("1"))
        #expect(hangsEverything(on: alpha.core.ownLease))
    }

    @Test(arguments: [true, false])
    func claim_answerLost_thenWithdraw_leavesNothing(isLate: Bool) {
        let alpha = world.add("alpha")
        befall(isLate ? .late : .answerLost)
        publish(alpha)
        disconnect(alpha)
        let operation = world.submit(alpha, .invalidate, timeout: 60_000)
        world.isDown = false
        world.advance(by: 2000)
        world.executeLate()
        world.advance(by: 2000)
        #expect(status(alpha, operation) == .success)
        #expect(world.etcd.store.isEmpty)
        #expect(world.etcd.leases.isEmpty)
        #expect(alpha.ownership.isEmpty)
    }

    /// Two claim one name at once, and the answer to the first claim is lost.
    @Test func claim_lateBesideAnotherProcess_endsWithOneOwner() {
        let old = world.add("alpha", seed: 1)
        let new = world.add("alpha", seed: 2)
        befall(.late)
        publish(old)
        publish(new, "b", "2")
        world.executeLate()
        world.advance(by: 3000)
        #expect(isOwnedOnce)
        #expect(world.etcd.leases.count == 1)
    }

    @Test func publish_timedOutAfterItsClaim_takesNoNameFromAnother() {
        let alpha = world.add("alpha", seed: 1)
        befall(.late)
        let operation = world.submit(
            alpha, .publish(label: Bytes("a"), blob: Bytes("1")), timeout: 5)
        world.isDown = true
        world.advance(by: 100)
        #expect(status(alpha, operation) == .timedOut)
        world.isDown = false
        let beta = world.add("alpha", seed: 2)
        let start = heartbeat(beta)
        publish(beta, "b", "2")
        world.advance(by: 5000)
        #expect(status(beta, start) == .success)
        #expect(beta.ownership.isEmpty)
        #expect(stored("/nixl/agents//alpha/b")?.value == Bytes("2"))
    }

    /// Nothing of it is wanted any more when the claim comes.
    @Test(arguments: [true, false])
    func claim_lateAfterItsPublishTimedOut_leavesNoKey(isLeased: Bool) {
        let alpha = world.add("alpha")
        if isLeased { heartbeat(alpha) }
        befall(.late)
        let operation = world.submit(
            alpha, .publish(label: Bytes("a"), blob: Bytes("1")), timeout: 5)
        world.advance(by: 2000)
        #expect(status(alpha, operation) == .timedOut)
        world.executeLate()
        world.advance(by: 2000)
        #expect(stored(presence) == nil)
        #expect(world.etcd.leases.count == (isLeased ? 1 : 0))
    }

    @Test(arguments: [true, false])
    func grant_answerLost_isAskedFor(isLate: Bool) {
        let alpha = world.add("alpha")
        befall(isLate ? .late : .answerLost, .leaseGrant)
        let operation = publish(alpha)
        world.advance(by: 2000)
        #expect(status(alpha, operation) == .success)
        #expect(hangsEverything(on: alpha.core.ownLease))
        world.executeLate()
        world.advance(by: 2000)
        // A lease that comes late is empty, and nothing is ever put on it.
        #expect(world.etcd.store.allSatisfy { $0.lease == alpha.core.ownLease })
    }

    /// It brings the lease back, and the claim with it, unless no lease is granted twice.
    @Test func grant_lateAfterTheWithdrawal_leavesNoKey() {
        let alpha = world.add("alpha")
        befall(.late, .leaseGrant)
        publish(alpha)
        world.advance(by: 2000)
        befall(.late)
        publish(alpha, "a", "2")
        disconnect(alpha)
        world.submit(alpha, .invalidate, timeout: 60_000)
        world.isDown = false
        world.advance(by: 2000)
        world.executeLate()
        world.advance(by: 2000)
        #expect(world.etcd.store.isEmpty)
        #expect(alpha.ownership.isEmpty)
    }

    // MARK: - Writes

    @Test func write_answerLost_isNotWrittenTwice() {
        let alpha = world.add("alpha")
        publish(alpha)
        befall(.answerLost)
        let operation = publish(alpha, "a", "2")
        world.advance(by: 2000)
        #expect(status(alpha, operation) == .success)
        #expect(stored(a)?.value == Bytes("2"))
        #expect(stored(a)?.version == 2)
    }

    /// The fence has moved the presence key: what is late is bound to where it stood.
    @Test func write_lateBehindANewerOne_undoesNothing() {
        let alpha = world.add("alpha")
        publish(alpha)
        befall(.late)
        let first = publish(alpha, "a", "2")
        let second = publish(alpha, "a", "3")
        world.advance(by: 2000)
        #expect(status(alpha, first) == .replaced)
        #expect(status(alpha, second) == .success)
        world.executeLate()
        world.advance(by: 2000)
        #expect(stored(a)?.value == Bytes("3"))
    }

    @Test func write_lateWhileTheLabelWasPutByAnother_isNoticed() {
        let alpha = world.add("alpha")
        publish(alpha)
        befall(.late)
        let operation = publish(alpha, "a", "2")
        world.etcd.apply([.put(key: Bytes(a), value: Bytes("foreign"), lease: 0)])
        world.advance(by: 2000)
        #expect(status(alpha, operation) == .success)
        #expect(stored(a)?.value == Bytes("2"))
        #expect(hangsEverything(on: alpha.core.ownLease))
    }

    /// etcd may have carried out what it refuses for want of space.
    @Test func write_noSpaceButCarriedOut_succeeds() {
        let alpha = world.add("alpha")
        publish(alpha)
        let full = noSpace
        world.answerInstead = { method, reply in method == .txn ? .failed(full) : reply }
        let operation = publish(alpha, "a", "2")
        world.answerInstead = nil
        world.advance(by: 5000)
        #expect(status(alpha, operation) == .success)
        #expect(stored(a)?.value == Bytes("2"))
        #expect(alpha.ownership.isEmpty)
        // A later time-out has another reason.
        world.isSilent = true
        let late = world.submit(
            alpha, .publish(label: Bytes("a"), blob: Bytes("3")), timeout: 1000)
        world.advance(by: 1100)
        #expect(status(alpha, late) == .timedOut)
    }

    @Test func label_tooLargeAfterALostAnswer_stopsNoRehang() {
        let alpha = world.add("alpha")
        publish(alpha)
        befall(.late)
        let large = world.submit(
            alpha, .publish(label: Bytes("b"), blob: Bytes(repeating: 7, count: 3000)),
            timeout: 60_000)
        world.etcd.maximumRequest = 2000
        disconnect(alpha)
        let start = world.submit(
            alpha, .startHeartbeat(interval: 1000, ttlSeconds: 5), timeout: 60_000)
        world.isDown = false
        world.advance(by: 5000)
        #expect(status(alpha, large) == .tooLarge)
        #expect(status(alpha, start) == .success)
        #expect(hangsEverything(on: alpha.core.counters.leaseID))
    }

    // MARK: - Rehangs

    @Test(arguments: [true, false])
    func rehang_answerLost_endsOnItsLease(isLate: Bool) {
        let alpha = world.add("alpha")
        publish(alpha)
        befall(isLate ? .late : .answerLost)
        let start = world.submit(
            alpha, .startHeartbeat(interval: 1000, ttlSeconds: 5), timeout: 60_000)
        world.advance(by: 5000)
        world.executeLate()
        world.advance(by: 5000)
        #expect(status(alpha, start) == .success)
        #expect(alpha.ownership.isEmpty)
        #expect(hangsEverything(on: alpha.core.counters.leaseID))
    }

    @Test func stopWithKeep_answerLost_isNoTakeover() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        befall(.answerLost)
        let stop = world.submit(alpha, .stopHeartbeat(keep: true))
        world.advance(by: 5000)
        #expect(status(alpha, stop) == .success)
        #expect(alpha.ownership.isEmpty)
        #expect(alpha.core.ownLease & 1 == 1)
        #expect(hangsEverything(on: alpha.core.ownLease))
    }

    @Test func rehang_lost_thenStopped_costsFewRequests() {
        let alpha = world.add("alpha")
        publish(alpha)
        befall(.late)
        heartbeat(alpha)
        disconnect(alpha)
        world.submit(alpha, .stopHeartbeat(keep: true), timeout: 1000)
        world.advance(by: 10_000)
        world.isDown = false
        let requests = world.etcd.requests
        world.advance(by: 5000)
        #expect(world.etcd.requests - requests < 20)
        #expect(alpha.ownership.isEmpty)
        publish(alpha, "b", "2")
        #expect(alpha.core.ownLease & 1 == 1)
        #expect(hangsEverything(on: alpha.core.ownLease))
    }

    /// A rehang of several transactions: the lease that is in use ends, some labels still hang on the older one.
    @Test(arguments: [2, 3])
    func rehang_halfDone_lostItsLease_isRestored(lost: Int) {
        let alpha = world.add("alpha")
        publishMany(alpha)
        befall(.late, nth: lost)
        heartbeat(alpha)
        disconnect(alpha)
        world.etcd.revoke(alpha.core.counters.leaseID)
        #expect(!world.etcd.store.isEmpty)
        world.isDown = false
        world.advance(by: 5000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        #expect(world.etcd.store.count == 251)
        #expect(hangsEverything(on: alpha.core.counters.leaseID))
    }

    @Test func rehang_halfDone_thenInvalidate_leavesNoKey() {
        let alpha = world.add("alpha")
        publishMany(alpha)
        befall(.late, nth: 2)
        let start = heartbeat(alpha)
        disconnect(alpha)
        world.etcd.revoke(alpha.core.counters.leaseID)
        #expect(!world.etcd.store.isEmpty)
        let invalidate = world.submit(alpha, .invalidate, timeout: 60_000)
        world.isDown = false
        world.advance(by: 5000)
        #expect(status(alpha, invalidate) == .success)
        #expect(world.etcd.store.isEmpty)
        // The start still waits for its lease.
        #expect(status(alpha, start) == .success)
        #expect(Array(world.etcd.leases.keys) == [alpha.core.counters.leaseID])
    }

    @Test func rehang_behindALostWrite_bringsNoOldValueBack() {
        let alpha = world.add("alpha")
        publish(alpha)
        befall(.answerLost)
        world.submit(alpha, .publish(label: Bytes("a"), blob: Bytes("2")), timeout: 60_000)
        disconnect(alpha)
        alpha.core.submit(
            .startHeartbeat(interval: 1000, ttlSeconds: 5), operation: 99, timeout: nil,
            now: world.now)
        world.isDown = false
        world.advance(by: 5000)
        let values = world.etcd.history.filter { $0.key == Bytes(a) }.map { $0.record?.value ?? [] }
        var distinct: [Bytes] = []
        for value in values where distinct.last != value { distinct.append(value) }
        #expect(distinct == [Bytes("1"), Bytes("2")])
    }

    /// Two rehangs of unknown outcome: the first lease may have taken the key along.
    @Test func rehangs_twoLost_theFirstCarriedOutAndItsLeaseEnded_isLost() {
        let alpha = world.add("alpha")
        publish(alpha)
        befall(.late)
        heartbeat(alpha)
        let first = alpha.core.counters.leaseID
        disconnect(alpha)
        world.submit(alpha, .startHeartbeat(interval: 1000, ttlSeconds: 30), timeout: 60_000)
        world.executeLate()
        #expect(stored(presence)?.lease == first)
        world.etcd.revoke(first)
        world.isDown = false
        world.advance(by: 5000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        #expect(hangsEverything(on: alpha.core.counters.leaseID))
    }

    // MARK: - Withdrawals

    @Test(arguments: [true, false])
    func invalidate_answerLost_succeedsOnce(isLate: Bool) {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        befall(isLate ? .late : .answerLost, .leaseRevoke)
        let operation = world.submit(alpha, .invalidate, timeout: 60_000)
        world.advance(by: 5000)
        #expect(status(alpha, operation) == .success)
        world.executeLate()
        publish(alpha, "b", "2")
        world.advance(by: 5000)
        #expect(alpha.ownership.isEmpty)
        #expect(world.etcd.store.count == 2)
        #expect(hangsEverything(on: alpha.core.counters.leaseID))
    }

    @Test func invalidate_answerLostThenCanceled_isNotTakenForAnOperators() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        befall(.answerLost, .leaseRevoke)
        let operation = world.submit(alpha, .invalidate, timeout: 60_000)
        alpha.core.cancel(operation, now: world.now)
        world.advance(by: 5000)
        #expect(status(alpha, operation) == .canceled)
        #expect(alpha.ownership.isEmpty)
        #expect(world.etcd.store.isEmpty)
    }

    // MARK: - Others, and leases that end

    @Test func operatorRemoves_afterALostRehang_isWithdrawn() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        befall(.answerLost)
        world.submit(alpha, .stopHeartbeat(keep: true), timeout: 60_000)
        disconnect(alpha)
        operatorRemoves()
        world.isDown = false
        world.advance(by: 5000)
        #expect(alpha.ownership == ["WITHDRAWN"])
        #expect(world.etcd.store.isEmpty)
        #expect(world.etcd.leases.isEmpty)
    }

    /// The claim that was lost is carried out after somebody has removed everything.
    @Test(arguments: [true, false])
    func operatorRemoves_thenALateClaim_isWithdrawn(isAbsenceSeen: Bool) {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        befall(.late)
        publish(alpha)
        world.advance(by: 1000)
        #expect(stored(a) != nil)
        alpha.isStalled = !isAbsenceSeen
        operatorRemoves()
        world.executeLate()
        if alpha.isStalled { #expect(stored(presence)?.lease == alpha.core.ownLease) }
        alpha.isStalled = false
        world.advance(by: 5000)
        #expect(alpha.ownership == ["WITHDRAWN"])
        #expect(world.etcd.store.isEmpty)
        #expect(world.etcd.leases.isEmpty)
    }

    @Test func operatorRemoves_whileHistoryIsCompacted_isWithdrawn() {
        let alpha = world.add("alpha")
        publishMany(alpha)
        befall(.late, nth: 2)
        heartbeat(alpha)
        disconnect(alpha)
        operatorRemoves()
        world.etcd.compact(to: world.etcd.revision)
        world.isDown = false
        world.advance(by: 3000)
        #expect(alpha.ownership == ["WITHDRAWN"])
        #expect(world.etcd.store.isEmpty)
    }

    @Test func claim_lateAfterItsLeaseEnded_isLostAndRestored() {
        let alpha = world.add("alpha")
        befall(.late)
        publish(alpha)
        world.advance(by: 2000)
        heartbeat(alpha)
        world.etcd.revoke(alpha.core.counters.leaseID)
        world.executeLate()
        world.advance(by: 5000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        #expect(hangsEverything(on: alpha.core.counters.leaseID))
    }

    /// A late claim may undo the removal or not; the host's report is true in both cases.
    @Test func operatorRemoves_thenALateClaim_isUndoneOrReported() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        befall(.late)
        publish(alpha)
        world.advance(by: 2000)
        #expect(stored(a) != nil)
        operatorRemoves()
        world.executeLate()
        world.advance(by: 5000)
        if alpha.ownership.isEmpty {
            #expect(stored(a)?.value == Bytes("1"))
            #expect(hangsEverything(on: alpha.core.counters.leaseID))
        } else {
            #expect(alpha.ownership == ["WITHDRAWN"])
            #expect(world.etcd.store.isEmpty)
        }
    }

    /// An eviction dies with whoever sent it, or it would remove a healthy agent long after.
    @Test func eviction_lateAfterItsSenderLeft_removesNobody() {
        let alpha = world.add("alpha", seed: 1)
        publish(alpha)
        let other = world.add("alpha", seed: 2)
        befall(.late)
        let operation = publish(other, "a", "other")
        world.isDown = true
        alpha.isStalled = true
        world.submit(other, .invalidate, timeout: nil)
        world.isDown = false
        world.advance(by: 1000)
        #expect(status(other, operation) == .replaced)
        alpha.isStalled = false
        world.executeLate()
        world.advance(by: 5000)
        #expect(alpha.ownership.isEmpty)
        #expect(stored(a)?.value == Bytes("1"))
    }
}
