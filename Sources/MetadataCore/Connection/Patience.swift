// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// What the first connection owes: what was sent on it and is not answered. Each time is when the oldest of its kind was sent;
/// `.max`: there is none.
package struct Owed {
    /// Of the lease.
    package var ttl: Milliseconds
    /// The oldest request.
    package var request = Milliseconds.max
    package var renewal = Milliseconds.max
    package var creation = Milliseconds.max
    /// When a request is slow, by what it has to carry.
    package var slow = Milliseconds.max
    /// Streams are open on which nothing may come for long: a probe after this; `.max`: never.
    package var silence = Milliseconds.max
    package var hasOthers = false
    /// The host waits for something.
    package var isOfHost = false

    package init(ttl: Milliseconds) { self.ttl = ttl }

    var oldest: Milliseconds { min(request, min(renewal, creation)) }
}

/// How long a connection may be silent, and how slow it may be, before another one is asked as well. docs/patience.md has the
/// rules and why their numbers are what they are.
package struct Patience {
    /// The last byte, or the beginning.
    private var last: Milliseconds
    private var hasHeard = false
    /// When the last probe was sent, whether it is on its way, and how long after it the next may be.
    private var probed: Milliseconds = 0
    private(set) var isProbing = false
    private var pause = Timing.probePause
    /// How long acknowledgements took of late: they wait in the same queue as requests.
    private var slowest: Milliseconds = 0
    private var slowestAt: Milliseconds = 0

    package init(now: Milliseconds) { last = now }

    package mutating func heard(now: Milliseconds) {
        // To be accepted takes its time in the queue, too.
        if !hasHeard { (slowest, slowestAt) = (now &- last, now) }
        last = now
        hasHeard = true
        guard now &- slowestAt >= Timing.slowestAge else { return }
        slowest /= 2
        slowestAt = now
    }

    package mutating func acknowledged(now: Milliseconds) {
        guard isProbing else { return }
        isProbing = false
        (slowest, slowestAt) = (max(now &- probed, slowest / 2), now)
    }

    package mutating func probe(_ owed: Owed, now: Milliseconds) {
        let isFirst = owed.oldest > probed
        pause = isFirst ? Timing.probePause &* 2 : min(pause &* 2, Timing.probePauseMax)
        probed = now
        isProbing = true
    }

    private func slack(_ owed: Owed) -> Milliseconds {
        min(slowest &* Timing.slowestAcknowledgements, owed.ttl / 3)
    }

    /// When to ask for a sign of life; `.max`: not now. Of a new connection the server's SETTINGS are the first.
    package func probeDue(_ owed: Owed) -> Milliseconds {
        if isProbing || !hasHeard { return .max }
        let oldest = owed.oldest
        guard oldest != .max else { return owed.silence == .max ? .max : last &+ owed.silence }
        let due = max(last, oldest) &+ Timing.probePause
        return oldest > probed ? due : max(due, probed &+ pause)
    }

    /// Since when nothing has come although something is owed.
    package func silentSince(_ owed: Owed) -> Milliseconds {
        max(last, min(owed.oldest, isProbing ? probed : .max))
    }

    /// When silence is a verdict: never while no probe is on its way, once the server has answered anything.
    package func silenceDue(_ owed: Owed) -> Milliseconds {
        let limit = min(max(owed.ttl / 6, Timing.renewalSilenceMin), Timing.renewalSilenceMax)
        var due = silenceDue(owed.oldest, limit, owed)
        if owed.isOfHost {
            due = min(due, silenceDue(owed.request, Timing.requestSilence, owed))
        }
        if isProbing { due = min(due, silenceDue(probed, Timing.probeSilence, owed)) }
        return due
    }

    private func silenceDue(
        _ since: Milliseconds, _ limit: Milliseconds, _ owed: Owed
    ) -> Milliseconds {
        guard since != .max else { return .max }
        let slack = slack(owed)
        let due = max(last, since) &+ max(limit, slack)
        guard hasHeard else { return due }
        let probe = isProbing ? probed : probeDue(owed)
        return max(due, probe &+ max(min(limit, Timing.probePause), slack))
    }

    /// When a living connection leaves something unanswered for too long.
    package func slowDue(_ owed: Owed) -> Milliseconds {
        let oldest = min(owed.request, owed.renewal)
        var due = oldest == .max ? .max : oldest &+ 2 &* owed.ttl
        guard owed.hasOthers else { return due }
        if owed.renewal != .max { due = min(due, owed.renewal &+ owed.ttl / 3) }
        if owed.slow != .max, !isProbing {
            due = min(due, max(owed.slow, owed.request &+ slack(owed)))
        }
        return due
    }
}
