// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// The second connection, beside a first one that is silent or slow: when it is made, and when it is replaced.
/// docs/patience.md has the rules.
package struct Lookout {
    /// Something for its owner to do.
    package enum Step {
        case nothing
        case examineFirst, examineSecond
        case open
        /// The second connection has had its time.
        case replace
        /// The second connection has answered.
        case take
    }
    /// The second connection; 0: none.
    package private(set) var connection: ConnectionID = 0
    /// There is a verdict on the first.
    package private(set) var isOn = false
    private var hasAnswered = false
    private var isExamined = false
    /// What the first one has sent is not acknowledged.
    private var isPathDead = false
    /// The verdict, the begin of the second connection, or its end.
    private var since: Milliseconds = 0
    private var pause: Milliseconds = 0
    /// Jitter, per mille.
    private var chance: Milliseconds = 0
    private var examineAt: Milliseconds = 0
    /// Attempts in a row that were left unanswered.
    private var silences: Milliseconds = 0

    package init() {}

    package mutating func begin(_ owed: Owed, now: Milliseconds, _ random: inout Random) {
        isOn = true
        isPathDead = false
        wait(
            random.below(silences == 0 ? Timing.lookoutFirst : longest(owed)), now: now, &random)
    }

    private func longest(_ owed: Owed) -> Milliseconds {
        min(Timing.lookoutPause << min(silences, 8), min(owed.ttl / 6, Timing.lookoutPauseMax))
    }

    private mutating func wait(
        _ pause: Milliseconds, now: Milliseconds, _ random: inout Random
    ) {
        connection = 0
        hasAnswered = false
        isExamined = false
        since = now
        examineAt = now
        self.pause = pause
        chance = random.below(1000)
    }

    package mutating func opened(_ connection: ConnectionID, now: Milliseconds) {
        self.connection = connection
        since = now
    }

    package mutating func answered() { hasAnswered = true }

    /// The second connection was refused, or never reached its server: that has cost the server nothing.
    package mutating func failed(
        isRoundOver: Bool, now: Milliseconds, _ random: inout Random
    ) {
        let span = Timing.backoffMax - Timing.backoffMin
        wait(isRoundOver ? Timing.backoffMin + random.below(span) : 0, now: now, &random)
    }

    /// The second connection was left unanswered.
    package mutating func wasSilent(_ owed: Owed, now: Milliseconds, _ random: inout Random) {
        silences &+= 1
        wait(random.below(longest(owed)), now: now, &random)
    }

    /// What TCP says of the first connection.
    package mutating func examined(isDead: Bool) { isPathDead = isDead }

    /// The first one answers again, or the second has become the first.
    package mutating func stop() {
        connection = 0
        isOn = false
    }

    /// A connection has lived for a while.
    package mutating func isGood() { silences = 0 }

    /// When the next attempt is due.
    private func attempt(_ owed: Owed, silentSince: Milliseconds, wasGood: Bool) -> Milliseconds {
        let due = since &+ pause
        if owed.hasOthers || isPathDead { return due }
        // Our requests wait in the queue of that very endpoint: another connection would only give it more to do.
        let patience = (wasGood ? owed.ttl / 3 : owed.ttl) << min(silences, 3)
        return max(due, silentSince &+ patience &* (750 &+ chance / 2) / 1000)
    }

    /// When `step` has something to do.
    package func due(_ owed: Owed, silentSince: Milliseconds, wasGood: Bool) -> Milliseconds {
        guard connection != 0 else {
            let due = attempt(owed, silentSince: silentSince, wasGood: wasGood)
            return owed.hasOthers || isPathDead ? due : min(due, examineAt)
        }
        if hasAnswered { return since }
        return since
            &+ (isExamined
                ? max(Timing.life, owed.ttl / 2) << min(silences, 3)
                : min(Timing.life << min(silences, 3), max(Timing.lifeMax, owed.ttl / 6)))
    }

    package mutating func step(
        _ owed: Owed, silentSince: Milliseconds, wasGood: Bool, now: Milliseconds
    ) -> Step {
        guard now >= due(owed, silentSince: silentSince, wasGood: wasGood) else { return .nothing }
        guard connection == 0 else {
            if hasAnswered { return .take }
            if isExamined { return .replace }
            isExamined = true
            return .examineSecond
        }
        if now >= attempt(owed, silentSince: silentSince, wasGood: wasGood) { return .open }
        examineAt = now &+ Timing.examinePause
        return .examineFirst
    }
}
