// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// Which bytes from outside may stand as they are in a line for people: printable ASCII, and letters in valid UTF-8
/// (RFC 3629). All else is escaped: what moves a cursor (8-bit controls, too), ends a line, turns its direction, or
/// cannot be seen.
enum Printable {
    /// The length of the character at `at`; 0: escape this byte.
    static func length(_ bytes: Bytes, at: Int) -> Int {
        let first = bytes[at]
        guard first >= 0x80 else {
            return first >= 0x20 && first != 0x7f && first != UInt8(ascii: "\\") ? 1 : 0
        }
        let length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2
        // A first byte under 0xc2 or over 0xf4 begins nothing.
        guard (0xc2...0xf4).contains(first), length <= bytes.count - at else { return 0 }
        var scalar = UInt32(first & (0x7f >> UInt8(length)))
        for next in bytes[(at + 1)..<(at + length)] {
            guard next & 0xc0 == 0x80 else { return 0 }
            scalar = scalar << 6 | UInt32(next & 0x3f)
        }
        // An overlong encoding is not valid.
        let isShortest = length == 2 || scalar >= (length == 3 ? 0x800 : 0x10000)
        return isShortest && isLetter(scalar) ? length : 0
    }

    /// Decides by blocks: the tables of Unicode would be larger than the library. In doubt it is not a letter.
    private static func isLetter(_ scalar: UInt32) -> Bool {
        switch scalar {
        case 0..<0xa1, 0xad,  // C1 controls; the soft hyphen
            0x34f, 0x61c, 0x70f, 0x890...0x891, 0x8e2,  // invisible, or of Arabic's direction
            0x115f...0x1160, 0x17b4...0x17b5, 0x180b...0x180f,  // fillers, selectors
            0x2000...0x2bff,  // spaces, direction, line separators; signs and pictures
            0x3000...0x3004, 0x3164, 0xd800...0xf8ff,  // fillers, surrogates, private use
            0xfe00...0xfe0f, 0xfeff, 0xffa0, 0xfff0...0xffff,  // selectors, byte order mark
            0x10d40...0x1ffff,  // notation, pictures, and scripts that few terminals have
            0x40000...:
            false
        default: true
        }
    }
}
