// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// Deadlines of operations, the earliest first. Entries of operations that have completed are dropped when they
/// surface.
struct DeadlineHeap {
    private var items: [(at: Milliseconds, operation: OperationID)] = []

    var first: (at: Milliseconds, operation: OperationID)? { items.first }

    var count: Int { items.count }

    /// Drops all entries but those of operations that are still open.
    mutating func retain(_ isOpen: (OperationID) -> Bool) {
        let kept = items.filter { isOpen($0.operation) }
        items.empty(keepingRoom: true)
        for item in kept { insert(item.operation, at: item.at) }
    }

    mutating func insert(_ operation: OperationID, at: Milliseconds) {
        items.append((at, operation))
        var child = items.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard precedes(items[child], items[parent]) else { return }
            items.swapAt(child, parent)
            child = parent
        }
    }

    mutating func removeFirst() {
        guard !items.isEmpty else { return }
        items.swapAt(0, items.count - 1)
        items.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < items.count && precedes(items[child], items[least]) {
                least = child
            }
            guard least != parent else { return }
            items.swapAt(parent, least)
            parent = least
        }
    }

    private func precedes(
        _ a: (at: Milliseconds, operation: OperationID),
        _ b: (at: Milliseconds, operation: OperationID)
    ) -> Bool {
        a.at != b.at ? a.at < b.at : a.operation < b.operation
    }
}
