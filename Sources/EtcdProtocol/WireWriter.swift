// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// The protobuf wire format, written into one allocation of exactly the size that was computed before.
///
/// Sizes come from the same values as the bytes, so no input reaches the preconditions; they keep a mistake of ours from writing
/// beyond the allocation. `RequestTests` compares both for each request.
public struct WireWriter {
    private let room: UnsafeMutableRawBufferPointer
    private(set) var count = 0

    init(_ room: UnsafeMutableRawBufferPointer) { self.room = room }

    /// gRPC's message prefix: not compressed, length in network order (gRPC over HTTP2, 'Length-Prefixed-Message').
    static func frame(size: Int, _ body: (inout WireWriter) -> Void) -> Bytes {
        Bytes(unsafeUninitializedCapacity: 5 + size) { room, count in
            // An array may have room for more than it was asked for.
            let room = UnsafeMutableRawBufferPointer(start: room.baseAddress, count: 5 + size)
            var writer = WireWriter(room)
            writer.byte(0)
            for shift in stride(from: 24, through: 0, by: -8) {
                writer.byte(UInt8(truncatingIfNeeded: size >> shift))
            }
            body(&writer)
            precondition(writer.count == room.count, "a size that was computed wrong")
            count = writer.count
        }
    }

    // None is inlined: the compiler would make some fifty copies for transactions alone.

    private mutating func byte(_ value: UInt8) {
        precondition(count < room.count, "a size that was computed wrong")
        room[count] = value
        count += 1
    }

    @inline(never)
    private mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            byte(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        byte(UInt8(truncatingIfNeeded: rest))
    }

    /// `writesZero`: also where proto3 leaves out the default, as in a oneof.
    @inline(never)
    mutating func int64(_ field: UInt64, _ value: Int64, writesZero: Bool = false) {
        guard value != 0 || writesZero else { return }
        varint(field << 3)
        varint(UInt64(bitPattern: value))
    }

    mutating func bool(_ field: UInt64, _ value: Bool) {
        int64(field, value ? 1 : 0)
    }

    @inline(never)
    mutating func bytes(_ field: UInt64, _ value: Bytes) {
        guard !value.isEmpty else { return }
        message(field, size: value.count)
        precondition(value.count <= room.count - count, "a size that was computed wrong")
        value.withUnsafeBytes {
            UnsafeMutableRawBufferPointer(rebasing: room[count...]).copyMemory(from: $0)
        }
        count += value.count
    }

    /// The head of an embedded message; its fields follow.
    @inline(never)
    mutating func message(_ field: UInt64, size: Int) {
        varint(field << 3 | 2)
        varint(UInt64(truncatingIfNeeded: size))
    }

    // MARK: - Sizes of the same

    private static func size(_ value: UInt64) -> Int {
        value == 0 ? 1 : (63 - value.leadingZeroBitCount) / 7 + 1
    }

    static func size(_ field: UInt64, _ value: Int64, writesZero: Bool = false) -> Int {
        guard value != 0 || writesZero else { return 0 }
        return size(field << 3) + size(UInt64(bitPattern: value))
    }

    static func size(_ field: UInt64, _ value: Bool) -> Int {
        size(field, value ? 1 : 0)
    }

    static func size(_ field: UInt64, _ value: Bytes) -> Int {
        value.isEmpty ? 0 : size(field, message: value.count)
    }

    static func size(_ field: UInt64, message size: Int) -> Int {
        Self.size(field << 3) + Self.size(UInt64(truncatingIfNeeded: size)) + size
    }
}

/// A message that can be sent.
public protocol WireMessage {
    /// Bytes of the message, without gRPC's prefix.
    var encodedSize: Int { get }
    func write(_ writer: inout WireWriter)
}

extension WireMessage {
    /// The message with its gRPC prefix, as it goes on the wire.
    public func frame() -> Bytes {
        WireWriter.frame(size: encodedSize) { write(&$0) }
    }
}
