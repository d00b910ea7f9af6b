// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import EtcdProtocol
@testable import MetadataCore

/// Restores and rehangs that something else interrupts, and stores that have gone back.
@Suite struct InterruptionTests: WorldSuite {
    let world = World()

    /// Until etcd holds what is waited for; then nothing reaches it any more.
    func goDown(_ node: World.Node, when isThere: () -> Bool) {
        world.isDown = false
        for _ in 0..<300 where !isThere() { world.advance(by: 10) }
        #expect(isThere())
        disconnect(node)
    }

    /// Its lease has ended while it could not be reached.
    func loseLease(_ node: World.Node) {
        disconnect(node)
        world.etcd.revoke(node.core.ownLease)
    }

    @Test func restore_answerLost_thenStopWithKeep_thenRemoved_isWithdrawn() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        loseLease(alpha)
        befall(.answerLost)
        goDown(alpha) { stored(presence) != nil }
        world.submit(alpha, .stopHeartbeat(keep: true), timeout: 60_000)
        world.isDown = false
        world.advance(by: 5000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        #expect((stored(presence)?.lease ?? 0) & 1 == 1)
        operatorRemoves(all: false)
        world.advance(by: 5000)
        #expect(alpha.ownership == ["LOST", "RESTORED", "WITHDRAWN"])
        #expect(world.etcd.store.isEmpty)
    }

