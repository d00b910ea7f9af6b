// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// A map in the order of its keys as `SortedMap` is, with byte strings in etcd's order as keys.
///
/// It is kept in chunks, each in order: one array would move half of what it holds for each new key, and Embedded Swift
/// moves values word by word (4,096 new labels cost 90,000 instructions each, now 3,000).
struct ByteMap<Value> {
    /// Where a key is, until the map changes.
    struct Place: Equatable {
        fileprivate let chunk: Int
        fileprivate let offset: Int
    }
    private struct Chunk {
        var keys: [Bytes] = []
        var values: [Value] = []

        var count: Int { keys.count }

        /// The first offset whose key does not precede `key`.
        @inline(never)
        func offset(_ key: Bytes) -> Int {
            if let last = keys.last, last.precedes(key) { return keys.count }
            var low = 0
            var high = max(0, keys.count - 1)
            while low < high {
                let middle = (low + high) / 2
                if keys[middle].precedes(key) { low = middle + 1 } else { high = middle }
            }
            return low
        }

        @inline(never)
        mutating func append(contentsOf other: Chunk) {
            keys.append(contentsOf: other.keys)
            values.append(contentsOf: other.values)
        }

        /// Its second half.
        @inline(never)
        mutating func split() -> Chunk {
            let half = count / 2
            let rest = Chunk(keys: Array(keys[half...]), values: Array(values[half...]))
            keys.keep(first: half)
            values.keep(first: half)
            return rest
        }
    }
    /// In one chunk at most: to move half of it costs about as much as to find a place in it.
    private static var room: Int { 64 }
    /// None is empty.
    private var chunks: [Chunk] = []
    private(set) var count = 0

    init() {}

    var isEmpty: Bool { count == 0 }

    // MARK: - One key

    /// Where a key is, or would be put: in the last chunk that does not begin behind it.
    @inline(never)
    private func place(_ key: Bytes) -> Place {
        guard !chunks.isEmpty else { return Place(chunk: 0, offset: 0) }
        var low = 1
        var high = chunks.count
        while low < high {
            let middle = (low + high) / 2
            if key.precedes(chunks[middle].keys[0]) { high = middle } else { low = middle + 1 }
        }
        return Place(chunk: low - 1, offset: chunks[low - 1].offset(key))
    }

    private func holds(_ place: Place, _ key: Bytes) -> Bool {
        place.chunk < chunks.count && place.offset < chunks[place.chunk].count
            && chunks[place.chunk].keys[place.offset] == key
    }

    func index(of key: Bytes) -> Place? {
        let place = place(key)
        return holds(place, key) ? place : nil
    }

    /// The value of a key that the map holds.
    subscript(place: Place) -> Value {
        get { chunks[place.chunk].values[place.offset] }
        set { chunks[place.chunk].values[place.offset] = newValue }
    }

    /// Exchanges the value of a key that the map holds. As bytes: the compiler would move it word by word, thrice.
    @inline(never)
    mutating func exchange(_ place: Place, _ value: inout Value) {
        let size = MemoryLayout<Value>.size
        chunks[place.chunk].values.withUnsafeMutableBytes { all in
            let start = place.offset * MemoryLayout<Value>.stride
            let here = UnsafeMutableRawBufferPointer(rebasing: all[start..<start + size])
            withUnsafeMutableBytes(of: &value) { other in
                withUnsafeTemporaryAllocation(byteCount: size, alignment: 16) { kept in
                    kept.copyMemory(from: UnsafeRawBufferPointer(here))
                    here.copyMemory(from: UnsafeRawBufferPointer(other))
                    other.copyMemory(from: UnsafeRawBufferPointer(kept))
                }
            }
        }
    }

    subscript(key: Bytes) -> Value? {
        get { index(of: key).map { self[$0] } }
        set {
            let place = place(key)
            switch (holds(place, key), newValue) {
            case (true, .some(let value)): self[place] = value
            case (true, .none): remove(at: place)
            case (false, .some(let value)): insert(key, value, at: place)
            case (false, .none): break
            }
        }
    }

    @inline(never)
    private mutating func insert(_ key: Bytes, _ value: Value, at place: Place) {
        count += 1
        var (at, offset) = (place.chunk, place.offset)
        if at == chunks.count {
            chunks.append(Chunk())
        } else if chunks[at].count >= Self.room {
            if at == chunks.count - 1, offset == chunks[at].count {
                // Keys that come in order leave full chunks behind.
                chunks.append(Chunk())
                (at, offset) = (at + 1, 0)
            } else {
                let rest = chunks[at].split()
                chunks.insert(rest, at: at + 1)
                if offset > chunks[at].count { (at, offset) = (at + 1, offset - chunks[at].count) }
            }
        }
        chunks[at].keys.insert(key, at: offset)
        chunks[at].values.insert(value, at: offset)
    }

