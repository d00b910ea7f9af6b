// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

@testable import MetadataCore

/// Pages of keys that are too long for one tick.
@Suite struct LongPageTests: WorldSuite {
    let world = World()
    private let keyspace = Keyspace(namespace: Bytes("/nixl"))

    private func name(_ number: Int) -> Bytes { Bytes("agent-\(100_000 + number)".utf8) }

    private func page(_ numbers: Range<Int>, more: Bool) throws -> RangePage {
        let kvs = numbers.map { number in
            var kv = KeyValue()
            kv.key = keyspace.key(agent: name(number))
            (kv.createRevision, kv.modRevision, kv.version, kv.lease) = (2, 2, 1, 7)
            return kv
        }
        return try RangePage.decode(RangePage.encoded(kvs, more: more, revision: 9))
    }

    @Test func list_longPage_isTakenInPortions() throws {
        let job = ListJob(operation: 1, keyspace, .init())
        var leftOut = LeftOut()
        let page = try page(0..<1000, more: true)
        #expect(job.canTake(page, keyspace))
        guard case .more = job.listed(page, keyspace, &leftOut) else {
            Issue.record("1,000 keys are one portion")
            return
        }
        // Short keys: twice as many are asked for.
        let next = try self.page(1000..<2999, more: false)
        #expect(job.canTake(next, keyspace))
        guard case .unfinished = job.listed(next, keyspace, &leftOut), job.isUnfinished else {
            Issue.record("1,999 keys are two portions")
            return
        }
        guard case .listed(let completion) = job.listOn(keyspace, &leftOut) else {
            Issue.record("nothing is left")
            return
        }
        #expect(completion.agents?.map { $0.name } == (0..<2999).map { name($0) })
    }

    @Test func list_namesInAnotherOrderThanKeys_isSorted() throws {
        let job = ListJob(operation: 1, keyspace, .init())
        var leftOut = LeftOut()
        let kvs = ["a-b", "a", "b"].map { name in
            var kv = KeyValue()
            kv.key = keyspace.key(agent: Bytes(name.utf8))
            (kv.createRevision, kv.modRevision, kv.version, kv.lease) = (2, 2, 1, 7)
            return kv
        }
        let page = try RangePage.decode(RangePage.encoded(kvs, more: false, revision: 9))
        guard case .listed(let completion) = job.listed(page, keyspace, &leftOut) else {
            Issue.record("nothing is left")
            return
        }
        #expect(completion.agents?.map { $0.name } == ["a", "a-b", "b"].map { Bytes($0.utf8) })
    }

    @Test func watch_longPage_isTakenInPortions() throws {
        let watch = HostWatch(
            operation: 1, agent: nil, presenceOnly: true, keyspace, CoreConfiguration.Portions(),
            now: 0)
        var notices = Notices(limit: Limits.notices, byteLimit: Limits.noticeBytes)
        _ = watch.listed(try page(0..<1000, more: true), keyspace, &notices)
        #expect(notices.count == 1000)
        let next = try page(1000..<2500, more: false)
        #expect(watch.canTake(next))
        guard case .unfinished = watch.listed(next, keyspace, &notices) else {
            Issue.record("1,500 keys are two portions")
            return
        }
        #expect(notices.count == 2000)
        guard case .follow(from: 10) = watch.tellOn(keyspace, &notices) else {
            Issue.record("nothing is left")
            return
        }
        #expect(notices.count == 2501)
    }

    /// A second portion out of order: the connection is of no use, as where a page is.
    @Test func watch_keysOutOfOrderBehindTheFirstPortion_isMalformed() throws {
        var portions = CoreConfiguration.Portions()
        portions.keysAtOnce = 2
        let watch = HostWatch(
            operation: 1, agent: nil, presenceOnly: true, keyspace, portions, now: 0)
        var notices = Notices(limit: Limits.notices, byteLimit: Limits.noticeBytes)
        let kvs = [1, 2, 2, 3].map { number in
            var kv = KeyValue()
            kv.key = keyspace.key(agent: name(number))
            (kv.createRevision, kv.modRevision, kv.version, kv.lease) = (2, 2, 1, 7)
            return kv
        }
        let page = try RangePage.decode(RangePage.encoded(kvs, more: false, revision: 9))
        guard case .unfinished = watch.listed(page, keyspace, &notices),
            case .malformed = watch.tellOn(keyspace, &notices)
        else {
            Issue.record("a key that comes twice")
            return
        }
    }

    @Test func namespace_ofMany_isListedInFewRequestsAndReportedOnce() {
        var puts: [ModelEtcd.Operation] = []
        for number in 0..<5000 {
            puts.append(
                .put(key: Bytes("/nixl/agents//") + name(number) + Bytes("/"), value: [], lease: 7))
        }
        world.etcd.apply(puts)
        let peer = world.add(nil)
        world.submit(peer, .watch(agent: nil, presenceOnly: true), timeout: nil)
        world.advance(by: 10)
        let told = peer.events.map { $0.brief }
        #expect(told.count == 5001)
        #expect(Set(told).count == 5001)
        #expect(told.last == "synced")
        // A greeting, pages of 1,000, 2,000 and 4,000 keys, and what is asked of the other spelling of the namespace.
        #expect(peer.core.counters.requests <= 5)
    }
}

/// Watches that begin together.
@Suite struct FirstPagesTests: WorldSuite {
    let world = World()

    /// 40 agents with one label each, and a host that watches them all.
    private func watchMany(presenceOnly: Bool = false) -> World.Node {
        for number in 0..<40 {
            let key = Bytes("/nixl/agents//peer\(10 + number)/".utf8)
            world.etcd.apply([
                .put(key: key, value: [], lease: 7), .put(key: key + [97], value: [49], lease: 7),
            ])
        }
        let peer = world.add(nil)
        for number in 0..<40 {
            let call = HostCall.watch(
                agent: Bytes("peer\(10 + number)".utf8), presenceOnly: presenceOnly)
            peer.core.submit(call, operation: peer.newOperation(), timeout: nil, now: world.now)
        }
        world.advance(by: 10)
        return peer
    }

    private func expectAll(_ peer: World.Node) {
        let told = peer.events.map { $0.brief }
        #expect(told.filter { $0.hasPrefix("appeared") }.count == 40)
        #expect(told.filter { $0.hasPrefix("put") }.count == 40)
        #expect(told.filter { $0 == "synced" }.count == 40)
        #expect(Set(told).count == 81)
    }

    @Test func watches_manyBegun_areListedTogether() {
        let peer = watchMany()
        expectAll(peer)
        // A greeting, 16 and then as many as there are, and the other spelling of the namespace.
        #expect(peer.core.counters.requests <= 5)
    }

    /// One of them may not be permitted: each is asked for by itself.
    @Test func watches_refusedTogether_areListedOneByOne() {
        world.refusals[.txn] = permission
        let peer = watchMany()
        expectAll(peer)
        #expect(peer.core.counters.requests >= 40)
    }

    /// A transaction that reads the keys of one of them is refused.
    @Test func watches_oneNotPermitted_othersAreListed() {
        world.forbidden = Bytes("/nixl/agents//peer20/")
        expectAll(watchMany())
    }

    @Test func watches_connectionLostDuringTheirLists_areListedAgain() {
        befall(.answerLost)
        let peer = watchMany()
        world.advance(by: 3000)
        expectAll(peer)
    }
}
