// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CNixlMD
import MetadataCore

/// The numbers of the C interface: the one place that knows them.
enum StatusCode {
    static let success = NIXL_MD_SUCCESS.rawValue
    static let invalidParameter = NIXL_MD_ERR_INVALID_PARAM.rawValue
    static let backend = NIXL_MD_ERR_BACKEND.rawValue
    static let notFound = NIXL_MD_ERR_NOT_FOUND.rawValue
    static let notAllowed = NIXL_MD_ERR_NOT_ALLOWED.rawValue
    static let unknown = NIXL_MD_ERR_UNKNOWN.rawValue
    static let notSupported = NIXL_MD_ERR_NOT_SUPPORTED.rawValue
    static let canceled = NIXL_MD_ERR_CANCELED.rawValue
    static let tooLarge = NIXL_MD_ERR_TOO_LARGE.rawValue
    static let forked = NIXL_MD_ERR_FORKED.rawValue
    static let busy = NIXL_MD_ERR_BUSY.rawValue
    static let inCallback = NIXL_MD_ERR_IN_CALLBACK.rawValue
    static let shutDown = NIXL_MD_ERR_SHUT_DOWN.rawValue
    static let limit = NIXL_MD_ERR_LIMIT.rawValue

    static func name(_ code: Int32) -> StaticString {
        switch nixl_md_status(code) {
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
        guard !(-12...1).contains(code) else { return code }
        return switch nixl_md_status(code) {
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

/// The types of event by name.
enum EventName {
    static func of(_ type: nixl_md_event_type) -> StaticString {
        switch type {
        case NIXL_MD_EVENT_PUT: "NIXL_MD_EVENT_PUT"
        case NIXL_MD_EVENT_DELETE: "NIXL_MD_EVENT_DELETE"
        case NIXL_MD_EVENT_GONE: "NIXL_MD_EVENT_GONE"
        case NIXL_MD_EVENT_RESTARTED: "NIXL_MD_EVENT_RESTARTED"
        case NIXL_MD_EVENT_RETURNED: "NIXL_MD_EVENT_RETURNED"
        case NIXL_MD_EVENT_SYNCED: "NIXL_MD_EVENT_SYNCED"
        case NIXL_MD_EVENT_CONTACT_LOST: "NIXL_MD_EVENT_CONTACT_LOST"
        case NIXL_MD_EVENT_CONTACT_REGAINED: "NIXL_MD_EVENT_CONTACT_REGAINED"
        case NIXL_MD_EVENT_RESYNC: "NIXL_MD_EVENT_RESYNC"
        case NIXL_MD_EVENT_ENDED: "NIXL_MD_EVENT_ENDED"
        case NIXL_MD_EVENT_PRESENT: "NIXL_MD_EVENT_PRESENT"
        case NIXL_MD_EVENT_LOST: "NIXL_MD_EVENT_LOST"
        case NIXL_MD_EVENT_RESTORED: "NIXL_MD_EVENT_RESTORED"
        case NIXL_MD_EVENT_SUPERSEDED: "NIXL_MD_EVENT_SUPERSEDED"
        case NIXL_MD_EVENT_WITHDRAWN: "NIXL_MD_EVENT_WITHDRAWN"
        default: "NIXL_MD_EVENT_?"
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
        return code.rawValue
    }
}