    @inline(never)
    mutating func remove(at place: Place) {
        count -= 1
        let at = place.chunk
        chunks[at].keys.remove(at: place.offset)
        chunks[at].values.remove(at: place.offset)
        if chunks[at].count == 0 { chunks.remove(at: at) }
        joinWithNext(at)
        joinWithNext(at - 1)
    }

    @inline(never)
    private mutating func joinWithNext(_ at: Int) {
        guard at >= 0, at + 1 < chunks.count,
            chunks[at].count + chunks[at + 1].count <= Self.room / 2
        else { return }
        let next = chunks.remove(at: at + 1)
        chunks[at].append(contentsOf: next)
    }

    // MARK: - In order

    var keys: [Bytes] {
        @inline(never) get {
            var all: [Bytes] = []
            all.reserveCapacity(count)
            for chunk in chunks { all.append(contentsOf: chunk.keys) }
            return all
        }
    }

    func forEach(_ body: (Bytes, Value) -> Void) {
        for chunk in chunks {
            for at in 0..<chunk.count { body(chunk.keys[at], chunk.values[at]) }
        }
    }

    mutating func changeEach(_ body: (inout Value) -> Void) {
        for at in chunks.indices {
            for offset in chunks[at].values.indices { body(&chunks[at].values[offset]) }
        }
    }

    /// The first for which this holds.
    func first(where isIt: (Value) -> Bool) -> (key: Bytes, value: Value)? {
        for chunk in chunks {
            if let at = chunk.values.firstIndex(where: isIt) {
                return (chunk.keys[at], chunk.values[at])
            }
        }
        return nil
    }

    /// How many keys precede `key`; `orIsIt`: it counts itself.
    @inline(never)
    func rank(_ key: Bytes, orIsIt: Bool = false) -> Int {
        let place = place(key)
        let before = chunks.prefix(place.chunk).reduce(0) { $0 + $1.count }
        return before + place.offset + (orIsIt && holds(place, key) ? 1 : 0)
    }

    /// So many keys that have at least `rank` keys before them.
    @inline(never)
    func keys(from rank: Int, count: Int) -> [Bytes] {
        var found: [Bytes] = []
        found.reserveCapacity(count)
        var skipped = 0
        for chunk in chunks where found.count < count {
            let start = min(chunk.count, max(0, rank - skipped))
            found.append(contentsOf: chunk.keys[start...].prefix(count - found.count))
            skipped += chunk.count
        }
        return found
    }

    // MARK: - Many at once

    /// Behind all that there are.
    @inline(never)
    private mutating func append(_ key: Bytes, _ value: Value) {
        let last = chunks.count - 1
        let end =
            last < 0 ? Place(chunk: 0, offset: 0) : Place(chunk: last, offset: chunks[last].count)
        insert(key, value, at: end)
    }

    /// Removes all but these keys, which are in order; the result are those removed.
    mutating func keep(only wanted: [Bytes]) -> [Bytes] {
        var kept = ByteMap()
        var removed: [Bytes] = []
        var position = 0
        forEach { key, value in
            while position < wanted.count, wanted[position].precedes(key) { position += 1 }
            if position < wanted.count, wanted[position] == key {
                kept.append(key, value)
            } else {
                removed.append(key)
            }
        }
        if !removed.isEmpty { self = kept }
        return removed
    }

    mutating func removeAll(where isDropped: (Value) -> Bool) {
        var kept = ByteMap()
        forEach { key, value in
            if !isDropped(value) { kept.append(key, value) }
        }
        self = kept
    }

    mutating func removeAll() { self = ByteMap() }

    // MARK: - For tests

    /// The most that one insertion may move.
    var largestChunk: Int { chunks.reduce(0) { max($0, $1.count) } }
    var chunkCount: Int { chunks.count }
}

/// Compares the contents, however they are spread over chunks.
extension ByteMap: Equatable where Value: Equatable {
    static func == (a: ByteMap, b: ByteMap) -> Bool {
        guard a.count == b.count else { return false }
        if a.chunks.count == 1, b.chunks.count == 1 {
            return a.chunks[0].keys == b.chunks[0].keys && a.chunks[0].values == b.chunks[0].values
        }
        return a.keys == b.keys && a.keys.allSatisfy { a[$0] == b[$0] }
    }
}

extension ByteMap: Hashable where Value: Hashable {
    func hash(into hasher: inout Hasher) {
        forEach { key, value in
            hasher.combine(key)
            hasher.combine(value)
        }
    }
}