    /// An operator, or the first half of a takeover: the lease lives, so it did not take the keys along.
    @Test func restore_removedBetweenItsBatches_isNotPutBack() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publishMany(alpha)
        loseLease(alpha)
        world.fates = [(.txn, .ordinary), (.txn, .ordinary), (.txn, .late)]
        goDown(alpha) { stored(presence) != nil }
        operatorRemoves()
        world.isDown = false
        world.advance(by: 3000)
        #expect(alpha.ownership == ["LOST", "WITHDRAWN"])
        #expect(world.etcd.store.isEmpty)
    }

    @Test func restore_thenInvalidate_leavesNothing() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publishMany(alpha)
        loseLease(alpha)
        world.fates = [(.txn, .ordinary), (.txn, .late)]
        goDown(alpha) { stored(presence) != nil }
        let operation = world.submit(alpha, .invalidate, timeout: 60_000)
        world.isDown = false
        world.advance(by: 3000)
        world.executeLate()
        world.advance(by: 3000)
        #expect(status(alpha, operation) == .success)
        #expect(alpha.ownership == ["LOST"])
        #expect(world.etcd.store.isEmpty)
        #expect(world.etcd.leases.isEmpty)
    }

    @Test func invalidate_whileARehangIsRefused_succeeds() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publishMany(alpha)
        world.refusals[.txn] = permission
        world.submit(alpha, .stopHeartbeat(keep: true), timeout: 60_000)
        world.advance(by: 500)
        let operation = world.submit(alpha, .invalidate)
        world.advance(by: 5000)
        #expect(status(alpha, operation) == .success)
        #expect(world.etcd.store.isEmpty)
        #expect(world.etcd.leases.isEmpty)
    }

    @Test func selfWatch_compacted_looksAgainAndGoesOn() {
        let alpha = world.add("alpha")
        publish(alpha)
        guard let watcher = alpha.core.selfWatcher, let stream = alpha.watchStreams.first else {
            Issue.record("nothing is watched")
            return
        }
        let compacted = WireWriter.message {
            $0.header(cluster: world.etcd.cluster, revision: world.etcd.revision)
            $0.int64(2, watcher.id)
            $0.bool(4, true)
            $0.int64(5, world.etcd.revision)
        }
        let requests = world.etcd.requests
        alpha.core.receive(.message(stream & 0xffff_ffff, compacted), now: world.now)
        world.advance(by: 1000)
        #expect(world.etcd.requests == requests + 1)
        #expect(alpha.ownership.isEmpty)
        operatorRemoves()
        world.advance(by: 2000)
        #expect(alpha.ownership == ["WITHDRAWN"])
    }

    // MARK: - Stores that have gone back

    @Test(arguments: [true, false])
    func store_rolledBack_holdsTheLastCompletedState(isAnotherCluster: Bool) {
        let alpha = world.add("alpha")
        publish(alpha)
        publish(alpha, "old", "1")
        let putBack = world.etcd.snapshot()
        world.submit(alpha, .unpublish(label: Bytes("old")))
        publish(alpha, "a", "2")
        putBack(nil)
        if isAnotherCluster { world.etcd.cluster += 1 }
        world.cut(alpha)
        world.advance(by: 5000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        #expect(stored(a)?.value == Bytes("2"))
        #expect(stored("/nixl/agents//alpha/old") == nil)
        #expect(hangsEverything(on: alpha.core.ownLease))
    }

    /// `etcdutl snapshot restore --bump-revision`: the same cluster, lease and keys, a newer revision.
    @Test func store_rolledBackWithBumpedRevision_holdsTheLastCompletedState() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        let putBack = world.etcd.snapshot()
        publish(alpha, "a", "2")
        publish(alpha, "new", "1")
        putBack(world.etcd.revision + 1000)
        world.etcd.compact(to: world.etcd.revision)
        world.cut(alpha)
        world.advance(by: 5000)
        #expect(stored(a)?.value == Bytes("2"))
        #expect(stored("/nixl/agents//alpha/new")?.value == Bytes("1"))
        #expect(alpha.ownership.isEmpty || alpha.ownership == ["LOST", "RESTORED"])
    }

    @Test func store_rolledBackAfterTheWithdrawal_isCleared() {
        let alpha = world.add("alpha")
        publish(alpha)
        let putBack = world.etcd.snapshot()
        world.submit(alpha, .invalidate)
        putBack(nil)
        publish(alpha, "b", "2")
        world.cut(alpha)
        world.advance(by: 5000)
        #expect(stored(a) == nil)
        #expect(stored("/nixl/agents//alpha/b")?.value == Bytes("2"))
        #expect(hangsEverything(on: alpha.core.ownLease))
    }

    /// It is of a moment at which the presence key was gone and a label was not.
    @Test func store_rolledBackToALabelAlone_isCleared() {
        let alpha = world.add("alpha")
        publish(alpha)
        // Something is wanted still, so it stays connected.
        heartbeat(alpha)
        world.submit(alpha, .stopHeartbeat(keep: true))
        alpha.isStalled = true
        operatorRemoves(all: false)
        let putBack = world.etcd.snapshot()
        alpha.isStalled = false
        world.submit(alpha, .invalidate)
        world.advance(by: 1000)
        #expect(world.etcd.store.isEmpty)
        heartbeat(alpha)
        putBack(nil)
        world.cut(alpha)
        world.advance(by: 5000)
        #expect(world.etcd.store.isEmpty)
    }

    /// Nothing is written again: a process that has left has no key to defend.
    @Test func store_rolledBackAfterTheWithdrawal_isNotTakenOver() {
        let alpha = world.add("alpha")
        world.submit(alpha, .watch(agent: Bytes("beta"), presenceOnly: true), timeout: nil)
        publish(alpha)
        let putBack = world.etcd.snapshot()
        world.submit(alpha, .invalidate)
        putBack(nil)
        world.cut(alpha)
        world.advance(by: 5000)
        #expect(world.etcd.store.isEmpty)
        #expect(world.etcd.leases.isEmpty)
        #expect(world.etcd.history.allSatisfy { $0.record == nil })
    }

    /// It is of a moment at which the agent still had its name. SUPERSEDED is final.
    @Test func store_rolledBackAfterSuperseded_isCleared() {
        let alpha = world.add("alpha")
        world.submit(alpha, .watch(agent: Bytes("beta"), presenceOnly: true), timeout: nil)
        publish(alpha)
        let putBack = world.etcd.snapshot()
        world.etcd.apply([.put(key: Bytes(presence), value: [], lease: 0)])
        world.advance(by: 2000)
        #expect(alpha.ownership == ["SUPERSEDED"])
        putBack(nil)
        world.cut(alpha)
        world.advance(by: 5000)
        #expect(world.etcd.store.isEmpty)
        #expect(world.etcd.leases.isEmpty)
        #expect(alpha.ownership == ["SUPERSEDED"])
    }

    @Test(arguments: [true, false])
    func store_emptyThenRolledBack_knowsItsOwnKey(hasGrown: Bool) {
        let alpha = world.add("alpha")
        publish(alpha)
        let putBack = world.etcd.snapshot()
        world.etcd.wipe()
        if hasGrown {
            for _ in 0..<10 { world.etcd.apply([.put(key: Bytes("/x"), value: [], lease: 0)]) }
        }
        world.etcd.cluster += 1
        world.cut(alpha)
        world.advance(by: 5000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        putBack(nil)
        world.etcd.cluster += 1
        world.cut(alpha)
        world.advance(by: 5000)
        #expect(alpha.ownership == ["LOST", "RESTORED", "LOST", "RESTORED"])
        #expect(stored(a)?.value == Bytes("1"))
        #expect(hangsEverything(on: alpha.core.ownLease))
    }

    /// An unanswered request to the old store means nothing in the new one, whose revisions are
    /// low.
    @Test func store_wipedAfterALostRehang_isFilledOnce() {
        let alpha = world.add("alpha")
        publish(alpha)
        befall(.late)
        heartbeat(alpha)
        disconnect(alpha)
        world.etcd.wipe()
        world.isDown = false
        world.advance(by: 5000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        let put = stored(presence)
        #expect(put?.version == 1)
        world.advance(by: 5000)
        #expect(stored(presence)?.modRevision == put?.modRevision)
        #expect(hangsEverything(on: alpha.core.counters.leaseID))
    }

    /// A lease that was revoked before its time makes everything that reads begin again on the same connection.
    @Test func list_beginsAgainWhileAskedFor_expectsNoAnswerToItsFirstQuestion() {
        let keyspace = Keyspace(namespace: Bytes("/nixl"))
        let job = ListJob(operation: 1, keyspace, .init())
        let first = job.epoch
        #expect(job.expects(first))
        job.restart(keyspace)
        #expect(!job.expects(first))
        #expect(job.expects(job.epoch))
        job.finish()
        #expect(!job.expects(job.epoch))
    }

    /// On another connection a snapshot may have been restored: then one page would be of the store before it.
    @Test func list_halfDone_goesOnWithItsConnectionOnly() throws {
        let keyspace = Keyspace(namespace: Bytes("/nixl"))
        let job = ListJob(operation: 1, keyspace, .init())
        var leftOut = LeftOut()
        #expect(job.goesOn(with: 1))
        #expect(job.goesOn(with: 2))
        var label = KeyValue()
        (label.key, label.createRevision, label.modRevision) = (Bytes("/nixl/a/l"), 2, 2)
        let page = try RangePage.decode(RangePage.encoded([label], more: false, revision: 2))
        guard case .more = job.listed(page, keyspace, &leftOut), job.isAskingAboutAgents else {
            Issue.record("whether a label counts for an agent is to be asked")
            return
        }
        #expect(job.goesOn(with: 2))
        #expect(!job.goesOn(with: 3))
        job.restart(keyspace)
        #expect(job.goesOn(with: 3))
    }

    @Test func fetch_beginsAgainWhileItsAgentIsAskedFor_asksForTheLabelAgain() {
        let keyspace = Keyspace(namespace: Bytes("/nixl"))
        let fetch = Fetch(operation: 1, agent: Bytes("a"), label: Bytes("l"), waits: false)
        var found = RangeResponse()
        var label = KeyValue()
        (label.key, label.value, label.lease) = (fetch.key(keyspace), [1], 3)
        label.hasValue = true
        (label.createRevision, label.modRevision, label.version) = (2, 2, 1)
        (found.kvs, found.count, found.header.revision) = ([label], 1, 2)
        guard case .unsure = fetch.answered(found, keyspace) else {
            Issue.record("a label on a lease that never ends needs its agent's presence key")
            return
        }
        let first = fetch.epoch
        #expect(fetch.getAgain() == nil)
        #expect(!fetch.expects(first))
        #expect(fetch.request(keyspace).key == fetch.key(keyspace))
    }
}
