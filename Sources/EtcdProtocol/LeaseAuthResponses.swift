// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

// Answers of etcd's Lease and Auth services (etcd api/etcdserverpb/rpc.proto). Times are in seconds.

public struct LeaseGrantResponse: Sendable, Equatable {
    public var header = ResponseHeader()
    public var id: Int64 = 0
    /// As granted: not less than was asked for.
    public var ttl: Int64 = 0
    public var error = Bytes()

    public init() {}

    public static func decode(_ bytes: Bytes) throws(WireError) -> LeaseGrantResponse {
        var response = LeaseGrantResponse()
        var reader = WireReader(bytes.span)
        while let field = try reader.nextField() {
            switch field.number {
            case 1: response.header = try ResponseHeader.decode(try reader.slice(field))
            case 2: response.id = try reader.int64(field)
            case 3: response.ttl = try reader.int64(field)
            case 4: response.error = try reader.bytes(field)
            default: try reader.skip(field)
            }
        }
        return response
    }
}

public struct LeaseRevokeResponse: Sendable, Equatable {
    public var header = ResponseHeader()

    public init() {}

    public static func decode(_ bytes: Bytes) throws(WireError) -> LeaseRevokeResponse {
        var response = LeaseRevokeResponse()
        var reader = WireReader(bytes.span)
        while let field = try reader.nextField() {
            switch field.number {
            case 1: response.header = try ResponseHeader.decode(try reader.slice(field))
            default: try reader.skip(field)
            }
        }
        return response
    }
}

public struct LeaseKeepAliveResponse: Sendable, Equatable {
    public var header = ResponseHeader()
    public var id: Int64 = 0
    /// 0: there is no such lease.
    public var ttl: Int64 = 0

    public init() {}

    public static func decode(_ bytes: Bytes) throws(WireError) -> LeaseKeepAliveResponse {
        var response = LeaseKeepAliveResponse()
        var reader = WireReader(bytes.span)
        while let field = try reader.nextField() {
            switch field.number {
            case 1: response.header = try ResponseHeader.decode(try reader.slice(field))
            case 2: response.id = try reader.int64(field)
            case 3: response.ttl = try reader.int64(field)
            default: try reader.skip(field)
            }
        }
        return response
    }
}

public struct LeaseTimeToLiveResponse: Sendable, Equatable {
    public var header = ResponseHeader()
    public var id: Int64 = 0
    /// What is left; -1: there is no such lease.
    public var ttl: Int64 = 0
    public var grantedTTL: Int64 = 0

    public init() {}

    public static func decode(_ bytes: Bytes) throws(WireError) -> LeaseTimeToLiveResponse {
        var response = LeaseTimeToLiveResponse()
        var reader = WireReader(bytes.span)
        while let field = try reader.nextField() {
            switch field.number {
            case 1: response.header = try ResponseHeader.decode(try reader.slice(field))
            case 2: response.id = try reader.int64(field)
            case 3: response.ttl = try reader.int64(field)
            case 4: response.grantedTTL = try reader.int64(field)
            default: try reader.skip(field)
            }
        }
        return response
    }
}

public struct AuthenticateResponse: Sendable, Equatable {
    public var header = ResponseHeader()
    /// To be sent as header `token` with every request.
    public var token = Bytes()

    public init() {}

    public static func decode(_ bytes: Bytes) throws(WireError) -> AuthenticateResponse {
        var response = AuthenticateResponse()
        var reader = WireReader(bytes.span)
        while let field = try reader.nextField() {
            switch field.number {
            case 1: response.header = try ResponseHeader.decode(try reader.slice(field))
            case 2: response.token = try reader.bytes(field)
            default: try reader.skip(field)
            }
        }
        return response
    }
}
