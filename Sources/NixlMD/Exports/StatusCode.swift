// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CNixlMD
import MetadataCore

/// The numbers of the C interface: the one place that knows them.
enum StatusCode {
    static let success = Int32(NIXL_MD_SUCCESS)
    static let invalidParameter = Int32(NIXL_MD_ERR_INVALID_PARAM)
    static let backend = Int32(NIXL_MD_ERR_BACKEND)
    static let notFound = Int32(NIXL_MD_ERR_NOT_FOUND)
    static let notAllowed = Int32(NIXL_MD_ERR_NOT_ALLOWED)
    static let unknown = Int32(NIXL_MD_ERR_UNKNOWN)
    static let notSupported = Int32(NIXL_MD_ERR_NOT_SUPPORTED)
    static let canceled = Int32(NIXL_MD_ERR_CANCELED)
    static let tooLarge = Int32(NIXL_MD_ERR_TOO_LARGE)
    static let forked = Int32(NIXL_MD_ERR_FORKED)
    static let busy = Int32(NIXL_MD_ERR_BUSY)
    static let inCallback = Int32(NIXL_MD_ERR_IN_CALLBACK)
    static let shutDown = Int32(NIXL_MD_ERR_SHUT_DOWN)
    static let limit = Int32(NIXL_MD_ERR_LIMIT)

    static func name(_ code: Int32) -> StaticString {
        switch Int(code) {
        case NIXL_MD_IN_PROG: "NIXL_MD_IN_PROG"
        case NIXL_MD_SUCCESS: "NIXL_MD_SUCCESS"
        case NIXL_MD_ERR_INVALID_PARAM: "NIXL_MD_ERR_INVALID_PARAM"
        case NIXL_MD_ERR_BACKEND: "NIXL_MD_ERR_BACKEND"
        case NIXL_MD_ERR_NOT_FOUND: "NIXL_MD_ERR_NOT_FOUND"
        case NIXL_MD_ERR_MISMATCH: "NIXL_MD_ERR_MISMATCH"
        case NIXL_MD_ERR_NOT_ALLOWED: "NIXL_MD_ERR_NOT_ALLOWED"
        case NIXL_MD_ERR_UNKNOWN: "NIXL_MD_ERR_UNKNOWN"
        case NIXL_MD_ERR_NOT_SUPPORTED: "NIXL_MD_ERR_NOT_SUPPORTED"
        case NIXL_MD_ERR_REMOTE_DISCONNECT: "NIXL_MD_ERR_REMOTE_DISCONNECT"
        case NIXL_MD_ERR_CANCELED: "NIXL_MD_ERR_CANCELED"
        case NIXL_MD_ERR_TIMED_OUT: "NIXL_MD_ERR_TIMED_OUT"
        case NIXL_MD_ERR_TOO_LARGE: "NIXL_MD_ERR_TOO_LARGE"
        case NIXL_MD_ERR_REPLACED: "NIXL_MD_ERR_REPLACED"
        case NIXL_MD_ERR_SUPERSEDED: "NIXL_MD_ERR_SUPERSEDED"
        case NIXL_MD_ERR_UNAUTHENTICATED: "NIXL_MD_ERR_UNAUTHENTICATED"
        case NIXL_MD_ERR_PERMISSION: "NIXL_MD_ERR_PERMISSION"
        case NIXL_MD_ERR_FORKED: "NIXL_MD_ERR_FORKED"
        case NIXL_MD_ERR_BUSY: "NIXL_MD_ERR_BUSY"
        case NIXL_MD_ERR_IN_CALLBACK: "NIXL_MD_ERR_IN_CALLBACK"
        case NIXL_MD_ERR_SHUT_DOWN: "NIXL_MD_ERR_SHUT_DOWN"
        case NIXL_MD_ERR_LIMIT: "NIXL_MD_ERR_LIMIT"
        case NIXL_MD_ERR_NO_SPACE: "NIXL_MD_ERR_NO_SPACE"
        default: "NIXL_MD_ERR_?"
        }
    }

    /// The nearest `nixl_status_t`, whose own values lie from -12 to 1.
    static func fold(_ code: Int32) -> Int32 {
        switch Int(code) {
        case -12...1: code
        case NIXL_MD_ERR_TIMED_OUT, NIXL_MD_ERR_NO_SPACE, NIXL_MD_ERR_LIMIT, NIXL_MD_ERR_BUSY:
            backend
        case NIXL_MD_ERR_TOO_LARGE, NIXL_MD_ERR_IN_CALLBACK: invalidParameter
        case NIXL_MD_ERR_REPLACED, NIXL_MD_ERR_SHUT_DOWN: canceled
        case NIXL_MD_ERR_SUPERSEDED, NIXL_MD_ERR_UNAUTHENTICATED, NIXL_MD_ERR_PERMISSION,
            NIXL_MD_ERR_FORKED:
            notAllowed
        default: unknown
        }
    }
}

extension Status {
    var code: Int32 {
        let code =
            switch self {
            case .success: NIXL_MD_SUCCESS
            case .invalidParameter: NIXL_MD_ERR_INVALID_PARAM
            case .backend: NIXL_MD_ERR_BACKEND
            case .notFound: NIXL_MD_ERR_NOT_FOUND
            case .mismatch: NIXL_MD_ERR_MISMATCH
            case .notAllowed: NIXL_MD_ERR_NOT_ALLOWED
            case .unknown: NIXL_MD_ERR_UNKNOWN
            case .notSupported: NIXL_MD_ERR_NOT_SUPPORTED
            case .remoteDisconnect: NIXL_MD_ERR_REMOTE_DISCONNECT
            case .canceled: NIXL_MD_ERR_CANCELED
            case .timedOut: NIXL_MD_ERR_TIMED_OUT
            case .tooLarge: NIXL_MD_ERR_TOO_LARGE
            case .replaced: NIXL_MD_ERR_REPLACED
            case .superseded: NIXL_MD_ERR_SUPERSEDED
            case .unauthenticated: NIXL_MD_ERR_UNAUTHENTICATED
            case .permission: NIXL_MD_ERR_PERMISSION
            case .forked: NIXL_MD_ERR_FORKED
            case .busy: NIXL_MD_ERR_BUSY
            case .inCallback: NIXL_MD_ERR_IN_CALLBACK
            case .shutDown: NIXL_MD_ERR_SHUT_DOWN
            case .limit: NIXL_MD_ERR_LIMIT
            case .noSpace: NIXL_MD_ERR_NO_SPACE
            }
        return Int32(code)
    }
}
