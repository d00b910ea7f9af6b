// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

@testable import MetadataCore

/// Publishing, the name and its loss, where every request is answered.
@Suite struct OwnershipTests: WorldSuite {
    let world = World()

    @Test func publish_noHeartbeat_hangsOnALeaseThatNeverEnds() {
        let alpha = world.add("alpha")
        let operation = publish(alpha, "metadata", "blob")
        #expect(status(alpha, operation) == .success)
        #expect(stored(presence)?.value == [])
        #expect(stored("/nixl/agents//alpha/metadata")?.value == Bytes("blob"))
        #expect(alpha.connects == 1)
        let lease = alpha.core.ownLease
        #expect(lease & 1 == 1)
        #expect(hangsEverything(on: lease))
        #expect(world.etcd.leases[lease]?.ttl == 9_000_000_000_000)
        #expect(alpha.core.counters.leaseID == 0)
        world.advance(by: 60_000)
        #expect(hangsEverything(on: lease))
        #expect(alpha.core.counters.renewals == 0)
    }

    /// Grant, claim and write, beside the first look: no reading in between.
    @Test func firstPublish_freeName_takesFourRequests() {
        let alpha = world.add("alpha")
        publish(alpha)
        #expect(world.etcd.requests == 4)
        publish(alpha, "a", "2")
        #expect(world.etcd.requests == 5)
    }

    @Test func newerPublish_olderWaits_replacesIt() {
        world.isDown = true
        let alpha = world.add("alpha")
        let first = publish(alpha, "a", "1")
        let second = publish(alpha, "a", "2")
        #expect(status(alpha, first) == .replaced)
        world.isDown = false
        world.advance(by: 1000)
        #expect(status(alpha, second) == .success)
        #expect(stored(a)?.value == Bytes("2"))
    }

    @Test func callsOfOneTick_sameLabel_meetInTheQueue() {
        let alpha = world.add("alpha")
        publish(alpha, "a", "0")
        for (id, blob) in [(OperationID(100), Bytes("1")), (101, Bytes("2"))] {
            alpha.core.submit(
                .publish(label: Bytes("a"), blob: blob), operation: id, timeout: nil,
                now: world.now)
        }
        #expect(alpha.core.nextDeadline == world.now)
        alpha.core.advance(now: world.now)
        world.settle()
        #expect(status(alpha, 100) == .replaced)
        #expect(status(alpha, 101) == .success)
        #expect(stored(a)?.version == 2)
    }

    @Test func publish_timedOutUnsent_isForgotten() {
        world.isDown = true
        let alpha = world.add("alpha")
        let operation = publish(alpha)
        world.advance(by: 10_000)
        #expect(status(alpha, operation) == .timedOut)
        world.isDown = false
        world.advance(by: 5000)
        #expect(world.etcd.store.isEmpty)
        #expect(world.etcd.leases.isEmpty)
    }

    @Test func outage_manyCallsTimeOut_leavesNoTrace() {
        world.isDown = true
        let alpha = world.add("alpha")
        for round in 0..<5000 {
            let label = Bytes("l\(round % 7)".utf8)
            world.submit(alpha, .publish(label: label, blob: Bytes("1")), timeout: 100)
            world.submit(alpha, .fetch(agent: label, label: label, wait: true), timeout: 100)
            world.submit(
                alpha, .publish(label: Bytes("same"), blob: Bytes("1")), timeout: 10_000_000)
            if round % 100 == 99 { world.advance(by: 200) }
        }
        #expect(alpha.core.work.count <= 2 * Limits.endedEntries)
        #expect(alpha.core.waiting.labels <= 2 * Limits.endedEntries)
        #expect(alpha.core.deadlines.count <= 2 * Limits.endedEntries)
        world.isDown = false
        world.advance(by: 1000)
        #expect(stored("/nixl/agents//alpha/same") != nil)
        #expect(world.etcd.store.count == 2)
    }

