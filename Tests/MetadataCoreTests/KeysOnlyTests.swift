// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

@testable import MetadataCore

/// Answers that are lost, where etcd shows no lease in answers without values, as 3.7.0 does
/// (https://github.com/etcd-io/etcd/issues/22209): a key of the agent's own must not pass for another's.
@Suite struct KeysOnlyTests: WorldSuite {
    let world = World()
    private let peer: World.Node

    init() {
        world.etcd.hidesLeases = true
        peer = world.add(nil, seed: 9)
        world.submit(
            peer, .watch(agent: Bytes("alpha"), presenceOnly: false), timeout: nil)
    }

    /// Besides values; and all its keys hang on its lease.
    private func isAllThatIsTold(_ expected: [String], of alpha: World.Node) -> Bool {
        let told = peer.events.map { $0.brief }.filter { !$0.hasPrefix("put") }
        return told == expected && hangsEverything(on: alpha.core.ownLease)
    }

    @Test(arguments: [true, false], [true, false])
    func claim_answerLost_isItsOwn(isLeased: Bool, refusesTakeover: Bool) {
        let alpha = world.add("alpha", refuseTakeover: refusesTakeover)
        if isLeased { heartbeat(alpha) }
        befall(.answerLost)
        let operation = publish(alpha)
        world.advance(by: 3000)
        #expect(status(alpha, operation) == .success)
        #expect(alpha.ownership.isEmpty)
        #expect(isAllThatIsTold(["synced", "appeared alpha"], of: alpha))
    }

    @Test func heartbeat_afterAPublish_answerLost_isNoTakeover() {
        let alpha = world.add("alpha")
        publish(alpha)
        befall(.answerLost)
        let start = heartbeat(alpha)
        world.advance(by: 3000)
        #expect(status(alpha, start) == .success)
        #expect(alpha.ownership.isEmpty)
        #expect(alpha.core.ownLease & 1 == 0)
        #expect(isAllThatIsTold(["synced", "appeared alpha"], of: alpha))
    }

    @Test func restore_answerLost_isRestored() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        world.etcd.revoke(alpha.core.ownLease)
        befall(.answerLost)
        world.advance(by: 5000)
        #expect(alpha.ownership == ["LOST", "RESTORED"])
        #expect(
            isAllThatIsTold(
                ["synced", "appeared alpha", "gone alpha", "returned alpha"], of: alpha))
    }
}
