// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import EtcdProtocol

/// Pages that are decoded in portions say what they say when they are decoded whole.
@Suite struct RangePageTests {
    /// Header, keys a to e, more; the count comes last.
    private let message = hex(
        "0a0408011805 12030a0161 12030a0162 12030a0163 12030a0164 12030a0165 1801 2009")

    @Test func portions_areTheWhole() throws {
        let whole = try RangeResponse.decode(message)
        for portion in 1...6 {
            var page = try RangePage.decode(message)
            #expect(page.keysLeft == 5 && page.more && page.header == whole.header)
            #expect(page.size == message.count)
            var keys: [KeyValue] = []
            while page.keysLeft > 0 {
                let response = try page.next(portion)
                #expect(response.kvs.count <= portion && response.more)
                #expect(response.header == whole.header)
                keys += response.kvs
            }
            #expect(keys == whole.kvs)
        }
    }

    @Test func more_isTrueUntilTheLastKeyIsDecoded() throws {
        var page = try RangePage.decode(hex("12030a0161 12030a0162 12030a0163"))
        #expect(!page.more)
        #expect(try page.next(2).more)
        #expect(try !page.next(2).more)
        #expect(try page.next(2).kvs.isEmpty)
    }

    @Test func canAnswer_countsKeys() throws {
        let page = try RangePage.decode(message)
        func canAnswer(_ limit: Int64) -> Bool {
            page.canAnswer(RangeRequest(key: Bytes("a"), rangeEnd: Bytes("f"), limit: limit))
        }
        #expect(canAnswer(5))
        #expect(!canAnswer(4), "more than asked for")
        #expect(!canAnswer(6), "more behind fewer than asked for")
    }

    @Test func damagedPage_isAnError() throws {
        // A fault in the message is found at once; one in a key, with its portion.
        #expect(failure { () throws(WireError) in try RangePage.decode(hex("120a0a")) } != nil)
        var page = try RangePage.decode(hex("12030a0161 12030a0962"))
        #expect(failure { () throws(WireError) in try page.next(1) } == nil)
        #expect(failure { () throws(WireError) in try page.next(1) } == .truncated)
    }
}
