// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

@testable import MetadataCore

/// How long is waited after refusals and losses.
@Suite struct PacingTests: WorldSuite {
    let world = World()

    @Test func refusals_pausesDoubleUpToTheirLimit() {
        var pacing = Pacing()
        var pauses: [Milliseconds] = []
        var now: Milliseconds = 1000
        for _ in 0..<6 {
            pacing.refused(now)
            pauses.append(pacing.retryAt - now)
            now = pacing.retryAt
            #expect(pacing.isDue(now))
        }
        #expect(pauses == [200, 400, 800, 1600, 2000, 2000])
        pacing.succeeded()
        pacing.refused(now)
        #expect(pacing.retryAt == now + 200)
    }

    /// It waits for 100 ms after the last refusal, however many there were.
    @Test func publish_afterRefusals_backsOffLittle() {
        var pacing = Pacing()
        for now in [1000, 2000, 4000, 8000, 16_000] as [Milliseconds] { pacing.refused(now) }
        #expect(pacing.retryAt == 18_000)
        pacing.isPublished()
        #expect(pacing.retryAt == 16_100)
        // The back-off does not start over.
        pacing.refused(16_100)
        #expect(pacing.retryAt == 18_100)
    }

    /// Something may revoke the lease whenever it sees it: publishing does not make that faster.
    @Test func publish_afterLosses_backsOffAsLong() {
        var pacing = Pacing()
        pacing.lost(1000)
        pacing.lost(2000)
        #expect(pacing.retryAt == 3000)
        pacing.isPublished()
        #expect(pacing.retryAt == 3000)
        pacing.isAsked()
        #expect(pacing.isDue(2000))
    }

    @Test func publish_onceThereIsSpaceAgain_isWrittenSoon() {
        let alpha = world.add("alpha")
        publish(alpha)
        world.refusals[.txn] = noSpace
        let first = world.submit(
            alpha, .publish(label: Bytes("a"), blob: Bytes("2")), timeout: 60_000)
        world.advance(by: 10_000)
        // Just after a refusal, so that the pause is whole.
        var requests = world.etcd.requests
        while world.etcd.requests == requests {
            requests = world.etcd.requests
            world.advance(by: 10)
        }
        world.refusals[.txn] = nil
        let second = publish(alpha, "b", "2")
        world.advance(by: 100)
        #expect(status(alpha, first) == .success)
        #expect(status(alpha, second) == .success)
    }
}
