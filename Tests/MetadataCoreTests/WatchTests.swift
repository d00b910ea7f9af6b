// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

@testable import MetadataCore

/// Watches, fetches, lists, and the connection below them.
@Suite struct WatchTests: WorldSuite {
    let world = World()

    func watch(
        _ node: World.Node, _ agent: StaticString?, presenceOnly: Bool = false
    ) -> OperationID {
        world.submit(
            node, .watch(agent: agent.map { Bytes($0) }, presenceOnly: presenceOnly), timeout: nil)
    }

    func told(_ node: World.Node) -> [String] {
        defer { node.events = [] }
        return node.events.map { $0.brief }
    }

    /// The one that watches has a heartbeat.
    func anAgentThatWatchesAnother() -> (World.Node, World.Node) {
        let alpha = world.add("alpha")
        let peer = world.add("beta", seed: 2)
        heartbeat(peer)
        publish(peer, "b", "1")
        publish(alpha, "a", "1")
        _ = watch(peer, "alpha")
        _ = told(peer)
        return (alpha, peer)
    }

    @Test func watch_ofAnAgent_reportsStateThenChanges() {
        let alpha = world.add("alpha")
        let peer = world.add(nil, seed: 2)
        publish(alpha, "a", "1")
        let id = watch(peer, "alpha")
        #expect(told(peer) == ["appeared alpha", "put alpha a=1", "synced"])
        publish(alpha, "a", "2")
        world.submit(alpha, .unpublish(label: Bytes("a")))
        world.submit(alpha, .invalidate)
        #expect(told(peer) == ["put alpha a=2", "delete alpha a", "gone alpha"])
        peer.core.cancel(id, now: world.now)
        world.settle()
        #expect(told(peer) == ["ended canceled"])
        publish(alpha, "a", "3")
        #expect(told(peer).isEmpty)
    }

    @Test func watch_presenceOnly_reportsNoLabels() {
        let alpha = world.add("alpha")
        let peer = world.add(nil, seed: 2)
        _ = watch(peer, nil, presenceOnly: true)
        publish(alpha, "a", "1")
        world.submit(alpha, .invalidate)
        #expect(told(peer) == ["synced", "appeared alpha", "gone alpha"])
    }

    @Test func agent_killedAndStartedAgain_isGoneThenRestarted() {
        let alpha = world.add("alpha")
        let peer = world.add("beta", seed: 2)
        world.submit(alpha, .startHeartbeat(interval: 1000, ttlSeconds: 5))
        publish(alpha, "a", "1")
        _ = watch(peer, "alpha")
        _ = told(peer)
        alpha.isStalled = true
        world.advance(by: 6000)
        #expect(told(peer) == ["gone alpha"])
        let next = world.add("alpha", seed: 3)
        world.submit(next, .startHeartbeat(interval: 1000, ttlSeconds: 5))
        publish(next, "a", "2")
        #expect(told(peer) == ["restarted alpha", "put alpha a=2"])
    }

    @Test func agent_lostAndRestored_hasReturned() {
        let alpha = world.add("alpha")
        let peer = world.add("beta", seed: 2)
        world.submit(alpha, .startHeartbeat(interval: 1000, ttlSeconds: 5))
        publish(alpha, "a", "1")
        _ = watch(peer, "alpha")
        _ = told(peer)
        alpha.isStalled = true
        world.advance(by: 8000)
        alpha.isStalled = false
        world.advance(by: 1000)
        #expect(told(peer) == ["gone alpha", "returned alpha", "put alpha a=1"])
    }

    @Test func watch_connectionCut_losesAndRepeatsNothing() {
        let alpha = world.add("alpha")
        let peer = world.add(nil, seed: 2)
        publish(alpha, "a", "1")
        _ = watch(peer, "alpha")
        _ = told(peer)
        world.cut(peer)
        for _ in 0..<3 {
            publish(alpha, "a", "2")
            world.cut(peer)
        }
        world.advance(by: 3000)
        #expect(told(peer) == ["put alpha a=2", "put alpha a=2", "put alpha a=2"])
    }