    @Test func publish_timedOutSent_isFinished() {
        let alpha = world.add("alpha")
        publish(alpha)
        world.isSilent = true
        world.executesSilently = true
        let operation = world.submit(
            alpha, .publish(label: Bytes("a"), blob: Bytes("2")), timeout: 1500)
        world.advance(by: 20_000)
        #expect(status(alpha, operation) == .timedOut)
        world.isSilent = false
        world.advance(by: 10_000)
        #expect(stored(a)?.value == Bytes("2"))
        #expect(alpha.ownership.isEmpty)
    }

    @Test func publish_tooLarge_namesBothSizesAndKeepsTheOldBlob() {
        let alpha = world.add("alpha")
        publish(alpha)
        world.etcd.maximumRequest = 250
        let operation = world.submit(
            alpha, .publish(label: Bytes("a"), blob: Bytes(repeating: 1, count: 300)))
        let completion = alpha.completions[operation]
        #expect(completion?.status == .tooLarge)
        #expect(completion?.text.bytes.contains("300 bytes") == true)
        #expect(completion?.text.bytes.contains("1572864") == true)
        #expect(stored(a)?.value == Bytes("1"))
    }

    @Test func unpublish_ofTwoLabels_removesOne() {
        let alpha = world.add("alpha")
        publish(alpha)
        publish(alpha, "b", "2")
        let operation = world.submit(alpha, .unpublish(label: Bytes("a")))
        #expect(status(alpha, operation) == .success)
        #expect(stored(a) == nil)
        #expect(stored("/nixl/agents//alpha/b") != nil)
        let again = world.submit(alpha, .unpublish(label: Bytes("a")))
        #expect(status(alpha, again) == .notFound)
    }

    /// The second takes the place of the first, which is still on its way.
    @Test func unpublish_twiceAtOnce_bothComplete() {
        let alpha = world.add("alpha")
        publish(alpha)
        publish(alpha, "b", "2")
        let call = HostCall.unpublish(label: Bytes("a"))
        alpha.core.submit(call, operation: 100, timeout: nil, now: world.now)
        alpha.core.advance(now: world.now)
        alpha.core.submit(call, operation: 101, timeout: nil, now: world.now)
        world.advance(by: 1000)
        #expect(status(alpha, 100) == .success)
        #expect(status(alpha, 101) == .success)
        #expect(stored(a) == nil)
    }

    @Test(arguments: [true, false])
    func invalidate_thenPublish_claimsAgain(isLeased: Bool) {
        let alpha = world.add("alpha")
        if isLeased { heartbeat(alpha) }
        publish(alpha)
        let operation = world.submit(alpha, .invalidate)
        #expect(status(alpha, operation) == .success)
        #expect(world.etcd.store.isEmpty)
        world.advance(by: 1000)
        #expect(world.etcd.leases.isEmpty)
        #expect(alpha.ownership.isEmpty)
        publish(alpha, "b", "2")
        #expect(stored(a) == nil)
        #expect(stored("/nixl/agents//alpha/b")?.value == Bytes("2"))
        #expect((alpha.core.counters.leaseID != 0) == isLeased)
    }

    @Test func unpublish_behindInvalidate_isNotFound() {
        let alpha = world.add("alpha")
        publish(alpha)
        alpha.core.submit(.invalidate, operation: 100, timeout: nil, now: world.now)
        alpha.core.submit(
            .unpublish(label: Bytes("a")), operation: 101, timeout: nil, now: world.now)
        alpha.core.advance(now: world.now)
        world.advance(by: 1000)
        #expect(status(alpha, 101) == .notFound)
        #expect(world.etcd.store.isEmpty)
        #expect(world.etcd.leases.isEmpty)
    }

    /// A withdrawal goes on, whoever still waits for it.
    @Test(arguments: [true, false])
    func invalidate_timedOutOrCanceled_goesOn(isCanceled: Bool) {
        let alpha = world.add("alpha")
        publish(alpha)
        disconnect(alpha)
        let operation = world.submit(alpha, .invalidate, timeout: 1000)
        if isCanceled { alpha.core.cancel(operation, now: world.now) }
        world.advance(by: 1100)
        #expect(status(alpha, operation) == (isCanceled ? .canceled : .timedOut))
        world.isDown = false
        world.advance(by: 2000)
        #expect(world.etcd.store.isEmpty)
        #expect(world.etcd.leases.isEmpty)
        #expect(alpha.ownership.isEmpty)
    }

