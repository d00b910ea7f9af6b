// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// A message of the Watch stream (etcd api/etcdserverpb/rpc.proto, WatchResponse).
public struct WatchResponse: Sendable, Equatable, EtcdResponse {
    public struct Event: Sendable, Equatable {
        public enum Kind: Sendable {
            case put, delete
        }
        public var kind = Kind.put
        /// A DELETE has only the key and the revision of the deletion.
        public var kv = KeyValue()

        public init() {}

        fileprivate static func decode(
            _ span: Span<UInt8>, keepsValue: Bool, _ budget: inout FieldBudget
        ) throws(WireError) -> Event {
            var event = Event()
            var reader = WireReader(span)
            while let field = try reader.nextField(&budget) {
                switch field.number {
                case 1: event.kind = try reader.uint64(field) == 1 ? .delete : .put
                case 2:
                    event.kv = try KeyValue.decode(
                        try reader.slice(field), keepsValue: keepsValue, &budget)
                default: try reader.skip(field)
                }
            }
            return event
        }
    }
    public var header = ResponseHeader()
    public var watchID: Int64 = 0
    public var created = false
    public var canceled = false
    /// Not 0: the watch was canceled because it began before this revision, the oldest that is kept.
    public var compactRevision: Int64 = 0
    public var cancelReason = Bytes()
    /// More of the same revisions follows in the next message.
    public var fragment = false
    public var events: [Event] = []

    /// etcd does not tell it where it cancels a watch (server/mvcc/watchable_store.go, syncWatchers).
    public var needsRevision: Bool { !canceled }

    public init() {}

    /// `keepValues` false: values are not copied. `events`: as many as `outline` has counted; for them room is made once.
    public static func decode(
        _ bytes: Bytes, keepValues: Bool, events: Int = 0
    ) throws(WireError) -> WatchResponse {
        var response = WatchResponse()
        response.events.reserveCapacity(min(events, WireLimits.events))
        var budget = FieldBudget()
        var reader = WireReader(bytes.span)
        while let field = try reader.nextField(&budget) {
            switch field.number {
            case 1: response.header = try ResponseHeader.decode(try reader.slice(field), &budget)
            case 2: response.watchID = try reader.int64(field)
            case 3: response.created = try reader.bool(field)
            case 4: response.canceled = try reader.bool(field)
            case 5: response.compactRevision = try reader.int64(field)
            case 6: response.cancelReason = try reader.bytes(field)
            case 7: response.fragment = try reader.bool(field)
            case 11:
                guard response.events.count < WireLimits.events else { throw .tooMany }
                response.events.append(
                    try Event.decode(try reader.slice(field), keepsValue: keepValues, &budget))
            default: try reader.skip(field)
            }
        }
        return response
    }

    /// The fields that decide how the events are read.
    public struct Outline: Equatable {
        public var watchID: Int64 = 0
        public var events = 0
        /// It has more events than may be decoded; what stands behind them was not read.
        public var hasTooManyEvents = false
    }

    public static func outline(of bytes: Bytes) throws(WireError) -> Outline {
        var outline = Outline()
        var budget = FieldBudget()
        var reader = WireReader(bytes.span)
        while let field = try reader.nextField(&budget) {
            switch field.number {
            case 2: outline.watchID = try reader.int64(field)
            case 11:
                outline.events += 1
                outline.hasTooManyEvents = outline.events > WireLimits.events
                if outline.hasTooManyEvents { return outline }
                try reader.skip(field)
            default: try reader.skip(field)
            }
        }
        return outline
    }
}
