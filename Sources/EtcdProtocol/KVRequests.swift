// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

// Requests of etcd's KV service; field numbers are those of etcd's api/etcdserverpb/rpc.proto.

public struct RangeRequest: Sendable, Hashable, WireMessage {
    public var key: Bytes
    /// Empty: the one key.
    public var rangeEnd: Bytes
    /// 0: all.
    public var limit: Int64
    /// 0: the newest.
    public var revision: Int64
    /// Answered by the member alone, without asking its leader.
    public var serializable: Bool
    public var keysOnly: Bool

    public init(
        key: Bytes, rangeEnd: Bytes = [], limit: Int64 = 0, revision: Int64 = 0,
        serializable: Bool = false, keysOnly: Bool = false
    ) {
        self.key = key
        self.rangeEnd = rangeEnd
        self.limit = limit
        self.revision = revision
        self.serializable = serializable
        self.keysOnly = keysOnly
    }

    public var encodedSize: Int {
        WireWriter.size(1, key) + WireWriter.size(2, rangeEnd) + WireWriter.size(3, limit)
            + WireWriter.size(4, revision) + WireWriter.size(7, serializable)
            + WireWriter.size(8, keysOnly)
    }

    public func write(_ writer: inout WireWriter) {
        writer.bytes(1, key)
        writer.bytes(2, rangeEnd)
        writer.int64(3, limit)
        writer.int64(4, revision)
        writer.bool(7, serializable)
        writer.bool(8, keysOnly)
    }
}

public struct PutRequest: Sendable, Hashable, WireMessage {
    public var key: Bytes
    public var value: Bytes
    public var lease: Int64

    public init(key: Bytes, value: Bytes, lease: Int64 = 0) {
        self.key = key
        self.value = value
        self.lease = lease
    }

    public var encodedSize: Int {
        WireWriter.size(1, key) + WireWriter.size(2, value) + WireWriter.size(3, lease)
    }

    public func write(_ writer: inout WireWriter) {
        writer.bytes(1, key)
        writer.bytes(2, value)
        writer.int64(3, lease)
    }
}

public struct DeleteRangeRequest: Sendable, Hashable, WireMessage {
    public var key: Bytes
    /// Empty: the one key.
    public var rangeEnd: Bytes

    public init(key: Bytes, rangeEnd: Bytes = []) {
        self.key = key
        self.rangeEnd = rangeEnd
    }

    public var encodedSize: Int { WireWriter.size(1, key) + WireWriter.size(2, rangeEnd) }

    public func write(_ writer: inout WireWriter) {
        writer.bytes(1, key)
        writer.bytes(2, rangeEnd)
    }
}

/// One operation of a transaction.
public indirect enum RequestOp: Sendable, Hashable, WireMessage {
    case range(RangeRequest)
    case put(PutRequest)
    case deleteRange(DeleteRangeRequest)
    /// A transaction in a transaction, with conditions of its own.
    case txn(TxnRequest)

    private var bodySize: Int {
        switch self {
        case .range(let request): request.encodedSize
        case .put(let request): request.encodedSize
        case .deleteRange(let request): request.encodedSize
        case .txn(let request): request.encodedSize
        }
    }

    public var encodedSize: Int { WireWriter.size(1, message: bodySize) }

    public func write(_ writer: inout WireWriter) {
        switch self {
        case .range(let request):
            writer.message(1, size: bodySize)
            request.write(&writer)
        case .put(let request):
            writer.message(2, size: bodySize)
            request.write(&writer)
        case .deleteRange(let request):
            writer.message(3, size: bodySize)
            request.write(&writer)
        case .txn(let request):
            writer.message(4, size: bodySize)
            request.write(&writer)
        }
    }
}

/// A condition of a transaction: how something of a key, or of every key of a range, relates to a number. A key that
/// does not exist, and a range without keys, has create and mod revision 0 and lease 0.
public struct Compare: Sendable, Hashable, WireMessage {
    public enum Target: Sendable, Hashable {
        case createRevision(Int64)
        case modRevision(Int64)
        case lease(Int64)
        /// That is compared with a value of no bytes.
        case value
    }
    /// CompareResult.
    public enum Relation: Int64, Sendable {
        case equal = 0
        case less = 2
        case notEqual = 3
    }
    public var key: Bytes
    public var target: Target
    public var relation: Relation
    /// The end of the range, exclusive; empty: `key` alone.
    public var rangeEnd: Bytes

    public init(
        key: Bytes, target: Target, _ relation: Relation = .equal, rangeEnd: Bytes = []
    ) {
        self.key = key
        self.target = target
        self.relation = relation
        self.rangeEnd = rangeEnd
    }

    /// CompareTarget, the field of the oneof that holds the number, and the number.
    private var parts: (target: Int64, field: UInt64, value: Int64) {
        switch target {
        case .createRevision(let revision): (1, 5, revision)
        case .modRevision(let revision): (2, 6, revision)
        case .lease(let lease): (4, 8, lease)
        // An empty byte string is written like the number 0, with another wire type.
        case .value: (3, 7, 0)
        }
    }

    public var encodedSize: Int {
        let (target, field, value) = parts
        return WireWriter.size(1, relation.rawValue) + WireWriter.size(2, target)
            + WireWriter.size(3, key) + WireWriter.size(field, value, writesZero: true)
            + WireWriter.size(64, rangeEnd)
    }

    public func write(_ writer: inout WireWriter) {
        let (target, field, value) = parts
        writer.int64(1, relation.rawValue)
        writer.int64(2, target)
        writer.bytes(3, key)
        if case .value = self.target {
            writer.message(field, size: 0)
        } else {
            writer.int64(field, value, writesZero: true)
        }
        writer.bytes(64, rangeEnd)
    }
}

public struct TxnRequest: Sendable, Hashable, WireMessage {
    public var compare: [Compare]
    public var success: [RequestOp]
    public var failure: [RequestOp]

    public init(compare: [Compare], success: [RequestOp], failure: [RequestOp] = []) {
        self.compare = compare
        self.success = success
        self.failure = failure
    }

    public var encodedSize: Int {
        var size = 0
        for one in compare { size += WireWriter.size(1, message: one.encodedSize) }
        for one in success { size += WireWriter.size(2, message: one.encodedSize) }
        for one in failure { size += WireWriter.size(3, message: one.encodedSize) }
        return size
    }

    public func write(_ writer: inout WireWriter) {
        for one in compare {
            writer.message(1, size: one.encodedSize)
            one.write(&writer)
        }
        for one in success {
            writer.message(2, size: one.encodedSize)
            one.write(&writer)
        }
        for one in failure {
            writer.message(3, size: one.encodedSize)
            one.write(&writer)
        }
    }
}
