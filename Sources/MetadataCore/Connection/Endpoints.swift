// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// Where to connect next: all addresses of all endpoints in a ring, entered at a random point so that a fleet does not
/// start on one member. A round is one attempt at each.
struct EndpointPool {
    struct Target {
        var endpoint: Int
        var address: Bytes
        /// Until then it is passed over, if there is another: it was silent lately.
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
    /// The one that `next` gave last, and the one that is in use; -1: it is not among the targets any more.
    private var current = 0
    private var home = 0
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
        let before = targets
        let (oldHome, oldCurrent) = (home, current)
        (home, current) = (-1, -1)
        targets.removeAll()
        for (index, entry) in entries.enumerated() {
            for address in entry.addresses {
                var target = Target(endpoint: index, address: address)
                for (at, old) in before.enumerated()
                where old.endpoint == index && old.address == address {
                    target.silentUntil = old.silentUntil
                    if at == oldHome { home = targets.count }
                    if at == oldCurrent { current = targets.count }
                }
                targets.append(target)
            }
        }
    }

    mutating func newRound() {
        left = targets.count
    }

    /// The next target of this round; nil when each has been tried. `besideHome`: another than the one in use, if there is one.
    mutating func next(besideHome: Bool, now: Milliseconds) -> Target? {
        let skipped = besideHome && hasSeveral ? home : -1
        var hasLively = false
        for at in targets.indices where at != skipped && targets[at].silentUntil <= now {
            hasLively = true
        }
        while left > 0, !targets.isEmpty {
            left -= 1
            let at = position % targets.count
            position = at + 1
            guard at != skipped, !hasLively || targets[at].silentUntil <= now else { continue }
            current = at
            if left == 1, position % targets.count == skipped { left = 0 }
            return targets[at]
        }
        return nil
    }

    /// The target that `next` gave last is in use.
    mutating func isInUse() { home = current }

    /// The target in use, or the one that `next` gave last, left something unanswered.
    mutating func wasSilent(isInUse: Bool, now: Milliseconds) {
        let at = isInUse ? home : current
        guard targets.indices.contains(at) else { return }
        targets[at].silentUntil = now &+ Timing.silentPause
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
