// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

/// The bytes of hexadecimal digits; spaces are for the reader.
func hex(_ text: String) -> Bytes {
    var bytes = Bytes()
    var high: UInt8?
    for digit in text where digit != " " {
        guard let value = digit.hexDigitValue.map(UInt8.init) else {
            Issue.record("not a hexadecimal digit: \(digit)")
            return []
        }
        if let first = high {
            bytes.append(first << 4 | value)
            high = nil
        } else {
            high = value
        }
    }
    #expect(high == nil, "an odd number of digits")
    return bytes
}

func bytes(_ text: String) -> Bytes { Bytes(text.utf8) }

/// SplitMix64: the same numbers in every run, so that a failure can be had again.
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

/// The error that `body` throws, or nil.
func failure<Value>(_ body: () throws(WireError) -> Value) -> WireError? {
    do throws(WireError) {
        _ = try body()
        return nil
    } catch {
        return error
    }
}
