// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// Whether any endpoint answers, and what the trouble is.
struct Contact {
    private var missingSince: Milliseconds?
    private(set) var isLost = false
    /// The last; it stays when it is over.
    private(set) var lastTrouble: Text = ""
    private var troubleAt: Milliseconds = 0
    /// Endpoints with a warning since the last answer.
    private var troubled: [Int] = []

    var isThere: Bool { missingSince == nil }

    mutating func isMissing(now: Milliseconds) {
        if missingSince == nil { missingSince = now }
    }

    /// Something has come. Where contact is lost it takes an answer.
    mutating func lives() {
        if !isLost { missingSince = nil }
    }

    mutating func isFound() {
        missingSince = nil
        isLost = false
        troubled.removeAll()
    }

    /// Whether that is news.
    mutating func trouble(_ endpoint: Int, _ reason: Text, now: Milliseconds) -> Bool {
        note(reason, now: now)
        let isNews = !troubled.contains(endpoint)
        if isNews { troubled.append(endpoint) }
        return isNews
    }

    mutating func note(_ trouble: Text, now: Milliseconds) {
        lastTrouble = trouble
        troubleAt = now
    }

    /// The last failure, for the end of a text; empty: none.
    func troubleText(now: Milliseconds) -> Text {
        guard !lastTrouble.isEmpty else { return "" }
        return "; last failure, \((now &- troubleAt) / 1000) s ago: \(lastTrouble)"
    }

    mutating func isNewlyLost(now: Milliseconds) -> Bool {
        guard let deadline, now >= deadline else { return false }
        isLost = true
        return true
    }

    /// When it counts as lost.
    var deadline: Milliseconds? {
        guard !isLost, let missingSince else { return nil }
        return missingSince &+ Timing.contactLost
    }
}
