// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Simulation

/// Runs seeds; prints each that fails with the command that replays it, and at the end 'N passed, N failed'.
@main
struct Simulate {
    private(set) var count: UInt64 = 100
    private(set) var first: UInt64 = 1
    private var steps = 100_000
    private(set) var isTraced = false
    private var runsRegressions = false
    private var printsDigests = false
    private var countsStates = false
    /// Agents of each fleet; 0: the other simulation.
    private(set) var fleet = 0
    private(set) var drawsCurve = false

    static func main() {
        guard let command = Simulate(CommandLine.arguments.dropFirst()) else {
            print("usage: simulate [--seeds N] [--first N] [--steps N]")
            print("                [--trace] [--regressions] [--digests] [--states]")
            print("       simulate --fleet AGENTS [--seeds N] [--first N] [--trace] [--curve]")
            exit(2)
        }
        exit(command.run() ? 0 : 1)
    }

    private init?(_ arguments: ArraySlice<String>) {
        var rest = arguments
        while let argument = rest.popFirst() {
            if argument == "--trace" {
                isTraced = true
                continue
            }
            if argument == "--regressions" {
                runsRegressions = true
                continue
            }
            if argument == "--digests" {
                printsDigests = true
                continue
            }
            if argument == "--states" {
                countsStates = true
                continue
            }
            if argument == "--curve" {
                drawsCurve = true
                continue
            }
            guard let number = rest.popFirst().flatMap({ UInt64($0) }) else { return nil }
            switch argument {
            case "--seeds": count = number
            case "--first": first = number
            case "--steps": steps = Int(clamping: number)
            case "--fleet": fleet = Int(clamping: number)
            default: return nil
            }
        }
    }

    private func run() -> Bool {
        if fleet > 0 { return runFleets() }
        let results = Results()
        if runsRegressions {
            for regression in Regression.all {
                print("seed \(regression.seed): \(regression.shows)")
                results.add(Run(seed: regression.seed, steps: steps, isTraced: false))
            }
        }
        // Each seed is a world of its own; a trace is of one at a time.
        DispatchQueue.concurrentPerform(iterations: isTraced ? 1 : Int(clamping: count)) { index in
            let seed = first &+ UInt64(index)
            results.add(
                Run(
                    seed: seed, steps: steps, isTraced: isTraced, digestsCores: printsDigests,
                    collectsStates: countsStates),
                printsDigest: printsDigests)
        }
        if countsStates { results.printStates(of: first..<first &+ count) }
        return results.summary()
    }

    private final class Results: @unchecked Sendable {
        private let lock = NSLock()
        private var (passed, failed, steps, late) = (0, 0, 0, 0)
        /// Each with the first seed that reaches it.
        private var states: [[UInt8]: UInt64] = [:]

        func add(_ run: Run, printsDigest: Bool = false) {
            lock.withLock {
                if printsDigest { print("seed \(run.seed): digest", String(run.digest, radix: 16)) }
                steps += run.steps
                late += run.lateExecutions
                for state in run.registrationStates {
                    states[state] = min(states[state] ?? run.seed, run.seed)
                }
                guard let failure = run.failure else {
                    passed += 1
                    return
                }
                failed += 1
                print("seed \(run.seed) failed \(failure)")
                print(
                    "    replay: make simulate FIRST=\(run.seed) SEEDS=1 STEPS=\(run.wanted) TRACE=1"
                )
                // Into a file, too, as they come.
                fflush(nil)
            }
        }

        func printStates(of seeds: Range<UInt64>) {
            lock.withLock {
                let half = seeds.lowerBound + UInt64(seeds.count / 2)
                // The first five describe the store as seen, the others the wanted state and the host's events.
                for (name, length) in [("wanted and seen", Int.max), ("seen", 5)] {
                    var first: [ArraySlice<UInt8>: UInt64] = [:]
                    for (state, seed) in states {
                        let part = state.prefix(length)
                        first[part] = min(first[part] ?? seed, seed)
                    }
                    let late = first.values.filter { $0 >= half }.count
                    print(
                        "\(first.count) states of the registration, \(name);",
                        "\(late) in the second half only")
                }
            }
        }

        func summary() -> Bool {
            lock.withLock {
                print("\(steps) steps; \(late) requests ran after their clients had given them up")
                print("\(passed) passed, \(failed) failed")
                return failed == 0
            }
        }
    }
}
