// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import EtcdProtocol
@testable import MetadataCore

/// What is asserted after each input of the registration: that it sees what it is there for.
@Suite struct InvariantTests {
    @Test func departure_withoutOne_nobodyWaits() {
        var departure = Departure()
        #expect(departure.broken == nil)
        departure.wait(1)
        #expect(departure.broken != nil)
        departure.begin(.asked, .replaced)
        #expect(departure.broken == nil)
    }

    @Test func takeover_fromNobody_leavesNoLease() {
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
