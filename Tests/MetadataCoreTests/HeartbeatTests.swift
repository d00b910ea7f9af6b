// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

@testable import MetadataCore

/// The heartbeat as a mode: from an accepted start until a stop, everything hangs on its lease.
@Suite struct HeartbeatTests: WorldSuite {
    let world = World()

    /// A peer that watches the agent; the result is the events that it has got since.
    func peer() -> () -> [String] {
        let peer = world.add(nil, seed: 9)
        world.submit(peer, .watch(agent: Bytes("alpha"), presenceOnly: false), timeout: nil)
        peer.events = []
        return { peer.events.map { $0.brief } }
    }

    @Test func heartbeat_thenPublish_renewsItsLease() {
        let alpha = world.add("alpha")
        let start = heartbeat(alpha)
        publish(alpha)
        #expect(status(alpha, start) == .success)
        #expect(alpha.completions[start]?.ttl == 5000)
        let lease = alpha.core.counters.leaseID
        #expect(lease & 1 == 0)
        #expect(hangsEverything(on: lease))
        world.advance(by: 60_000)
        #expect(hangsEverything(on: lease))
        #expect(alpha.core.counters.renewals >= 60)
        #expect(alpha.core.counters.renewals <= 80)
        #expect(alpha.ownership.isEmpty)
    }

    @Test func heartbeat_afterPublish_rehangsWithoutAnEvent() {
        let alpha = world.add("alpha")
        publish(alpha)
        publish(alpha, "b", "2")
        let first = alpha.core.ownLease
        let told = peer()
        let start = heartbeat(alpha)
        #expect(status(alpha, start) == .success)
        let lease = alpha.core.counters.leaseID
        #expect(hangsEverything(on: lease))
        #expect(lease >> 16 == first >> 16)
        let stop = world.submit(alpha, .stopHeartbeat(keep: true))
        #expect(status(alpha, stop) == .success)
        #expect(alpha.core.counters.leaseID == 0)
        #expect(alpha.core.ownLease & 1 == 1)
        #expect(hangsEverything(on: alpha.core.ownLease))
        world.advance(by: 30_000)
        #expect(told().allSatisfy { $0.hasPrefix("put alpha") })
        #expect(alpha.ownership.isEmpty)
    }

    /// No lease that ends in between leaves some labels behind.
    @Test func rehang_thatFitsOneTransaction_isOneRevision() {
        let alpha = world.add("alpha")
        for index in 0..<50 {
            world.submit(alpha, .publish(label: [1, UInt8(index)], blob: Bytes("x")))
        }
        let before = world.etcd.revision
        heartbeat(alpha)
        #expect(world.etcd.revision == before + 1)
        #expect(hangsEverything(on: alpha.core.counters.leaseID))
    }

    @Test func rehang_ofManyLabels_leavesOneLease() {
        let alpha = world.add("alpha")
        publishMany(alpha)
        let start = heartbeat(alpha)
        #expect(status(alpha, start) == .success)
        #expect(world.etcd.store.count == 251)
        #expect(hangsEverything(on: alpha.core.counters.leaseID))
    }

