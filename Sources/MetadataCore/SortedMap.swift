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

    mutating func changeEach(_ change: (inout Value) -> Void) {
        for at in slots.indices {
            guard var value = slots[at] else { continue }
            change(&value)
            slots[at] = value
        }
    }

    private mutating func closeHoles() {
        guard ids.count > 2 * count + 32 else { return }
        var kept: [UInt64] = []
        kept.reserveCapacity(count)
        for at in ids.indices where slots[at] != nil { kept.append(ids[at]) }
        ids = kept
        slots = slots.filter { $0 != nil }
    }

    mutating func removeAll() {
        ids.removeAll()
        slots.removeAll()
        count = 0
    }
}

/// The same, with byte strings in etcd's order as keys.
struct ByteMap<Value> {
    private(set) var keys: [Bytes] = []
    var values: [Value] = []

    var count: Int { keys.count }
    var isEmpty: Bool { keys.isEmpty }

    /// The first position whose key does not precede `key`.
    func position(_ key: Bytes) -> Int {
        if let last = keys.last, last.precedes(key) { return keys.count }
        var low = 0
        var high = keys.count
        while low < high {
            let middle = (low + high) / 2
            if keys[middle].precedes(key) { low = middle + 1 } else { high = middle }
        }
        return low
    }

    func index(of key: Bytes) -> Int? {
        let at = position(key)
        return at < keys.count && keys[at] == key ? at : nil
    }

    subscript(key: Bytes) -> Value? {
        get { index(of: key).map { values[$0] } }
        set {
            let at = position(key)
            let found = at < keys.count && keys[at] == key
            switch (found, newValue) {
            case (true, .some(let value)): values[at] = value
            case (true, .none): remove(at: at)
            case (false, .some(let value)):
                keys.insert(key, at: at)
                values.insert(value, at: at)
            case (false, .none): break
            }
        }
    }

    mutating func remove(at index: Int) {
        keys.remove(at: index)
        values.remove(at: index)
    }

    /// Removes all but these keys, which are in order; the result are those removed.
    mutating func keep(only wanted: [Bytes]) -> [Bytes] {
        var kept = ByteMap()
        var removed: [Bytes] = []
        var position = 0
        for at in keys.indices {
            let key = keys[at]
            while position < wanted.count, wanted[position].precedes(key) { position += 1 }
            if position < wanted.count, wanted[position] == key {
                kept.keys.append(key)
                kept.values.append(values[at])
            } else {
                removed.append(key)
            }
        }
        if !removed.isEmpty { self = kept }
        return removed
    }

    /// All at once: one by one each would move what comes after it.
    mutating func removeAll(where isDropped: (Value) -> Bool) {
        var kept: [Bytes] = []
        for at in keys.indices where !isDropped(values[at]) { kept.append(keys[at]) }
        keys = kept
        values.removeAll(where: isDropped)
    }

    mutating func removeAll() {
        keys.removeAll()
        values.removeAll()
    }
}
