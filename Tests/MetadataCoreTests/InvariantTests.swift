// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import EtcdProtocol
@testable import MetadataCore

/// The registration's own invariants, asserted after each input, must notice a violation.
@Suite struct InvariantTests {
    @Test func departure_withoutAWithdrawal_hasNoWaiter() {
        var departure = Departure()
        #expect(departure.broken == nil)
        departure.wait(1)
        #expect(departure.broken != nil)
        departure.begin(.asked, .replaced)
        #expect(departure.broken == nil)
    }

    @Test func takeover_withoutAnOwner_leavesNoLease() {
        var takeover = Takeover()
        takeover.asked(isEmpty: true)
        #expect(takeover.broken != nil)
        takeover = Takeover()
        for _ in 0..<Limits.evictions { takeover.attempted() }
        #expect(takeover.broken == nil)
        takeover.attempted()
        #expect(takeover.broken != nil)
    }

    @Test func label_onNoLease_isNotSent() {
        var published = Published()
        var effects = Effects()
        published.hang(on: 2)
        published.change(Bytes("a"), to: [1], 1, &effects)
        #expect(published.broken == nil)
        _ = published.send([Bytes("a")], on: 0)
        #expect(published.broken != nil)
    }
}
