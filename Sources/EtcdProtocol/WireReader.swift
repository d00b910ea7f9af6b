// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// Why bytes from the network are not the message that they should be.
public enum WireError: Error, Equatable {
    case truncated
    /// A varint of more than ten bytes, or a length that no message can have.
    case overlong
    case wrongType
    /// More fields, keys, events or answers than one message may have (`WireLimits`).
    case tooMany
}

/// Limits of one message. Its size is not enough: 16 MiB can hold eight million empty entries (half a gigabyte when
/// decoded) or as many unknown fields (a whole tick to skip).
public enum WireLimits {
    /// Keys of a page, decoded in portions. A real one is far larger than the 100 bytes that each takes at least.
    public static let pageKeys = 1 << 16
    /// Keys of any other answer, decoded in one tick. An agent asks for no more than its own 4,096 labels.
    public static let keys = 1 << 13
    /// Events of a watch, all fragments together: they are delivered in one tick.
    public static let events = 1 << 13
    /// Answers to the operations of one transaction; etcd does no more than 128 (--max-txn-ops).
    public static let responses = 128
    /// Fields, those of embedded messages included: 65,536 keys have seven each.
    static let fields = 1 << 20
    /// Those of a message without keys: a millisecond to skip.
    static let fieldsAtFirst = 1 << 16
    /// As many more for each key: a later etcd may have fields that are not known here.
    static let fieldsOfKey = 16
}

/// Fields that may still be read of a message and what is embedded in it.
struct FieldBudget {
    private var left = WireLimits.fieldsAtFirst
    private var later = WireLimits.fields - WireLimits.fieldsAtFirst

    mutating func addKey() {
        let more = min(later, WireLimits.fieldsOfKey)
        later -= more
        left += more
    }

    mutating func take() throws(WireError) {
        guard left > 0 else { throw .tooMany }
        left -= 1
    }
}

/// The protobuf wire format (https://protobuf.dev/programming-guides/encoding/), read from a span: every
/// access is checked before it is made, because a failed bounds check would kill the host.
struct WireReader: ~Escapable {
    enum WireType: UInt8 {
        case varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5
    }
    struct Field {
        let number: UInt64
        let type: WireType
    }
    private let span: Span<UInt8>
    /// Of the next byte.
    private(set) var offset: Int

    /// `from`: where a field begins.
    @_lifetime(copy span)
    init(_ span: Span<UInt8>, from offset: Int = 0) {
        self.span = span
        self.offset = min(offset, span.count)
    }

    private var left: Int { span.count - offset }

    /// The next field's number and type; nil at the end of the message.
    @_lifetime(self: copy self)
    mutating func nextField(_ budget: inout FieldBudget) throws(WireError) -> Field? {
        guard left > 0 else { return nil }
        try budget.take()
        let tag = try varint()
        // Groups (3, 4) are not in proto3.
        guard let type = WireType(rawValue: UInt8(truncatingIfNeeded: tag & 7)), tag >> 3 != 0
        else { throw .wrongType }
        return Field(number: tag >> 3, type: type)
    }

    @_lifetime(self: copy self)
    private mutating func varint() throws(WireError) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            guard offset < span.count else { throw .truncated }
            let byte = span[offset]
            offset += 1
            // The tenth byte holds the one bit that is left.
            guard shift < 63 || byte <= 1 else { throw .overlong }
            value |= UInt64(byte & 0x7f) << shift
            if byte & 0x80 == 0 { return value }
            shift += 7
        }
    }

    @_lifetime(self: copy self)
    private mutating func length() throws(WireError) -> Int {
        let length = try varint()
        guard length <= UInt64(left) else { throw .truncated }
        return Int(truncatingIfNeeded: length)
    }

    /// Seldom, and so not worth a copy in each message's decoder.
    @inline(never)
    @_lifetime(self: copy self)
    mutating func skip(_ field: Field) throws(WireError) {
        switch field.type {
        case .varint: _ = try varint()
        case .fixed64: try advance(8)
        case .bytes: try advance(try length())
        case .fixed32: try advance(4)
        }
    }

    @_lifetime(self: copy self)
    private mutating func advance(_ count: Int) throws(WireError) {
        guard count <= left else { throw .truncated }
        offset += count
    }

    @_lifetime(self: copy self)
    mutating func uint64(_ field: Field) throws(WireError) -> UInt64 {
        guard field.type == .varint else { throw .wrongType }
        return try varint()
    }

    @_lifetime(self: copy self)
    mutating func int64(_ field: Field) throws(WireError) -> Int64 {
        Int64(bitPattern: try uint64(field))
    }

    @_lifetime(self: copy self)
    mutating func bool(_ field: Field) throws(WireError) -> Bool {
        try uint64(field) != 0
    }

    /// The bytes of a string, a bytes field or an embedded message, where they are.
    @_lifetime(copy self)
    mutating func slice(_ field: Field) throws(WireError) -> Span<UInt8> {
        guard field.type == .bytes else { throw .wrongType }
        let length = try length()
        let start = offset
        offset += length
        return span.extracting(start..<(start + length))
    }

    @_lifetime(self: copy self)
    mutating func bytes(_ field: Field) throws(WireError) -> Bytes {
        Bytes(copying: try slice(field))
    }
}

extension [UInt8] {
    /// A copy, in one allocation.
    public init(copying span: Span<UInt8>) {
        self = span.withUnsafeBytes { [UInt8](copying: $0) }
    }
}
