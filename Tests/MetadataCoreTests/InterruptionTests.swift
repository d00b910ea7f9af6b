// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import EtcdProtocol
@testable import MetadataCore

/// What becomes of a move or a restore that something else comes amid.
@Suite struct InterruptionTests: WorldSuite {
    let world = World()

    func removeAll() {
        world.etcd.apply([
            .deleteRange(key: Bytes(presence), rangeEnd: Keyspace.end(of: Bytes(presence)))
        ])
    }

    /// Until etcd holds what is waited for; then nothing reaches it any more.
    func goDown(_ node: World.Node, when isThere: () -> Bool) {
        world.isDown = false
        for _ in 0..<300 where !isThere() { world.advance(by: 10) }
        #expect(isThere())
        world.isDown = true
        world.cut(node)
    }

    /// A move onto a lease is on its way, the heartbeat is over, and nothing reaches etcd. The lease.
    func giveUpMove(_ node: World.Node) -> Int64 {
        world.fates = [(.txn, .late)]
        heartbeat(node)
        let lease = node.core.counters.leaseID
        world.isDown = true
        world.cut(node)
        world.submit(node, .stopHeartbeat(keep: true), timeout: 100)
        world.advance(by: 200)
        return lease
    }

    @Test func twoUnansweredPutsOfARestoreAreNobodyElses() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        world.isDown = true
        world.cut(alpha)
        world.etcd.revoke(alpha.core.counters.leaseID)
        world.fates = [(.txn, .answerLost)]
        goDown(alpha) { stored(presence) != nil }
        world.submit(alpha, .stopHeartbeat(keep: true), timeout: 60_000)
        world.fates = [(.txn, .answerLost)]
        goDown(alpha) { stored(presence)?.lease == 0 }
        world.etcd.apply([.deleteRange(key: Bytes(presence), rangeEnd: [])])
        world.isDown = false
        world.advance(by: 5000)
        #expect(alpha.ownership == ["LOST", "WITHDRAWN"])
        #expect(stored(presence) == nil)
    }

    /// Nothing of what etcd has refused was done: what is gone after it is another's doing, or the lease's.
    @Test(arguments: [true, false])
    func whatIsGoneAfterARefusedWithdrawalIsTold(isLeaseRevoked: Bool) {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        world.fates = [(.txn, .refused(permission))]
        let operation = world.submit(alpha, .invalidate)
        #expect(alpha.completions[operation]?.status == .permission)
        if isLeaseRevoked { world.etcd.revoke(alpha.core.counters.leaseID) } else { removeAll() }
        world.advance(by: 5000)
        #expect(alpha.ownership == (isLeaseRevoked ? ["LOST", "RESTORED"] : ["WITHDRAWN"]))
        #expect((stored("/nixl/agents//alpha/a") != nil) == isLeaseRevoked)
    }

    @Test func aStopThatTimedOutMakesNothingPermanentThatWasToBeWithdrawn() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        world.isDown = true
        world.cut(alpha)
        let stop = world.submit(alpha, .stopHeartbeat(keep: false), timeout: 1000)
        world.advance(by: 1100)
        #expect(alpha.completions[stop]?.status == .timedOut)
        world.fates = [(.txn, .refused(permission))]
        world.isDown = false
        world.advance(by: 20_000)
        #expect(world.etcd.store.isEmpty)
        #expect(alpha.ownership.isEmpty)
    }

    @Test(arguments: [1, 2, 3])
    func aRefusedWithdrawalLeavesNoMoveHalfDone(lost: Int) {
        let alpha = world.add("alpha")
        publishMany(alpha)
        for _ in 1..<lost { world.fates.append((.txn, .ordinary)) }
        world.fates.append((.txn, .answerLost))
        let start = heartbeat(alpha)
        world.isDown = true
        world.cut(alpha)
        let operation = world.submit(alpha, .invalidate, timeout: 60_000)
        world.fates = [(.txn, .refused(permission))]
        if lost == 1 { world.fates.insert((.txn, .ordinary), at: 0) }
        world.isDown = false
        world.advance(by: 5000)
        #expect(alpha.completions[operation]?.status == .permission)
        #expect(alpha.completions[start]?.status == .success)
        #expect(world.etcd.store.count == 251)
        #expect(world.etcd.store.allSatisfy { $0.kv.lease == alpha.core.counters.leaseID })
        #expect(alpha.ownership.isEmpty)
    }

    @Test func aRefusedWithdrawalLeavesNoRestoreHalfDone() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publishMany(alpha)
        world.isDown = true
        world.cut(alpha)
        world.etcd.revoke(alpha.core.counters.leaseID)
        world.fates = [(.txn, .ordinary), (.txn, .late)]
        goDown(alpha) { stored(presence) != nil }
        let operation = world.submit(alpha, .invalidate, timeout: 60_000)
        world.fates = [(.txn, .refused(permission))]
        world.isDown = false
        world.advance(by: 5000)
        #expect(alpha.completions[operation]?.status == .permission)
        #expect(world.etcd.store.count == 251)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
    }

    /// An operator, or the first half of a takeover: the lease lives, so it did not take the keys away.
    @Test func whatIsRemovedAmidTheLabelsOfARestoreIsNotPutBack() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publishMany(alpha)
        world.isDown = true
        world.cut(alpha)
        world.etcd.revoke(alpha.core.counters.leaseID)
        world.fates = [(.txn, .ordinary), (.txn, .ordinary), (.txn, .late)]
        goDown(alpha) { stored(presence) != nil }
        removeAll()
        world.isDown = false
        world.advance(by: 2000)
        #expect(alpha.ownership == ["LOST", "WITHDRAWN"])
        #expect(world.etcd.store.isEmpty)
    }

    /// A permanent claim that comes late, where the lease has just taken away what was ours.
    @Test func aLateClaimDoesNotHideThatTheLeaseWasLost() {
        let alpha = world.add("alpha")
        world.fates = [(.txn, .late)]
        publish(alpha)
        world.advance(by: 2000)
        heartbeat(alpha)
        #expect(stored(presence)?.lease == alpha.core.counters.leaseID)
        world.etcd.revoke(alpha.core.counters.leaseID)
        world.executeLate()
        world.advance(by: 5000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        #expect(stored("/nixl/agents//alpha/a")?.lease == alpha.core.counters.leaseID)
    }

    /// Two moves of one key were given up: the lease of the first may have taken it along.
    @Test func theLeaseOfAnEarlierMoveIsOurs() {
        let alpha = world.add("alpha")
        publish(alpha)
        let first = giveUpMove(alpha)
        world.submit(alpha, .startHeartbeat(interval: 1000, ttlSeconds: 5), timeout: 60_000)
        world.fates = [(.txn, .late)]
        goDown(alpha) { world.fates.isEmpty }
        world.executeLate()
        #expect(stored(presence)?.lease == first)
        world.etcd.revoke(first)
        world.isDown = false
        world.advance(by: 3000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
    }

    /// What was to take the place of a move that was given up found that it had been carried out, and its lease ended.
    @Test func theLeaseOfAMoveThatWasGivenUpIsOurs() {
        let alpha = world.add("alpha")
        publish(alpha)
        let first = giveUpMove(alpha)
        world.fates = [(.txn, .late)]
        goDown(alpha) { world.fates.isEmpty }
        world.executeLate()
        #expect(stored(presence)?.lease == first)
        world.etcd.revoke(first)
        world.isDown = false
        world.advance(by: 3000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        #expect(stored(presence)?.lease == 0)
    }

    /// The self-watch is interrupted while the move is on its way, so that its state is another when its answer is lost.
    @Test func aMoveThatIsLostAmidALookMayComeLate() {
        let alpha = world.add("alpha")
        publish(alpha)
        world.submit(alpha, .unpublish(label: Bytes("a")))
        world.answerInstead = { [world] method, reply in
            if method == .leaseGrant { world.isSilent = true }
            return reply
        }
        let start = heartbeat(alpha)
        world.answerInstead = nil
        let lease = alpha.core.counters.leaseID
        if let watcher = alpha.core.selfWatcher, let stream = alpha.watchStreams.first {
            let compacted = WireWriter.message {
                $0.header(cluster: world.etcd.cluster, revision: world.etcd.revision)
                $0.int64(2, watcher.id)
                $0.bool(4, true)
                $0.int64(5, world.etcd.revision)
            }
            alpha.core.receive(.message(stream & 0xffff_ffff, compacted), now: world.now)
        }
        if case .checking = alpha.core.ownership {} else { Issue.record("it does not look") }
        alpha.core.cancel(start, now: world.now)
        world.isSilent = false
        // It is carried out between the look and the end of the lease.
        var looks = 0
        world.answerInstead = { [world, presence] method, reply in
            if method == .range { looks += 1 }
            if looks == 2, method == .range {
                world.etcd.apply([.put(key: Bytes(presence), value: [], lease: lease)])
            }
            return reply
        }
        world.cut(alpha)
        world.advance(by: 3000)
        #expect(looks > 1)
        #expect(alpha.ownership.isEmpty)
        #expect(stored(presence)?.lease == 0)
    }

    /// The Put of a claim comes late, onto the lease that lives, just when somebody has removed everything.
    @Test func aLateClaimDoesNotHideThatSomebodyRemovedAll() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        world.fates = [(.txn, .late)]
        publish(alpha)
        world.advance(by: 2000)
        #expect(stored("/nixl/agents//alpha/a") != nil)
        removeAll()
        world.executeLate()
        world.advance(by: 5000)
        #expect(alpha.ownership == ["WITHDRAWN"])
        #expect(stored(presence) == nil)
    }

    /// etcd came back empty; then its backup was put back.
    @Test func aKeyOfTheStoreBeforeTheLastIsKnown() {
        let alpha = world.add("alpha")
        publish(alpha)
        let (store, revision) = (world.etcd.store, world.etcd.revision)
        world.etcd.wipe()
        for _ in 0..<10 { world.etcd.apply([.put(key: Bytes("/x"), value: [], lease: 0)]) }
        world.etcd.cluster += 1
        world.cut(alpha)
        world.advance(by: 5000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        world.etcd.store = store
        world.etcd.history = []
        world.etcd.revision = revision
        world.etcd.cluster += 1
        world.cut(alpha)
        world.advance(by: 5000)
        #expect(alpha.ownership == ["LOST", "RESTORED", "LOST", "RESTORED"])
        #expect(stored("/nixl/agents//alpha/a")?.value == Bytes("1"))
    }

    /// A permanent Put whose answer was lost, and a claim that etcd refuses from then on.
    @Test func aRefusedClaimLeavesNoPermanentKeyBehind() {
        let alpha = world.add("alpha")
        world.fates = [(.txn, .answerLost), (.range, .ordinary)]
        for _ in 0..<5 { world.fates.append((.range, .refused(permission))) }
        publish(alpha)
        world.advance(by: 500)
        #expect(stored(presence)?.lease == 0)
        let start = heartbeat(alpha)
        world.advance(by: 9000)
        #expect(alpha.completions[start]?.status == .success)
        #expect(world.etcd.store.allSatisfy { $0.kv.lease != 0 })
    }

    /// Carried out, its answer lost; the second attempt is refused (etcd 3.5.1 refuses every transaction while it is full).
    @Test func aWithdrawalThatWasCarriedOutIsNotToldAsRefused() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        world.fates = [(.txn, .answerLost), (.txn, .refused(permission))]
        let operation = world.submit(alpha, .invalidate, timeout: 60_000)
        world.advance(by: 5000)
        #expect(world.etcd.store.isEmpty)
        #expect(alpha.completions[operation]?.status == .success)
        #expect(alpha.ownership.isEmpty)
    }

    /// The first attempt was not carried out: then the refusal of the next is told.
    @Test func aWithdrawalThatWasNotCarriedOutIsToldAsRefused() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        world.fates = [(.txn, .late), (.txn, .refused(permission)), (.txn, .refused(permission))]
        let operation = world.submit(alpha, .invalidate, timeout: 60_000)
        world.advance(by: 5000)
        #expect(alpha.completions[operation]?.status == .permission)
        #expect(stored("/nixl/agents//alpha/a")?.lease == alpha.core.counters.leaseID)
    }

    /// What was not answered in the old store means nothing in the new one, whose revisions are low again.
    @Test func aMoveIsForgottenWithItsStore() {
        let alpha = world.add("alpha")
        publish(alpha)
        world.fates = [(.txn, .late)]
        heartbeat(alpha)
        world.isDown = true
        world.cut(alpha)
        world.etcd.wipe()
        world.isDown = false
        world.advance(by: 5000)
        #expect(alpha.core.lateMove == nil)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        let put = stored(presence)
        world.advance(by: 5000)
        #expect(put?.version == 1)
        #expect(stored(presence)?.modRevision == put?.modRevision)
    }

    /// Stock NIXL, and who else writes with etcdctl, put the presence key over what is there.
    @Test(arguments: [0, 77], [true, false])
    func whoPutsTheKeyOverOursHasTheName(lease: Int64, isLeased: Bool) {
        let alpha = world.add("alpha")
        if isLeased { heartbeat(alpha) }
        publish(alpha)
        world.etcd.apply([
            .put(key: Bytes(presence), value: [], lease: lease),
            .put(key: Bytes("/nixl/agents//alpha/a"), value: Bytes("stock"), lease: lease),
        ])
        world.advance(by: 10_000)
        #expect(alpha.ownership == ["SUPERSEDED"])
        #expect(stored(presence)?.lease == lease)
        #expect(stored("/nixl/agents//alpha/a")?.value == Bytes("stock"))
    }
}
