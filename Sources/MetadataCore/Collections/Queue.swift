// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// First in, first out, at amortised constant cost.
struct Queue<Element> {
    private var items: [Element] = []
    private var head = 0

    var count: Int { items.count - head }
    var isEmpty: Bool { head == items.count }

    var first: Element? { head < items.count ? items[head] : nil }

    mutating func append(_ element: Element) {
        items.append(element)
    }

    @inline(never)
    mutating func popFirst() -> Element? {
        guard head < items.count else { return nil }
        let element = items[head]
        head += 1
        if head == items.count {
            items.empty(keepingRoom: items.count <= 1024)
            head = 0
        } else if head > 1024, head > items.count / 2 {
            // Drop the items taken so far: a queue that never empties must not grow.
            items.drop(first: head)
            head = 0
        }
        return element
    }

    func forEach(_ body: (Element) -> Void) {
        for item in items[head...] { body(item) }
    }

    mutating func removeAll() {
        items.removeAll()
        head = 0
    }

    mutating func removeAll(where isDropped: (Element) -> Bool) {
        items.drop(first: head)
        head = 0
        items.drop(where: isDropped)
    }
}

extension Queue: Equatable where Element: Equatable {
    static func == (a: Queue, b: Queue) -> Bool { a.items[a.head...] == b.items[b.head...] }
}

extension Queue: Hashable where Element: Hashable {
    func hash(into hasher: inout Hasher) { hasher.combine(items[head...]) }
}
