// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// A map in the order of its keys: iteration is the same on every run, which Dictionary's is not, and appending
/// ascending ids costs no search. Removing leaves a hole; when holes are the most of it they are closed.
struct SortedMap<Value> {
    private var ids: [UInt64] = []
    private var slots: [Value?] = []
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }
    var values: [Value] { slots.compactMap { $0 } }
    /// The greatest key that there was of late.
    var lastKey: UInt64 { ids.last ?? 0 }

    /// The first position whose key is not less than `key`.
    private func position(_ key: UInt64) -> Int {
        if let last = ids.last, last < key { return ids.count }
        var low = 0
        var high = ids.count
        while low < high {
            let middle = (low + high) / 2
            if ids[middle] < key { low = middle + 1 } else { high = middle }
        }
        return low
    }

    subscript(key: UInt64) -> Value? {
        get {
            let at = position(key)
            return at < ids.count && ids[at] == key ? slots[at] : nil
        }
        set {
            let at = position(key)
            if at < ids.count, ids[at] == key {
                count += (newValue == nil ? 0 : 1) - (slots[at] == nil ? 0 : 1)
                slots[at] = newValue
                closeHoles()
            } else if let newValue {
                ids.insert(key, at: at)
                slots.insert(newValue, at: at)
                count += 1
            }
        }
    }

    /// The first after `key`.
    func next(after key: UInt64) -> (key: UInt64, value: Value)? {
        var at = position(key)
        while at < ids.count {
            if ids[at] > key, let value = slots[at] { return (ids[at], value) }
            at += 1
        }
        return nil
    }

    func forEach(_ body: (Value) -> Void) {
        for slot in slots {
            if let slot { body(slot) }
        }
    }

    private mutating func closeHoles() {
        if count == 0 {
            // Most often there was one: whoever looks at all of them has no holes to pass.
            ids.empty(keepingRoom: ids.count <= 64)
            slots.empty(keepingRoom: slots.count <= 64)
            return
        }
        guard ids.count > 2 * count + 32 else { return }
        var kept = 0
        for at in ids.indices where slots[at] != nil {
            ids.swapAt(kept, at)
            slots.swapAt(kept, at)
            kept += 1
        }
        ids.keep(first: kept)
        slots.keep(first: kept)
    }

    mutating func removeAll() {
        ids.removeAll()
        slots.removeAll()
        count = 0
    }
}
