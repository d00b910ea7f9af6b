// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// Room for what is received at a time. Small, and only there while it is needed; large while much comes.
struct InputBuffer {
    private var room: UnsafeMutableRawBufferPointer?
    private var start = 0
    private var end = 0
    private var isLarge = false
    /// Less came than there was room for.
    var wasShort = false

    private static let small = 16 << 10
    /// Below what malloc maps and unmaps each time.
    private static let large = 120 << 10

    var isEmpty: Bool { start == end }

    /// Fills it with what `receive` puts there; the number of bytes. Only when it is empty.
    mutating func fill(_ receive: (UnsafeMutableRawBufferPointer) -> Int) -> Int {
        let size = isLarge ? Self.large : Self.small
        if let room, room.count != size { free() }
        let target =
            room ?? UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 16)
        room = target
        start = 0
        end = receive(target)
        wasShort = end < size
        if !wasShort { isLarge = true }
        if end < Self.small { isLarge = false }
        return end
    }

    /// Hands out at most `limit` bytes; the number of them.
    mutating func take(_ limit: Int, _ body: (UnsafeRawBufferPointer) -> Void) -> Int {
        guard let room else { return 0 }
        let count = min(limit, end - start)
        let piece = UnsafeRawBufferPointer(rebasing: room[start..<start + count])
        start += count
        body(piece)
        return count
    }

    /// Nothing more comes now.
    mutating func rest() {
        wasShort = false
        if isEmpty, !isLarge { free() }
    }

    mutating func free() {
        room?.deallocate()
        room = nil
        start = 0
        end = 0
    }
}
