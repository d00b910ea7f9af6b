// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// An orderly shutdown: first all queued changes are written, then everything is withdrawn.
struct Drain {
    private enum Phase {
        /// The handle is in use.
        case open
        /// Queued changes are being written. At `withdrawAt` the withdrawal begins, even if some are left.
        case writing(withdrawAt: Milliseconds, deadline: Milliseconds)
        case withdrawing(deadline: Milliseconds)
        case over
    }
    private var phase = Phase.open
    /// The host gave it time, and has not been warned yet that it was too short.
    private var warns = false

    var isOpen: Bool { if case .open = phase { true } else { false } }
    var isOver: Bool { if case .over = phase { true } else { false } }
    var isWriting: Bool { if case .writing = phase { true } else { false } }

    /// When it goes on by itself; nil: never.
    var nextDeadline: Milliseconds? {
        switch phase {
        case .open, .over: nil
        case .writing(let withdrawAt, _): withdrawAt
        case .withdrawing(let deadline): deadline
        }
    }

    /// Its time is over, and it is not.
    func isLate(_ now: Milliseconds) -> Bool {
        switch phase {
        case .open, .over: false
        case .writing(_, let deadline), .withdrawing(let deadline): now >= deadline
        }
    }

    mutating func begin(_ duration: Milliseconds, _ now: Milliseconds) {
        guard isOpen else { return }
        phase = .writing(withdrawAt: now &+ duration / 4 &* 3, deadline: now &+ duration)
        warns = duration > 0
    }

    /// Whether the withdrawal begins now.
    mutating func withdraws(isIdle: Bool, _ now: Milliseconds) -> Bool {
        guard case .writing(let withdrawAt, let deadline) = phase, isIdle || now >= withdrawAt
        else { return false }
        phase = .withdrawing(deadline: deadline)
        return true
    }

    /// Whether to warn that it is late: once.
    mutating func takeWarning() -> Bool {
        defer { warns = false }
        return warns
    }

    mutating func end() { phase = .over }
}
