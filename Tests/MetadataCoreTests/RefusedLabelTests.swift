// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import EtcdProtocol
@testable import MetadataCore

/// Answers that are of one label, one write or one lease, and of no other.
@Suite struct RefusedLabelTests: WorldSuite {
    let world = World()

    /// A write may be answered after its lease was revoked and the label written again on the next one.
    @Test func answerOfAnEarlierWrite_changesNothing() {
        var published = Published()
        var effects = Effects()
        let label = Bytes("a")
        published.hang(on: 2)
        published.change(label, to: [1], 1, &effects)
        _ = published.send([label], on: 2)
        published.nothingIsThere(&effects)
        published.hang(on: 4)
        published.change(label, to: [2], 2, &effects)
        _ = published.send([label], on: 4)
        published.areNotWritten([label], on: 2, &effects)
        published.areWritten([label], on: 2, at: 9, &effects)
        published.areUnanswered([label], on: 2)
        let isStuck = published.areRefused(
            [label], on: 2, .tooLarge, isInDoubt: false, isFinal: true, &effects
        ) { _ in "too large" }
        #expect(!isStuck)
        #expect(published.inFlight == 1)
        #expect(published.inDoubt == 0)
        published.areWritten([label], on: 4, at: 10, &effects)
        let isSettled = published.isSettled()
        #expect(isSettled)
        #expect(published.isHanging(on: 4))
    }

    /// The role lost the permission for one label: the others are written.
    @Test func labelThatIsNotPermitted_stopsNoOther() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        publish(alpha, "b", "1")
        world.forbidden = Bytes(a)
        let refused = publish(alpha, "a", "2")
        world.advance(by: 5000)
        let others = [publish(alpha, "b", "2"), publish(alpha, "c", "1")]
        world.advance(by: 5000)
        #expect(status(alpha, refused) == .permission)
        for other in others { #expect(status(alpha, other) == .success) }
        #expect(stored(a)?.value == Bytes("1"))
        world.forbidden = nil
        let later = publish(alpha, "a", "3")
        world.advance(by: 5000)
        #expect(status(alpha, later) == .success)
        #expect(hangsEverything(on: alpha.core.ownLease))
    }

    @Test func stopWithKeep_ofALabelThatCannotBeMoved_completesWithThatStatus() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        publish(alpha)
        world.forbidden = Bytes(a)
        let stop = world.submit(alpha, .stopHeartbeat(keep: true), timeout: 60_000)
        world.advance(by: 10_000)
        #expect(status(alpha, stop) == .permission)
    }

    /// etcd may carry out a grant to which it answers 'no space': the lease is ours.
    @Test func grant_noSpaceButCarriedOut_isTheSameProcess() {
        let alpha = world.add("alpha")
        let full = noSpace
        world.answerInstead = { [world] method, reply in
            guard method == .leaseGrant else { return reply }
            world.answerInstead = nil
            return .failed(full)
        }
        heartbeat(alpha)
        publish(alpha)
        world.advance(by: 5000)
        #expect(stored(a) != nil)
        #expect(world.etcd.leases.count == 1)
        #expect(hangsEverything(on: alpha.core.ownLease))
    }
}
