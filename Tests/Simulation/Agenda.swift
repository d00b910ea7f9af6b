// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel

/// The clock of the world and what is to happen when; of two things at the same instant the one that was
/// scheduled first happens first.
struct Agenda<Event> {
    private struct Entry {
        let at: Instant
        let order: UInt64
        let slot: Int
    }
    private var heap: [Entry] = []
    private var slots: [Event?] = []
    private var free: [Int] = []
    private var scheduled: UInt64 = 0

    var count: Int { heap.count }
    var next: Instant? { heap.first?.at }

    mutating func add(_ event: Event, at: Instant) {
        let slot: Int
        if let reused = free.popLast() {
            slot = reused
            slots[slot] = event
        } else {
            slot = slots.count
            slots.append(event)
        }
        heap.append(Entry(at: at, order: scheduled, slot: slot))
        scheduled += 1
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard precedes(child, parent) else { return }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    mutating func popFirst() -> (at: Instant, event: Event)? {
        guard let first = heap.first else { return nil }
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            sink()
        }
        defer { free.append(first.slot) }
        guard let event = slots[first.slot] else { return nil }
        slots[first.slot] = nil
        return (first.at, event)
    }

    private mutating func sink() {
        var parent = 0
        while true {
            var least = parent
            let left = 2 * parent + 1
            if left < heap.count, precedes(left, least) { least = left }
            if left + 1 < heap.count, precedes(left + 1, least) { least = left + 1 }
            guard least != parent else { return }
            heap.swapAt(parent, least)
            parent = least
        }
    }

    private func precedes(_ a: Int, _ b: Int) -> Bool {
        heap[a].at != heap[b].at ? heap[a].at < heap[b].at : heap[a].order < heap[b].order
    }
}
