// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

@testable import MetadataCore

/// The sorted map against a plain dictionary, and how much one insertion moves.
@Suite struct ByteMapTests {
    private func key(_ number: Int) -> Bytes {
        Bytes([UInt8(number >> 16 & 0xff), UInt8(number >> 8 & 0xff), UInt8(number & 0xff)])
    }

    private func check(_ map: ByteMap<Int>, _ wanted: [Int: Int]) {
        let keys = wanted.keys.sorted()
        #expect(map.count == keys.count)
        #expect(map.keys == keys.map(key))
        #expect(keys.allSatisfy { map[key($0)] == wanted[$0] })
        for (rank, number) in keys.enumerated() where rank % 37 == 0 {
            #expect(map.rank(key(number)) == rank)
            #expect(map.rank(key(number), orIsIt: true) == rank + 1)
            #expect(map.keys(from: rank, count: 70) == keys[rank...].prefix(70).map(key))
        }
        var copy = ByteMap<Int>()
        for number in keys.reversed() { copy[key(number)] = wanted[number] }
        #expect(copy == map)
        #expect(copy.hashValue == map.hashValue)
        if let first = keys.first {
            copy[key(first)] = -1
            #expect(copy != map)
        }
    }

    @Test func changes_byChance_areThoseOfADictionary() {
        var random = Random(seed: (7, 11))
        var map = ByteMap<Int>()
        var wanted: [Int: Int] = [:]
        for round in 0..<6000 {
            // Grows to some 1,500, then shrinks to nothing.
            let number = Int(random.below(2500))
            if random.below(8) < (round < 3000 ? 6 : 1) {
                map[key(number)] = round
                wanted[number] = round
            } else {
                map[key(number)] = nil
                wanted[number] = nil
            }
            if round % 500 == 0 { check(map, wanted) }
        }
        check(map, wanted)
        let kept = wanted.keys.filter { $0 % 3 == 0 }
        let removed = map.keep(only: kept.sorted().map(key))
        #expect(removed.count == wanted.count - kept.count)
        check(map, wanted.filter { $0.key % 3 == 0 })
        map.removeAll { $0 % 2 == 0 }
        check(map, wanted.filter { $0.key % 3 == 0 && $0.value % 2 != 0 })
        for number in wanted.keys { map[key(number)] = nil }
        #expect(map.isEmpty)
    }

    /// An insertion moves at most one chunk, and the list of chunks when it splits one.
    @Test(arguments: [1, -1, 2_654_435_761])
    func insertion_of4096_movesLittle(stride: Int) {
        var map = ByteMap<Int>()
        for number in 0..<4096 { map[key(number &* stride & 0xffff)] = number }
        #expect(map.count == 4096)
        #expect(map.largestChunk <= 64)
        #expect(map.chunkCount <= 4096 / 24)
        for number in 0..<4096 where number % 64 != 0 { map[key(number &* stride & 0xffff)] = nil }
        #expect(map.count == 64)
        #expect(map.chunkCount <= 8)
    }
}
