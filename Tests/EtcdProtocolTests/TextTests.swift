// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

@Suite struct BytesTests {
    @Test func literalKeepsItsBytes() {
        #expect(Bytes("a\u{e9}\0") == [0x61, 0xc3, 0xa9, 0])
    }

    @Test func prefix() {
        #expect(bytes("abc").hasPrefix([]))
        #expect(bytes("abc").hasPrefix(bytes("abc")))
        #expect(!bytes("abc").hasPrefix(bytes("abd")))
        #expect(!bytes("ab").hasPrefix(bytes("abc")))
    }

    @Test func order() {
        let sorted: [Bytes] = [[], [0], bytes("a"), bytes("a\0"), bytes("aa"), bytes("b"), [0xff]]
        for (i, left) in sorted.enumerated() {
            for (j, right) in sorted.enumerated() { #expect(left.precedes(right) == (i < j)) }
        }
    }

    @Test func contains() {
        #expect(bytes("the auth store is old").contains("auth store"))
        #expect(bytes("aab").contains("ab"))
        #expect(bytes("aab").contains(""))
        #expect(!bytes("aab").contains("aabb"))
        #expect(!bytes("aab").contains("ba"))
    }

    /// U+00E9 and 'e' + U+0301 are one `String` and two keys.
    @Test func unicodeFormsDiffer() {
        #expect("\u{e9}" == "e\u{301}")
        #expect(bytes("\u{e9}") != bytes("e\u{301}"))
    }
}

@Suite struct TextTests {
    @Test func numbers() {
        let text: Text = "\(0) \(-5) \(Int64.min) \(UInt64.max) \(hex: 0x694d) \(hex: 0)"
        #expect(text.bytes == bytes("0 -5 -9223372036854775808 18446744073709551615 694d 0"))
    }

    @Test func outsideBytesStayOneLine() {
        let outside = bytes("a\n\\\u{7f}\u{e9}") + [0, 0xff]
        let text: Text = "<\(outside)>"
        #expect(text.bytes == bytes("<a\\x0a\\x5c\\x7f\u{e9}\\x00") + [0xff] + bytes(">"))
    }

    @Test func controlBytesAreEscaped() {
        for byte in UInt8.min...UInt8.max {
            let text: Text = "\([byte] as Bytes)"
            let isPlain = byte >= 0x20 && byte != 0x7f && byte != UInt8(ascii: "\\")
            #expect(text.bytes.count == (isPlain ? 1 : 4), "\(byte)")
        }
    }

    @Test func outsideBytesAreShortened() {
        #expect(("\(bytes("abcdef"), limit: 6)" as Text).bytes == bytes("abcdef"))
        #expect(("\(bytes("abcdef"), limit: 5)" as Text).bytes == bytes("abcde..."))
        #expect(("\(Bytes(repeating: 97, count: 500))" as Text).bytes.count == 203)
    }

    @Test func nesting() {
        let inner: Text = "b"
        #expect(("a\(inner)\("c" as StaticString)" as Text).bytes == bytes("abc"))
        #expect(("" as Text).isEmpty)
    }
}
