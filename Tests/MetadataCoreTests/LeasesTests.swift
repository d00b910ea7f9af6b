// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

@testable import MetadataCore

/// The ids of one process's leases, and how many it keeps.
@Suite struct LeasesTests {
    private func leases() -> Leases { Leases(random: Random(seed: (1, 2))) }

    private func grantTarget(_ leases: inout Leases) {
        leases.grantIsSent(leases.target, now: 0)
        leases.granted(leases.target, seconds: 15, now: 0)
    }

    @Test func generations_allUsed_nextHasAnotherIncarnation() {
        var leases = leases()
        leases.want(.renewed(seconds: 15), keeping: [])
        let first = Incarnation.of(lease: leases.target)
        var used: Set<Int64> = []
        // A lease that is renewed has an even id: half of 65,535.
        for _ in 0..<32_767 {
            #expect(Incarnation.of(lease: leases.target) == first)
            used.insert(leases.target)
            grantTarget(&leases)
            leases.replaceTarget(keeping: [])
        }
        #expect(used.count == 32_767)
        #expect(Incarnation.of(lease: leases.target) != first)
        #expect(leases.broken == nil)
        // Leases that remain from the first incarnation are ours.
        #expect(leases.ids.allSatisfy { leases.isOurs($0) })
    }

    @Test func generationOfOddKind_afterTheLast_isOdd() {
        var leases = leases()
        leases.want(.renewed(seconds: 15), keeping: [])
        leases.adopt(leases.target | 0xffff, now: 0, keeping: [])
        leases.want(.neverEnding, keeping: [])
        #expect(leases.target & 1 == 1)
        #expect(leases.broken == nil)
    }

    @Test func adopted_manyLeases_areBounded_targetAndNeededStay() {
        var leases = leases()
        leases.want(.renewed(seconds: 15), keeping: [])
        let target = leases.target
        grantTarget(&leases)
        let needed = Incarnation.lease(Incarnation.of(lease: target), generation: 999)
        leases.adopt(needed, now: 0, keeping: [])
        for generation in 1000..<5000 {
            let id = Incarnation.lease(
                Incarnation.of(lease: target), generation: UInt16(generation))
            leases.adopt(id, now: 0, keeping: [needed])
        }
        #expect(leases.ids.count == Limits.leases)
        #expect(leases.ids.contains(target))
        #expect(leases.ids.contains(needed))
        #expect(leases.broken == nil)
    }

    @Test func target_replacedOften_oldOnesAreBounded_neededStays() {
        var leases = leases()
        leases.want(.renewed(seconds: 15), keeping: [])
        let needed = leases.target
        for _ in 0..<100 {
            grantTarget(&leases)
            leases.replaceTarget(keeping: [needed])
            #expect(leases.broken == nil)
        }
        #expect(leases.ids.count == Limits.leases)
        #expect(leases.ids.contains(needed))
    }
}
