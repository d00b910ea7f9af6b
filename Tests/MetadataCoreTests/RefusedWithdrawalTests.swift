// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import EtcdProtocol
@testable import MetadataCore

/// What becomes of a withdrawal that etcd refuses, and of what waits behind others that it refuses.
@Suite struct RefusedWithdrawalTests: WorldSuite {
    let world = World()
    /// Of no class of its own: `Failure.other`, told as BACKEND.
    let corrupt = GRPCStatus(code: 15, message: Bytes("etcdserver: corrupt cluster"))
    /// What etcd says to one without credentials, once authentication is switched on.
    let noUser = GRPCStatus(code: 3, message: Bytes("etcdserver: user name is empty"))

    func refuse(_ status: GRPCStatus, _ method: EtcdMethod = .txn, times: Int = 1000) {
        for _ in 0..<times { world.fates.append((method, .refused(status))) }
    }

    /// Header: 'completes with ... UNAUTHENTICATED, PERMISSION, NO_SPACE, BACKEND'.
    @Test(arguments: [true, false])
    func aWithdrawalThatIsRefusedForAnyReasonIsTold(isStop: Bool) {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        refuse(corrupt)
        let connects = alpha.connects
        let requests = world.etcd.requests
        let operation = world.submit(
            alpha, isStop ? .stopHeartbeat(keep: false) : .invalidate, timeout: nil)
        world.advance(by: 30_000)
        #expect(alpha.completions[operation]?.status == .backend)
        #expect(alpha.connects == connects)
        #expect(world.etcd.requests - requests < 20)
    }