    @Test func start_whileOn_changesTheInterval() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        let lease = alpha.core.counters.leaseID
        let again = world.submit(alpha, .startHeartbeat(interval: 100, ttlSeconds: 5))
        #expect(status(alpha, again) == .success)
        #expect(alpha.completions[again]?.ttl == 5000)
        #expect(alpha.core.counters.leaseID == lease)
        let renewals = alpha.core.counters.renewals
        world.advance(by: 10_000)
        #expect(alpha.core.counters.renewals - renewals >= 95)
    }

    @Test func start_whileOnWithAnotherTTL_rehangs() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        let told = peer()
        let again = world.submit(alpha, .startHeartbeat(interval: 1000, ttlSeconds: 30))
        #expect(status(alpha, again) == .success)
        #expect(alpha.completions[again]?.ttl == 30_000)
        #expect(hangsEverything(on: alpha.core.counters.leaseID))
        #expect(world.etcd.leases[alpha.core.counters.leaseID]?.ttl == 30_000)
        #expect(told().allSatisfy { $0.hasPrefix("put alpha") })
    }

    @Test func start_whileAnotherStartWaits_bothComplete() {
        world.isDown = true
        let alpha = world.add("alpha")
        let first = heartbeat(alpha)
        let second = heartbeat(alpha)
        world.isDown = false
        world.advance(by: 1000)
        #expect(status(alpha, first) == .success)
        #expect(status(alpha, second) == .success)
        #expect(world.etcd.leases.count == 1)
    }

    @Test(arguments: [true, false])
    func start_canceledOrTimedOut_heartbeatStaysOn(isCanceled: Bool) {
        world.isDown = true
        let alpha = world.add("alpha")
        let start = world.submit(
            alpha, .startHeartbeat(interval: 1000, ttlSeconds: 5), timeout: 1000)
        let operation = world.submit(
            alpha, .publish(label: Bytes("a"), blob: Bytes("1")), timeout: 60_000)
        if isCanceled { alpha.core.cancel(start, now: world.now) }
        world.advance(by: 2000)
        #expect(status(alpha, start) == (isCanceled ? .canceled : .timedOut))
        world.isDown = false
        world.advance(by: 5000)
        #expect(status(alpha, operation) == .success)
        #expect(hangsEverything(on: alpha.core.counters.leaseID))
    }

    @Test(arguments: [true, false])
    func stop_neverGranted_succeeds(keep: Bool) {
        world.isDown = true
        let alpha = world.add("alpha")
        let start = heartbeat(alpha)
        let stop = world.submit(alpha, .stopHeartbeat(keep: keep))
        world.isDown = false
        world.advance(by: 2000)
        #expect(status(alpha, start) == .canceled)
        #expect(status(alpha, stop) == .success)
        #expect(world.etcd.leases.isEmpty)
        let again = world.submit(alpha, .stopHeartbeat(keep: keep))
        #expect(status(alpha, again) == .notFound)
    }

    @Test func stopWithKeep_whileRehangIsRefused_startedAgain_isReplaced() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        refuseWrites(noSpace)
        let stop = world.submit(alpha, .stopHeartbeat(keep: true), timeout: 60_000)
        world.advance(by: 1000)
        #expect(status(alpha, stop) == nil)
        let start = heartbeat(alpha)
        #expect(status(alpha, stop) == .replaced)
        refuseWrites(nil)
        world.advance(by: 5000)
        #expect(status(alpha, start) == .success)
        #expect(hangsEverything(on: alpha.core.counters.leaseID))
    }

    @Test func stopWithWithdraw_afterPublish_leavesNothing() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        let stop = world.submit(alpha, .stopHeartbeat(keep: false))
        #expect(status(alpha, stop) == .success)
        #expect(world.etcd.store.isEmpty)
        #expect(world.etcd.leases.isEmpty)
        let again = world.submit(alpha, .stopHeartbeat(keep: false))
        #expect(status(alpha, again) == .notFound)
        publish(alpha, "b", "2")
        #expect(alpha.core.counters.leaseID == 0)
    }

    @Test func grant_refused_completesEveryWaitingCall() {
        world.isDown = true
        let alpha = world.add("alpha")
        let start = heartbeat(alpha)
        let operation = publish(alpha)
        befall(.refused(permission), .leaseGrant)
        world.isDown = false
        world.advance(by: 2000)
        #expect(status(alpha, start) == .permission)
        #expect(status(alpha, operation) == .permission)
        #expect(world.etcd.store.isEmpty)
        // It is a mode: the next publish hangs on its lease.
        publish(alpha)
        #expect(hangsEverything(on: alpha.core.counters.leaseID))
    }

    // MARK: - Renewals

    @Test func renewal_unansweredWhileTheHostWasHeldUp_isNotBlamedOnTheServer() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        world.isSilent = true
        world.advance(by: 1000)
        world.isSilent = false
        alpha.core.advance(now: world.now + 3000, hasHeardAll: false)
        #expect(alpha.core.counters.renewalsUnanswered == 0)
        // A probe goes first.
        alpha.core.advance(now: world.now + 3000)
        #expect(alpha.core.counters.renewalsUnanswered == 0)
        alpha.core.advance(now: world.now + 4000)
        #expect(alpha.core.counters.renewalsUnanswered == 1)
    }

    @Test func renewal_unanswered_failsTheConnectionInTime() {
        let alpha = world.add("alpha", endpoints: 2)
        heartbeat(alpha)
        world.advance(by: 1000)
        world.isSilent = true
        world.advance(by: 2500)
        #expect(alpha.core.counters.renewalsUnanswered >= 1)
        world.isSilent = false
        world.advance(by: 2000)
        #expect(alpha.ownership.isEmpty)
        #expect(alpha.core.counters.leasesLost == 0)
    }

    @Test func interruption_shorterThanTheTTL_losesNothing() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        disconnect(alpha)
        world.advance(by: 3000)
        world.isDown = false
        world.advance(by: 60_000)
        #expect(alpha.ownership.isEmpty)
        #expect(stored(a) != nil)
    }

    /// A label that could not be moved stays on the lease that it hangs on, which is renewed beside the new one.
    @Test func label_thatCannotBeMoved_keepsItsOldLeaseAlive() {
        var portions = CoreConfiguration.Portions()
        portions.batchOperations = 2
        let alpha = world.add("alpha", portions: portions)
        heartbeat(alpha)
        publish(alpha)
        publish(alpha, "b", "2")
        let old = alpha.core.counters.leaseID
        let tooLarge = GRPCStatus(code: 3, message: Bytes("etcdserver: request is too large"))
        befall(.refused(tooLarge), nth: 2)
        let start = world.submit(alpha, .startHeartbeat(interval: 1000, ttlSeconds: 30))
        #expect(status(alpha, start) == .tooLarge)
        world.advance(by: 60_000)
        let lease = alpha.core.counters.leaseID
        #expect(stored(a)?.lease == lease)
        #expect(stored("/nixl/agents//alpha/b")?.lease == old)
        world.etcd.revoke(old)
        world.advance(by: 5000)
        #expect(hangsEverything(on: lease))
        #expect(stored("/nixl/agents//alpha/b")?.value == Bytes("2"))
        #expect(alpha.ownership.isEmpty)
    }

    // MARK: - Shutdown

    @Test(arguments: [true, false])
    func shutdown_withQueuedWrites_finishesThemThenLeavesNothing(isLeased: Bool) {
        let alpha = world.add("alpha")
        if isLeased { heartbeat(alpha) } else { publish(alpha, "b") }
        disconnect(alpha)
        let operation = publish(alpha)
        alpha.core.shutdown(drain: 5000, now: world.now)
        world.isDown = false
        world.advance(by: 2000)
        #expect(status(alpha, operation) == .success)
        #expect(alpha.core.isShutDown)
        #expect(world.etcd.store.isEmpty)
        #expect(world.etcd.leases.isEmpty)
    }

    @Test func shutdown_noServer_endsInTime() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        disconnect(alpha)
        let operation = publish(alpha, "a", "2")
        alpha.core.shutdown(drain: 2000, now: world.now)
        world.advance(by: 1900)
        #expect(!alpha.core.isShutDown)
        world.advance(by: 200)
        #expect(alpha.core.isShutDown)
        #expect(status(alpha, operation) == .canceled)
        #expect(alpha.core.nextDeadline == nil)
    }

    @Test(arguments: [true, false])
    func shutdown_fullDatabaseOrNoReading_leavesNothing(isFull: Bool) {
        let alpha = world.add("alpha")
        publishMany(alpha)
        if isFull {
            world.refusals[.txn] = noSpace
            world.refusals[.leaseGrant] = noSpace
        } else {
            world.refusals[.range] = permission
            world.cut(alpha)
        }
        let requests = world.etcd.requests
        alpha.core.shutdown(drain: 5000, now: world.now)
        alpha.core.advance(now: world.now)
        world.advance(by: 5000)
        #expect(alpha.core.isShutDown)
        #expect(world.etcd.store.isEmpty)
        #expect(world.etcd.leases.isEmpty)
        #expect(world.etcd.requests - requests <= 2)
    }

    /// Also after a publish that ended so: nothing is wanted of that any more.
    @Test(arguments: [true, false])
    func start_noSpaceUntilItsTimeout_completesWithNoSpace(publishesFirst: Bool) {
        let alpha = world.add("alpha")
        world.refusals[.leaseGrant] = noSpace
        if publishesFirst {
            let call = HostCall.publish(label: Bytes("a"), blob: Bytes("1"))
            let operation = world.submit(alpha, call, timeout: 1000)
            world.advance(by: 3000)
            #expect(status(alpha, operation) == .noSpace)
        }
        let start = HostCall.startHeartbeat(interval: 1000, ttlSeconds: 5)
        let operation = world.submit(alpha, start, timeout: 1000)
        world.advance(by: 3000)
        #expect(status(alpha, operation) == .noSpace)
    }
}
