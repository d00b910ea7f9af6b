// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

// Answers of etcd's KV service (etcd api/etcdserverpb/rpc.proto, api/mvccpb/kv.proto). Fields that we
// have no use for, and those that a newer server may add, are skipped.

/// The header of every answer.
public struct ResponseHeader: Sendable, Equatable {
    public var clusterID: UInt64 = 0
    public var memberID: UInt64 = 0
    /// The revision of the store at the time of the answer.
    public var revision: Int64 = 0
    public var raftTerm: UInt64 = 0

    public init() {}

    static func decode(
        _ span: Span<UInt8>, _ budget: inout FieldBudget
    ) throws(WireError) -> ResponseHeader {
        var header = ResponseHeader()
        var reader = WireReader(span)
        while let field = try reader.nextField(&budget) {
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
    /// `keepsValue` false: records only whether there is a value, without a copy.
    static func decode(
        _ span: Span<UInt8>, keepsValue: Bool = true, _ budget: inout FieldBudget
    ) throws(WireError) -> KeyValue {
        budget.addKey()
        var kv = KeyValue()
        var reader = WireReader(span)
        while let field = try reader.nextField(&budget) {
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

/// An answer of etcd; its header identifies the store and the revision.
public protocol EtcdResponse {
    var header: ResponseHeader { get }
    /// Whether the revision is needed: without it the rest has no meaning.
    var needsRevision: Bool { get }
}

public struct RangeResponse: Sendable, Equatable, EtcdResponse {
    public var header = ResponseHeader()
    public var kvs: [KeyValue] = []
    /// There are keys behind the limit.
    public var more = false
    public var count: Int64 = 0

    public var needsRevision: Bool { true }

    public init() {}

    static func decode(
        _ span: Span<UInt8>, _ budget: inout FieldBudget
    ) throws(WireError) -> RangeResponse {
        var response = RangeResponse()
        var reader = WireReader(span)
        while let field = try reader.nextField(&budget) {
            switch field.number {
            case 1: response.header = try ResponseHeader.decode(try reader.slice(field), &budget)
            case 2:
                guard response.kvs.count < WireLimits.keys else { throw .tooMany }
                response.kvs.append(try KeyValue.decode(try reader.slice(field), &budget))
            case 3: response.more = try reader.bool(field)
            case 4: response.count = try reader.int64(field)
            default: try reader.skip(field)
            }
        }
        return response
    }

    public static func decode(_ bytes: Bytes) throws(WireError) -> RangeResponse {
        var budget = FieldBudget()
        return try decode(bytes.span, &budget)
    }

    /// Whether it can be etcd's answer to this request: keys of its range, in order, each once, no more than asked for; and
    /// `more` only behind as many as asked for (etcd server/mvcc/kvstore_txn.go, server/etcdserver/apply.go).
    public func canAnswer(_ request: RangeRequest) -> Bool {
        let limit = request.limit > 0 ? Int(clamping: request.limit) : Int.max
        guard kvs.count <= limit, !more || kvs.count == limit else { return false }
        return isInOrder(from: request.key, to: request.rangeEnd)
    }

    /// Whether its keys are of this range, in order, each once.
    public func isInOrder(from start: Bytes, to end: Bytes) -> Bool {
        for (i, kv) in kvs.enumerated() {
            guard kv.key.isIn(from: start, to: end),
                i == 0 || kvs[i - 1].key.precedes(kv.key),
                kv.modRevision >= 1, kv.modRevision <= header.revision
            else { return false }
        }
        return true
    }
}

/// The answer to one operation of a transaction.
public enum ResponseOp: Sendable, Equatable {
    case range(RangeResponse)
    case put
    case deleteRange(deleted: Int64)
    case txn(succeeded: Bool)
    case other

    static func decode(
        _ span: Span<UInt8>, _ budget: inout FieldBudget
    ) throws(WireError) -> ResponseOp {
        var op = ResponseOp.other
        var reader = WireReader(span)
        while let field = try reader.nextField(&budget) {
            switch field.number {
            case 1: op = .range(try RangeResponse.decode(try reader.slice(field), &budget))
            case 2:
                try reader.skip(field)
                op = .put
            case 3:
                op = .deleteRange(deleted: try number(2, of: try reader.slice(field), &budget))
            case 4:
                op = .txn(succeeded: try number(2, of: try reader.slice(field), &budget) != 0)
            default: try reader.skip(field)
            }
        }
        return op
    }

    /// One number of a message, without the rest: `deleted` of a DeleteRangeResponse, `succeeded` of a TxnResponse.
    private static func number(
        _ number: UInt64, of span: Span<UInt8>, _ budget: inout FieldBudget
    ) throws(WireError) -> Int64 {
        var value: Int64 = 0
        var reader = WireReader(span)
        while let field = try reader.nextField(&budget) {
            if field.number == number {
                value = try reader.int64(field)
            } else {
                try reader.skip(field)
            }
        }
        return value
    }
}

public struct TxnResponse: Sendable, Equatable, EtcdResponse {
    public var header = ResponseHeader()
    /// Whether all conditions held.
    public var succeeded = false
    public var responses: [ResponseOp] = []

    public var needsRevision: Bool { true }

    public init() {}

    public static func decode(_ bytes: Bytes) throws(WireError) -> TxnResponse {
        var response = TxnResponse()
        var budget = FieldBudget()
        var reader = WireReader(bytes.span)
        while let field = try reader.nextField(&budget) {
            switch field.number {
            case 1: response.header = try ResponseHeader.decode(try reader.slice(field), &budget)
            case 2: response.succeeded = try reader.bool(field)
            case 3:
                guard response.responses.count < WireLimits.responses else { throw .tooMany }
                response.responses.append(
                    try ResponseOp.decode(try reader.slice(field), &budget))
            default: try reader.skip(field)
            }
        }
        return response
    }
}
