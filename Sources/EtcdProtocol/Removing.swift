// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// Removing without `replaceSubrange`, of which the compiler makes a copy of 200 to 400 bytes for each type of element.
extension Array {
    /// Removes all elements. `keepingRoom`: without freeing what they were in.
    public mutating func empty(keepingRoom: Bool) {
        if keepingRoom { keep(first: 0) } else { self = [] }
    }

    /// Removes every element but the first `count`.
    @inline(never)
    public mutating func keep(first count: Int) {
        while self.count > count { removeLast() }
    }

    /// Removes those for which this holds.
    public mutating func drop(where isDropped: (Element) -> Bool) {
        var kept = 0
        for at in 0..<count where !isDropped(self[at]) {
            if kept != at { swapAt(kept, at) }
            kept += 1
        }
        keep(first: kept)
    }

    /// Removes the first `count` elements.
    public mutating func drop(first count: Int) {
        if count > 0 { self = Array(self[count...]) }
    }
}
