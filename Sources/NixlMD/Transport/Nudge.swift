// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import MetadataCore

/// When to make libcurl look at its transfers although nothing happened: soon after they have stalled, then less often,
/// since the cause may be a server that takes nothing.
struct Nudge {
    var due: Milliseconds?
    private var delay = Self.first

    private static let first: Milliseconds = 2
    private static let last: Milliseconds = 16

    mutating func update(isStalled: Bool, now: Milliseconds) {
        guard isStalled else {
            self = Nudge()
            return
        }
        guard due == nil else { return }
        due = now &+ delay
        delay = min(2 * delay, Self.last)
    }
}
