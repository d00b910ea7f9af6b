// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

@testable import MetadataCore

/// A slow answer of etcd costs a pause; a token costs an Authenticate only where it was refused.
@Suite struct SlowServerTests: WorldSuite {
    let world = World()
    private var timedOut: GRPCStatus {
        GRPCStatus(code: 14, message: Bytes("etcdserver: request timed out"))
    }

    // MARK: - Busy

    @Test(arguments: [
        (Int32(14), StaticString("etcdserver: request timed out")),
        (14, "etcdserver: leader changed"), (4, "context deadline exceeded"),
        (8, "etcdserver: too many requests"),
    ])
    func write_busyAnswer_pausesAndKeepsTheConnection(code: Int32, text: StaticString) {
        let alpha = world.add("alpha")
        publish(alpha)
        befall(.refused(GRPCStatus(code: code, message: Bytes(text))))
        let operation = publish(alpha, "a", "2")
        #expect(status(alpha, operation) == nil)
        world.advance(by: 200)
        #expect(status(alpha, operation) == .success)
        #expect(stored(a)?.value == Bytes("2"))
        #expect(alpha.connects == 1)
        #expect(alpha.core.counters.connectsFailed == 0)
    }

    @Test func hello_busyAnswer_isAskedAgainOnTheSameConnection() {
        let alpha = world.add("alpha")
        for _ in 0..<5 { befall(.refused(timedOut), .range) }
        let operation = publish(alpha)
        world.advance(by: 9_000)
        #expect(status(alpha, operation) == .success)
        #expect(alpha.connects == 1)
    }

    @Test func requests_busyAnswersInARow_pausesGrowAndAreBounded() {
        let alpha = world.add("alpha")
        publish(alpha)
        for method: EtcdMethod in [.txn, .range] { world.refusals[method] = timedOut }
        publish(alpha, "a", "2")
        let before = alpha.core.counters.requests
        world.advance(by: 60_000)
        let asked = alpha.core.counters.requests - before
        #expect((10...60).contains(asked))
        #expect(alpha.connects == 1)
        world.refusals = [:]
        world.advance(by: Timing.busyPauseMax + 100)
        #expect(stored(a)?.value == Bytes("2"))
    }

    @Test func requests_threeBusyAnswers_anotherEndpointIsAsked() {
        let alpha = world.add("alpha", endpoints: 2)
        publish(alpha)
        for method: EtcdMethod in [.txn, .range] {
            for _ in 0..<3 { befall(.refused(timedOut), method) }
        }
        world.fates.sort { $0.method == .txn && $1.method != .txn }
        world.refusals[.txn] = timedOut
        world.refusals[.range] = timedOut
        let operation = publish(alpha, "a", "2")
        world.advance(by: 3000)
        #expect(alpha.connects > 1)
        world.refusals = [:]
        world.fates = []
        world.advance(by: 6000)
        #expect(status(alpha, operation) == .success)
    }

    @Test func write_noLeader_connectionIsLeftAtOnce() {
        let alpha = world.add("alpha", endpoints: 2)
        publish(alpha)
        befall(.refused(GRPCStatus(code: 14, message: Bytes("etcdserver: no leader"))))
        let operation = publish(alpha, "a", "2")
        #expect(status(alpha, operation) == .success)
        #expect(alpha.connects == 2)
    }

    // MARK: - Tokens

    @Test func connectionLost_tokenIsKept() {
        world.tokens = []
        let alpha = world.add("alpha", user: "alice")
        publish(alpha)
        for _ in 0..<5 {
            world.cut(alpha)
            world.advance(by: 2000)
        }
        #expect(status(alpha, publish(alpha, "a", "2")) == .success)
        #expect(alpha.connects == 6)
        #expect(world.authentications == 1)
    }

    @Test func tokenForgotten_newTokenOnTheSameConnection() {
        world.tokens = []
        let alpha = world.add("alpha", user: "alice")
        heartbeat(alpha)
        publish(alpha)
        world.tokens = []
        let operation = publish(alpha, "a", "2")
        #expect(status(alpha, operation) == .success)
        world.advance(by: 20_000)
        #expect(alpha.connects == 1)
        #expect(world.authentications == 2)
        #expect(alpha.core.counters.connectsFailed == 0)
        #expect(alpha.ownership.isEmpty)
    }

    @Test func tokensForgottenWhileAway_newTokenBeforeTheHello() {
        world.tokens = []
        let alpha = world.add("alpha", user: "alice")
        publish(alpha)
        world.advance(by: 2000)
        world.tokens = []
        world.cut(alpha)
        #expect(status(alpha, publish(alpha, "a", "2")) == .success)
        #expect(alpha.connects == 2)
        #expect(world.authentications == 2)
    }

    /// A mistake of the server's: asking faster would not help.
    @Test func freshTokensRefused_authenticatePausesUpToAThirdOfTheTTL() {
        world.tokens = []
        let alpha = world.add("alpha", user: "alice")
        heartbeat(alpha)
        world.refusals[.txn] = World.invalidToken
        publish(alpha)
        world.advance(by: 30_000)
        #expect((10...30).contains(world.authentications))
        #expect(alpha.connects == 1)
    }

    // MARK: - Renewals

    @Test func renewal_tokenRefused_tokenIsRenewedAndNoEndpointBlamed() {
        world.tokens = []
        let alpha = world.add("alpha", user: "alice")
        heartbeat(alpha)
        publish(alpha)
        world.renewalRefusals = [World.invalidToken]
        world.advance(by: 20_000)
        #expect(world.renewalRefusals.isEmpty)
        #expect(world.authentications == 2)
        #expect(alpha.connects == 1)
        #expect(alpha.core.counters.connectsFailed == 0)
        #expect(alpha.core.counters.leasesLost == 0)
        #expect(hangsEverything(on: alpha.core.ownLease))
    }

    @Test func renewal_busyAnswer_isSentAgainOnTheSameConnection() {
        let alpha = world.add("alpha")
        heartbeat(alpha)
        world.renewalRefusals = [timedOut, timedOut]
        world.advance(by: 20_000)
        #expect(world.renewalRefusals.isEmpty)
        #expect(alpha.connects == 1)
        #expect(alpha.core.counters.leasesLost == 0)
    }
}
