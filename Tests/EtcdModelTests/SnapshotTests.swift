// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol
import Testing

/// A store that an operator has restored from a snapshot.
@Suite struct SnapshotTests {
    private let client = Client()

    /// Revision 2: `a` on a lease; 3: `b`. After the snapshot 4: `a` changes; 5: `b` goes; 6: `c` comes.
    private func restored(bump: Int64, keepsID: Bool = true) {
        client.grant(7, ttl: 10)
        client.put("a", "1", lease: 7)
        client.put("b", "1")
        let snapshot = client.cluster.store.snapshot()
        client.put("a", "2", lease: 7)
        _ = client.txn([.deleteRange(DeleteRangeRequest(key: Bytes("b")))])
        client.put("c", "1")
        #expect(client.cluster.store.revision == 6)
        client.advance(by: 9_000_000)
        client.cluster.restore(snapshot, bump: bump, keepsID: keepsID, at: client.now)
        // An election, which gives leases their time again.
        client.advance(by: 2_100_000)
    }

    private func watch(from revision: Int64) throws -> WatchResponse {
        let stream = client.openStream(.watch)
        let everything = WatchCreateRequest(
            key: Bytes("a"), rangeEnd: Bytes("z"), startRevision: revision, watchID: 1)
        client.send(everything, on: stream)
        client.advance(by: 200_000)
        let message = try #require(client.messages[stream]?.last)
        return try WatchResponse.decode(message, keepValues: true)
    }

    @Test func snapshot_restored_hasItsKeysAndLeases() throws {
        restored(bump: 0)
        #expect(client.resets == 1)
        #expect(try client.get("a")?.value == Bytes("1"))
        #expect(try client.get("a")?.modRevision == 2)
        #expect(try client.get("b") != nil)
        #expect(try client.get("c") == nil)
        #expect(try client.range(RangeRequest(key: Bytes("a"))).header.revision == 3)
        #expect(try client.timeToLive(7).ttl >= 8)
        client.advance(by: 11_000_000)
        #expect(try client.get("a") == nil)
    }

    @Test(arguments: [true, false])
    func snapshot_restored_mayKeepTheClusterID(keepsID: Bool) throws {
        let before = client.cluster.clusterID
        restored(bump: 0, keepsID: keepsID)
        let header = try client.range(RangeRequest(key: Bytes("a"))).header
        #expect((header.clusterID == before) == keepsID)
    }

    /// The same revision is of another history now.
    @Test func snapshot_withoutABump_reusesRevisions() throws {
        restored(bump: 0)
        client.put("d", "1")
        #expect(try client.get("d")?.modRevision == 4)
        let told = try watch(from: 2)
        #expect(told.events.map { $0.kv.key } == [Bytes("a"), Bytes("b"), Bytes("d")])
    }

    @Test func snapshot_withABump_isAheadAndCompacted() throws {
        restored(bump: 1000)
        let now = try client.range(RangeRequest(key: Bytes("a")))
        #expect(now.header.revision == 1003)
        #expect(now.kvs.first?.modRevision == 2)
        let before = RangeRequest(key: Bytes("a"), revision: 1002)
        #expect(client.send(.range, before).text.contains("has been compacted"))
        #expect(try watch(from: 7).compactRevision == 1003)
        client.put("d", "1")
        #expect(try client.get("d")?.modRevision == 1004)
        let told = try watch(from: 1004)
        #expect(told.events.map { $0.kv.key } == [Bytes("d")])
    }

    @Test func snapshot_isNotChangedByLaterWrites() throws {
        restored(bump: 0)
        client.put("a", "3")
        let second = client.cluster.store.snapshot()
        client.put("a", "4")
        #expect(second[Bytes("a")]?.value == Bytes("3"))
        #expect(second.record(Bytes("a"), at: 3)?.value == Bytes("1"))
    }
}
