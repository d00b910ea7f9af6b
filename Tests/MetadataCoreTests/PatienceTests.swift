// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import MetadataCore

/// The rules of docs/patience.md, number by number.
@Suite struct PatienceTests {
    private static let start: Milliseconds = 100_000

    private func owed(
        ttl: Milliseconds = 15_000, request: Milliseconds = .max, renewal: Milliseconds = .max,
        creation: Milliseconds = .max, slow: Milliseconds = .max, silence: Milliseconds = .max,
        hasOthers: Bool = false, isOfHost: Bool = true
    ) -> Owed {
        var owed = Owed(ttl: ttl)
        (owed.request, owed.renewal, owed.creation) = (request, renewal, creation)
        (owed.slow, owed.silence, owed.hasOthers) = (slow, silence, hasOthers)
        owed.isOfHost = isOfHost
        return owed
    }

    /// A connection whose server has sent its SETTINGS.
    private func heard(at now: Milliseconds = start) -> Patience {
        var patience = Patience(now: now)
        patience.heard(now: now)
        return patience
    }

    private func acknowledged(after delay: Milliseconds, _ owed: Owed) -> Patience {
        var patience = heard()
        patience.probe(owed, now: Self.start)
        patience.heard(now: Self.start + delay)
        patience.acknowledged(now: Self.start + delay)
        return patience
    }

    // MARK: - Rule 1: any byte is life

    @Test func owed_probeAfterHalfASecondWithoutAByte() {
        #expect(heard().probeDue(owed(request: Self.start)) == Self.start + 500)
        #expect(heard().probeDue(owed(renewal: Self.start + 70)) == Self.start + 570)
        #expect(heard().probeDue(owed(creation: Self.start + 70)) == Self.start + 570)
    }

    @Test func owed_byteComes_putsTheProbeOff() {
        var patience = heard()
        patience.heard(now: Self.start + 400)
        #expect(patience.probeDue(owed(request: Self.start)) == Self.start + 900)
    }

    @Test func probe_inFlight_isTheOnlyOne() {
        var patience = heard()
        patience.probe(owed(request: Self.start), now: Self.start + 500)
        #expect(patience.probeDue(owed(request: Self.start)) == .max)
    }

    /// The server's own SETTINGS have yet to come: they are the first sign of life.
    @Test func newConnection_nothingHeard_isNotProbed() {
        #expect(Patience(now: Self.start).probeDue(owed(request: Self.start)) == .max)
    }

    @Test func probes_acknowledgedAndStillOwed_after1_2_4_4Seconds() {
        let owed = owed(request: Self.start)
        var patience = heard()
        var times: [Milliseconds] = []
        for _ in 0..<5 {
            let due = patience.probeDue(owed)
            times.append(due - Self.start)
            patience.probe(owed, now: due)
            patience.heard(now: due + 1)
            patience.acknowledged(now: due + 1)
        }
        #expect(times == [500, 1500, 3500, 7500, 11_500])
        // What is owed anew is asked about as soon as the first was.
        #expect(patience.probeDue(self.owed(request: Self.start + 11_600)) == Self.start + 12_100)
    }

    @Test func idle_probeAfterTheSilenceOfItsKind() {
        #expect(heard().probeDue(owed(silence: 5000)) == Self.start + 5000)
        #expect(heard().probeDue(owed(silence: 10_000)) == Self.start + 10_000)
        #expect(heard().probeDue(owed()) == .max)
    }

    // MARK: - Rule 2: silence is judged

    @Test(arguments: [
        (Milliseconds(15_000), Milliseconds(2500)), (5000, 833), (2000, 333), (1000, 250),
        (60_000, 5000),
    ])
    func renewal_unanswered_silentAfterASixthOfTheTTL(
        ttl: Milliseconds, limit: Milliseconds
    ) {
        let owed = owed(ttl: ttl, renewal: Self.start)
        // Of a connection that was never heard of no probe is on its way.
        #expect(Patience(now: Self.start).silenceDue(owed) == Self.start + limit)
    }

