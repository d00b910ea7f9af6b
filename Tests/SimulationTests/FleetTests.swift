// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import Simulation
import Testing

@Suite struct FleetTests {
    @Test(arguments: FleetScenario.Fault.allCases)
    func sameSeed_sameOutcome(_ fault: FleetScenario.Fault) {
        let scenario = FleetScenario(seed: 3, agents: 20, fault: fault)
        let (first, second) = (FleetRun(scenario), FleetRun(scenario))
        #expect(first.queue == second.queue)
        #expect(first.back == second.back)
        #expect(first.acceptedOnAverage == second.acceptedOnAverage)
        #expect(first.failure == second.failure)
    }

    @Test func etcdWithoutLimit_allAreServed() {
        let run = FleetRun(FleetScenario(seed: 5, agents: 20, fault: .start, wealth: 1000))
        #expect(run.failure == nil)
        #expect(run.leasesLost == 0)
    }
}
