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
        #expect(text.bytes == bytes("<a\\x0a\\x5c\\x7f\u{e9}\\x00\\xff>"))
    }

    @Test func controlBytesAreEscaped() {
        for byte in UInt8.min...UInt8.max {
            let text: Text = "\([byte] as Bytes)"
            let isPlain = (0x20..<0x7f).contains(byte) && byte != UInt8(ascii: "\\")
            #expect(text.bytes.count == (isPlain ? 1 : 4), "\(byte)")
        }
    }

    @Test(arguments: [
        "\u{e9}", "\u{df}", "\u{431}\u{44b}", "\u{5d0}", "\u{627}", "\u{4e2d}\u{6587}", "\u{d55c}",
        "\u{1f00}", "\u{20000}", "e\u{301}",
    ])
    func lettersStay(_ letters: String) {
        #expect(("\(bytes(letters))" as Text).bytes == bytes(letters))
    }

    /// 8-bit CSI, the soft hyphen, marks of direction, invisible and line-ending ones, private use.
    @Test(arguments: [
        "\u{80}", "\u{85}", "\u{9b}", "\u{a0}", "\u{ad}", "\u{61c}", "\u{200b}", "\u{200e}",
        "\u{2028}",
        "\u{202e}", "\u{2066}", "\u{3164}", "\u{e000}", "\u{feff}", "\u{ffff}", "\u{1f4a9}",
        "\u{e0041}",
        "\u{10ffff}",
    ])
    func whatIsNoLetterIsEscaped(_ sign: String) {
        let count = bytes(sign).count
        #expect(("\(bytes(sign))" as Text).bytes.count == 4 * count)
    }

    /// Truncated, overlong, surrogates, beyond Unicode (RFC 3629, section 3).
    @Test(
        arguments: [
            [0xc3], [0xe4, 0xb8], [0xf0, 0xa0, 0x80], [0xc3, 0x41], [0xc0, 0xaf], [0xc1, 0xbf],
            [0xe0, 0x83, 0xa9], [0xf0, 0x80, 0x83, 0xa9], [0xed, 0xa0, 0x80],
            [0xf4, 0x90, 0x80, 0x80],
            [0xf8, 0x88, 0x80, 0x80, 0x80], [0xff],
        ] as [Bytes])
    func invalidUTF8IsEscaped(_ outside: Bytes) {
        let plain = outside.filter { $0 < 0x80 }.count
        #expect(("\(outside)" as Text).bytes.count == 4 * (outside.count - plain) + plain)
    }

    @Test func aLetterIsNotCut() {
        #expect(("\(bytes("ab\u{4e2d}d"), limit: 3)" as Text).bytes == bytes("ab\u{4e2d}..."))
        #expect(("\(bytes("ab\u{4e2d}"), limit: 3)" as Text).bytes == bytes("ab\u{4e2d}"))
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
