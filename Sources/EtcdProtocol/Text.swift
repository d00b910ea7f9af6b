// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// A line for people: an error text or a log line. Built by interpolation from literals and numbers; bytes that come
/// from outside (names, servers' messages) are escaped and shortened, so that a line stays a line.
/// Not `String`, whose Unicode tables would be linked into the library.
public struct Text: Sendable, Hashable, ExpressibleByStringInterpolation {
    public private(set) var bytes: Bytes

    public init(stringLiteral literal: StaticString) {
        bytes = Bytes(literal)
    }

    public init(stringInterpolation: Interpolation) {
        bytes = stringInterpolation.bytes
    }

    public var isEmpty: Bool { bytes.isEmpty }

    public struct Interpolation: StringInterpolationProtocol {
        var bytes: Bytes = []

        // None is inlined: there are some 160 lines.

        @inline(never)
        public init(literalCapacity: Int, interpolationCount: Int) {
            // Two numbers' worth for each value keeps most lines at one allocation.
            bytes.reserveCapacity(literalCapacity &+ interpolationCount &* 20)
        }

        @inline(never)
        public mutating func appendLiteral(_ literal: StaticString) {
            literal.withUTF8Buffer { bytes.append(contentsOf: $0) }
        }

        public mutating func appendInterpolation(_ literal: StaticString) {
            appendLiteral(literal)
        }

        @inline(never)
        public mutating func appendInterpolation(_ text: Text) {
            bytes.append(contentsOf: text.bytes)
        }

        public mutating func appendInterpolation(_ number: some FixedWidthInteger) {
            if number < 0 { appendLiteral("-") }
            appendDigits(UInt64(number.magnitude), radix: 10)
        }

        /// A lease or cluster id, as etcdctl prints them.
        public mutating func appendInterpolation(hex number: UInt64) {
            appendDigits(number, radix: 16)
        }

        /// Untrusted bytes, escaped; at most `limit`, plus the rest of a letter.
        public mutating func appendInterpolation(_ outside: Bytes, limit: Int = 200) {
            var at = 0
            while at < min(limit, outside.count) {
                let length = Printable.length(outside, at: at)
                if length > 0 {
                    bytes.append(contentsOf: outside[at..<(at + length)])
                } else {
                    appendEscaped(outside[at])
                }
                at += max(length, 1)
            }
            if outside.count > at { appendLiteral("...") }
        }

        private mutating func appendEscaped(_ byte: UInt8) {
            bytes.append(UInt8(ascii: "\\"))
            bytes.append(UInt8(ascii: "x"))
            bytes.append(Self.digit(byte >> 4))
            bytes.append(Self.digit(byte & 15))
        }

        @inline(never)
        private mutating func appendDigits(_ number: UInt64, radix: UInt64) {
            var digits: Bytes = []
            var rest = number
            repeat {
                digits.append(Self.digit(UInt8(truncatingIfNeeded: rest % radix)))
                rest /= radix
            } while rest > 0
            bytes.append(contentsOf: digits.reversed())
        }

        private static func digit(_ value: UInt8) -> UInt8 {
            value < 10 ? UInt8(ascii: "0") &+ value : UInt8(ascii: "a") &+ value &- 10
        }
    }
}
