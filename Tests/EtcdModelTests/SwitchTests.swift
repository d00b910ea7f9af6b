// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol
import Testing

/// Switches of the model: differences between etcd's versions, and accidents. A seed chooses them.
@Suite struct SwitchTests {
    // MARK: - Keys without their lease (3.7)

    @Test(arguments: [false, true])
    func keysOnlyAnswers_mayOmitLeases(leavesOut: Bool) throws {
        let client = Client { $0.leavesOutLeasesOfKeys = leavesOut }
        client.grant(7)
        client.put("k", lease: 7)
        let keysOnly = RangeRequest(key: Bytes("k"), keysOnly: true)
        #expect(try client.range(keysOnly).kvs.first?.lease == (leavesOut ? 0 : 7))
        #expect(try client.get("k")?.lease == 7)
        let answer = client.txn([.range(keysOnly), .range(RangeRequest(key: Bytes("k")))])
        let leases = try TxnResponse.decode(answer.body).responses.map { response -> Int64? in
            if case .range(let found) = response { found.kvs.first?.lease } else { nil }
        }
        #expect(leases == [leavesOut ? 0 : 7, 7])
    }

    // MARK: - Permission

    /// The user may write below `a/`; somebody else has hung another key on its lease.
    private func clientOfARole(
        _ change: (inout Cluster.Settings) -> Void = { _ in }
    ) -> Client {
        let client = Client(change)
        let mine: Role.KeyRange = (Bytes("a/"), Bytes("a0"))
        client.grant(7)
        client.put("a/1", lease: 7)
        client.cluster.role = Role(read: [mine], write: [mine])
        return client
    }

    private func hangForeignKey(_ client: Client) {
        client.cluster.operate([.put(key: Bytes("b"), value: [], lease: 7)], at: client.now)
    }

    /// The TTL that a renewal tells, or how its stream has ended.
    private func renew(_ client: Client) throws -> String {
        let stream = client.openStream(.leaseKeepAlive)
        client.send(LeaseKeepAliveRequest(id: 7), on: stream)
        if let end = client.ends[stream] { return Optional(end).text }
        let message = try #require(client.messages[stream]?.first)
        return "TTL \(try LeaseKeepAliveResponse.decode(message).ttl)"
    }

