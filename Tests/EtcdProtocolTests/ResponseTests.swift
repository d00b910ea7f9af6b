// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

@testable import EtcdProtocol
import Testing

@Suite struct ResponseTests {
    private var header: ResponseHeader {
        var header = ResponseHeader()
        header.clusterID = 0xcdf8_1819_4e3a_8c32
        header.memberID = 0x8e9e_05c5_2164_694d
        header.revision = 4242
        header.raftTerm = 3
        return header
    }

    private var first: KeyValue {
        var kv = KeyValue()
        kv.key = bytes("k")
        kv.value = bytes("value")
        kv.hasValue = true
        kv.createRevision = 2
        kv.modRevision = 4242
        kv.version = 5
        kv.lease = 0x694d_7bbb_9bcd_1234
        return kv
    }

    private func sample(_ answer: Answer) -> Bytes {
        Sample.all.filter { $0.answer == answer }.flatMap { $0.bytes }
    }

    @Test func responseHeader() throws {
        #expect(try LeaseRevokeResponse.decode(sample(.leaseRevoke)).header == header)
        let largest = hex(
            "08ffffffffffffffffff01 1001 18ffffffffffffffffff01 20ffffffffffffffffff01")
        var budget = FieldBudget()
        let decoded = try ResponseHeader.decode(largest.span, &budget)
        #expect(decoded.clusterID == .max)
        #expect(decoded.memberID == 1)
        #expect(decoded.revision == -1)
        #expect(decoded.raftTerm == .max)
    }

    @Test func range() throws {
        var second = KeyValue()
        second.createRevision = .min
        second.modRevision = .max
        second.version = -1
        second.lease = -1
        var expected = RangeResponse()
        expected.header = header
        expected.kvs = [first, second]
        expected.more = true
        expected.count = 300
        #expect(try RangeResponse.decode(sample(.range)) == expected)
    }

    @Test func transaction() throws {
        var range = RangeResponse()
        range.kvs = [first]
        range.count = 1
        var expected = TxnResponse()
        expected.header = header
        expected.succeeded = true
        expected.responses = [
            .range(range), .put, .deleteRange(deleted: 3), .txn(succeeded: true), .put,
        ]
        #expect(try TxnResponse.decode(sample(.txn)) == expected)
    }

    @Test func transactionInTransaction() throws {
        let answer = hex(
            """
            \(Sample.header) \
            1a2522230a1b08b298eaf1948386fccd0110cdd2918bd2b881cf8e01189221200310011a021200 1a022200
            """)
        let expected: [ResponseOp] = [.txn(succeeded: true), .txn(succeeded: false)]
        #expect(try TxnResponse.decode(answer).responses == expected)
    }

    /// An operation that a newer server may have, and none at all.
    @Test func otherOperations() throws {
        #expect(try TxnResponse.decode(hex("1a022a00 1a00")).responses == [.other, .other])
    }

    @Test func leases() throws {
        var grant = LeaseGrantResponse()
        grant.header = header
        grant.id = 0x694d_7bbb_9bcd_1234
        grant.ttl = 10
        grant.error = bytes("no")
        #expect(try LeaseGrantResponse.decode(sample(.leaseGrant)) == grant)
        var keepAlive = LeaseKeepAliveResponse()
        keepAlive.header = header
        keepAlive.id = 5
        keepAlive.ttl = 10
        #expect(try LeaseKeepAliveResponse.decode(sample(.leaseKeepAlive)) == keepAlive)
        var timeToLive = LeaseTimeToLiveResponse()
        timeToLive.header = header
        timeToLive.id = 5
        timeToLive.ttl = -1
        timeToLive.grantedTTL = 10
        timeToLive.keyCount = 2
        #expect(try LeaseTimeToLiveResponse.decode(sample(.leaseTimeToLive)) == timeToLive)
    }

    @Test func authenticate() throws {
        var expected = AuthenticateResponse()
        expected.header = header
        expected.token = bytes("tok.17")
        #expect(try AuthenticateResponse.decode(sample(.authenticate)) == expected)
    }

    private var watchResponse: WatchResponse {
        var put = WatchResponse.Event()
        put.kv = first
        var delete = WatchResponse.Event()
        delete.kind = .delete
        delete.kv.key = bytes("k")
        delete.kv.modRevision = 4243
        var expected = WatchResponse()
        expected.header = header
        expected.watchID = 300
        expected.created = true
        expected.canceled = true
        expected.compactRevision = 99
        expected.cancelReason = bytes("compacted")
        expected.fragment = true
        expected.events = [put, delete]
        return expected
    }

    @Test func watch() throws {
        var expected = watchResponse
        #expect(try WatchResponse.decode(sample(.watch), keepValues: true) == expected)
        // Without values it is still known that there was one.
        expected.events[0].kv.value = []
        #expect(try WatchResponse.decode(sample(.watch), keepValues: false) == expected)
        #expect(expected.events[0].kv.hasValue)
    }

    @Test func watchID() throws {
        func watchID(of bytes: Bytes) throws -> Int64 {
            try WatchResponse.outline(of: bytes).watchID
        }
        #expect(try watchID(of: sample(.watch)) == 300)
        #expect(try watchID(of: hex("10ffffffffffffffffff01 2001")) == -1)
        #expect(try watchID(of: []) == 0)
        #expect(try watchID(of: hex("1001 1002")) == 2)
        // An event that cannot be decoded is not looked at here.
        #expect(try watchID(of: hex("1005 5a020aff")) == 5)
    }

    @Test func emptyMessagesHaveDefaults() throws {
        #expect(try RangeResponse.decode([]) == RangeResponse())
        #expect(try TxnResponse.decode([]) == TxnResponse())
        #expect(try LeaseGrantResponse.decode([]) == LeaseGrantResponse())
        #expect(try WatchResponse.decode([], keepValues: true) == WatchResponse())
    }

    @Test func lastOfRepeatedFieldsWins() throws {
        #expect(try LeaseKeepAliveResponse.decode(hex("1001 1809 1002 1800")).id == 2)
        #expect(try LeaseKeepAliveResponse.decode(hex("1001 1809 1002 1800")).ttl == 0)
        #expect(try AuthenticateResponse.decode(hex("120161 12026262")).token == bytes("bb"))
        let op = try TxnResponse.decode(hex("1a04 1200 1a00")).responses
        #expect(op == [.deleteRange(deleted: 0)])
        let value = try RangeResponse.decode(hex("1205 2a0161 2a00")).kvs
        #expect(value.map(\.hasValue) == [false])
        #expect(value.map(\.value) == [[]])
    }

    /// Fields 100 to 103 of each wire type, as a newer server might send, before and after what is known.
    @Test(arguments: Sample.all)
    func unknownFieldsAreSkipped(sample: Sample) throws {
        let unknown = hex("a006ffffffffffffffffff01 a9061122334455667788 b20603aabbcc bd0611223344")
        let plain = try sample.answer.decode(sample.bytes)
        #expect(try sample.answer.decode(unknown + sample.bytes + unknown) == plain)
    }
}
