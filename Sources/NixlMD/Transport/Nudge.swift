// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import MetadataCore

/// When to make libcurl look at all its transfers although nothing asks for it. Streams of one HTTP/2 connection read
/// for each other, and libcurl loses some of the wakeups that this needs (all seen with 7.88.1):
/// - what was read for another transfer waits in libcurl's buffers (`pause_stream_id` in lib/http2.c), although the
///   socket is empty and no timer is set;
/// - when the flow-control window opens, only those transfers are woken that libcurl looks at after it read that;
/// - a stream can be paused with bytes unsent (`Transfer.isStuck`).
struct Nudge {
    var due: Milliseconds?
    private var delay = Self.first

    private static let first: Milliseconds = 4
    private static let last: Milliseconds = 64

    /// `mayHaveMore`: something was just received. `mayHaveStalled`: something is under way; asked less and less often,
    /// since the server may just be slow.
    mutating func update(mayHaveMore: Bool, mayHaveStalled: Bool, now: Milliseconds) {
        if mayHaveMore {
            due = now
            delay = Self.first
        } else if !mayHaveStalled {
            due = nil
            delay = Self.first
        } else if due == nil {
            due = now &+ delay
            delay = min(2 * delay, Self.last)
        }
    }
}
