// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// A seed that once failed, or that fails when the mistake is made again, and what it shows. A change of the
/// simulator makes another world of it; `make mutations` finds new ones.
struct Regression {
    let seed: UInt64
    let shows: String

    static let all = [
        Regression(
            seed: 199,
            shows: "a move to a permanent key whose answer was lost ended as superseded by oneself"),
        Regression(
            seed: 213,
            shows: "a list left out an agent whose presence key came after the list was made"),
        Regression(seed: 1349, shows: "a late write brought back a label that was removed"),
        Regression(
            seed: 1371, shows: "a late write brought back a label that was written, then removed"),
        Regression(seed: 5031, shows: "labels put before the presence key were never told"),
    ]
}
