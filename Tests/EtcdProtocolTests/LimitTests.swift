// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import EtcdProtocol

/// Small messages that would be large when decoded, and answers to something else than what was asked.
@Suite struct LimitTests {
    private func repeated(_ text: String, _ count: Int) -> Bytes {
        let one = hex(text)
        var all = Bytes()
        all.reserveCapacity(one.count * count)
        for _ in 0..<count { all.append(contentsOf: one) }
        return all
    }

    @Test func entriesOfOneMessage() throws {
        let range = repeated("1200", WireLimits.keys)
        #expect(try RangeResponse.decode(range).kvs.count == WireLimits.keys)
        let page = repeated("1200", WireLimits.pageKeys)
        #expect(try RangePage.decode(page).keysLeft == WireLimits.pageKeys)
        let events = hex("1007") + repeated("5a00", WireLimits.events)
        let watch = try WatchResponse.decode(events, keepValues: false)
        #expect(watch.events.count == WireLimits.events)
        #expect(
            try WatchResponse.outline(of: events)
                == WatchResponse.Outline(watchID: 7, events: WireLimits.events))
        let answers = repeated("1a00", WireLimits.responses)
        #expect(try TxnResponse.decode(answers).responses.count == WireLimits.responses)

        #expect(
            failure { () throws(WireError) in try RangeResponse.decode(range + hex("1200")) }
                == .tooMany)
        #expect(
            failure { () throws(WireError) in try RangePage.decode(page + hex("1200")) }
                == .tooMany)
        #expect(
            failure { () throws(WireError) in
                try WatchResponse.decode(events + hex("5a00"), keepValues: false)
            } == .tooMany)
        #expect(
            failure { () throws(WireError) in try TxnResponse.decode(answers + hex("1a00")) }
                == .tooMany)
        let outline = try WatchResponse.outline(of: events + hex("5a00"))
        #expect(
            outline
                == WatchResponse.Outline(
                    watchID: 7, events: WireLimits.events + 1, hasTooManyEvents: true))
    }

    @Test func fieldsOfOneMessage() throws {
        let tooMany = repeated("a00600", WireLimits.fieldsAtFirst + 1)
        #expect(failure { () throws(WireError) in try RangeResponse.decode(tooMany) } == .tooMany)
        // In whatever they are.
        let half = WireLimits.fieldsAtFirst / 2
        let header = repeated("2800", half)
        let nested =
            WireWriter.frame(size: 2 * WireWriter.size(1, header)) { writer in
                writer.bytes(1, header)
                writer.bytes(1, header)
            }.dropFirst(5)
        #expect(
            failure { () throws(WireError) in try LeaseRevokeResponse.decode(Bytes(nested)) }
                == .tooMany)
    }

    /// Keys may have fields of a later etcd, as many as it likes where there are few of them.
    @Test func fieldsOfKeys() throws {
        func keys(_ count: Int, _ unknown: Int) throws -> [KeyValue] {
            let key = repeated("3800", unknown)
            let one = WireWriter.frame(size: WireWriter.size(2, key)) { $0.bytes(2, key) }
            var all = Bytes()
            for _ in 0..<count { all += one.dropFirst(5) }
            return try RangeResponse.decode(all).kvs
        }
        #expect(try keys(WireLimits.keys, WireLimits.fieldsOfKey - 1).count == WireLimits.keys)
        #expect(try keys(1, WireLimits.fieldsAtFirst).count == 1)
        #expect(throws: WireError.tooMany) { try keys(1000, 100) }
    }

    private func page(_ keys: [StaticString], more: Bool = false) -> RangeResponse {
        var response = RangeResponse()
        response.header.revision = 9
        response.more = more
        for key in keys {
            var kv = KeyValue()
            kv.key = Bytes(key)
            kv.modRevision = 9
            response.kvs.append(kv)
        }
        return response
    }

    @Test func canAnswerARange_needsMoreOrAllKeys() {
        var request = RangeRequest(key: Bytes("b"), rangeEnd: Bytes("d"))
        request.limit = 2
        #expect(page([]).canAnswer(request))
        #expect(page(["b", "c"]).canAnswer(request))
        #expect(page(["b", "ba"], more: true).canAnswer(request))
        #expect(!page(["a"]).canAnswer(request))
        #expect(!page(["d"]).canAnswer(request))
        #expect(!page(["c", "b"]).canAnswer(request))
        #expect(!page(["b", "b"]).canAnswer(request))
        #expect(!page(["b", "ba", "c"]).canAnswer(request))
        #expect(!page(["b"], more: true).canAnswer(request))
        #expect(!page([], more: true).canAnswer(request))
        var late = page(["b"])
        late.kvs[0].modRevision = 10
        #expect(!late.canAnswer(request))
        late.kvs[0].modRevision = 0
        #expect(!late.canAnswer(request))
        let one = RangeRequest(key: Bytes("b"))
        #expect(page(["b"]).canAnswer(one))
        #expect(!page(["ba"]).canAnswer(one))
        #expect(!page(["b"], more: true).canAnswer(one))
    }
}
