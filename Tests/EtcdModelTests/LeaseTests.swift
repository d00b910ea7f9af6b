// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import Testing

@testable import EtcdProtocol

/// Leases, as etcd's server/lease/lessor.go and server/etcdserver/api/v3rpc/lease.go have them.
@Suite struct LeaseTests {
    @Test func grant_ttlAbove9000000000_isRefused() throws {
        let client = Client()
        #expect(client.grant(7, ttl: 9_000_000_000).text == "ok")
        #expect(client.grant(8, ttl: 9_000_000_001).text == "11 etcdserver: too large lease TTL")
        client.put("k", lease: 7)
        client.jump(by: 1_000_000 * 3600 * 24 * 365)
        #expect(try client.get("k")?.lease == 7)
        #expect(try client.timeToLive(7).ttl == 9_000_000_000 - 3600 * 24 * 365)
        #expect(try client.timeToLive(8).ttl == -1)
    }

    @Test func leaseID_usedTwice_isRefused() throws {
        let client = Client()
        client.grant(7)
        #expect(client.grant(7).text == "9 etcdserver: lease already exists")
        #expect(client.revoke(7).text == "ok")
        #expect(client.revoke(7).text == "5 etcdserver: requested lease not found")
        #expect(client.put("k", lease: 7).text == "5 etcdserver: requested lease not found")
        #expect(try client.get("k") == nil)
    }

    @Test func timeToLive_listsTheKeysOfALease() throws {
        let client = Client()
        client.grant(7, ttl: 10)
        client.put("a", lease: 7)
        client.put("b", lease: 7)
        client.put("c")
        let answer = try #require(client.send(.leaseTimeToLive, KeysOfLease(id: 7)))
        let response = try LeaseTimeToLiveResponse.decode(Optional(answer).body)
        #expect((response.id, response.ttl, response.grantedTTL) == (7, 10, 10))
        // Field 5, which the library does not read: two keys of one byte.
        let keys = [0x2a, 1, UInt8(ascii: "a"), 0x2a, 1, UInt8(ascii: "b")]
        #expect(Optional(answer).body.suffix(6) == keys)
    }

    @Test func grant_late_bringsARevokedLeaseBack() throws {
        for seed in 1...20 {
            let client = Client(seed: UInt64(seed))
            client.cluster.breaksOneIn = 1
            #expect(client.grant(7).text == "none")
            client.cluster.breaksOneIn = 0
            #expect(client.grant(7).text == "ok")
            #expect(client.revoke(7).text == "ok")
            client.advance(by: 31_000_000)
            guard client.cluster.lateExecutions == 1 else { continue }
            // It has run out meanwhile, or is there.
            #expect(client.cluster.store.lateLeases.contains(7))
            return
        }
        Issue.record("no grant came late")
    }

    @Test func put_late_isCarriedOut() {
        #expect(lateRuns { $0.put("k") } > 0)
    }

    /// Of 20 clusters those that carry a request out after its connection has broken.
    private func lateRuns(_ request: (Client) -> Outcome?) -> Int {
        (1...20).filter { seed in
            let client = Client(seed: UInt64(seed))
            client.cluster.breaksOneIn = 1
            #expect(request(client).text == "none")
            #expect(client.resets == 1)
            #expect(client.cluster.lateExecutions == 0)
            client.advance(by: 31_000_000)
            return client.cluster.lateExecutions == 1
        }.count
    }
}

/// LeaseTimeToLiveRequest with `keys`, which the library does not ask for.
struct KeysOfLease: WireMessage {
    let id: Int64
    var encodedSize: Int { WireWriter.size(1, id) + 2 }

    func write(_ writer: inout WireWriter) {
        writer.int64(1, id)
        writer.bool(2, true)
    }
}