    @Test func role_allowsOnlyItsKeys() throws {
        let client = clientOfARole()
        let refused = "7 etcdserver: permission denied"
        #expect(client.put("a/2", lease: 7).text == "ok")
        #expect(client.put("b").text == refused)
        #expect(client.send(.range, RangeRequest(key: Bytes("b"))).text == refused)
        let tooFar = RangeRequest(key: Bytes("a/"), rangeEnd: Bytes("b"))
        #expect(client.send(.range, tooFar).text == refused)
        #expect(try client.get("a/1") != nil)
        // Both the comparison and the branch that is not taken count.
        let compare = Compare(key: Bytes("b"), target: .modRevision(5))
        #expect(
            client.txn([.range(RangeRequest(key: Bytes("a/1")))], compare: [compare]).text
                == refused)
        let untaken = TxnRequest(
            compare: [], success: [.range(RangeRequest(key: Bytes("a/1")))],
            failure: [.deleteRange(DeleteRangeRequest(key: Bytes("b")))])
        #expect(client.send(.txn, untaken).text == refused)
        #expect(client.revoke(7).text == "ok")
    }

    @Test func revoke_needsPermissionForAllKeysOfTheLease() {
        let client = clientOfARole()
        hangForeignKey(client)
        #expect(client.revoke(7).text == "7 etcdserver: permission denied")
        client.cluster.role = nil
        #expect(client.revoke(7).text == "ok")
    }

    @Test(arguments: [false, true])
    func renewal_mayNeedPermission(isNeeded: Bool) throws {
        let client = clientOfARole { $0.checksRenewals = isNeeded }
        #expect(try renew(client) == "TTL 10")
        hangForeignKey(client)
        let refused = "7 etcdserver: permission denied"
        #expect(try renew(client) == (isNeeded ? refused : "TTL 10"))
        client.cluster.role = nil
        #expect(try renew(client) == "TTL 10")
        // Nothing is allowed any more.
        client.cluster.isForbidden = true
        #expect(try renew(client) == (isNeeded ? refused : "TTL 10"))
    }

    @Test(arguments: [false, true])
    func renewal_mayNeedAToken(isNeeded: Bool) throws {
        let client = Client {
            $0.checksRenewals = isNeeded
            $0.credentials = (Bytes("root"), Bytes("secret"))
        }
        let login = AuthenticateRequest(name: Bytes("root"), password: Bytes("secret"))
        client.token = try AuthenticateResponse.decode(client.send(.authenticate, login).body).token
        client.grant(7)
        #expect(try renew(client) == "TTL 10")
        client.cluster.forgetTokens()
        #expect(try renew(client) == (isNeeded ? "16 etcdserver: invalid auth token" : "TTL 10"))
    }

    @Test(arguments: [false, true])
    func putOntoALease_mayNeedPermissionForAllItsKeys(isNeeded: Bool) {
        let client = clientOfARole { $0.checksLeasesOfPuts = isNeeded }
        hangForeignKey(client)
        let refused = "7 etcdserver: permission denied"
        #expect(client.put("a/2", lease: 7).text == (isNeeded ? refused : "ok"))
        #expect(client.put("a/2").text == "ok")
    }

    @Test func timeToLive_keysNeedPermissionToRead() {
        let client = clientOfARole()
        #expect(client.send(.leaseTimeToLive, KeysOfLease(id: 7)).text == "ok")
        hangForeignKey(client)
        #expect(
            client.send(.leaseTimeToLive, KeysOfLease(id: 7)).text
                == "7 etcdserver: permission denied")
        #expect(client.send(.leaseTimeToLive, LeaseTimeToLiveRequest(id: 7)).text == "ok")
    }

    // MARK: - No space

    private let noSpace = "8 etcdserver: mvcc: database space exceeded"

    @Test(arguments: [0, 1])
    func noSpace_mayBeCarriedOut(oneIn: Int) throws {
        let client = Client { $0.writesWithoutSpaceOneIn = oneIn }
        client.grant(7)
        client.put("k", "1", lease: 7)
        client.cluster.isFull = true
        #expect(client.put("k", "2").text == noSpace)
        #expect(try client.get("k")?.value == Bytes(oneIn == 0 ? "1" : "2"))
        #expect(client.grant(8).text == noSpace)
        #expect(try client.timeToLive(8).ttl == (oneIn == 0 ? -1 : 10))
    }

    /// A write that fails for lack of space gets that status.
    @Test func noSpace_hasItsOwnStatus() {
        let client = Client { $0.writesWithoutSpaceOneIn = 1 }
        client.cluster.isFull = true
        #expect(client.put("k", lease: 7).text == "5 etcdserver: requested lease not found")
    }

    @Test func noSpace_leasesAreRenewedAndRevoked() throws {
        let client = Client()
        client.grant(7)
        client.put("k", lease: 7)
        client.cluster.isFull = true
        #expect(try renew(client) == "TTL 10")
        #expect(client.revoke(7).text == "ok")
        #expect(try client.get("k") == nil)
    }

    @Test(arguments: [false, true])
    func noSpace_removingTransactionsMayBeRefused(refusesAll: Bool) throws {
        let client = Client { $0.refusesAllWithoutSpace = refusesAll }
        client.put("k")
        client.cluster.isFull = true
        let removal = client.txn([.deleteRange(DeleteRangeRequest(key: Bytes("k")))])
        #expect(removal.text == (refusesAll ? noSpace : "ok"))
        #expect(try (client.get("k") == nil) == !refusesAll)
    }

    // MARK: - A leader that does not know that it is none

    @Test(arguments: [false, true])
    func leaderCutOff_mayAnswerStaleTimeToLive(tells: Bool) throws {
        let client = Client(members: 3) { $0.tellsLeasesWithoutQuorum = tells }
        client.grant(7, ttl: 100)
        client.cluster.isolate(0, true, at: client.now)
        client.cluster.revokeLease(7, at: client.now)
        let answer = client.send(.leaseTimeToLive, LeaseTimeToLiveRequest(id: 7))
        #expect(answer.text == (tells ? "ok" : "none"))
        if tells { #expect(try LeaseTimeToLiveResponse.decode(answer.body).ttl == 100) }
        client.cluster.isolate(0, false, at: client.now)
        client.advance(by: 3_000_000)
        #expect(try client.timeToLive(7).ttl == -1)
    }
}
