// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

@testable import MetadataCore

/// The rules of docs/patience.md about the second connection, number by number.
@Suite struct LookoutTests: WorldSuite {
    let world = World()
    private let start: Milliseconds = 100_000

    private func owed(ttl: Milliseconds = 15_000, hasOthers: Bool = false) -> Owed {
        var owed = Owed(ttl: ttl)
        owed.hasOthers = hasOthers
        return owed
    }

    /// The time of the next step of one that has just begun, for each of 200 seeds, less the start.
    private func times(_ body: (inout Lookout, inout Random) -> Milliseconds) -> [Milliseconds] {
        (1...200).map { (seed: UInt64) in
            var random = Random(seed: (seed, 1))
            var lookout = Lookout()
            return body(&lookout, &random) - start
        }
    }

    private func due(
        _ lookout: inout Lookout, _ owed: Owed, wasGood: Bool = true
    ) -> Milliseconds {
        lookout.due(owed, silentSince: start, wasGood: wasGood)
    }

    /// When it opens, with a look at the path each second.
    private func opensAt(
        _ lookout: inout Lookout, _ owed: Owed, isDead: Bool, wasGood: Bool = true
    ) -> Milliseconds {
        while true {
            let now = due(&lookout, owed, wasGood: wasGood)
            switch lookout.step(owed, silentSince: start, wasGood: wasGood, now: now) {
            case .open: return now
            case .examineFirst: lookout.examined(isDead: isDead)
            default: Issue.record("neither a look at the path nor an attempt")
            }
        }
    }

    // MARK: - Rule 3: another endpoint

    @Test func verdict_anotherEndpoint_within250ms() {
        let found = times { lookout, random in
            lookout.begin(owed(hasOthers: true), now: start, &random)
            return due(&lookout, owed(hasOthers: true))
        }
        #expect(found.allSatisfy { $0 < 250 })
        #expect(Set(found).count > 50)
    }

    @Test func refused_theNextAtOnce_afterARoundAPause() {
        for isRoundOver in [false, true] {
            let found = times { lookout, random in
                lookout.begin(owed(hasOthers: true), now: start, &random)
                lookout.opened(7, now: start)
                lookout.failed(isRoundOver: isRoundOver, now: start, &random)
                return due(&lookout, owed(hasOthers: true))
            }
            if isRoundOver {
                #expect(found.allSatisfy { (25..<500).contains($0) })
            } else {
                #expect(found.allSatisfy { $0 == 0 })
            }
        }
    }

    // MARK: - Rule 4: the same endpoint

    @Test func sameEndpoint_pathDead_atOnce() {
        let found = times { lookout, random in
            lookout.begin(owed(), now: start, &random)
            return opensAt(&lookout, owed(), isDead: true)
        }
        #expect(found.allSatisfy { $0 < 250 })
    }

    @Test(arguments: [
        (true, Milliseconds(15_000), Milliseconds(3750), Milliseconds(6250)),
        (true, 5000, 1249, 2085), (false, 15_000, 11_250, 18_750),
    ])
    func sameEndpoint_acknowledged_afterAThirdOfTheTTL_inTheAcceptQueueAfterTheTTL(
        wasGood: Bool, ttl: Milliseconds, least: Milliseconds, most: Milliseconds
    ) {
        let found = times { lookout, random in
            lookout.begin(owed(ttl: ttl), now: start, &random)
            return opensAt(&lookout, owed(ttl: ttl), isDead: false, wasGood: wasGood)
        }
        #expect(found.allSatisfy { (least...most).contains($0) })
        #expect(Set(found).count > 50)
    }

    @Test func second_nobodyAcknowledges_isExaminedAfterASecond_elseReplacedAfterHalfTheTTL() {
        var random = Random(seed: (1, 1))
        var lookout = Lookout()
        let owed = owed(hasOthers: true)
        lookout.begin(owed, now: start, &random)
        lookout.opened(7, now: start)
        #expect(due(&lookout, owed) == start + 1000)
        guard
            case .examineSecond = lookout.step(
                owed, silentSince: start, wasGood: true, now: start + 1000)
        else {
            Issue.record("not examined")
            return
        }
        #expect(due(&lookout, owed) == start + 7500)
        guard
            case .replace = lookout.step(owed, silentSince: start, wasGood: true, now: start + 7500)
        else {
            Issue.record("not replaced")
            return
        }
    }

    // MARK: - Rule 7: pauses

