// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import EtcdProtocol
import MetadataCore

/// Whom a transfer serves.
enum TransferOwner: Equatable {
    case none
    case call(CallID)
    case stream(StreamID)
}

/// A call or a stream that is to be started.
struct Request {
    let owner: TransferOwner
    let method: EtcdMethod
    /// nil: a stream.
    let frame: Bytes?
    /// Empty: none.
    let token: Bytes

    /// Its answer may be large, so that a large buffer pays.
    var readsLargely: Bool { method == .range || method == .watch }

    /// A call that may move much.
    var isHeavy: Bool {
        guard let frame else { return false }
        return method == .range || frame.count > Self.heavyFrame
    }

    private static let heavyFrame = 64 << 10

    /// Room that its headers take in the socket's buffer: the common ones and the path, and the token.
    var headerCost: Int { SendRoom.cost(512 + token.count) }
}
