// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

@testable import MetadataCore

/// Names over the limits of a host's buffers, and pages of keys that are long.
@Suite struct LeftOutTests: WorldSuite {
    let world = World()
    private let keyspace = Keyspace(namespace: Bytes("/nixl/agents/"))

    private func name(_ count: Int) -> Bytes { Bytes(repeating: UInt8(ascii: "n"), count: count) }

    private func put(agent: Bytes, label: Bytes) {
        let key = keyspace.key(agent: agent, label: label)
        world.etcd.apply([.put(key: key, value: label.isEmpty ? [] : [1], lease: 0)])
        world.settle()
    }

    @Test(arguments: [(1024, 1024, true), (1025, 1, false), (1, 1025, false), (1025, 1025, false)])
    func tellable_namesAtAndOverTheLimit(agent: Int, label: Int, isTold: Bool) {
        var leftOut = LeftOut()
        let key = keyspace.key(agent: name(agent), label: name(label))
        let told = leftOut.tellable(key, keyspace)
        #expect((told != nil) == isTold)
        #expect(told?.label.count ?? label == label)
        #expect(leftOut.count == (isTold ? 0 : 1))
        #expect((leftOut.takeWarning() != nil) == !isTold)
        _ = leftOut.tellable(key, keyspace)
        #expect(leftOut.takeWarning() == nil)
    }

    @Test func watchAndList_longNames_areLeftOutAndCountedOnce() {
        let node = world.add(nil)
        world.submit(node, .watch(agent: nil, presenceOnly: false), timeout: nil)
        world.submit(node, .watch(agent: nil, presenceOnly: true), timeout: nil)
        put(agent: Bytes("b"), label: [])
        put(agent: Bytes("b"), label: name(1025))
        put(agent: name(1025), label: [])
        #expect(node.events.map { $0.brief } == ["synced", "synced", "appeared b", "appeared b"])
        #expect(node.core.counters.namesLeftOut == 4)
        let list = world.submit(node, .list)
        #expect(node.completions[list]?.agents?.map { $0.name } == [Bytes("b")])
        #expect(node.core.counters.namesLeftOut == 6)
    }

    @Test(arguments: [true, false])
    func page_overTheCapOnMessages_isAskedForInParts(isList: Bool) {
        let node = world.add(nil)
        for agent in [Bytes("a"), Bytes("b"), Bytes("c")] { put(agent: agent, label: []) }
        var refused = 0
        world.answerInstead = { method, reply in
            guard method == .range, refused < 3 else { return reply }
            // The first greets.
            refused += 1
            return refused == 1 ? reply : .tooLarge(40 << 20)
        }
        if isList {
            let list = world.submit(node, .list)
            #expect(node.completions[list]?.status == .success)
            #expect(node.completions[list]?.agents?.count == 3)
        } else {
            world.submit(node, .watch(agent: nil, presenceOnly: true), timeout: nil)
            #expect(node.events.count == 4)
        }
        #expect(refused == 3)
    }
}