    // MARK: - Others

    @Test(arguments: [true, false], [true, false])
    func takeover_ofALivingAgent_supersedesIt(isFirstLeased: Bool, isSecondLeased: Bool) {
        let first = world.add("alpha", seed: 1)
        let second = world.add("alpha", seed: 2)
        if isFirstLeased { heartbeat(first) }
        publish(first, "a", "old")
        if isSecondLeased { heartbeat(second) }
        let operation = publish(second, "a", "new")
        world.advance(by: 2000)
        #expect(status(second, operation) == .success)
        #expect(first.ownership == ["SUPERSEDED"])
        for call in [HostCall.invalidate, Self.start, .unpublish(label: Bytes("a"))] {
            #expect(status(first, world.submit(first, call)) == .superseded)
        }
        #expect(status(first, publish(first, "a", "older")) == .superseded)
        world.advance(by: 20_000)
        #expect(stored(a)?.value == Bytes("new"))
        #expect(second.ownership.isEmpty)
        #expect(hangsEverything(on: second.core.ownLease))
    }

    private static let start = HostCall.startHeartbeat(interval: 1000, ttlSeconds: 5)

    @Test func claim_refuseTakeoverOfATakenName_leavesTheOtherAlone() {
        let first = world.add("alpha", seed: 1)
        let second = world.add("alpha", seed: 2, refuseTakeover: true)
        publish(first, "a", "old")
        let operation = publish(second, "a", "new")
        #expect(status(second, operation) == .notAllowed)
        #expect(stored(a)?.value == Bytes("old"))
        world.advance(by: 2000)
        #expect(first.ownership.isEmpty)
        #expect(hangsEverything(on: first.core.ownLease))
    }

    /// It was taken when the connection began, and nobody has watched it since.
    @Test func claim_refuseTakeoverOfANameThatWasLeft_succeeds() {
        let first = world.add("alpha", seed: 1)
        let second = world.add("alpha", seed: 2, refuseTakeover: true)
        publish(first, "a", "old")
        world.submit(second, .watch(agent: Bytes("beta"), presenceOnly: false), timeout: nil)
        world.advance(by: 1000)
        world.submit(first, .invalidate)
        world.advance(by: 1000)
        let operation = publish(second, "a", "new")
        #expect(status(second, operation) == .success)
    }

    /// If a predecessor had never come back, its lease would hold the keys forever.
    @Test func restart_ofAnAgentWithoutHeartbeat_leavesOneLease() {
        let first = world.add("alpha", seed: 1)
        publish(first)
        first.isStalled = true
        let second = world.add("alpha", seed: 2)
        publish(second, "a", "2")
        world.advance(by: 1000)
        #expect(hangsEverything(on: second.core.ownLease))
    }

