// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// The outcome of a call, from its headers and trailers (gRPC over HTTP2, 'Responses').
public struct GRPCTrailers: Sendable {
    /// nil: no header has come; 0: none that can be read.
    public private(set) var httpStatus: Int?
    public private(set) var contentTypeIsGRPC = false
    private var code: Int32?
    private var message = Bytes()

    public init() {}

    /// nil: the server gave no status.
    public var status: GRPCStatus? {
        guard let code else { return nil }
        return GRPCStatus(code: code, message: message)
    }

    /// Takes one field of a header block. HTTP/2 names are in lower case. ':status' starts a new answer: the fields
    /// before it belonged to an interim one (RFC 9110, section 15.2).
    public mutating func add(name: Span<UInt8>, value: Span<UInt8>) {
        if HeaderText.equals(name, ":status") {
            self = GRPCTrailers()
            httpStatus = HeaderText.httpStatus(value)
        } else if HeaderText.equals(name, "grpc-status") {
            code = HeaderText.decimal(HeaderText.trimmed(value)) ?? GRPCStatus.unknown
        } else if HeaderText.equals(name, "grpc-message") {
            message = HeaderText.percentDecoded(HeaderText.trimmed(value))
        } else if HeaderText.equals(name, "content-type") {
            contentTypeIsGRPC = HeaderText.isGRPC(contentType: HeaderText.trimmed(value))
        }
    }
}

/// The little of HTTP's header syntax that is needed. Literals to compare with are in lower case.
private enum HeaderText {
    static func begins(_ text: Span<UInt8>, with literal: StaticString) -> Bool {
        guard text.count >= literal.utf8CodeUnitCount else { return false }
        for i in 0..<literal.utf8CodeUnitCount where lowercased(text[i]) != literal.utf8Start[i] {
            return false
        }
        return true
    }

    /// Byte by byte, from the end: names differ there.
    static func equals(_ text: Span<UInt8>, _ literal: StaticString) -> Bool {
        guard text.count == literal.utf8CodeUnitCount else { return false }
        return text.withUnsafeBytes { bytes in
            var left = bytes.count
            while left > 0, lowercased(bytes[left - 1]) == literal.utf8Start[left - 1] { left -= 1 }
            return left == 0
        }
    }

    private static func lowercased(_ byte: UInt8) -> UInt8 {
        byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z") ? byte | 0x20 : byte
    }

    private static func isSpace(_ byte: UInt8) -> Bool {
        byte == 0x20 || byte == 0x09 || byte == 0x0d || byte == 0x0a
    }

    @_lifetime(copy text)
    static func trimmed(_ text: Span<UInt8>) -> Span<UInt8> {
        var start = 0
        var end = text.count
        while start < end, isSpace(text[start]) { start += 1 }
        while start < end, isSpace(text[end - 1]) { end -= 1 }
        return text.extracting(start..<end)
    }

    /// nil: not a number, or one that is too large.
    static func decimal(_ text: Span<UInt8>) -> Int32? {
        guard !text.isEmpty else { return nil }
        var value: Int32 = 0
        for i in 0..<text.count {
            guard let digit = digit(text[i]), digit < 10 else { return nil }
            let (tens, tensOverflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, sumOverflow) = tens.addingReportingOverflow(Int32(digit))
            guard !tensOverflow, !sumOverflow else { return nil }
            value = sum
        }
        return value
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch lowercased(byte) {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): lowercased(byte) - UInt8(ascii: "a") + 10
        default: nil
        }
    }

    static func httpStatus(_ value: Span<UInt8>) -> Int {
        guard value.count == 3, let status = decimal(value) else { return 0 }
        return Int(status)
    }

    /// 'application/grpc', '+proto' or the like after it (not 'application/grpc-web'), and parameters.
    static func isGRPC(contentType: Span<UInt8>) -> Bool {
        let literal: StaticString = "application/grpc"
        guard begins(contentType, with: literal) else { return false }
        let rest = trimmed(
            contentType.extracting(literal.utf8CodeUnitCount..<contentType.count))
        return rest.isEmpty || rest[0] == UInt8(ascii: "+") || rest[0] == UInt8(ascii: ";")
    }

    /// An invalid escape is kept unchanged, as the specification asks ('Percent-Encoded').
    static func percentDecoded(_ text: Span<UInt8>) -> Bytes {
        var decoded = Bytes()
        decoded.reserveCapacity(text.count)
        var i = 0
        while i < text.count {
            if text[i] == UInt8(ascii: "%"), text.count - i > 2,
                let high = digit(text[i + 1]), let low = digit(text[i + 2])
            {
                decoded.append(high << 4 | low)
                i += 3
            } else {
                decoded.append(text[i])
                i += 1
            }
        }
        return decoded
    }
}
