// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import Simulation
import Testing

/// What a failure prints is of use only if it happens again.
@Suite struct ReplayTests {
    @Test func theSameSeedGivesTheSameRun() {
        let (first, second) = (Run(seed: 7, steps: 3_000), Run(seed: 7, steps: 3_000))
        #expect(first.digest == second.digest)
        #expect(first.digest != Run(seed: 8, steps: 3_000).digest)
    }
}
