// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

/// Recorded from etcd 3.4.23 over gRPC. 3.5.1 sent the same, except for the ids in the header.
@Suite struct RecordedAnswerTests {
    private let header = "08d6f4e08c80e9bca46210c096fad3e8b18bc364"

    private func expect(
        _ decoded: ResponseHeader, revision: Int64,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(decoded.clusterID == 0x6248_f348_0198_3a56, sourceLocation: sourceLocation)
        #expect(decoded.memberID == 0x6486_2d8e_8a7e_8b40, sourceLocation: sourceLocation)
        #expect(decoded.revision == revision, sourceLocation: sourceLocation)
        #expect(decoded.raftTerm == 2, sourceLocation: sourceLocation)
    }

    private func written(_ kv: KeyValue?) -> Bool {
        guard let kv else { return false }
        return kv.key == bytes("k") && kv.value == bytes("value") && kv.hasValue
            && kv.createRevision == 3 && kv.modRevision == 3 && kv.version == 1 && kv.lease == 77
    }

    @Test func transaction() throws {
        let done = try TxnResponse.decode(
            hex(
                """
                0a18\(header)18032002 1001 1a0612040a021803 \
                1a1c0a1a0a02180312120a016b1003180320012a0576616c7565304d2001 1a081a060a0218031001
                """))
        expect(done.header, revision: 3)
        #expect(done.succeeded)
        try #require(done.responses.count == 3)
        #expect(done.responses[0] == .put)
        #expect(done.responses[2] == .deleteRange(deleted: 1))
        guard case .range(let range) = done.responses[1] else {
            Issue.record("not a range: \(done.responses[1])")
            return
        }
        #expect(range.count == 1)
        #expect(written(range.kvs.first))
    }

    @Test func transaction_conditionFailed() throws {
        let done = try TxnResponse.decode(
            hex("0a18\(header)18032002 1a150a130a021803120b0a016b100318032001304d2001"))
        #expect(!done.succeeded)
        guard case .range(let range) = done.responses.first else {
            Issue.record("not a range: \(done.responses)")
            return
        }
        // Asked for with keys_only.
        #expect(range.kvs.map(\.hasValue) == [false])
        #expect(range.kvs.map(\.lease) == [77])
    }

    @Test func range() throws {
        let range = try RangeResponse.decode(
            hex("0a18\(header)18032002 12120a016b1003180320012a0576616c7565304d 2001"))
        expect(range.header, revision: 3)
        #expect(!range.more)
        #expect(written(range.kvs.first))
    }

    @Test func leases() throws {
        let grant = try LeaseGrantResponse.decode(hex("0a18\(header)18022002 104d 183c"))
        expect(grant.header, revision: 2)
        #expect(grant.id == 77 && grant.ttl == 60 && grant.error.isEmpty)
        let renewed = try LeaseKeepAliveResponse.decode(hex("0a18\(header)18032002 104d 183c"))
        #expect(renewed.id == 77 && renewed.ttl == 60)
        let unknown = try LeaseKeepAliveResponse.decode(hex("0a18\(header)18032002 104e"))
        #expect(unknown.id == 78 && unknown.ttl == 0)
        let left = try LeaseTimeToLiveResponse.decode(hex("0a18\(header)18032002 104d 183b 203c"))
        #expect(left.id == 77 && left.ttl == 59 && left.grantedTTL == 60)
        let none = try LeaseTimeToLiveResponse.decode(
            hex("0a18\(header)18032002 104e 18ffffffffffffffffff01"))
        #expect(none.id == 78 && none.ttl == -1 && none.grantedTTL == 0)
        expect(try LeaseRevokeResponse.decode(hex("0a18\(header)18042002")).header, revision: 4)
    }

    @Test func authenticate() throws {
        let answer = try AuthenticateResponse.decode(
            hex("0a18\(header)18042002 12136476466458756a6b7a645776685654782e3134"))
        #expect(answer.token == bytes("dvFdXujkzdWvhVTx.14"))
    }

    @Test func watchedEvents() throws {
        let created = try WatchResponse.decode(
            hex("0a18\(header)18022002 1005 1801"), keepValues: true)
        expect(created.header, revision: 2)
        #expect(created.created && created.watchID == 5 && created.events.isEmpty)
        let put = try WatchResponse.decode(
            hex("0a18\(header)18032002 1005 5a1412120a016b1003180320012a0576616c7565304d"),
            keepValues: true)
        #expect(put.events.map(\.kind) == [.put])
        #expect(written(put.events.first?.kv))
        let delete = try WatchResponse.decode(
            hex("0a18\(header)18042002 1005 5a09080112050a016b1804"), keepValues: true)
        #expect(delete.events.map(\.kind) == [.delete])
        #expect(delete.events.map(\.kv.modRevision) == [4])
        #expect(delete.events.map(\.kv.hasValue) == [false])
    }

    @Test func watchEnds() throws {
        let canceled = try WatchResponse.decode(
            hex("0a18\(header)18042002 1005 2001"), keepValues: true)
        #expect(canceled.canceled && canceled.watchID == 5 && canceled.compactRevision == 0)
        let compacted = try WatchResponse.decode(
            hex("0a16\(header)2002 1006 2001 2803"), keepValues: true)
        // Such a header has no revision.
        expect(compacted.header, revision: 0)
        #expect(compacted.canceled && compacted.watchID == 6 && compacted.compactRevision == 3)
    }
}