    @Test func aWithdrawalWithoutCredentialsIsTold() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        refuse(noUser, times: 1)
        refuse(noUser, .range)
        let operation = world.submit(alpha, .invalidate, timeout: nil)
        world.advance(by: 30_000)
        #expect(alpha.completions[operation]?.status == .unauthenticated)
    }

    /// guarantees.md: 'a shutdown that had its time leaves nothing at all'; 'its lease is revoked'.
    @Test func aShutdownLeavesToTheLeaseWhatItMayNotRemove() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        refuse(corrupt)
        alpha.core.shutdown(drain: 3000, now: world.now)
        alpha.core.advance(now: world.now)
        world.advance(by: 3100)
        #expect(alpha.core.isShutDown)
        #expect(world.etcd.store.isEmpty)
    }

    // MARK: - What is left when a lease has ended

    /// Of 250 permanent labels a move has brought the first ones onto a lease, which has ended: the others are left.
    func leaveLabelsWithoutPresence(_ alpha: World.Node) {
        publishMany(alpha)
        world.fates = [(.txn, .ordinary), (.txn, .late)]
        heartbeat(alpha)
        world.isDown = true
        world.cut(alpha)
        world.advance(by: 6000)
        world.etcd.revoke(alpha.core.counters.leaseID)
        #expect(!world.etcd.store.isEmpty)
        #expect(stored(presence) == nil)
    }

    /// Unit aWithdrawalThatWasNotCarriedOutIsToldAsRefused, where only labels are left.
    @Test(arguments: [true, false])
    func aRefusedWithdrawalOfWhatIsLeftIsTold(isFirstLost: Bool) {
        let alpha = world.add("alpha")
        leaveLabelsWithoutPresence(alpha)
        let operation = world.submit(alpha, .invalidate, timeout: nil)
        // Its guard finds no presence key; then the one of what is left.
        world.fates = [(.txn, .ordinary)]
        if isFirstLost { world.fates.append((.txn, .late)) }
        refuse(permission)
        world.isDown = false
        world.advance(by: 30_000)
        #expect(world.fates.count < 1000)
        #expect(alpha.completions[operation]?.status == .permission)
    }

    /// 'A withdrawal that etcd refused was carried out later all the same'; 'a refused withdrawal left a move or a restore
    /// half done: labels permanent, or missing for ever'.
    @Test func aRefusedWithdrawalOfWhatIsLeftIsNotCarriedOut() {
        let alpha = world.add("alpha")
        leaveLabelsWithoutPresence(alpha)
        let operation = world.submit(alpha, .invalidate, timeout: nil)
        world.fates = [(.txn, .ordinary), (.txn, .refused(permission))]
        world.isDown = false
        world.advance(by: 10_000)
        #expect(alpha.completions[operation]?.status == .permission)
        #expect(world.etcd.store.count == 251)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
    }

    /// BACKEND leaves open whether it was done, but the host has been told that it was not.
    @Test func whatIsLostAfterARefusedWithdrawalIsPutBack() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        refuse(corrupt, times: 1)
        let operation = world.submit(alpha, .invalidate, timeout: nil)
        #expect(alpha.completions[operation]?.status == .backend)
        world.etcd.revoke(alpha.core.counters.leaseID)
        world.advance(by: 5000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        #expect(stored("/nixl/agents//alpha/a")?.value == Bytes("1"))
    }

    /// A stop that has timed out withdraws as soon as it may; on no lease are those labels that the move has not reached.
    @Test func aRefusedWithdrawalLeavesNothingToALeaseThatDoesNotHoldAll() {
        let alpha = world.add("alpha")
        publishMany(alpha)
        world.fates = [(.txn, .ordinary), (.txn, .late)]
        heartbeat(alpha)
        world.isDown = true
        world.cut(alpha)
        let stop = world.submit(alpha, .stopHeartbeat(keep: false), timeout: 300)
        world.advance(by: 1000)
        #expect(alpha.completions[stop]?.status == .timedOut)
        world.fates = []
        refuse(permission)
        world.isDown = false
        world.advance(by: 10_000)
        #expect(!world.etcd.store.isEmpty)
        world.fates = []
        world.advance(by: 10_000)
        #expect(world.etcd.store.isEmpty)
    }

    /// The start is refused, the stop with it; in between the lease has ended.
    @Test func aRefusedStopGoesOnAlsoWithoutALease() {
        let alpha = world.add("alpha")
        publish(alpha)
        refuse(permission)
        let start = heartbeat(alpha)
        #expect(alpha.completions[start]?.status == .permission)
        world.fates = []
        world.advance(by: 3000)
        world.isDown = true
        world.cut(alpha)
        let again = heartbeat(alpha)
        let stop = world.submit(alpha, .stopHeartbeat(keep: false), timeout: nil)
        #expect(alpha.completions[again]?.status == .canceled)
        refuse(permission, times: 1)
        world.isDown = false
        world.advance(by: 5000)
        #expect(alpha.completions[stop]?.status == .permission)
        #expect(alpha.core.counters.leaseID != 0)
        #expect(stored("/nixl/agents//alpha/a")?.lease == alpha.core.counters.leaseID)
    }

    // MARK: - Amid others' work, and again and again

    /// With etcd 3.5.1 full every transaction is refused; an older state of the store has brought back our permanent key.
    @Test func aRefusedWithdrawalAmidARestoreIsTold() {
        let alpha = world.add("alpha")
        publish(alpha)
        let (store, revision) = (world.etcd.store, world.etcd.revision)
        world.etcd.wipe()
        for _ in 0..<10 { world.etcd.apply([.put(key: Bytes("/x"), value: [], lease: 0)]) }
        world.etcd.cluster += 1
        world.cut(alpha)
        world.advance(by: 5000)
        world.etcd.store = store
        world.etcd.history = []
        world.etcd.revision = revision
        world.etcd.cluster += 1
        let full = GRPCStatus(code: 8, message: Bytes("etcdserver: mvcc: database space exceeded"))
        refuse(full)
        world.cut(alpha)
        world.advance(by: 1000)
        let operation = world.submit(alpha, .invalidate, timeout: nil)
        world.advance(by: 30_000)
        #expect(alpha.completions[operation]?.status == .noSpace)
    }

    /// A host that asks five times a second for what etcd refuses keeps its connection.
    @Test func refusedWithdrawalsCostNoConnection() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        refuse(permission)
        let connects = alpha.connects
        for _ in 0..<50 {
            world.submit(alpha, .invalidate)
            world.advance(by: 250)
        }
        #expect(alpha.connects == connects)
    }

    /// Full database, a shutdown with permanent keys: tried until the drain is over, but over one connection.
    @Test func aRefusedDrainKeepsItsConnection() {
        let alpha = world.add("alpha")
        publish(alpha)
        refuse(permission)
        let connects = alpha.connects
        alpha.core.shutdown(drain: 10_000, now: world.now)
        alpha.core.advance(now: world.now)
        world.advance(by: 10_100)
        #expect(alpha.core.isShutDown)
        #expect(alpha.connects == connects)
    }

    /// The withdrawal was carried out, its answer lost, and the first Put of the claim comes late. What is then refused is the
    /// withdrawal of that one: told as refused, everything that was published has to be there.
    @Test(arguments: [true, false])
    func aLateClaimDoesNotHideThatAWithdrawalWasCarriedOut(isLeased: Bool) {
        let alpha = world.add("alpha")
        if isLeased { heartbeat(alpha) }
        world.fates = [(.txn, .late)]
        publish(alpha)
        world.advance(by: 2000)
        #expect(stored("/nixl/agents//alpha/a") != nil)
        world.isDown = true
        world.cut(alpha)
        let operation = world.submit(alpha, .invalidate, timeout: 60_000)
        world.fates = [(.txn, .answerLost)]
        world.isDown = false
        for _ in 0..<300 where !world.etcd.store.isEmpty { world.advance(by: 10) }
        #expect(world.etcd.store.isEmpty)
        world.isDown = true
        world.cut(alpha)
        world.executeLate()
        #expect(stored(presence) != nil)
        // Its guard fails; those of the late key are refused.
        world.fates = [
            (.txn, .ordinary), (.txn, .refused(permission)), (.txn, .refused(permission)),
        ]
        world.isDown = false
        world.advance(by: 10_000)
        #expect(alpha.completions[operation]?.status == .permission)
        #expect(stored("/nixl/agents//alpha/a")?.value == Bytes("1"))
    }

    // MARK: - What waits behind a restore or a move

    @Test func aPublishBehindARefusedRestoreIsTold() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        let full = GRPCStatus(code: 8, message: Bytes("etcdserver: mvcc: database space exceeded"))
        refuse(full)
        world.etcd.revoke(alpha.core.counters.leaseID)
        world.advance(by: 2000)
        let operation = world.submit(
            alpha, .publish(label: Bytes("a"), blob: Bytes("2")), timeout: nil)
        world.advance(by: 60_000)
        #expect(alpha.completions[operation]?.status == .noSpace)
    }

    @Test func aPublishBehindARefusedMoveIsTold() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        let full = GRPCStatus(code: 8, message: Bytes("etcdserver: mvcc: database space exceeded"))
        refuse(full)
        let stop = world.submit(alpha, .stopHeartbeat(keep: true), timeout: nil)
        world.advance(by: 2000)
        let operation = world.submit(
            alpha, .publish(label: Bytes("b"), blob: Bytes("2")), timeout: nil)
        world.advance(by: 10_000)
        #expect(alpha.completions[operation]?.status == .noSpace)
        world.fates = []
        world.advance(by: 5000)
        #expect(alpha.completions[stop]?.status == .success)
        #expect(stored("/nixl/agents//alpha/a")?.lease == 0)
        #expect(stored("/nixl/agents//alpha/b") == nil)
    }
}
