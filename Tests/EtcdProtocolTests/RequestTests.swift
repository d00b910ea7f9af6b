// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

/// Expected bytes: protobuf's Python runtime (7.36.2), from etcd's api/etcdserverpb/rpc.proto.
@Suite struct RequestTests {
    private let from = bytes("/nixl/agents/a")
    private let to = bytes("/nixl/agents/b")
    private let lease: Int64 = 0x694d_7bbb_9bcd_1234

    private func expect(
        _ message: some WireMessage, is expected: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let body = hex(expected)
        let frame = message.frame()
        let prefix = [0, 0, 0, UInt8(body.count >> 8), UInt8(body.count & 0xff)]
        #expect(frame == prefix + body, sourceLocation: sourceLocation)
        #expect(message.encodedSize == body.count, sourceLocation: sourceLocation)
    }

    @Test func range() {
        expect(
            RangeRequest(
                key: from, rangeEnd: to, limit: 500, revision: 123_456_789, serializable: true,
                keysOnly: true),
            is: """
                0a0e2f6e69786c2f6167656e74732f61 120e2f6e69786c2f6167656e74732f62 18f403 \
                20959aef3a 3801 4001
                """)
        expect(RangeRequest(key: bytes("k")), is: "0a016b")
        expect(RangeRequest(key: []), is: "")
        expect(
            RangeRequest(key: bytes("k"), limit: .max, revision: .min),
            is: "0a016b 18ffffffffffffffff7f 2080808080808080808001")
    }

    @Test func put() {
        expect(
            PutRequest(key: bytes("k"), value: bytes("v"), lease: lease),
            is: "0a016b 120176 18b4a4b4deb9f7dea669")
        expect(
            PutRequest(key: bytes("k"), value: [0, 0xff], lease: -1),
            is: "0a016b 120200ff 18ffffffffffffffffff01")
    }

    @Test func deleteRange() {
        expect(DeleteRangeRequest(key: bytes("k")), is: "0a016b")
        expect(DeleteRangeRequest(key: bytes("a"), rangeEnd: bytes("b")), is: "0a0161 120162")
    }

    /// The number of a comparison is written also when it is 0: without it etcd has no oneof to compare with.
    @Test func compare() {
        expect(Compare(key: bytes("k"), target: .createRevision(0)), is: "1001 1a016b 2800")
        expect(Compare(key: bytes("k"), target: .modRevision(300)), is: "1002 1a016b 30ac02")
        expect(
            Compare(key: bytes("k"), target: .lease(.min)),
            is: "1004 1a016b 4080808080808080808001")
    }

    /// The empty value is written, as the number 0 is.
    @Test func compareOfEmptyValues() {
        expect(
            Compare(key: bytes("/a/"), target: .value, rangeEnd: bytes("/a0")),
            is: "1003 1a032f612f 3a00 8204032f6130")
    }

    /// LESS is 2, NOT_EQUAL is 3.
    @Test func compareOfRanges() {
        expect(
            Compare(key: bytes("/a/"), target: .lease(0), .notEqual, rangeEnd: bytes("/a0")),
            is: "0803 1004 1a032f612f 4000 8204032f6130")
        expect(
            Compare(
                key: bytes("/a/"), target: .createRevision(0), .notEqual, rangeEnd: bytes("/a0")),
            is: "0803 1001 1a032f612f 2800 8204032f6130")
        expect(
            Compare(key: bytes("/a/"), target: .modRevision(300), .less, rangeEnd: bytes("/a0")),
            is: "0802 1002 1a032f612f 30ac02 8204032f6130")
    }

    @Test func transactionInTransaction() {
        let inner = TxnRequest(
            compare: [Compare(key: bytes("/a/"), target: .value, rangeEnd: bytes("/a0"))],
            success: [.range(RangeRequest(key: bytes("k")))])
        expect(
            TxnRequest(
                compare: [], success: [.txn(inner), .txn(TxnRequest(compare: [], success: []))]),
            is: "121a22180a0f10031a032f612f3a008204032f613012050a030a016b 12022200")
    }

    @Test func transaction() {
        let key = bytes("k")
        expect(
            TxnRequest(
                compare: [
                    Compare(key: key, target: .createRevision(0)),
                    Compare(key: key, target: .modRevision(300)),
                    Compare(key: key, target: .lease(.min)),
                ],
                success: [
                    .put(PutRequest(key: key, value: bytes("v"), lease: 7)),
                    .range(RangeRequest(key: key)),
                ],
                failure: [
                    .deleteRange(DeleteRangeRequest(key: key)), .range(RangeRequest(key: [])),
                ]),
            is: """
                0a0710011a016b2800 0a0810021a016b30ac02 0a1010041a016b4080808080808080808001 \
                120a12080a016b1201761807 12050a030a016b 1a051a030a016b 1a020a00
                """)
        expect(TxnRequest(compare: [], success: []), is: "")
    }

    @Test func leases() {
        expect(LeaseGrantRequest(ttl: 10, id: lease), is: "080a 10b4a4b4deb9f7dea669")
        expect(LeaseRevokeRequest(id: lease), is: "08b4a4b4deb9f7dea669")
        expect(LeaseKeepAliveRequest(id: -2), is: "08feffffffffffffffff01")
        expect(LeaseTimeToLiveRequest(id: 129), is: "088101")
    }

    @Test func authenticate() {
        expect(
            AuthenticateRequest(name: bytes("root"), password: bytes("p\u{e4}ssword")),
            is: "0a04726f6f74 120970c3a47373776f7264")
    }

    @Test func watch() {
        expect(
            WatchCreateRequest(key: from, rangeEnd: to, startRevision: 77, watchID: 300),
            is: """
                0a290a0e2f6e69786c2f6167656e74732f61120e2f6e69786c2f6167656e74732f62\
                184d200138ac024001
                """)
        expect(
            WatchCreateRequest(key: bytes("k"), startRevision: 1, watchID: 1),
            is: "0a0b0a016b1801200138014001")
        expect(WatchCancelRequest(watchID: 300), is: "120308ac02")
        expect(WatchCancelRequest(watchID: 0), is: "1200")
    }

    /// Lengths of one to four bytes, in the message and in gRPC's prefix; one allocation of that size.
    @Test(arguments: [0, 1, 127, 128, 16383, 16384, 65536, 2_097_151, 2_097_152])
    func largeValue(size: Int) {
        let request = TxnRequest(
            compare: [],
            success: [.put(PutRequest(key: bytes("k"), value: Bytes(repeating: 7, count: size)))])
        let frame = request.frame()
        #expect(frame.count == 5 + request.encodedSize)
        #expect(frame[1...4].reduce(0) { $0 << 8 | Int($1) } == request.encodedSize)
        #expect(frame.suffix(size).allSatisfy { $0 == 7 })
        // malloc rounds it up by less than a page and its header; growth would have doubled it.
        #expect(frame.capacity < frame.count + 8192)
    }
}
