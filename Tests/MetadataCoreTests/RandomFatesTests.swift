// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import class Foundation.ProcessInfo
import Testing

/// Random calls while single requests are refused, lose their answers, or are carried out late.
/// Other seeds, and more of them:
///
///     NIXL_MD_FATES_FIRST=1 NIXL_MD_FATES_SEEDS=30000 \
///         swift test --scratch-path .build/debug --filter RandomFatesTests
@Suite struct RandomFatesTests {
    /// One defect fails many seeds; a few tell enough.
    static let failuresTold = 3

    @Test func agent_randomFatesOfItsRequests_settles() {
        let first = number("NIXL_MD_FATES_FIRST") ?? 1
        let count = number("NIXL_MD_FATES_SEEDS") ?? 1500
        var failed = 0
        for seed in first..<(first + count) where failed < Self.failuresTold {
            let run = RandomFates(seed: seed)
            run.run()
            guard !run.failures.isEmpty else { continue }
            failed += 1
            tell(seed)
        }
    }

    /// The trace is made by a second run: it costs more than the run itself.
    private func tell(_ seed: UInt64) {
        let run = RandomFates(seed: seed, isTraced: true)
        run.run()
        Issue.record(
            """
            seed \(seed): \(run.failures.joined(separator: "; "))
            \(run.trace.joined(separator: "\n"))
            again: NIXL_MD_FATES_FIRST=\(seed) NIXL_MD_FATES_SEEDS=1 \
            swift test --scratch-path .build/debug --filter RandomFatesTests
            """)
    }

    private func number(_ name: String) -> UInt64? {
        ProcessInfo.processInfo.environment[name].flatMap { UInt64($0) }
    }
}