    @Test func newcomer_stalledBehindItsMark_isWaitedFor() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        let other = world.add("alpha", seed: 3)
        befall(.late, nth: 2)
        publish(other, "a", "other")
        #expect(stored(presence) == nil)
        #expect(stored("/nixl/agents//alpha/\0") != nil)
        other.isStalled = true
        world.advance(by: 6000)
        #expect(alpha.ownership.isEmpty)
        other.isStalled = false
        world.advance(by: 5000)
        #expect(alpha.ownership == ["SUPERSEDED"])
        #expect(stored(a)?.value == Bytes("other"))
        #expect(hangsEverything(on: other.core.ownLease))
    }

    @Test(arguments: [true, false], [true, false])
    func operatorRemoves_keysOfALivingAgent_isReportedAndNotUndone(all: Bool, isLeased: Bool) {
        let alpha = world.add("alpha")
        if isLeased { heartbeat(alpha) }
        publish(alpha)
        operatorRemoves(all: all)
        world.advance(by: 30_000)
        #expect(alpha.ownership == ["WITHDRAWN"])
        #expect(world.etcd.store.isEmpty)
        #expect(world.etcd.leases.isEmpty)
        let operation = publish(alpha, "b", "2")
        #expect(status(alpha, operation) == .success)
        #expect(stored(a) == nil)
        #expect(stored("/nixl/agents//alpha/b") != nil)
    }

    @Test(arguments: [true, false])
    func publish_afterWithdrawnAndASuccessor_isSuperseded(isLeased: Bool) {
        let alpha = world.add("alpha")
        if isLeased { heartbeat(alpha) }
        publish(alpha)
        operatorRemoves()
        world.advance(by: 2000)
        #expect(alpha.ownership == ["WITHDRAWN"])
        alpha.isStalled = true
        let other = world.add("alpha", seed: 3)
        publish(other, "a", "other")
        alpha.isStalled = false
        let operation = publish(alpha, "a", "2")
        #expect(status(alpha, operation) == .superseded)
        #expect(alpha.ownership == ["WITHDRAWN", "SUPERSEDED"])
        #expect(stored(a)?.value == Bytes("other"))
        #expect(other.ownership.isEmpty)
    }

    /// Stock NIXL, and who else writes with etcdctl, puts the presence key over what is there.
    @Test(arguments: [0, 77], [true, false])
    func presenceKey_overwrittenByAnother_belongsToIt(lease: Int64, isLeased: Bool) {
        let alpha = world.add("alpha")
        if isLeased { heartbeat(alpha) }
        publish(alpha)
        if lease != 0 { world.etcd.grant(lease, seconds: 3600) }
        world.etcd.apply([
            .put(key: Bytes(presence), value: [], lease: lease),
            .put(key: Bytes(a), value: Bytes("stock"), lease: lease),
        ])
        world.advance(by: 10_000)
        #expect(alpha.ownership == ["SUPERSEDED"])
        #expect(stored(presence)?.lease == lease)
        #expect(stored(a)?.value == Bytes("stock"))
        #expect(world.etcd.leases[alpha.core.ownLease] == nil)
    }

    // MARK: - Losses

    @Test func lease_endedWhileTheHostStalled_isLostAndRestored() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        let first = stored(presence)?.lease ?? 0
        alpha.isStalled = true
        world.advance(by: 8000)
        #expect(world.etcd.store.isEmpty)
        alpha.isStalled = false
        world.advance(by: 1000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        let second = alpha.core.counters.leaseID
        #expect(second != first && second >> 16 == first >> 16)
        #expect(hangsEverything(on: second))
        #expect(alpha.core.counters.restores == 1)
    }

    @Test func lease_revokedWithoutHeartbeat_isLostAndRestored() {
        let alpha = world.add("alpha")
        publish(alpha)
        world.etcd.revoke(alpha.core.ownLease)
        world.advance(by: 1000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        #expect(stored(a)?.value == Bytes("1"))
        #expect(hangsEverything(on: alpha.core.ownLease))
    }

    /// Something revokes it whenever it sees it: the second restore waits, and each longer.
    @Test func lease_revokedAgainAndAgain_isRestoredWithBackOff() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        for _ in 0..<600 {
            if let lease = stored(presence)?.lease { world.etcd.revoke(lease) }
            world.advance(by: 100)
        }
        #expect(alpha.core.counters.leasesLost <= 8)
        #expect(alpha.core.counters.leasesLost >= 5)
    }

    @Test func presenceKey_comeAndGoneWhileAway_nameIsFree() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        alpha.isStalled = true
        world.advance(by: 8000)
        world.etcd.apply([.put(key: Bytes(presence), value: [], lease: 0)])
        operatorRemoves(all: false)
        alpha.isStalled = false
        world.advance(by: 3000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        #expect(stored(a)?.value == Bytes("1"))
    }

    @Test(arguments: [true, false])
    func store_wiped_isFilledAgain(isLeased: Bool) {
        let alpha = world.add("alpha")
        if isLeased { heartbeat(alpha) }
        publish(alpha)
        world.etcd.wipe()
        world.cut(alpha)
        world.advance(by: 5000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        #expect(stored(a)?.value == Bytes("1"))
        #expect(hangsEverything(on: alpha.core.ownLease))
    }

    @Test func labels_moreThanATransactionTakes_areRestoredInBatches() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publishMany(alpha)
        alpha.isStalled = true
        world.advance(by: 8000)
        alpha.isStalled = false
        world.advance(by: 1000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        #expect(world.etcd.store.count == 251)
    }
}
