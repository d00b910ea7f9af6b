// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

@testable import MetadataCore

/// Publishing, ownership and the heartbeat.
@Suite struct OwnershipTests: WorldSuite {
    let world = World()

    @Test func publishesPermanentKeysByteForByte() {
        let alpha = world.add("alpha")
        let operation = publish(alpha, "metadata", "blob")
        #expect(alpha.completions[operation]?.status == .success)
        #expect(stored("/nixl/agents//alpha/")?.value == [])
        #expect(stored("/nixl/agents//alpha/metadata")?.value == Bytes("blob"))
        #expect(stored("/nixl/agents//alpha/metadata")?.lease == 0)
        #expect(alpha.connects == 1)
    }

    @Test func heartbeatPutsEverythingOnOneLeaseAndRenewsIt() {
        let alpha = world.add("alpha")
        let start = heartbeat(alpha)
        _ = publish(alpha, "metadata", "blob")
        #expect(alpha.completions[start]?.status == .success)
        #expect(alpha.completions[start]?.ttl == 5000)
        let lease = stored("/nixl/agents//alpha/")?.lease ?? 0
        #expect(lease != 0)
        #expect(stored("/nixl/agents//alpha/metadata")?.lease == lease)
        world.advance(by: 60_000)
        #expect(stored("/nixl/agents//alpha/metadata")?.lease == lease)
        #expect(alpha.core.counters.renewals >= 60)
        #expect(alpha.core.counters.renewals <= 80)
        #expect(alpha.ownership.isEmpty)
    }

    @Test func heartbeatAfterPublishMovesTheKeys() {
        let alpha = world.add("alpha")
        _ = publish(alpha, "a", "1")
        _ = publish(alpha, "b", "2")
        let start = heartbeat(alpha)
        #expect(alpha.completions[start]?.status == .success)
        let lease = alpha.core.counters.leaseID
        for key: StaticString in [
            "/nixl/agents//alpha/", "/nixl/agents//alpha/a", "/nixl/agents//alpha/b",
        ] {
            #expect(stored(key)?.lease == lease)
        }
        let stop = world.submit(alpha, .stopHeartbeat(keep: true))
        #expect(alpha.completions[stop]?.status == .success)
        #expect(stored("/nixl/agents//alpha/")?.lease == 0)
        #expect(stored("/nixl/agents//alpha/b")?.lease == 0)
        #expect(world.etcd.leases.isEmpty)
        #expect(alpha.ownership.isEmpty)
    }

