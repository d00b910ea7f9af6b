// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

extension Array {
    /// Heap sort. The standard library's sort is compiled into the library for each type, 10 KiB of it.
    @inline(never)
    public mutating func heapSort(_ precedes: (Element, Element) -> Bool) {
        for root in stride(from: count / 2 - 1, through: 0, by: -1) {
            sink(root, below: count, precedes)
        }
        for end in stride(from: count - 1, to: 0, by: -1) {
            swapAt(0, end)
            sink(0, below: end, precedes)
        }
    }

    @inline(never)
    private mutating func sink(
        _ start: Int, below end: Int, _ precedes: (Element, Element) -> Bool
    ) {
        var root = start
        while 2 * root + 1 < end {
            var child = 2 * root + 1
            if child + 1 < end, precedes(self[child], self[child + 1]) { child += 1 }
            guard precedes(self[root], self[child]) else { return }
            swapAt(root, child)
            root = child
        }
    }
}
