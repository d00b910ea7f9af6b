// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// A map in the order of its keys: iteration is the same on every run, which Dictionary's is not, and appending
/// ascending ids costs no search.
struct SortedMap<Value> {
    private(set) var keys: [UInt64] = []
    var values: [Value] = []

    var count: Int { keys.count }
    var isEmpty: Bool { keys.isEmpty }

    /// The first position whose key is not less than `key`.
    private func position(_ key: UInt64) -> Int {
        if let last = keys.last, last < key { return keys.count }
        var low = 0
        var high = keys.count
        while low < high {
            let middle = (low + high) / 2
            if keys[middle] < key { low = middle + 1 } else { high = middle }
        }
        return low
    }

    func index(of key: UInt64) -> Int? {
        let at = position(key)
        return at < keys.count && keys[at] == key ? at : nil
    }

    subscript(key: UInt64) -> Value? {
        get { index(of: key).map { values[$0] } }
        set {
            let at = position(key)
            let found = at < keys.count && keys[at] == key
            switch (found, newValue) {
            case (true, .some(let value)): values[at] = value
            case (true, .none):
                keys.remove(at: at)
                values.remove(at: at)
            case (false, .some(let value)):
                keys.insert(key, at: at)
                values.insert(value, at: at)
            case (false, .none): break
            }
        }
    }

    mutating func removeAll() {
        keys.removeAll()
        values.removeAll()
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

    mutating func removeAll() {
        keys.removeAll()
        values.removeAll()
    }
}
