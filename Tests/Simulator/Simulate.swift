// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Simulation

/// Runs seeds; prints each that fails with the command that replays it, and at the end 'N passed, N failed'.
@main
struct Simulate {
    private var count: UInt64 = 100
    private var first: UInt64 = 1
    private var steps = 100_000
    private var isTraced = false

    static func main() {
        guard let command = Simulate(CommandLine.arguments.dropFirst()) else {
            print("usage: simulate [--seeds N] [--first N] [--steps N] [--trace]")
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
            guard let number = rest.popFirst().flatMap({ UInt64($0) }) else { return nil }
            switch argument {
            case "--seeds": count = number
            case "--first": first = number
            case "--steps": steps = Int(clamping: number)
            default: return nil
            }
        }
    }

    private func run() -> Bool {
        var failed: UInt64 = 0
        var (total, late) = (0, 0)
        for seed in first..<(first + count) {
            let run = Run(seed: seed, steps: steps, isTraced: isTraced)
            total += run.steps
            late += run.lateExecutions
            guard let failure = run.failure else { continue }
            failed += 1
            print("seed \(seed) failed \(failure)")
            print("    replay: make simulate FIRST=\(seed) SEEDS=1 STEPS=\(steps) TRACE=1")
        }
        print("\(total) steps; \(late) requests ran after their clients had given them up")
        print("\(count - failed) passed, \(failed) failed")
        return failed == 0
    }
}
