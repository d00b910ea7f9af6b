// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

// Answers of etcd's KV service (etcd api/etcdserverpb/rpc.proto, api/mvccpb/kv.proto). Fields that we
// have no use for, and those that a newer server may add, are skipped.

/// What comes with every answer.
public struct ResponseHeader: Sendable, Equatable {
    public var clusterID: UInt64 = 0
    public var memberID: UInt64 = 0
    /// Of the store when the answer was made.
    public var revision: Int64 = 0
    public var raftTerm: UInt64 = 0

    public init() {}

    public static func decode(_ span: Span<UInt8>) throws(WireError) -> ResponseHeader {
        var header = ResponseHeader()
        var reader = WireReader(span)
        while let field = try reader.nextField() {
            switch field.number {
            case 1: header.clusterID = try reader.uint64(field)
            case 2: header.memberID = try reader.uint64(field)
            case 3: header.revision = try reader.int64(field)
            case 4: header.raftTerm = try reader.uint64(field)
            default: try reader.skip(field)
            }
        }
        return header
    }
}

extension KeyValue {
    /// `keepsValue` false: the value is not copied, only whether there is one is told.
    static func decode(_ span: Span<UInt8>, keepsValue: Bool = true) throws(WireError) -> KeyValue {
        var kv = KeyValue()
        var reader = WireReader(span)
        while let field = try reader.nextField() {
            switch field.number {
            case 1: kv.key = try reader.bytes(field)
            case 2: kv.createRevision = try reader.int64(field)
            case 3: kv.modRevision = try reader.int64(field)
            case 4: kv.version = try reader.int64(field)
            case 5:
                let value = try reader.slice(field)
                kv.hasValue = !value.isEmpty
                if keepsValue { kv.value = Bytes(copying: value) }
            case 6: kv.lease = try reader.int64(field)
            default: try reader.skip(field)
            }
        }
        return kv
    }
}

public struct RangeResponse: Sendable, Equatable {
    public var header = ResponseHeader()
    public var kvs: [KeyValue] = []
    /// There are keys behind the limit.
    public var more = false
    public var count: Int64 = 0

    public init() {}

    public static func decode(_ span: Span<UInt8>) throws(WireError) -> RangeResponse {
        var response = RangeResponse()
        var reader = WireReader(span)
        while let field = try reader.nextField() {
            switch field.number {
            case 1: response.header = try ResponseHeader.decode(try reader.slice(field))
            case 2: response.kvs.append(try KeyValue.decode(try reader.slice(field)))
            case 3: response.more = try reader.bool(field)
            case 4: response.count = try reader.int64(field)
            default: try reader.skip(field)
            }
        }
        return response
    }

    public static func decode(_ bytes: Bytes) throws(WireError) -> RangeResponse {
        try decode(bytes.span)
    }
}

/// The answer to one operation of a transaction.
public enum ResponseOp: Sendable, Equatable {
    case range(RangeResponse)
    case put
    case deleteRange(deleted: Int64)
    case txn(succeeded: Bool)
    case other

    static func decode(_ span: Span<UInt8>) throws(WireError) -> ResponseOp {
        var op = ResponseOp.other
        var reader = WireReader(span)
        while let field = try reader.nextField() {
            switch field.number {
            case 1: op = .range(try RangeResponse.decode(try reader.slice(field)))
            case 2:
                try reader.skip(field)
                op = .put
            case 3:
                op = .deleteRange(deleted: try number(2, of: try reader.slice(field)))
            case 4:
                op = .txn(succeeded: try number(2, of: try reader.slice(field)) != 0)
            default: try reader.skip(field)
            }
        }
        return op
    }

    /// One number of a message, without the rest: `deleted` of a DeleteRangeResponse, `succeeded` of a TxnResponse.
    private static func number(
        _ number: UInt64, of span: Span<UInt8>
    ) throws(WireError) -> Int64 {
        var value: Int64 = 0
        var reader = WireReader(span)
        while let field = try reader.nextField() {
            if field.number == number {
                value = try reader.int64(field)
            } else {
                try reader.skip(field)
            }
        }
        return value
    }
}

public struct TxnResponse: Sendable, Equatable {
    public var header = ResponseHeader()
    /// Whether all conditions held.
    public var succeeded = false
    public var responses: [ResponseOp] = []

    public init() {}

    public static func decode(_ span: Span<UInt8>) throws(WireError) -> TxnResponse {
        var response = TxnResponse()
        var reader = WireReader(span)
        while let field = try reader.nextField() {
            switch field.number {
            case 1: response.header = try ResponseHeader.decode(try reader.slice(field))
            case 2: response.succeeded = try reader.bool(field)
            case 3: response.responses.append(try ResponseOp.decode(try reader.slice(field)))
            default: try reader.skip(field)
            }
        }
        return response
    }

    public static func decode(_ bytes: Bytes) throws(WireError) -> TxnResponse {
        try decode(bytes.span)
    }
}