    @Test func request_unanswered_silentAfterASecond() {
        let owed = owed(request: Self.start, renewal: Self.start)
        var patience = heard()
        #expect(patience.silenceDue(owed) == Self.start + 1000)
        patience.probe(owed, now: Self.start + 500)
        #expect(patience.silenceDue(owed) == Self.start + 1000)
        patience.heard(now: Self.start + 900)
        #expect(patience.silenceDue(owed) == Self.start + 1900)
    }

    /// A hello, or what the library does by itself.
    @Test func request_hostWaitsForNothing_silentAfterASixthOfTheTTL() {
        let owed = owed(request: Self.start, isOfHost: false)
        #expect(Patience(now: Self.start).silenceDue(owed) == Self.start + 2500)
    }

    /// Who was long in the accept queue is long in the queue of requests.
    @Test func newConnection_lateSettings_giveTime() {
        var patience = Patience(now: Self.start)
        patience.heard(now: Self.start + 1500)
        let since = Self.start + 1500
        #expect(patience.silenceDue(owed(request: since)) >= since + 4500)
    }

    /// Between two probes nobody could have answered.
    @Test func silence_noProbeOnItsWay_isNoVerdict() {
        let owed = owed(request: Self.start)
        var patience = acknowledged(after: 1, owed)
        patience.probe(owed, now: Self.start + 1000)
        patience.heard(now: Self.start + 1001)
        patience.acknowledged(now: Self.start + 1001)
        let next = patience.probeDue(owed)
        #expect(next == Self.start + 3000)
        #expect(patience.silenceDue(owed) == next + 500)
    }

    @Test func idleProbe_unanswered_silentAfter2Seconds() {
        let owed = owed(silence: 5000)
        var patience = heard()
        #expect(patience.silenceDue(owed) == .max)
        patience.probe(owed, now: Self.start + 5000)
        #expect(patience.silenceDue(owed) == Self.start + 7000)
    }

    @Test(arguments: [
        (Milliseconds(100), Milliseconds(1000)), (600, 1800), (4000, 5000), (9000, 5000),
    ])
    func silence_slowAcknowledgements_giveTime(
        slowest: Milliseconds, limit: Milliseconds
    ) {
        let before = owed(request: Self.start)
        let patience = acknowledged(after: slowest, before)
        let since = Self.start + slowest + 1
        #expect(patience.silenceDue(owed(request: since)) >= since + limit)
    }

    // MARK: - Rule 6: alive is not left, but others may be asked

    @Test func renewal_owedForAThirdOfTheTTL_isSlowWhereThereAreOthers() {
        let alone = owed(renewal: Self.start)
        #expect(heard().slowDue(alone) == Self.start + 30_000)
        let others = owed(renewal: Self.start, hasOthers: true)
        #expect(heard().slowDue(others) == Self.start + 5000)
    }

    @Test func request_slow_isAskedElsewhereOnlyWhereThereAreOthers() {
        let slow = Self.start + 2000
        #expect(heard().slowDue(owed(request: Self.start, slow: slow)) == Self.start + 30_000)
        let others = owed(request: Self.start, slow: slow, hasOthers: true)
        #expect(heard().slowDue(others) == slow)
        // As slow as acknowledgements are: the server is busy.
        let busy = acknowledged(after: 1500, owed(request: Self.start))
        let later = Self.start + 2000
        #expect(
            busy.slowDue(owed(request: later, slow: later + 2000, hasOthers: true))
                == later + 4500)
    }

    @Test func list_takesItsTime_untilTwiceTheTTL() {
        let owed = owed(request: Self.start, hasOthers: true)
        #expect(heard().slowDue(owed) == Self.start + 30_000)
    }

    /// The fault suite's bounds: what a verdict, its pause and three round trips take.
    @Test func bounds_ofTheFaultSuite_hold() {
        let publish = Timing.requestSilence + Timing.lookoutFirst
        #expect(publish <= 2800 - 1000)
        #expect(publish <= 3000 - 1000)
        let watching = Timing.silence + Timing.probeSilence + Timing.lookoutFirst
        #expect(watching <= 7500)
        // Three attempts fit into what is left of a TTL of 5 s after a renewal a second old.
        #expect(1000 + 833 + 3 * Timing.life <= 5000)
    }
}
