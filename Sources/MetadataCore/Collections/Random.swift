// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// Numbers that look random and are not: the same seed gives the same run. The generator is splitmix64
/// (https://prng.di.unimi.it/splitmix64.c).
package struct Random: Hashable {
    private var state: UInt64

    package init(seed: (UInt64, UInt64)) {
        state = seed.0 ^ (seed.1 &* 0x9e37_79b9_7f4a_7c15)
    }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    /// 0 ..< bound, for small bounds; 0 if the bound is 0.
    mutating func below(_ bound: UInt64) -> UInt64 {
        bound == 0 ? 0 : next() % bound
    }
}
