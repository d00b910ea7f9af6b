// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// libFuzzer's bytes, read from the front; zeros after their end.
struct FuzzInput {
    private let bytes: Bytes
    private var offset = 0

    init(_ start: UnsafePointer<UInt8>?, _ count: Int) {
        bytes = Bytes(UnsafeBufferPointer(start: start, count: count))
    }

    var isAtEnd: Bool { offset >= bytes.count }

    mutating func byte() -> UInt8 {
        guard offset < bytes.count else { return 0 }
        offset += 1
        return bytes[offset - 1]
    }

    /// Below `limit`.
    mutating func number(_ limit: Int) -> Int {
        Int(byte()) % limit
    }

    /// So many bytes, or as many as there are.
    mutating func take(_ count: Int) -> Bytes {
        let end = min(offset + count, bytes.count)
        defer { offset = end }
        return Bytes(bytes[offset..<end])
    }

    mutating func rest() -> Bytes {
        take(bytes.count)
    }
}
