// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// The meaning of etcd's errors. Classified by code and, if a code has several meanings, by etcd's text (etcd
/// api/v3rpc/rpctypes/error.go).
package enum Failure {
    /// This endpoint cannot serve: try another, then again.
    case transient
    /// The server is slow, or between two leaders: ask again after a pause.
    case busy
    /// The token is unknown or too old: authenticate again.
    case tokenRefused
    case unauthenticated
    case authenticationNotEnabled
    case permission
    case tooLarge
    case noSpace
    case leaseNotFound
    case leaseExists
    case compacted
    case other

    init(_ status: GRPCStatus) {
        let text = status.message
        switch status.code {
        case GRPCStatus.unavailable:
            self = Self.isOfNoUse(text) ? .transient : .busy
        case GRPCStatus.deadlineExceeded:
            self = .busy
        case GRPCStatus.canceled, GRPCStatus.aborted, GRPCStatus.internalError, GRPCStatus.unknown:
            self = .transient
        case GRPCStatus.unauthenticated:
            self = .tokenRefused
        case GRPCStatus.permissionDenied:
            self = .permission
        case GRPCStatus.resourceExhausted:
            if text.contains("space exceeded") {
                self = .noSpace
            } else if text.contains("larger than max") {
                self = .tooLarge
            } else {
                self = .busy  // 'etcdserver: too many requests'
            }
        case GRPCStatus.invalidArgument:
            if text.contains("request is too large") {
                self = .tooLarge
            } else if text.contains("revision of auth store is old") {
                self = .tokenRefused
            } else if text.contains("user name is empty")
                || text.contains("invalid user ID or password")
            {
                self = .unauthenticated
            } else {
                self = .other
            }
        case GRPCStatus.notFound:
            self = text.contains("requested lease not found") ? .leaseNotFound : .other
        case GRPCStatus.failedPrecondition:
            if text.contains("lease already exists") {
                self = .leaseExists
            } else if text.contains("authentication is not enabled") {
                self = .authenticationNotEnabled
            } else {
                self = .other
            }
        case GRPCStatus.outOfRange:
            self = text.contains("compacted") ? .compacted : .transient
        default:
            self = .other
        }
    }

    /// A member that says so has to be left at once: 'etcdserver: no leader', 'server stopped', 'rpc not supported for
    /// learner'.
    private static func isOfNoUse(_ text: Bytes) -> Bool {
        text.contains("no leader") || text.contains("server stopped") || text.contains("learner")
    }

    /// etcd's text, with the remedy if etcd does not name one.
    func explain(_ status: GRPCStatus) -> Text {
        guard case .noSpace = self else { return "\(status.message)" }
        return
            "\(status.message); compact and defragment etcd, then let 'etcdctl alarm disarm' end its alarm"
    }

    /// The text for a refused blob: 'too large' with both sizes. etcd names its limit only when gRPC's own check
    /// refused the message ('larger than max (X vs. Y)'); else it is --max-request-bytes, 1.5 MiB by default.
    func explain(_ text: Text, blob: Int, request: Int) -> Text {
        guard case .tooLarge = self, blob > 0 else { return text }
        return
            "a blob of \(blob) bytes, with its key and its guard a request of \(request), is over etcd's request limit (\(text); etcd's --max-request-bytes is 1572864 by default)"
    }

    /// Whether a server that answers a reading so is of no use. With any other answer the operations tell what they may
    /// not do. ('No space' is no answer to a reading.)
    var refusesService: Bool {
        switch self {
        case .tokenRefused, .unauthenticated, .authenticationNotEnabled, .transient, .busy,
            .noSpace:
            true
        case .permission, .tooLarge, .leaseNotFound, .leaseExists, .compacted, .other: false
        }
    }

    /// The status of an operation that this ends.
    var status: Status {
        switch self {
        case .transient, .busy, .leaseNotFound, .leaseExists, .compacted,
            .authenticationNotEnabled, .other:
            .backend
        case .tokenRefused, .unauthenticated: .unauthenticated
        case .permission: .permission
        case .tooLarge: .tooLarge
        case .noSpace: .noSpace
        }
    }
}