    @Test func watch_longInterruption_reportsContactLost() {
        let alpha = world.add("alpha")
        let peer = world.add(nil, seed: 2)
        _ = watch(peer, "alpha")
        world.isDown = true
        world.cut(peer)
        world.advance(by: 900)
        #expect(told(peer) == ["synced"])
        world.advance(by: 200)
        #expect(told(peer) == ["contact lost"])
        let late = watch(peer, "gamma")
        #expect(told(peer) == ["contact lost"])
        world.isDown = false
        world.advance(by: 1000)
        #expect(told(peer) == ["contact regained", "synced", "contact regained"])
        _ = late
        publish(alpha, "a", "1")
        #expect(told(peer) == ["appeared alpha", "put alpha a=1"])
    }

    @Test func watch_compactedWhileAway_resyncsWithTheDifference() {
        let alpha = world.add("alpha")
        let peer = world.add(nil, seed: 2)
        publish(alpha, "a", "1")
        publish(alpha, "b", "1")
        _ = watch(peer, "alpha")
        _ = told(peer)
        world.isDown = true
        world.cut(peer)
        world.isDown = false
        publish(alpha, "a", "2")
        world.submit(alpha, .unpublish(label: Bytes("b")))
        publish(alpha, "c", "3")
        world.etcd.compact(to: world.etcd.revision)
        world.advance(by: 1000)
        #expect(
            told(peer) == [
                "resync", "put alpha a=2", "put alpha c=3", "delete alpha b", "synced",
            ])
    }

    @Test func watch_storeWiped_resyncs() {
        let alpha = world.add("alpha")
        let peer = world.add(nil, seed: 2)
        publish(alpha, "a", "1")
        _ = watch(peer, "alpha")
        _ = told(peer)
        alpha.isStalled = true
        world.etcd.wipe()
        world.cut(peer)
        world.advance(by: 1000)
        #expect(told(peer) == ["resync", "gone alpha", "synced"])
    }

    /// Its revision tells nothing, for it is past the one that was known; that a lease is missing does.
    @Test(arguments: [true, false])
    func watch_storeWipedAndGrown_resyncs(isAnothers: Bool) {
        let (alpha, peer) = anAgentThatWatchesAnother()
        alpha.isStalled = true
        world.etcd.wipe()
        if isAnothers {
            let key = Bytes("/nixl/agents//alpha/")
            world.etcd.apply([.put(key: key, value: [], lease: 0)])
        }
        for _ in 0..<10 { world.etcd.apply([.put(key: Bytes("/x"), value: [], lease: 0)]) }
        world.cut(peer)
        world.advance(by: 1000)
        let difference = isAnothers ? "restarted alpha" : "gone alpha"
        #expect(told(peer) == ["resync", difference, "synced"])
        #expect(peer.ownership == ["LOST", "RESTORED"])
    }

    /// The watch reports a revocation while we are connected; an expiry while we are away proves
    /// nothing.
    @Test(arguments: [true, false])
    func watch_ownLeaseEnded_doesNotResync(isRevoked: Bool) {
        let (_, peer) = anAgentThatWatchesAnother()
        if isRevoked {
            world.etcd.revoke(peer.core.counters.leaseID)
        } else {
            peer.isStalled = true
            world.advance(by: 6000)
            world.etcd.revoke(peer.core.counters.leaseID)
            world.cut(peer)
            peer.isStalled = false
        }
        world.advance(by: 3000)
        #expect(peer.ownership == ["LOST", "RESTORED"])
        #expect(told(peer) == [])
    }

    @Test func watch_stockLabelsWithoutPresence_implyPresence() {
        let peer = world.add(nil)
        let key = Bytes("/nixl/agents//stock/metadata")
        world.etcd.apply([.put(key: key, value: Bytes("x"), lease: 0)])
        _ = watch(peer, nil, presenceOnly: true)
        _ = watch(peer, "stock")
        #expect(
            told(peer) == [
                "appeared stock", "synced", "appeared stock", "put stock metadata=x", "synced",
            ])
        world.etcd.apply([.delete(key: key, rangeEnd: [])])
        world.settle()
        #expect(told(peer) == ["gone stock", "gone stock"])
    }

    @Test func watch_agentsWithEmptyLabelsOnly_areAbsent() {
        let peer = world.add(nil)
        for index in 0..<150 {
            let name = Bytes("/nixl/agents//a\(index)/x".utf8)
            let value = index % 3 == 0 ? Bytes("v") : []
            world.etcd.apply([.put(key: name, value: value, lease: 0)])
        }
        _ = watch(peer, nil, presenceOnly: true)
        let list = world.submit(peer, .list)
        #expect(peer.completions[list]?.agents?.count == 50)
        #expect(told(peer).filter { $0.hasPrefix("appeared") }.count == 50)
    }

    private func put(_ key: StaticString, _ value: StaticString, lease: Int64) {
        world.etcd.apply([.put(key: Bytes(key), value: Bytes(value), lease: lease)])
    }

    /// A list and a watch name each agent's process as the events do, whether keys-only answers show leases or not; and
    /// labels without a presence key count only if one hangs on no lease and has a value.
    @Test(arguments: [(false, 100), (true, 100), (true, 1)])
    func list_answersWithoutLeases_namesTheIncarnationsOfEvents(hidesLeases: Bool, portion: Int) {
        var portions = CoreConfiguration.Portions()
        portions.batchOperations = portion
        world.etcd.hidesLeases = hidesLeases
        let agents = [world.add("alpha"), world.add("beta", seed: 2), world.add("gamma", seed: 3)]
        for agent in agents.dropFirst() { heartbeat(agent) }
        for agent in agents { publish(agent, "l", "1") }
        put("/nixl/agents//stock/", "", lease: 0)
        put("/nixl/agents//stock/l", "1", lease: 0)
        put("/nixl/agents//implied/l", "1", lease: 0)
        put("/nixl/agents//empty/l", "", lease: 0)
        world.etcd.grant(77, seconds: 60)
        put("/nixl/agents//ghost/l", "1", lease: 77)
        let observer = world.add(nil, seed: 9, portions: portions)
        let operation = world.submit(observer, .list)
        let listed = observer.completions[operation]?.agents ?? []
        let expected = agents.map { UInt64(bitPattern: $0.core.ownLease) >> 16 }
        #expect(
            listed.map { String(decoding: $0.name, as: UTF8.self) }
                == ["alpha", "beta", "gamma", "implied", "stock"])
        #expect(listed.prefix(3).map { $0.incarnation } == expected)
        #expect(listed.prefix(3).map { $0.lease } == agents.map { $0.core.ownLease })
        #expect(listed.dropFirst(3).map { $0.lease } == [0, 0])
        _ = watch(observer, nil, presenceOnly: true)
        let told = observer.events.compactMap { event -> UInt64? in
            if case .appeared(_, let incarnation) = event.kind { incarnation } else { nil }
        }
        #expect(Set(told) == Set(expected + listed.dropFirst(3).map { $0.incarnation }))
    }

    /// Somebody has put a value over the limit under a presence key: the list names all others as ever.
    @Test func list_answersWithoutLeasesTooLarge_asksForLess() {
        world.etcd.hidesLeases = true
        let agents = [world.add("alpha"), world.add("beta", seed: 2), world.add("gamma", seed: 3)]
        for agent in agents { publish(agent, "l", "1") }
        put("/nixl/agents//huge/", "too large", lease: 0)
        world.answerInstead = { method, reply in
            guard method == .txn, case .ok(let bytes) = reply,
                bytes.indices.contains(where: { bytes[$0...].starts(with: Bytes("too large")) })
            else { return reply }
            return .tooLarge(64 << 20)
        }
        let observer = world.add(nil, seed: 9)
        let operation = world.submit(observer, .list)
        let listed = observer.completions[operation]?.agents ?? []
        #expect(
            listed.map { String(decoding: $0.name, as: UTF8.self) }
                == ["alpha", "beta", "gamma", "huge"])
        #expect(listed.prefix(3).map { $0.lease } == agents.map { $0.core.ownLease })
    }

    @Test func watch_eventsOfOneRevision_beginWithPresence() {
        let peer = world.add(nil)
        _ = watch(peer, "alpha")
        _ = told(peer)
        world.etcd.apply([
            .put(key: Bytes("/nixl/agents//alpha/a"), value: Bytes("1"), lease: 0),
            .put(key: Bytes("/nixl/agents//alpha/"), value: [], lease: 0),
        ])
        world.settle()
        #expect(told(peer) == ["appeared alpha", "put alpha a=1"])
    }

    @Test func watch_foreignAndEmptyNames_areIgnored() {
        let peer = world.add(nil)
        _ = watch(peer, nil)
        _ = told(peer)
        world.etcd.apply([
            .put(key: Bytes("/nixl/agents///x"), value: Bytes("1"), lease: 0),
            .put(key: Bytes("/nixl/agents//noslash"), value: Bytes("1"), lease: 0),
        ])
        world.settle()
        #expect(told(peer).isEmpty)
    }

    @Test func watch_manyAgents_listsInPages() {
        let peer = world.add(nil)
        world.etcd.apply(
            (0..<2500).map {
                let key = Bytes("/nixl/agents//") + Bytes("\($0)".utf8) + Bytes("/")
                return .put(key: key, value: [], lease: 0)
            })
        _ = watch(peer, nil, presenceOnly: true)
        world.advance(by: 10)
        #expect(peer.events.count == 2501)
        let list = world.submit(peer, .list)
        world.advance(by: 10)
        let agents = peer.completions[list]?.agents ?? []
        #expect(agents.count == 2500)
        #expect(zip(agents, agents.dropFirst()).allSatisfy { $0.name.precedes($1.name) })
    }

    @Test func fetch_absentThenPublished_getsIt() {
        let alpha = world.add("alpha")
        let peer = world.add(nil, seed: 2)
        let call = HostCall.fetch(agent: Bytes("alpha"), label: Bytes("a"), wait: true)
        let waiting = (0..<100).map { _ in world.submit(peer, call) }
        let absent = world.submit(
            peer, .fetch(agent: Bytes("alpha"), label: Bytes("z"), wait: true), timeout: 500)
        let now = world.submit(
            peer, .fetch(agent: Bytes("alpha"), label: Bytes("a"), wait: false))
        #expect(peer.completions[now]?.status == .notFound)
        world.cut(peer)
        publish(alpha, "a", "1")
        world.advance(by: 1000)
        for operation in waiting {
            #expect(peer.completions[operation]?.blob == Bytes("1"))
        }
        #expect(peer.completions[absent]?.status == .timedOut)
        let later = world.submit(peer, call)
        #expect(peer.completions[later]?.blob == Bytes("1"))
    }

    @Test func server_silent_anotherConnectionIsMade() {
        let peer = world.add(nil, endpoints: 2)
        _ = watch(peer, "alpha")
        world.advance(by: 1000)
        world.isSilent = true
        let connects = peer.connects
        world.advance(by: 8000)
        #expect(peer.connects > connects)
        world.isSilent = false
        world.advance(by: 5000)
        #expect(peer.core.counters.isConnected)
    }

    @Test func handle_idle_hasNoDeadline() {
        let peer = world.add(nil)
        #expect(peer.core.nextDeadline == nil)
        #expect(peer.connects == 0)
    }

    @Test func host_slow_isResynchronised() {
        let peer = world.add(nil)
        _ = watch(peer, nil, presenceOnly: true)
        _ = told(peer)
        // The host takes no callbacks while more come than may wait.
        let stream = peer.watchStreams.first ?? 0
        for batch in 0..<70 {
            var events: [ModelEtcd.Operation] = []
            for index in 0..<1000 {
                let key = Bytes("/nixl/agents//") + Bytes("\(batch)-\(index)".utf8) + Bytes("/")
                events.append(.put(key: key, value: [], lease: 0))
            }
            world.etcd.apply(events)
            for (_, bytes) in world.etcd.outbox {
                peer.core.receive(.message(stream & 0xffff_ffff, bytes), now: world.now)
            }
            world.etcd.outbox = []
        }
        #expect(peer.core.pendingNotices <= Limits.notices)
        world.settle()
        world.advance(by: 200)
        let events = told(peer)
        #expect(events.filter { $0 == "resync" }.count == 1)
        #expect(events.filter { $0.hasPrefix("appeared") }.count == 70_000)
        #expect(Set(events).count == events.count)
        #expect(events.last == "synced")
    }
}
