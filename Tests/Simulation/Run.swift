// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel

/// Runs one seed: rounds of faults, each followed by quiet in which the world must settle.
public struct Run {
    public let seed: UInt64
    /// At least so many steps; healing may take some more.
    public let wanted: Int
    public private(set) var steps = 0
    /// nil: passed.
    public private(set) var failure: String?
    public private(set) var lateExecutions = 0
    /// A digest of everything that ended in the store and, where wanted, of all actions and notices
    /// of the cores.
    public private(set) var digest: UInt64 = 0
    /// Classes of states of the registration that were reached, where wanted.
    public private(set) var registrationStates: Set<[UInt8]> = []

    /// In all of it nothing of the healed world may be unsettled any more: the longest TTL, an election, the longest
    /// back-off and the time-outs of what is open.
    private static let settling: Instant = 60_000_000

    public init(
        seed: UInt64, steps wanted: Int, isTraced: Bool = false, digestsCores: Bool = false,
        collectsStates: Bool = false
    ) {
        self.seed = seed
        self.wanted = wanted
        let world = World(seed: seed)
        world.isTraced = isTraced
        if digestsCores { world.coreDigest = Digest() }
        if collectsStates { world.registrationStates = [] }
        let rounds = 1 + Int(seed % 4)
        var round = 0
        while world.failure == nil, world.steps < wanted {
            round += 1
            let end = min(wanted, wanted * round / rounds)
            while world.failure == nil, world.steps < end { world.step() }
            guard world.failure == nil else { break }
            world.heal()
            let (probedAt, settledAt) = (world.now + 40_000_000, world.now + Self.settling)
            while world.failure == nil, world.now < probedAt { world.step() }
            world.probe()
            while world.failure == nil, world.now < settledAt { world.step() }
            if world.failure == nil { world.checkSettled() }
            world.resume()
        }
        steps = world.steps
        failure = world.failure
        lateExecutions = world.cluster.lateExecutions
        digest = world.digest
        registrationStates = world.registrationStates ?? []
    }
}

extension World {
    /// Over the history of every store.
    var digest: UInt64 {
        var digest = coreDigest ?? Digest()
        digest.mix(UInt64(steps))
        for store in stores where store.revision > 1 {
            for revision in 2...store.revision {
                for change in store.commit(revision).changes {
                    digest.mix(change.key + (change.record?.value ?? []))
                    digest.mix(UInt64(bitPattern: change.record?.lease ?? -1))
                }
            }
        }
        return digest.value
    }

    /// All that was broken is mended; hosts make no more calls.
    func heal() {
        note("heal")
        isHealing = true
        cluster.timesOutOneIn = 0
        cluster.breaksOneIn = 0
        cluster.isFull = false
        cluster.isForbidden = false
        cluster.isPasswordChanged = false
        cluster.changeUnknownMembers(to: 0, at: now)
        networkDelay = 50...500
        for index in cluster.members.indices {
            cluster.thaw(index, at: now)
            cluster.isolate(index, false, at: now)
            cluster.members[index].lag = 0
            cluster.add(index, at: now)
            cluster.start(index, at: now)
        }
        for host in hosts {
            host.stalledUntil = now
            host.wake(at: now)
            for member in cluster.members.indices { release(host.index, member) }
        }
        flushCluster()
    }

    func probe() {
        for dead in dead { checkRemains(dead) }
        dead = []
        for host in hosts where !host.isOver && !host.isShuttingDown && host.name != nil {
            host.ownership.probe(host)
        }
    }

    func resume() {
        isHealing = false
        for host in hosts where !host.isOver {
            agenda.add(.call(host), at: now + random.within(0...scenario.callPause))
        }
        if !scenario.faults.isEmpty { agenda.add(.fault, at: now + scenario.faultPause) }
    }

    func checkSettled() {
        for host in hosts where !host.isOver && !host.isShuttingDown {
            if host.core.pendingNotices > 0 { host.fail("notices wait for ever") }
            host.checkNothingWaits()
            for operation in host.operations.open where operation.kind != .watch {
                host.fail("operation \(operation.id) (\(operation.kind)) is still open")
            }
            for (_, checker) in host.watches { checker.checkSettled(host) }
            host.ownership.checkSettled(host)
            history.check(host)
        }
        checkNoDeadKeys()
    }

    /// A key on a lease belongs to a living process.
    private func checkNoDeadKeys() {
        let alive = Set(hosts.filter { !$0.isOver }.map { $0.core.ownLease })
        // A lease with the lowest bit set never ends, and outlives its process. A key that somebody else hung on a lease
        // stays while its owner may not revoke that and a claim may yet come.
        for record in cluster.store.records
        where record.lease & 1 == 0 && record.lease != 0 && record.key.starts(with: namespace) {
            if cluster.store.leases[record.lease] == nil {
                fail("a key hangs on a lease that does not exist")
            } else if !alive.contains(record.lease), !cluster.store.isPermanent(record) {
                fail("a key of a dead process is still there, on lease \(record.lease)")
            }
        }
    }
}
