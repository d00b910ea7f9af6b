// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// The last refusal, and the time of the next request: pauses after refusals and losses.
struct Pacing: Hashable {
    struct Refusal: Hashable {
        let status: Status
        let text: Text
    }
    /// The last one since something succeeded.
    private(set) var lastRefusal: Refusal?
    private var failures = 0
    /// The pause after the last refusal.
    private var refusedAt: Milliseconds = 0
    private var refusedUntil: Milliseconds = 0
    /// The server is slow.
    private(set) var busyUntil: Milliseconds = 0
    /// Every other pause.
    private var pausedUntil: Milliseconds = 0
    private var losses = Losses()

    var retryAt: Milliseconds { max(refusedUntil, pausedUntil, busyUntil) }

    func isDue(_ now: Milliseconds) -> Bool { now >= retryAt }

    func isBusy(_ now: Milliseconds) -> Bool { now < busyUntil }

    /// The host wants something that must not wait.
    mutating func isAsked() { (refusedUntil, pausedUntil) = (0, 0) }

    /// The host has published, or unpublished: it need not wait as long as what was refused again and again. Not at
    /// once, so that a host which publishes all the time does not ask all the time. Pauses after losses stay.
    mutating func isPublished() {
        refusedUntil = min(refusedUntil, refusedAt &+ Timing.retryPause)
    }

    mutating func pause(_ now: Milliseconds) {
        pausedUntil = max(pausedUntil, now &+ Timing.retryPause)
    }

    mutating func serverIsBusy(until: Milliseconds) { busyUntil = max(busyUntil, until) }

    mutating func connectionIsLost() { busyUntil = 0 }

    mutating func lost(_ now: Milliseconds) {
        pausedUntil = max(pausedUntil, now &+ losses.pause(now: now))
    }

    mutating func refused(_ now: Milliseconds) {
        failures += 1
        let pause = min(Timing.retryPause << UInt64(min(failures, 5)), Timing.refusalPause)
        guard now &+ pause >= refusedUntil else { return }
        (refusedAt, refusedUntil) = (now, now &+ pause)
    }

    mutating func succeeded() {
        failures = 0
        lastRefusal = nil
    }

    mutating func note(_ status: Status, _ text: Text) {
        lastRefusal = Refusal(status: status, text: text)
    }

    mutating func forgetRefusal() { lastRefusal = nil }

    /// A publish that times out before there is space completes as NO_SPACE.
    var waitsForSpace: Bool { lastRefusal?.status == .noSpace }

    /// A broken invariant, checked after each input by assertions; nil: none.
    var broken: StaticString? {
        refusedUntil <= refusedAt &+ Timing.refusalPause ? nil : "a pause that is too long"
    }

    /// Makes times relative, and forgets what only counts.
    mutating func rebase(_ now: Milliseconds, _ moved: (Milliseconds) -> Milliseconds) {
        var kept = Pacing()
        if pausedUntil > now { kept.pausedUntil = moved(pausedUntil) }
        if busyUntil > now { kept.busyUntil = moved(busyUntil) }
        if refusedUntil > now {
            (kept.refusedAt, kept.refusedUntil) = (moved(refusedAt), moved(refusedUntil))
        }
        self = kept
    }
}
/// How often everything was lost of late. Something may revoke our lease whenever it sees it.
struct Losses: Hashable {
    private var last: Milliseconds?
    private var pause: Milliseconds = 0

    /// Counts one more. How long to wait before everything is put back.
    mutating func pause(now: Milliseconds) -> Milliseconds {
        let isRecent = last.map { now &- $0 < Timing.restoreMemory } ?? false
        last = now
        pause = isRecent ? min(max(pause &* 2, Timing.restorePause), Timing.restorePauseMax) : 0
        return pause
    }
}
