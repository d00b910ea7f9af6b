// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

@testable import EtcdProtocol

// The requests as a server reads them: what the model of etcd needs and the library does not.

extension WireReader {
    /// Requests are our own: they need no bound.
    @_lifetime(self: copy self)
    mutating func nextField() throws(WireError) -> Field? {
        var budget = FieldBudget()
        return try nextField(&budget)
    }
}

struct DecodedRange {
    var key = Bytes()
    var rangeEnd = Bytes()
    var limit: Int64 = 0
    var revision: Int64 = 0
    var serializable = false
    var keysOnly = false

    init(_ span: Span<UInt8>) throws(WireError) {
        var reader = WireReader(span)
        while let field = try reader.nextField() {
            switch field.number {
            case 1: key = try reader.bytes(field)
            case 2: rangeEnd = try reader.bytes(field)
            case 3: limit = try reader.int64(field)
            case 4: revision = try reader.int64(field)
            case 7: serializable = try reader.bool(field)
            case 8: keysOnly = try reader.bool(field)
            default: try reader.skip(field)
            }
        }
    }
}

enum DecodedOp {
    case range(DecodedRange)
    case put(key: Bytes, value: Bytes, lease: Int64)
    case deleteRange(key: Bytes, rangeEnd: Bytes)
    /// A transaction that asks something about all keys of a range.
    case question([DecodedCompare])

    init?(_ span: Span<UInt8>) throws(WireError) {
        var reader = WireReader(span)
        guard let field = try reader.nextField() else { return nil }
        let slice = try reader.slice(field)
        if field.number == 1 {
            self = .range(try DecodedRange(slice))
            return
        }
        if field.number == 4 {
            self = .question(try DecodedTxn(slice).compare)
            return
        }
        var body = WireReader(slice)
        var first = Bytes()
        var second = Bytes()
        var number: Int64 = 0
        while let inner = try body.nextField() {
            switch inner.number {
            case 1: first = try body.bytes(inner)
            case 2: second = try body.bytes(inner)
            case 3: number = try body.int64(inner)
            default: try body.skip(inner)
            }
        }
        switch field.number {
        case 2: self = .put(key: first, value: second, lease: number)
        case 3: self = .deleteRange(key: first, rangeEnd: second)
        default: return nil
        }
    }
}

struct DecodedCompare {
    var target: Int64 = 0
    var key = Bytes()
    var number: Int64 = 0
    var rangeEnd = Bytes()
    /// EQUAL, GREATER, LESS, NOT_EQUAL.
    var result: Int64 = 0

    func holds(_ found: Int64) -> Bool {
        switch result {
        case 0: found == number
        case 1: found > number
        case 2: found < number
        default: found != number
        }
    }

    init(_ span: Span<UInt8>) throws(WireError) {
        var reader = WireReader(span)
        while let field = try reader.nextField() {
            switch field.number {
            case 1: result = try reader.int64(field)
            case 2: target = try reader.int64(field)
            case 64: rangeEnd = try reader.bytes(field)
            case 3: key = try reader.bytes(field)
            case 5, 6, 8: number = try reader.int64(field)
            default: try reader.skip(field)
            }
        }
    }
}

struct DecodedTxn {
    var compare: [DecodedCompare] = []
    var success: [DecodedOp] = []
    var failure: [DecodedOp] = []

    init(_ span: Span<UInt8>) throws(WireError) {
        var reader = WireReader(span)
        while let field = try reader.nextField() {
            switch field.number {
            case 1: compare.append(try DecodedCompare(try reader.slice(field)))
            case 2:
                if let op = try DecodedOp(try reader.slice(field)) { success.append(op) }
            case 3:
                if let op = try DecodedOp(try reader.slice(field)) { failure.append(op) }
            default: try reader.skip(field)
            }
        }
    }
}

/// Messages whose fields 1 and 2 are numbers or byte strings: leases and Authenticate.
struct DecodedPair {
    var numbers: [Int64] = [0, 0, 0]
    var strings: [Bytes] = [[], [], []]

    init(_ span: Span<UInt8>) throws(WireError) {
        var reader = WireReader(span)
        while let field = try reader.nextField() {
            guard field.number < 3 else {
                try reader.skip(field)
                continue
            }
            let index = Int(field.number)
            if field.type == .varint {
                numbers[index] = try reader.int64(field)
            } else {
                strings[index] = try reader.bytes(field)
            }
        }
    }
}

extension DecodedPair {
    /// The lease id in a request about one lease.
    static func lease(_ frame: Bytes) -> Int64 {
        (try? DecodedPair(Bytes(frame.dropFirst(5)).span).numbers[1]) ?? 0
    }
}

enum DecodedWatch {
    case create(key: Bytes, rangeEnd: Bytes, start: Int64, id: Int64)
    case cancel(id: Int64)

    init?(_ span: Span<UInt8>) throws(WireError) {
        var reader = WireReader(span)
        guard let field = try reader.nextField() else { return nil }
        var body = WireReader(try reader.slice(field))
        var key = Bytes()
        var rangeEnd = Bytes()
        var first: Int64 = 0
        var start: Int64 = 0
        var id: Int64 = 0
        while let inner = try body.nextField() {
            switch (inner.number, inner.type) {
            case (1, .bytes): key = try body.bytes(inner)
            case (1, .varint): first = try body.int64(inner)
            case (2, _): rangeEnd = try body.bytes(inner)
            case (3, _): start = try body.int64(inner)
            case (7, _): id = try body.int64(inner)
            default: try body.skip(inner)
            }
        }
        self =
            field.number == 1
            ? .create(key: key, rangeEnd: rangeEnd, start: start, id: id) : .cancel(id: first)
    }
}

// The answers as a server writes them.

extension WireWriter {
    static func message(_ body: (inout WireWriter) -> Void) -> Bytes {
        let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 32 << 20, alignment: 1)
        defer { room.deallocate() }
        var writer = WireWriter(room)
        body(&writer)
        return Bytes(copying: UnsafeRawBufferPointer(rebasing: room[..<writer.count]))
    }

    mutating func embedded(_ field: UInt64, _ bytes: Bytes) {
        self.bytes(field, bytes)
    }

    mutating func header(cluster: UInt64, revision: Int64) {
        embedded(
            1,
            WireWriter.message {
                $0.int64(1, Int64(bitPattern: cluster))
                $0.int64(3, revision)
            })
    }
}

extension KeyValue {
    func encoded(withValue: Bool = true, withLease: Bool = true) -> Bytes {
        WireWriter.message {
            $0.bytes(1, key)
            $0.int64(2, createRevision)
            $0.int64(3, modRevision)
            $0.int64(4, version)
            if withValue { $0.bytes(5, value) }
            if withLease { $0.int64(6, lease) }
        }
    }
}

extension RangePage {
    static func encoded(_ kvs: [KeyValue], more: Bool, revision: Int64) -> Bytes {
        WireWriter.message {
            $0.header(cluster: 1, revision: revision)
            for kv in kvs { $0.embedded(2, kv.encoded()) }
            $0.bool(3, more)
        }
    }
}
