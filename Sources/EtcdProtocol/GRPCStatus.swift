// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// How a gRPC call ended (https://github.com/grpc/grpc/blob/master/doc/statuscodes.md).
public struct GRPCStatus: Sendable, Equatable {
    public var code: Int32
    /// The server's words, percent-decoded; any bytes.
    public var message: Bytes

    public init(code: Int32, message: Bytes) {
        self.code = code
        self.message = message
    }

    // The codes that matter here; etcd's own errors use some of them (see `Failure`).
    public static let ok: Int32 = 0
    public static let canceled: Int32 = 1
    public static let unknown: Int32 = 2
    public static let invalidArgument: Int32 = 3
    public static let deadlineExceeded: Int32 = 4
    public static let notFound: Int32 = 5
    public static let permissionDenied: Int32 = 7
    public static let resourceExhausted: Int32 = 8
    public static let failedPrecondition: Int32 = 9
    public static let aborted: Int32 = 10
    public static let outOfRange: Int32 = 11
    public static let internalError: Int32 = 13
    public static let unavailable: Int32 = 14
    public static let unauthenticated: Int32 = 16
}
