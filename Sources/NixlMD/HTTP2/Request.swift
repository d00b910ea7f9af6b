// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import EtcdProtocol
import MetadataCore

/// The purpose of a request.
enum RequestOwner: Equatable {
    case none
    case call(CallID)
    case stream(StreamID)
}

/// A call or a stream to start.
struct Request {
    var owner: RequestOwner
    let method: EtcdMethod
    /// nil: a stream.
    var frame: Bytes?
    /// Empty: none.
    let token: Bytes
    /// The server never processed the first attempt; this is the second.
    var isRepeated = false

    /// A call whose answer may be large.
    var readsLargely: Bool { method == .range }

    /// It waits for others of its kind.
    var takesTurns: Bool { isLargeUpload || readsLargely }

    /// Such requests go one after the other: the core gives each as much time as those before it take, and itself.
    var isLargeUpload: Bool { (frame?.count ?? 0) > Self.largeUpload }

    private static let largeUpload = 64 << 10
}
