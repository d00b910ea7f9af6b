// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// What comes on the Watch stream (etcd api/etcdserverpb/rpc.proto, WatchResponse).
public struct WatchResponse: Sendable, Equatable {
    public struct Event: Sendable, Equatable {
        public enum Kind: Sendable {
            case put, delete
        }
        public var kind = Kind.put
        /// A DELETE has only the key and the revision of the deletion.
        public var kv = KeyValue()

        public init() {}

        fileprivate static func decode(
            _ span: Span<UInt8>, keepsValue: Bool
        ) throws(WireError) -> Event {
            var event = Event()
            var reader = WireReader(span)
            while let field = try reader.nextField() {
                switch field.number {
                case 1: event.kind = try reader.uint64(field) == 1 ? .delete : .put
                case 2:
                    event.kv = try KeyValue.decode(
                        try reader.slice(field), keepsValue: keepsValue)
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

    public init() {}

    /// `keepValues` false: values are not copied.
    public static func decode(
        _ bytes: Bytes, keepValues: Bool
    ) throws(WireError) -> WatchResponse {
        var response = WatchResponse()
        var reader = WireReader(bytes.span)
        while let field = try reader.nextField() {
            switch field.number {
            case 1: response.header = try ResponseHeader.decode(try reader.slice(field))
            case 2: response.watchID = try reader.int64(field)
            case 3: response.created = try reader.bool(field)
            case 4: response.canceled = try reader.bool(field)
            case 5: response.compactRevision = try reader.int64(field)
            case 6: response.cancelReason = try reader.bytes(field)
            case 7: response.fragment = try reader.bool(field)
            case 11:
                response.events.append(
                    try Event.decode(try reader.slice(field), keepsValue: keepValues))
            default: try reader.skip(field)
            }
        }
        return response
    }

    /// Which watch a message is for, without reading its events.
    public static func watchID(of bytes: Bytes) throws(WireError) -> Int64 {
        var id: Int64 = 0
        var reader = WireReader(bytes.span)
        while let field = try reader.nextField() {
            if field.number == 2 {
                id = try reader.int64(field)
            } else {
                try reader.skip(field)
            }
        }
        return id
    }
}
