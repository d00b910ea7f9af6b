// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

// Requests of etcd's Lease, Watch and Auth services (etcd api/etcdserverpb/rpc.proto).

public struct LeaseGrantRequest: Sendable, Hashable, WireMessage {
    /// Seconds.
    public var ttl: Int64
    public var id: Int64

    public init(ttl: Int64, id: Int64) {
        self.ttl = ttl
        self.id = id
    }

    public var encodedSize: Int { WireWriter.size(1, ttl) + WireWriter.size(2, id) }

    public func write(_ writer: inout WireWriter) {
        writer.int64(1, ttl)
        writer.int64(2, id)
    }
}

public struct LeaseRevokeRequest: Sendable, Hashable, WireMessage {
    public var id: Int64

    public init(id: Int64) { self.id = id }

    public var encodedSize: Int { WireWriter.size(1, id) }

    public func write(_ writer: inout WireWriter) { writer.int64(1, id) }
}

public struct LeaseKeepAliveRequest: Sendable, Hashable, WireMessage {
    public var id: Int64

    public init(id: Int64) { self.id = id }

    public var encodedSize: Int { WireWriter.size(1, id) }

    public func write(_ writer: inout WireWriter) { writer.int64(1, id) }
}

public struct LeaseTimeToLiveRequest: Sendable, Hashable, WireMessage {
    public var id: Int64
    /// The keys that hang on it are wanted, too.
    public var keys: Bool

    public init(id: Int64, keys: Bool = false) {
        self.id = id
        self.keys = keys
    }

    public var encodedSize: Int { WireWriter.size(1, id) + WireWriter.size(2, keys) }

    public func write(_ writer: inout WireWriter) {
        writer.int64(1, id)
        writer.bool(2, keys)
    }
}

public struct AuthenticateRequest: Sendable, Hashable, WireMessage {
    public var name: Bytes
    public var password: Bytes

    public init(name: Bytes, password: Bytes) {
        self.name = name
        self.password = password
    }

    public var encodedSize: Int { WireWriter.size(1, name) + WireWriter.size(2, password) }

    public func write(_ writer: inout WireWriter) {
        writer.bytes(1, name)
        writer.bytes(2, password)
    }
}

/// WatchRequest with its create_request: with progress notifications, and in fragments.
public struct WatchCreateRequest: Sendable, Hashable, WireMessage {
    public var key: Bytes
    /// Empty: the one key.
    public var rangeEnd: Bytes
    public var startRevision: Int64
    public var watchID: Int64

    public init(key: Bytes, rangeEnd: Bytes = [], startRevision: Int64, watchID: Int64) {
        self.key = key
        self.rangeEnd = rangeEnd
        self.startRevision = startRevision
        self.watchID = watchID
    }

    private var bodySize: Int {
        WireWriter.size(1, key) + WireWriter.size(2, rangeEnd) + WireWriter.size(3, startRevision)
            + WireWriter.size(4, true) + WireWriter.size(7, watchID) + WireWriter.size(8, true)
    }

    public var encodedSize: Int { WireWriter.size(1, message: bodySize) }

    public func write(_ writer: inout WireWriter) {
        writer.message(1, size: bodySize)
        writer.bytes(1, key)
        writer.bytes(2, rangeEnd)
        writer.int64(3, startRevision)
        writer.bool(4, true)
        writer.int64(7, watchID)
        writer.bool(8, true)
    }
}

/// WatchRequest with its cancel_request.
public struct WatchCancelRequest: Sendable, Hashable, WireMessage {
    public var watchID: Int64

    public init(watchID: Int64) { self.watchID = watchID }

    public var encodedSize: Int { WireWriter.size(2, message: WireWriter.size(1, watchID)) }

    public func write(_ writer: inout WireWriter) {
        writer.message(2, size: WireWriter.size(1, watchID))
        writer.int64(1, watchID)
    }
}
