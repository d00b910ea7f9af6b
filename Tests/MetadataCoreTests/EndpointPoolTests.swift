// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

@testable import MetadataCore

@Suite struct EndpointPoolTests {
    private func names(_ count: Int) -> EndpointPool {
        var random = Random(seed: (1, 2))
        let endpoints = (0..<count).map {
            CoreConfiguration.Endpoint(name: Bytes("\($0)".utf8), addresses: [], canResolve: true)
        }
        return EndpointPool(endpoints, random: &random)
    }

    @Test func addressesOfOthers_comeLater_theOneInUseIsPassedOver() {
        var pool = names(3)
        pool.resolved(1, addresses: [Bytes("10.0.0.1")])
        #expect(pool.next(besideHome: false, now: 0)?.endpoint == 1)
        pool.isInUse()
        pool.resolved(0, addresses: [Bytes("10.0.0.0")])
        pool.resolved(2, addresses: [Bytes("10.0.0.2")])
        let beside = (0..<2).compactMap { _ in pool.next(besideHome: true, now: 0)?.endpoint }
        #expect(beside.sorted() == [0, 2])
        #expect(pool.next(besideHome: true, now: 0) == nil)
    }

    @Test func silentOne_addressesOfOthersComeLater_isStillPassedOver() {
        var pool = names(2)
        pool.resolved(1, addresses: [Bytes("10.0.0.1")])
        #expect(pool.next(besideHome: false, now: 0)?.endpoint == 1)
        pool.isInUse()
        pool.wasSilent(isInUse: true, now: 0)
        pool.resolved(0, addresses: [Bytes("10.0.0.0")])
        #expect(pool.next(besideHome: false, now: 1)?.endpoint == 0)
    }
}
