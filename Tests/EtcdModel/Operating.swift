// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

// Operators and accidents.

extension Cluster {
    /// When a lease is gone at the latest if nobody renews it and etcd keeps its leader.
    package func end(of lease: Int64) -> Instant {
        (expiries[lease] ?? now) + settings.slack + 200_000
    }

    /// It has not run out, whether it was removed already or not.
    package func isAlive(_ lease: Int64) -> Bool {
        store.leases[lease] != nil && (expiries[lease] ?? 0) > now
    }

    /// When it runs out if nobody renews it; nil: there is no such lease.
    package func expiry(of lease: Int64) -> Instant? { expiries[lease] }

    /// The author of what is written by nobody who is a client of ours.
    package static var outsider: Int { -1 }

    /// An outsider changes keys.
    package func operate(_ operations: [Operation], at time: Instant) {
        now = max(now, time)
        if store.apply(operations, author: Self.outsider) { revisionCommitted() }
    }

    package func revokeLease(_ id: Int64, at time: Instant) {
        now = max(now, time)
        expiries[id] = nil
        noteLost(id)
        if store.revoke(id) { revisionCommitted() }
    }

    /// The tokens that were given are refused from now on.
    package func forgetTokens() {
        for member in members { member.tokens = [] }
    }

    /// SIGKILL. `resets`: its machine lives and tells its clients; else they hear nothing.
    package func stop(_ index: Int, resets: Bool, at time: Instant) {
        now = max(now, time)
        let member = members[index]
        guard member.isUp else { return }
        member.isUp = false
        member.isFrozen = false
        for connection in member.connections {
            if resets { send(connection, .reset) }
            connection.isOpen = false
        }
        member.connections = ServerConnections()
        member.inbox = []
        member.waiting = []
        member.answers = []
        member.reads = []
        member.tokens = []
        member.syncAt = nil
        leadershipMayChange()
    }

    /// Starts again with its data. It soon learns what happened meanwhile.
    package func start(_ index: Int, at time: Instant) {
        now = max(now, time)
        guard !members[index].isRemoved else { return }
        members[index].isUp = true
        leadershipMayChange()
    }

    /// A new member takes the place of one that was removed: without data, until it has got a snapshot.
    package func replace(_ index: Int, at time: Instant) {
        stop(index, resets: true, at: time)
        members[index].applied = 1
        members[index].applying = [(store.revision, now + random.within(10_000...3_000_000))]
        start(index, at: time)
    }

    /// Out of the cluster for good, if the others can do without.
    package func remove(_ index: Int, at time: Instant) {
        guard members.count > 1, !members.contains(where: { $0.isRemoved }) else { return }
        stop(index, resets: true, at: time)
        members[index].isRemoved = true
        leadershipMayChange()
    }

    /// A new member where one was removed.
    package func add(_ index: Int, at time: Instant) {
        guard members[index].isRemoved else { return }
        members[index].isRemoved = false
        replace(index, at: time)
    }

    /// A member that no client knows of joins or leaves.
    package func changeUnknownMembers(to count: Int, at time: Instant) {
        now = max(now, time)
        unknownMembers = count
        leadershipMayChange()
    }

    package func freeze(_ index: Int, at time: Instant) {
        now = max(now, time)
        guard members[index].isUp else { return }
        members[index].isFrozen = true
        leadershipMayChange()
    }

    package func thaw(_ index: Int, at time: Instant) {
        now = max(now, time)
        let member = members[index]
        guard member.isFrozen else { return }
        member.isFrozen = false
        leadershipMayChange()
        let inbox = member.inbox
        member.inbox = []
        for (id, packet) in inbox {
            guard let connection = member.connections[id] else { continue }
            take(packet, connection, member)
        }
    }

    package func isolate(_ index: Int, _ isIsolated: Bool, at time: Instant) {
        now = max(now, time)
        members[index].isIsolated = isIsolated
        leadershipMayChange()
    }

    /// A connection has broken; its server notices.
    package func connectionBroke(_ id: Int, to index: Int) {
        let member = members[index]
        guard let connection = member.connections[id] else { return }
        connection.isOpen = false
        connection.streams = []
        member.connections.remove(id: id)
    }

    /// All members start again without data: with the same flags even the cluster's id stays.
    package func wipe(keepsID: Bool, at time: Instant) {
        begin(Store(), keepsID: keepsID, at: time)
    }

    /// All members start again with the data of a snapshot, whose leases get their full time
    /// (server/lease/lessor.go, initAndRecover and Promote). `bump`: see Store.
    package func restore(_ snapshot: Store, bump: Int64, keepsID: Bool, at time: Instant) {
        begin(Store(restoring: snapshot, bump: bump), keepsID: keepsID, at: time)
        for (lease, ttl) in store.leases { expiries[lease] = now + Instant(ttl) * 1_000_000 }
    }

    private func begin(_ new: Store, keepsID: Bool, at time: Instant) {
        for member in members { stop(member.index, resets: true, at: time) }
        // The client may already know that these leases have run out.
        for (lease, end) in expiries where end <= time && store.leases[lease] != nil {
            noteLost(lease)
        }
        store = new
        expiries = [:]
        late = []
        if !keepsID { clusterID += 1 }
        for member in members {
            member.applied = store.revision
            member.applying = []
            start(member.index, at: time)
        }
    }
}