    @Test(arguments: [
        (1, Milliseconds(1000)), (2, 2000), (3, 2500), (9, 2500),
    ])
    func silentButAcknowledged_pausesDoubleUpToASixthOfTheTTL(
        silences: Int, most: Milliseconds
    ) {
        let found = times { lookout, random in
            lookout.begin(owed(hasOthers: true), now: start, &random)
            for _ in 0..<silences {
                lookout.opened(7, now: start)
                lookout.wasSilent(owed(hasOthers: true), now: start, &random)
            }
            return due(&lookout, owed(hasOthers: true))
        }
        #expect(found.allSatisfy { $0 < most })
        #expect(found.contains { $0 > most * 3 / 4 })
    }

    @Test func goodTime_forgetsSilences() {
        let found = times { lookout, random in
            for _ in 0..<5 { lookout.wasSilent(owed(), now: start, &random) }
            lookout.isGood()
            lookout.begin(owed(hasOthers: true), now: start, &random)
            return due(&lookout, owed(hasOthers: true))
        }
        #expect(found.allSatisfy { $0 < 250 })
    }

    // MARK: - In a core

    /// Rule 5: the first connection, which waits in the queue, is answered and stays.
    @Test func stall_shorterThanAThirdOfTheTTL_keepsTheOneConnection() {
        let alpha = world.add("alpha")
        world.submit(alpha, .startHeartbeat(interval: 5000, ttlSeconds: 30))
        world.advance(by: 10_000)
        world.isSilent = true
        world.advance(by: 7000)
        world.isSilent = false
        world.advance(by: 5000)
        #expect(alpha.connects == 1)
        #expect(alpha.core.counters.isConnected)
        #expect(alpha.ownership.isEmpty)
    }

    @Test func longerStall_secondConnection_closedWhenTheFirstAnswers() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        world.advance(by: 3000)
        world.isSilent = true
        let first = alpha.connection
        world.advance(by: 3500)
        #expect(alpha.connects >= 2)
        world.isSilent = false
        world.advance(by: 1000)
        #expect(alpha.second == nil)
        #expect(alpha.connection == first)
        #expect(alpha.ownership.isEmpty)
    }

    /// Rule 6.
    @Test func muteServer_alone_isNotLeftForASilentRequest() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        world.isMute = true
        publish(alpha, "a", "2")
        world.advance(by: 9000)
        #expect(alpha.connects == 1)
        #expect(alpha.probes > 2)
    }

    @Test func muteServer_renewalOwedForAThirdOfTheTTL_isSentOnceMore() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        world.advance(by: 2000)
        world.isMute = true
        world.advance(by: 2000)
        world.isMute = false
        // The first was taken and is never answered; the second is sent after 1.7 s.
        world.advance(by: 2000)
        #expect(alpha.connects == 1)
        #expect(alpha.core.counters.leasesLost == 0)
        world.advance(by: 10_000)
        #expect(alpha.ownership.isEmpty)
        #expect(alpha.connects == 1)
    }

    @Test func muteServer_others_takeOver() {
        let alpha = world.add("alpha", endpoints: 2)
        publish(alpha)
        world.isMute = true
        let operation = publish(alpha, "a", "2")
        world.advance(by: 1500)
        #expect(alpha.connects == 1)
        // What was asked stays unanswered.
        world.isMute = false
        world.advance(by: 1000)
        #expect(status(alpha, operation) == .success)
        #expect(alpha.connects == 2)
    }

    @Test func deadPath_oneEndpoint_anotherConnectionAtOnce() {
        let alpha = world.add("alpha")
        publish(alpha)
        world.isSilent = true
        world.isPathDead = true
        publish(alpha, "a", "2")
        world.advance(by: 1600)
        #expect(alpha.connects == 2)
    }

    /// Rule 9.
    @Test func reconnected_firstRenewalAnywhereInThePeriod() {
        var times: [Milliseconds] = []
        for seed in 1...30 {
            let world = World()
            let alpha = world.add("alpha", seed: UInt64(seed))
            world.submit(alpha, .startHeartbeat(interval: 10_000, ttlSeconds: 30))
            world.advance(by: 3000)
            world.cut(alpha)
            world.advance(by: 1)
            let before = alpha.core.counters.renewals
            let start = world.now
            while alpha.core.counters.renewals == before { world.advance(by: 100) }
            times.append(world.now - start)
        }
        #expect(times.contains { $0 < 4000 })
        #expect(times.contains { $0 > 8000 })
        #expect(times.allSatisfy { $0 >= 1900 })
    }
}
