// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// Reads protobuf as a server does: a codec of its own, so that a mistake in the library's is not made twice.
struct WireInput {
    private let bytes: [UInt8]
    private var at: Int
    private let end: Int
    /// The message could not be read to its end.
    private(set) var isDamaged = false

    init(_ bytes: [UInt8]) {
        self.init(bytes, 0, bytes.count)
    }

    private init(_ bytes: [UInt8], _ at: Int, _ end: Int) {
        self.bytes = bytes
        self.at = at
        self.end = end
    }

    /// The body of a gRPC frame, which must be whole and not compressed.
    init(frame: [UInt8]) {
        self.init(frame, min(5, frame.count), frame.count)
        let length = frame.prefix(5).dropFirst().reduce(0) { $0 << 8 | Int($1) }
        isDamaged = frame.count < 5 || frame[0] != 0 || length != frame.count - 5
    }

    private mutating func varint() -> UInt64 {
        var result: UInt64 = 0
        var shift: UInt64 = 0
        while at < end, shift < 64 {
            let byte = bytes[at]
            at += 1
            result |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return result }
            shift += 7
        }
        isDamaged = true
        return 0
    }

    /// The next field: its number and, for a varint, its value, or its bytes.
    mutating func next() -> (number: Int, value: Int64, body: WireInput)? {
        guard !isDamaged, at < end else { return nil }
        let tag = varint()
        let nothing = WireInput(bytes, end, end)
        switch tag & 7 {
        case 0: return (Int(tag >> 3), Int64(bitPattern: varint()), nothing)
        case 2:
            let length = varint()
            guard length <= UInt64(end - at) else { break }
            let body = WireInput(bytes, at, at + Int(length))
            at += Int(length)
            return (Int(tag >> 3), 0, body)
        default: break
        }
        isDamaged = true
        return nil
    }

    var data: [UInt8] { at == end ? [] : Array(bytes[at..<end]) }
}

/// Writes protobuf as a server does.
package struct WireOutput {
    package private(set) var bytes: [UInt8] = []

    package init() { bytes.reserveCapacity(64) }

    private mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    mutating func int(_ field: UInt64, _ value: Int64) {
        guard value != 0 else { return }
        varint(field << 3)
        varint(UInt64(bitPattern: value))
    }

    mutating func bool(_ field: UInt64, _ value: Bool) {
        if value { int(field, 1) }
    }

    mutating func data(_ field: UInt64, _ value: [UInt8]) {
        guard !value.isEmpty else { return }
        message(field, value)
    }

    /// Also an empty one.
    mutating func message(_ field: UInt64, _ value: [UInt8]) {
        varint(field << 3 | 2)
        varint(UInt64(value.count))
        bytes.append(contentsOf: value)
    }
}
