// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CNghttp2
import EtcdProtocol

/// The first bytes of the server: a SETTINGS frame (RFC 9113, section 3.4), or it speaks something else. nghttp2 would
/// wait in silence for the rest of a frame that is none.
struct Greeting {
    private var held = Bytes()
    private var isOver = false

    private static let headSize = 9
    private static let statusLine = 64
    private static let maximumSettings = 16 << 10

    enum Verdict {
        case incomplete
        /// Take what was held back, or the piece itself where nothing was.
        case right(Bytes?)
        case wrong(Text)
    }

    mutating func take(_ bytes: UnsafeRawBufferPointer) -> Verdict {
        if isOver { return .right(nil) }
        held.append(copying: bytes)
        if held.prefixMatches("HTTP/") {
            let isWhole = held.count >= Self.statusLine || held.contains(UInt8(ascii: "\n"))
            return isWhole ? .wrong(statusText) : .incomplete
        }
        guard held.count >= Self.headSize else { return .incomplete }
        let length = Int(held[0]) << 16 | Int(held[1]) << 8 | Int(held[2])
        guard Int(held[3]) == CNGHTTP2_SETTINGS, Int(held[4]) & CNGHTTP2_FLAG_ACK == 0,
            length <= Self.maximumSettings, held[5...8].allSatisfy({ $0 == 0 })
        else { return .wrong(Self.other) }
        isOver = true
        defer { held = Bytes() }
        return .right(held)
    }

    /// The error text if the server sends nothing more; nil: none.
    var textAtEnd: Text? {
        guard !isOver, !held.isEmpty else { return nil }
        return held.prefixMatches("HTTP/") ? statusText : Self.other
    }

    private static var other: Text {
        "the server does not speak HTTP/2 (is it etcd's client port, http or https?)"
    }

    /// A proxy says here what it has against us.
    private var statusText: Text {
        let line = held.prefix { $0 != UInt8(ascii: "\r") && $0 != UInt8(ascii: "\n") }
        return """
            the server does not speak HTTP/2, it answers '\(Bytes(line.prefix(Self.statusLine)))' \
            (is it etcd's client port, or a proxy?)
            """
    }
}

extension [UInt8] {
    /// Whether these bytes begin as `literal` does, as far as both go.
    fileprivate func prefixMatches(_ literal: StaticString) -> Bool {
        for i in 0..<Swift.min(count, literal.utf8CodeUnitCount)
        where self[i] != literal.utf8Start[i] {
            return false
        }
        return !isEmpty
    }
}
