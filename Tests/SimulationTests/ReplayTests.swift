// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import Simulation
import Testing

/// A failure's output is useful only if its seed fails again.
@Suite struct ReplayTests {
    @Test func sameSeed_replaysTheSameRun() {
        let (first, second) = (Run(seed: 7, steps: 3_000), Run(seed: 7, steps: 3_000))
        #expect(first.digest == second.digest)
        #expect(first.digest != Run(seed: 8, steps: 3_000).digest)
    }
}