    @Test func stopWithWithdrawRemovesKeysAndLease() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        _ = publish(alpha, "a", "1")
        let stop = world.submit(alpha, .stopHeartbeat(keep: false))
        #expect(alpha.completions[stop]?.status == .success)
        #expect(world.etcd.store.isEmpty)
        #expect(world.etcd.leases.isEmpty)
        let again = world.submit(alpha, .stopHeartbeat(keep: false))
        #expect(alpha.completions[again]?.status == .notFound)
    }

    @Test func aNewerPublishReplacesOneThatWaits() {
        world.isDown = true
        let alpha = world.add("alpha")
        let first = publish(alpha, "a", "1")
        let second = publish(alpha, "a", "2")
        #expect(alpha.completions[first]?.status == .replaced)
        world.isDown = false
        world.advance(by: 1000)
        #expect(alpha.completions[second]?.status == .success)
        #expect(stored("/nixl/agents//alpha/a")?.value == Bytes("2"))
    }

    @Test func callsMadeTogetherMeetInTheQueue() {
        let alpha = world.add("alpha")
        _ = publish(alpha, "a", "0")
        for (id, blob) in [(OperationID(100), Bytes("1")), (101, Bytes("2"))] {
            alpha.core.submit(
                .publish(label: Bytes("a"), blob: blob), operation: id, timeout: nil,
                now: world.now)
        }
        #expect(alpha.core.nextDeadline == world.now)
        alpha.core.advance(now: world.now)
        world.settle()
        #expect(alpha.completions[100]?.status == .replaced)
        #expect(alpha.completions[101]?.status == .success)
        #expect(stored("/nixl/agents//alpha/a")?.version == 2)
    }

    @Test func aHostThatWasHeldUpDoesNotBlameTheServer() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        world.isSilent = true
        world.advance(by: 1000)
        world.isSilent = false
        let connects = alpha.connects
        alpha.core.advance(now: world.now + 3000, hasHeardAll: false)
        #expect(alpha.core.counters.renewalsUnanswered == 0)
        alpha.core.advance(now: world.now + 3000)
        world.settle()
        #expect(alpha.connects == connects + 1)
    }

    @Test func anUnsentPublishIsForgottenAtItsTimeout() {
        world.isDown = true
        let alpha = world.add("alpha")
        let operation = publish(alpha, "a", "1")
        world.advance(by: 10_000)
        #expect(alpha.completions[operation]?.status == .timedOut)
        world.isDown = false
        world.advance(by: 5000)
        #expect(world.etcd.store.isEmpty)
    }

    @Test func anOutageLeavesNoTraceOfWhatTimedOut() {
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
        #expect(alpha.core.labelQueue.count <= 2 * Limits.endedEntries)
        #expect(alpha.core.deadlines.count <= 2 * Limits.endedEntries)
        world.isDown = false
        world.advance(by: 1000)
        #expect(stored("/nixl/agents//alpha/same") != nil)
        #expect(world.etcd.store.count == 2)
    }

    @Test func aSentPublishIsFinishedAfterItsTimeout() {
        let alpha = world.add("alpha")
        _ = publish(alpha, "a", "1")
        world.isSilent = true
        world.executesSilently = true
        let operation = world.submit(
            alpha, .publish(label: Bytes("a"), blob: Bytes("2")), timeout: 1500)
        world.advance(by: 20_000)
        #expect(alpha.completions[operation]?.status == .timedOut)
        world.isSilent = false
        world.advance(by: 10_000)
        #expect(stored("/nixl/agents//alpha/a")?.value == Bytes("2"))
        #expect(alpha.ownership.isEmpty)
    }

    @Test func tooLargeNamesBothSizesAndLeavesWhatWas() {
        world.etcd.maximumRequest = 100
        let alpha = world.add("alpha")
        _ = publish(alpha, "a", "1")
        let operation = world.submit(
            alpha, .publish(label: Bytes("a"), blob: Bytes(repeating: 1, count: 200)))
        let completion = alpha.completions[operation]
        #expect(completion?.status == .tooLarge)
        #expect(completion?.text.bytes.contains("200 bytes") == true)
        #expect(completion?.text.bytes.contains("1572864") == true)
        #expect(stored("/nixl/agents//alpha/a")?.value == Bytes("1"))
    }

    @Test func unpublishRemovesOneLabel() {
        let alpha = world.add("alpha")
        _ = publish(alpha, "a", "1")
        _ = publish(alpha, "b", "2")
        let operation = world.submit(alpha, .unpublish(label: Bytes("a")))
        #expect(alpha.completions[operation]?.status == .success)
        #expect(stored("/nixl/agents//alpha/a") == nil)
        #expect(stored("/nixl/agents//alpha/b") != nil)
        let again = world.submit(alpha, .unpublish(label: Bytes("a")))
        #expect(alpha.completions[again]?.status == .notFound)
    }

    @Test func invalidateRemovesEverythingAndLaterPublishClaimsAgain() {
        let alpha = world.add("alpha")
        _ = publish(alpha, "a", "1")
        let operation = world.submit(alpha, .invalidate)
        #expect(alpha.completions[operation]?.status == .success)
        #expect(world.etcd.store.isEmpty)
        world.advance(by: 1000)
        #expect(alpha.ownership.isEmpty)
        _ = publish(alpha, "b", "2")
        #expect(stored("/nixl/agents//alpha/a") == nil)
        #expect(stored("/nixl/agents//alpha/b")?.value == Bytes("2"))
    }

    @Test func aStalledHostLosesAndRestores() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        _ = publish(alpha, "a", "1")
        let first = world.etcd.value(Bytes("/nixl/agents//alpha/"))?.lease ?? 0
        alpha.isStalled = true
        world.advance(by: 8000)
        #expect(world.etcd.store.isEmpty)
        alpha.isStalled = false
        world.advance(by: 1000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        let second = stored("/nixl/agents//alpha/a")?.lease ?? 0
        #expect(second != first && second >> 16 == first >> 16)
        #expect(stored("/nixl/agents//alpha/")?.lease == second)
        #expect(alpha.core.counters.restores == 1)
    }

    @Test func anInterruptionShorterThanTheTTLLosesNothing() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        _ = publish(alpha, "a", "1")
        world.isDown = true
        world.cut(alpha)
        world.advance(by: 3000)
        world.isDown = false
        world.advance(by: 60_000)
        #expect(alpha.ownership.isEmpty)
        #expect(stored("/nixl/agents//alpha/a") != nil)
    }

    @Test func anUnansweredRenewalFailsTheConnectionInTime() {
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

    @Test func aTakeoverSupersedesTheFirst() {
        let first = world.add("alpha", seed: 1)
        let second = world.add("alpha", seed: 2)
        heartbeat(first)
        _ = publish(first, "a", "old")
        heartbeat(second)
        let operation = publish(second, "a", "new")
        #expect(second.completions[operation]?.status == .success)
        #expect(first.ownership.last == "SUPERSEDED")
        let invalidation = world.submit(first, .invalidate)
        #expect(first.completions[invalidation]?.status == .superseded)
        let late = publish(first, "a", "older")
        #expect(first.completions[late]?.status == .superseded)
        world.advance(by: 20_000)
        #expect(stored("/nixl/agents//alpha/a")?.value == Bytes("new"))
        #expect(second.ownership.isEmpty)
        #expect(world.etcd.leases.count == 1)
    }

    @Test func refuseTakeoverLeavesTheOtherAlone() {
        let first = world.add("alpha", seed: 1)
        let second = world.add("alpha", seed: 2, refuseTakeover: true)
        _ = publish(first, "a", "old")
        let operation = publish(second, "a", "new")
        #expect(second.completions[operation]?.status == .notAllowed)
        #expect(stored("/nixl/agents//alpha/a")?.value == Bytes("old"))
        #expect(first.ownership.isEmpty)
    }

    @Test func anOperatorsDeleteIsToldAndNotPutBack() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        _ = publish(alpha, "a", "1")
        world.etcd.apply([
            .deleteRange(
                key: Bytes("/nixl/agents//alpha/"), rangeEnd: Bytes("/nixl/agents//alpha0"))
        ])
        world.settle()
        world.advance(by: 30_000)
        #expect(alpha.ownership == ["WITHDRAWN"])
        #expect(world.etcd.store.isEmpty)
        let operation = publish(alpha, "b", "2")
        #expect(alpha.completions[operation]?.status == .success)
        #expect(stored("/nixl/agents//alpha/a") == nil)
        #expect(stored("/nixl/agents//alpha/b") != nil)
    }

    @Test(arguments: [true, false])
    func whoWasRemovedDoesNotTakeTheNameFromWhoCameAfter(isLeased: Bool) {
        let alpha = world.add("alpha")
        if isLeased { heartbeat(alpha) }
        _ = publish(alpha, "a", "1")
        world.etcd.apply([
            .deleteRange(
                key: Bytes("/nixl/agents//alpha/"), rangeEnd: Bytes("/nixl/agents//alpha0"))
        ])
        world.settle()
        #expect(alpha.ownership == ["WITHDRAWN"])
        // Its self-watch has not told yet that another has come when the host publishes again.
        alpha.isStalled = true
        let other = world.add("alpha", seed: 3)
        _ = publish(other, "a", "other")
        alpha.isStalled = false
        let operation = publish(alpha, "a", "2")
        #expect(alpha.completions[operation]?.status == .superseded)
        #expect(alpha.ownership == ["WITHDRAWN", "SUPERSEDED"])
        #expect(stored("/nixl/agents//alpha/a")?.value == Bytes("other"))
        #expect(other.ownership.isEmpty)
    }

    @Test func somebodyWhoCameAndWentWhileWeWereAwayIsNotOverlooked() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        _ = publish(alpha, "a", "1")
        alpha.isStalled = true
        world.advance(by: 8000)
        let key = Bytes("/nixl/agents//alpha/")
        world.etcd.apply([.put(key: key, value: [], lease: 0)])
        world.etcd.apply([.deleteRange(key: key, rangeEnd: [])])
        alpha.isStalled = false
        world.advance(by: 3000)
        #expect(alpha.ownership == ["LOST", "SUPERSEDED"])
        #expect(world.etcd.store.isEmpty)
    }

    @Test func aWipedStoreIsNoticedAndFilledAgain() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        _ = publish(alpha, "a", "1")
        world.etcd.wipe()
        world.cut(alpha)
        world.advance(by: 5000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        #expect(stored("/nixl/agents//alpha/a")?.value == Bytes("1"))
    }

    @Test func shutdownFinishesWritesThenWithdraws() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        world.isDown = true
        world.cut(alpha)
        let operation = publish(alpha, "a", "1")
        alpha.core.shutdown(drain: 5000, now: world.now)
        world.isDown = false
        world.advance(by: 2000)
        #expect(alpha.completions[operation]?.status == .success)
        #expect(alpha.core.isShutDown)
        #expect(world.etcd.store.isEmpty)
        #expect(world.etcd.leases.isEmpty)
    }

    @Test func shutdownWithoutServerEndsInTime() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        _ = publish(alpha, "a", "1")
        world.isDown = true
        world.cut(alpha)
        let operation = publish(alpha, "a", "2")
        alpha.core.shutdown(drain: 2000, now: world.now)
        world.advance(by: 1900)
        #expect(!alpha.core.isShutDown)
        world.advance(by: 200)
        #expect(alpha.core.isShutDown)
        #expect(alpha.completions[operation]?.status == .canceled)
        #expect(alpha.core.nextDeadline == nil)
    }

    @Test func manyLabelsAreRestoredInBatches() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        for index in 0..<250 {
            world.submit(
                alpha, .publish(label: [1, UInt8(index)], blob: Bytes(repeating: 7, count: 10)))
        }
        alpha.isStalled = true
        world.advance(by: 8000)
        alpha.isStalled = false
        world.advance(by: 1000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        #expect(world.etcd.store.count == 251)
    }
}
