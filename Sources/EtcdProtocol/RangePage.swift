// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// An answer to a range request whose keys are decoded in portions, so that a long one takes several ticks.
public struct RangePage: Sendable, EtcdResponse {
    private let bytes: Bytes
    /// Of the field behind the last decoded key.
    private var offset = 0
    public private(set) var header = ResponseHeader()
    /// Keys that are not decoded yet.
    public private(set) var keysLeft = 0
    /// There are keys behind the limit.
    public private(set) var more = false

    public var needsRevision: Bool { true }
    /// Of the message.
    public var size: Int { bytes.count }

    private init(_ bytes: Bytes) { self.bytes = bytes }

    /// Decodes all but the keys, which it counts.
    public static func decode(_ bytes: Bytes) throws(WireError) -> RangePage {
        var page = RangePage(bytes)
        _ = try page.read(nil)
        page.offset = 0
        return page
    }

    /// Decodes at most so many further keys. `more` of the result: there are further keys, here or behind the limit.
    public mutating func next(_ most: Int) throws(WireError) -> RangeResponse {
        var response = RangeResponse()
        response.header = header
        response.kvs = try read(min(most, keysLeft))
        keysLeft -= response.kvs.count
        response.more = more || keysLeft > 0
        return response
    }

    /// Reads so many keys; nil: all of the message, with keys only counted.
    private mutating func read(_ wanted: Int?) throws(WireError) -> [KeyValue] {
        let bytes = bytes
        var kvs: [KeyValue] = []
        kvs.reserveCapacity(wanted ?? 0)
        var budget = FieldBudget()
        var reader = WireReader(bytes.span, from: offset)
        while kvs.count < wanted ?? .max, let field = try reader.nextField(&budget) {
            switch (field.number, wanted) {
            case (2, .some):
                kvs.append(try KeyValue.decode(try reader.slice(field), &budget))
            case (2, .none):
                guard keysLeft < WireLimits.pageKeys else { throw .tooMany }
                keysLeft += 1
                budget.addKey()
                _ = try reader.slice(field)
            case (1, .none): header = try ResponseHeader.decode(try reader.slice(field), &budget)
            case (3, .none): more = try reader.bool(field)
            default: try reader.skip(field)
            }
        }
        offset = reader.offset
        return kvs
    }

    /// Whether etcd answers this request with so many keys: no more than asked for, and `more` only behind as many as asked
    /// for.
    public func canAnswer(_ request: RangeRequest) -> Bool {
        let limit = request.limit > 0 ? Int(clamping: request.limit) : Int.max
        return keysLeft <= limit && (!more || keysLeft == limit)
    }
}
