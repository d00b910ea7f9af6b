// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// Where to connect next: all addresses of all endpoints in a ring, entered at a random point so that a fleet does not
/// start on one member. A round is one attempt at each.
struct EndpointPool {
    struct Target {
        var endpoint: Int
        var address: Bytes
        /// Until then it is passed over, if there is another: it was silent, and to try it costs a whole deadline.
        fileprivate var silentUntil: Milliseconds = 0
    }
    private struct Entry {
        var addresses: [Bytes]
        let canResolve: Bool
        var isResolving = false
        /// The earliest time to resolve again.
        var resolveAt: Milliseconds = 0
    }
    private var entries: [Entry]
    private var targets: [Target] = []
    private var position = 0
    /// The one that `next` gave last.
    private var current = 0
    /// Attempts left in this round.
    private(set) var left = 0

    init(_ endpoints: [CoreConfiguration.Endpoint], random: inout Random) {
        entries = endpoints.map { Entry(addresses: $0.addresses, canResolve: $0.canResolve) }
        rebuild()
        position = Int(truncatingIfNeeded: random.below(UInt64(targets.count)))
        newRound()
    }

    var isEmpty: Bool { targets.isEmpty }
    var hasSeveral: Bool { targets.count > 1 }

    private mutating func rebuild() {
        targets.removeAll()
        for (index, entry) in entries.enumerated() {
            for address in entry.addresses {
                targets.append(Target(endpoint: index, address: address))
            }
        }
    }

    mutating func newRound() {
        left = targets.count
    }

    /// The next target of this round; nil when each has been tried.
    mutating func next(now: Milliseconds) -> Target? {
        let hasOthers = targets.contains { $0.silentUntil <= now }
        while left > 0, !targets.isEmpty {
            left -= 1
            current = position % targets.count
            position = (current + 1) % targets.count
            if !hasOthers || targets[current].silentUntil <= now { return targets[current] }
        }
        return nil
    }

    /// The target that `next` gave last left something unanswered.
    mutating func wasSilent(now: Milliseconds) {
        guard targets.indices.contains(current) else { return }
        targets[current].silentUntil = now &+ Timing.silentPause
    }

    /// Names to resolve now, those without an address only or all.
    mutating func namesToResolve(onlyUnknown: Bool, now: Milliseconds) -> [Int] {
        var names: [Int] = []
        for index in entries.indices where entries[index].canResolve && !entries[index].isResolving
        {
            guard !onlyUnknown || entries[index].addresses.isEmpty else { continue }
            guard entries[index].resolveAt <= now else { continue }
            entries[index].isResolving = true
            entries[index].resolveAt = now &+ Timing.resolvePause
            names.append(index)
        }
        return names
    }

    /// Takes the answer; an empty one keeps the addresses known so far.
    mutating func resolved(_ endpoint: Int, addresses: [Bytes]) {
        guard entries.indices.contains(endpoint) else { return }
        entries[endpoint].isResolving = false
        guard !addresses.isEmpty, addresses != entries[endpoint].addresses else { return }
        entries[endpoint].addresses = addresses
        rebuild()
        newRound()
    }
}
