// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CNixlMD
import EtcdProtocol
import MetadataCore
import Testing

@testable import NixlMD

@Suite struct HeartbeatTimesTests {
    @Test(
        arguments: [
            (0, 0, 5000, 15), (1000, 0, 1000, 3), (0, 9000, 3000, 9), (1500, 0, 1500, 5),
            (4500, 4600, 4500, 5), (50, 0, 50, 1), (0, 51, 50, 1),
            (28_800_000, 0, 28_800_000, 86_400),
        ] as [(UInt64, UInt64, UInt64, Int64)])
    func absentTimes_takeDefaults(
        interval: UInt64, ttl: UInt64, interval2: UInt64, ttlSeconds: Int64
    ) {
        let times = try? heartbeatTimes(interval: interval, ttl: ttl)
        #expect(times?.0 == interval2)
        #expect(times?.seconds == ttlSeconds)
    }

    @Test(
        arguments: [
            (5000, 5000), (5000, 4999), (86_400_001, 0), (0, 86_400_001), (28_800_001, 0),
            (UInt64.max, 0), (0, UInt64.max), (49, 5000), (1, 0), (0, 50), (0, 1),
        ] as [(UInt64, UInt64)])
    func refuses(interval: UInt64, ttl: UInt64) {
        #expect(throws: Refusal.self) { try heartbeatTimes(interval: interval, ttl: ttl) }
    }
}

@Suite struct StatusCodeTests {
    static let statuses: [Status] = [
        .success, .invalidParameter, .backend, .notFound, .mismatch, .notAllowed, .unknown,
        .notSupported, .remoteDisconnect, .canceled, .timedOut, .tooLarge, .replaced, .superseded,
        .unauthenticated, .permission, .forked, .busy, .inCallback, .shutDown, .limit, .noSpace,
    ]

    @Test func everyStatus_hasANameAndANearestOfNIXL() {
        var codes: Set<Int32> = []
        for status in Self.statuses {
            codes.insert(status.code)
            let name = String(cString: StatusCode.name(status.code).cString)
            #expect(name.hasPrefix("NIXL_MD_") && name != "NIXL_MD_ERR_?")
            #expect((-11...0).contains(StatusCode.fold(status.code)))
        }
        #expect(codes.count == Self.statuses.count)
    }

    @Test func nixlsOwnStatusesStay_othersAreFolded() {
        for code in Int32(-12)...1 { #expect(StatusCode.fold(code) == code) }
        #expect(StatusCode.fold(NIXL_MD_ERR_TIMED_OUT.rawValue) == -3)
        #expect(StatusCode.fold(NIXL_MD_ERR_TOO_LARGE.rawValue) == -2)
        #expect(StatusCode.fold(NIXL_MD_ERR_REPLACED.rawValue) == -11)
        #expect(StatusCode.fold(NIXL_MD_ERR_SUPERSEDED.rawValue) == -6)
        for code: Int32 in [-13, -1000, -1013, 2, .min, .max] {
            #expect(StatusCode.fold(code) == -8)
            #expect(String(cString: StatusCode.name(code).cString) == "NIXL_MD_ERR_?")
        }
    }
}

@Suite struct OperationTableTests {
    private func options() throws -> Options { try Options(nil) }

    @Test func operationIds_ascendWithoutReuse() throws {
        var table = OperationTable()
        var last: OperationID = 0
        for _ in 0..<1000 {
            let id = try #require(table.add(.fetch, try options(), bytes: 0))
            #expect(id > last)
            last = id
            if id % 3 == 0 { #expect(table.remove(id)?.id == id) }
            #expect(id % 3 != 0 || table[id] == nil)
        }
        #expect(table.ids == table.ids.sorted())
        #expect(table.ids.count == table.count)
    }

    @Test func operationsBeyondTheLimit_areRefused() throws {
        var table = OperationTable()
        var first: OperationID = 0
        for i in 0..<OperationTable.capacity {
            let id = try #require(table.add(.watch, try options(), bytes: 1))
            if i == 0 { first = id }
        }
        #expect(OperationTable.capacity == Int(NIXL_MD_MAX_OPERATIONS))
        #expect(table.add(.watch, try options(), bytes: 1) == nil)
        #expect(table.remove(first)?.kind == .watch)
        #expect(table.remove(first) == nil)
        #expect(table.watches == OperationTable.capacity - 1)
        #expect(table.bytes == OperationTable.capacity - 1)
        let id = try #require(table.add(.watch, try options(), bytes: 1))
        #expect(id != first && table[first] == nil && table[id] != nil)
    }
}
