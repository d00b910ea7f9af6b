// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// Counts restarts of one operation that the server caused.
struct Restarts {
    private var count = 0
    private var since: Milliseconds = 0

    /// Counts one more. Whether that is too often to be believed.
    mutating func isTooMany(now: Milliseconds) -> Bool {
        if count == 0 || now &- since >= Timing.restarts {
            count = 0
            since = now
        }
        count += 1
        return count > Limits.restarts
    }
}
