// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// Transactions that each read the first pages of several watches.
struct FirstPages {
    var underWay = 0
    /// Pages in one.
    private(set) var most: Int64 = 16

    /// Each answer may take 16 MiB before it is whole.
    var mayAsk: Bool { underWay < 4 }

    mutating func adapt(to bytes: Int) {
        PageSize.adapt(&most, to: bytes, most: Int64(Limits.batchOperations))
    }

    mutating func shrink(from size: Int) { PageSize.shrink(&most, from: size) }
}
