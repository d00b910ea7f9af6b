// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Simulation

extension Simulate {
    /// Each seed is a fleet of its own. Prints each that fails with the command that replays it, then a line for each
    /// kind of fault.
    func runFleets() -> Bool {
        if drawsCurve {
            printCurve()
            return true
        }
        let results = FleetResults(agents: fleet)
        DispatchQueue.concurrentPerform(iterations: isTraced ? 1 : Int(clamping: count)) { index in
            let scenario = FleetScenario(seed: first &+ UInt64(index), agents: fleet)
            results.add(FleetRun(scenario, isTraced: isTraced))
        }
        return results.summary()
    }

    private func printCurve() {
        print("seconds served queue accepted")
        let run = FleetRun(FleetScenario(picture: fleet), isTraced: isTraced, drawsCurve: true)
        for point in run.curve { print(point.at, point.served, point.queue, point.accepted) }
    }
}

private final class FleetResults: @unchecked Sendable {
    private struct Row {
        var runs = 0
        var failures = 0
        /// The largest shares of the time that they may take, and the longest.
        var share = 0.0
        var back = 0.0
        var lost = 0
        var accepted = 0
        var average = 0.0
    }
    private let agents: Int
    private let lock = NSLock()
    private var rows: [FleetScenario.Fault: Row] = [:]

    init(agents: Int) { self.agents = agents }

    func add(_ run: FleetRun) {
        lock.withLock {
            var row = rows[run.scenario.fault] ?? Row()
            row.runs += 1
            row.share = max(row.share, (run.back ?? .infinity) / run.limit)
            row.back = max(row.back, run.back ?? .infinity)
            row.lost += run.leasesLost
            row.accepted = max(row.accepted, run.accepted)
            row.average = max(row.average, run.acceptedOnAverage)
            if let failure = run.failure {
                row.failures += 1
                print("seed \(run.scenario.seed) failed (\(run.scenario.text)) \(failure)")
                print(
                    "    replay: make simulate FLEET=\(agents) FIRST=\(run.scenario.seed) SEEDS=1 TRACE=1"
                )
                fflush(nil)
            }
            rows[run.scenario.fault] = row
        }
    }

    func summary() -> Bool {
        lock.withLock {
            for fault in FleetScenario.Fault.allCases {
                guard let row = rows[fault] else { continue }
                print(
                    "\(fault): \(row.runs) fleets, \(row.failures) failed; back after at most",
                    String(format: "%.1f s, %.0f %% of the limit;", row.back, 100 * row.share),
                    "\(row.lost) leases lost; connections of an agent: at most \(row.accepted),",
                    String(format: "%.2f on average", row.average))
            }
            let runs = rows.values.reduce(0) { $0 + $1.runs }
            let failed = rows.values.reduce(0) { $0 + $1.failures }
            print("\(runs - failed) passed, \(failed) failed")
            return failed == 0
        }
    }
}
