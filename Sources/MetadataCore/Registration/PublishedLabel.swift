// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// One label: what it is to hold, what was sent, what was seen. `Published` keeps them, and alone changes those it keeps.
extension Published {
    /// Versions are numbered, so that they are compared without comparing blobs. 0: nothing, never published.
    struct Version: Hashable {
        var number: UInt64 = 0
        /// nil: the label is removed.
        var blob: Bytes?
    }
    enum Seen: Hashable {
        case nothing
        /// This version, on this lease.
        case version(UInt64, revision: Int64, lease: Int64)
        /// Something that we did not write, or cannot tell.
        case unknown(revision: Int64, lease: Int64)
        /// It moved while a write of ours was in doubt: to be read with its value.
        case unread(revision: Int64, lease: Int64)

        var revision: Int64 {
            switch self {
            case .nothing: 0
            case .version(_, let revision, _), .unknown(let revision, _), .unread(let revision, _):
                revision
            }
        }
        var lease: Int64 {
            switch self {
            case .nothing: 0
            case .version(_, _, let lease), .unknown(_, let lease), .unread(_, let lease): lease
            }
        }
    }
    /// A write that is not answered.
    struct Sent: Hashable {
        let version: Version
        let lease: Int64
        var operation: OperationID?
        /// false: in doubt, its answer will not come any more.
        var isInFlight = true
    }
    struct Label: Hashable {
        var wanted = Version()
        /// The last written version: `wanted` returns to it after a refusal.
        var written = Version()
        /// Waits for `wanted` to be there; that was not sent.
        var operation: OperationID?
        var sent: Sent?
        var seen = Seen.nothing
        /// etcd refused to move the label to this lease: it stays on the old one.
        var stuckOn: Int64 = 0
        var isQueued = false

        var isNothing: Bool {
            wanted.blob == nil && operation == nil && sent == nil && seen == .nothing
        }
        var isInDoubt: Bool { sent.map { !$0.isInFlight } ?? false }
    }
}

extension Published.Label {
    /// Drops a version that was not sent.
    mutating func unwant() {
        guard operation != nil else { return }
        operation = nil
        wanted = sent?.version ?? written
    }

    /// Completes the waiting operation if the store holds the wanted version.
    mutating func complete(_ revision: Int64, _ out: inout Effects) {
        guard sent == nil, operation != nil else { return }
        let at: Int64
        switch seen {
        case .nothing where wanted.blob == nil: at = revision
        case .version(let number, let seenAt, _) where number == wanted.number: at = seenAt
        case .nothing, .version, .unknown, .unread: return
        }
        out.complete(operation, .success, revision: at)
        operation = nil
        written = wanted
    }

    mutating func isWritten(_ revision: Int64, _ out: inout Effects) {
        guard let sent else { return }
        seen =
            sent.version.blob == nil
            ? .nothing : .version(sent.version.number, revision: revision, lease: sent.lease)
        written = sent.version
        self.sent = nil
        stuckOn = 0
        out.complete(sent.operation, .success, revision: revision)
    }

    mutating func isNotWritten(_ name: Bytes, _ out: inout Effects) {
        guard let sent else { return }
        self.sent = nil
        if wanted == sent.version {
            operation = sent.operation
        } else {
            out.complete(sent.operation, .replaced, Published.replacedText(name))
        }
    }

    /// `found` nil: it is not there.
    mutating func isSeen(
        _ name: Bytes, _ found: Published.Found?, isOver: Bool, at revision: Int64,
        _ out: inout Effects
    ) {
        let before = seen
        if let found {
            if found.revision == before.revision, before != .nothing {
                // As it was seen.
            } else if isInDoubt, sent?.version.blob != nil, found.revision > before.revision {
                seen = .unread(revision: found.revision, lease: found.lease)
                return
            } else {
                seen = .unknown(revision: found.revision, lease: found.lease)
            }
        } else {
            seen = .nothing
            if isInDoubt, sent?.version.blob == nil, before != .nothing {
                isWritten(revision, &out)
                return
            }
        }
        if isOver { isNotWritten(name, &out) }
    }
}
