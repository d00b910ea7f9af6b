// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

/// Our own ways to remove elements do what those of the standard library do.
@Suite struct RemovingTests {
    @Test(arguments: 0...7)
    func removing_equalsTheStandardLibrary(count: Int) {
        let all = Array(0..<count).map { [UInt8($0)] }
        for mask in 0..<(1 << count) {
            func isDropped(_ element: [UInt8]) -> Bool { mask >> Int(element[0]) & 1 == 1 }
            var (ours, theirs) = (all, all)
            ours.drop(where: isDropped)
            theirs.removeAll(where: isDropped)
            #expect(ours == theirs)
        }
        for first in 0...count {
            var (ours, theirs) = (all, all)
            ours.drop(first: first)
            theirs.removeFirst(first)
            #expect(ours == theirs)
            ours = all
            ours.keep(first: first)
            #expect(ours == Array(all.prefix(first)))
        }
    }

    @Test func empty_keepsRoomWhereItShould() {
        var array = Array(repeating: [UInt8(1)], count: 100)
        array.empty(keepingRoom: true)
        #expect(array.isEmpty && array.capacity >= 100)
        array.append([2])
        array.empty(keepingRoom: false)
        #expect(array.isEmpty && array.capacity == 0)
    }
}
