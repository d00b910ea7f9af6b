// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

// Answers of etcd's Lease and Auth services (etcd api/etcdserverpb/rpc.proto). Times are in seconds.

public struct LeaseGrantResponse: Sendable, Equatable, EtcdResponse {
    public var header = ResponseHeader()
    public var id: Int64 = 0
    /// As granted: not less than was asked for.
    public var ttl: Int64 = 0
    public var error = Bytes()

    public var needsRevision: Bool { false }

    public init() {}

    public static func decode(_ bytes: Bytes) throws(WireError) -> LeaseGrantResponse {
        var response = LeaseGrantResponse()
        var budget = FieldBudget()
        var reader = WireReader(bytes.span)
        while let field = try reader.nextField(&budget) {
            switch field.number {
            case 1: response.header = try ResponseHeader.decode(try reader.slice(field), &budget)
            case 2: response.id = try reader.int64(field)
            case 3: response.ttl = try reader.int64(field)
            case 4: response.error = try reader.bytes(field)
            default: try reader.skip(field)
            }
        }
        return response
    }
}

public struct LeaseRevokeResponse: Sendable, Equatable, EtcdResponse {
    public var header = ResponseHeader()

    public var needsRevision: Bool { false }

    public init() {}

    public static func decode(_ bytes: Bytes) throws(WireError) -> LeaseRevokeResponse {
        var response = LeaseRevokeResponse()
        var budget = FieldBudget()
        var reader = WireReader(bytes.span)
        while let field = try reader.nextField(&budget) {
            switch field.number {
            case 1: response.header = try ResponseHeader.decode(try reader.slice(field), &budget)
            default: try reader.skip(field)
            }
        }
        return response
    }
}

public struct LeaseKeepAliveResponse: Sendable, Equatable, EtcdResponse {
    public var header = ResponseHeader()
    public var id: Int64 = 0
    /// 0: there is no such lease.
    public var ttl: Int64 = 0

    public var needsRevision: Bool { false }

    public init() {}

    public static func decode(_ bytes: Bytes) throws(WireError) -> LeaseKeepAliveResponse {
        var response = LeaseKeepAliveResponse()
        var budget = FieldBudget()
        var reader = WireReader(bytes.span)
        while let field = try reader.nextField(&budget) {
            switch field.number {
            case 1: response.header = try ResponseHeader.decode(try reader.slice(field), &budget)
            case 2: response.id = try reader.int64(field)
            case 3: response.ttl = try reader.int64(field)
            default: try reader.skip(field)
            }
        }
        return response
    }
}

public struct LeaseTimeToLiveResponse: Sendable, Equatable, EtcdResponse {
    public var header = ResponseHeader()
    public var id: Int64 = 0
    /// The remaining time; -1: there is no such lease.
    public var ttl: Int64 = 0
    public var grantedTTL: Int64 = 0
    /// How many keys hang on it, if they were asked for.
    public var keyCount = 0

    public var needsRevision: Bool { false }

    public init() {}

    public static func decode(_ bytes: Bytes) throws(WireError) -> LeaseTimeToLiveResponse {
        var response = LeaseTimeToLiveResponse()
        var budget = FieldBudget()
        var reader = WireReader(bytes.span)
        while let field = try reader.nextField(&budget) {
            switch field.number {
            case 1: response.header = try ResponseHeader.decode(try reader.slice(field), &budget)
            case 2: response.id = try reader.int64(field)
            case 3: response.ttl = try reader.int64(field)
            case 4: response.grantedTTL = try reader.int64(field)
            case 5:
                try reader.skip(field)
                response.keyCount += 1
            default: try reader.skip(field)
            }
        }
        return response
    }
}

public struct AuthenticateResponse: Sendable, Equatable, EtcdResponse {
    public var header = ResponseHeader()
    /// Every request carries it as header `token`.
    public var token = Bytes()

    public var needsRevision: Bool { false }

    public init() {}

    public static func decode(_ bytes: Bytes) throws(WireError) -> AuthenticateResponse {
        var response = AuthenticateResponse()
        var budget = FieldBudget()
        var reader = WireReader(bytes.span)
        while let field = try reader.nextField(&budget) {
            switch field.number {
            case 1: response.header = try ResponseHeader.decode(try reader.slice(field), &budget)
            case 2: response.token = try reader.bytes(field)
            default: try reader.skip(field)
            }
        }
        return response
    }
}
