// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// One process of etcd.
package final class Member {
    let index: Int
    package internal(set) var isUp = true
    /// It does not belong to the cluster any more.
    package internal(set) var isRemoved = false
    /// SIGSTOP: what is sent to it waits in its sockets.
    package internal(set) var isFrozen = false
    /// Cut off from the other members, not from clients.
    package internal(set) var isIsolated = false
    /// How far it has applied what the cluster has committed.
    var applied: Int64 = 1
    /// Revisions that this member will apply, and when.
    var applying: [(revision: Int64, at: Instant)] = []
    /// Extra time that it takes to apply.
    package var lag: Instant = 0
    /// Since when it knows of no leader.
    var leaderlessSince: Instant?
    var tokens: Set<[UInt8]> = []
    var connections = ServerConnections()
    /// Arrived while it was frozen.
    var inbox: [(connection: Int, ClientPacket)] = []
    /// Wait for a leader.
    var waiting: [Waiting] = []
    /// Executed; are answered when this member has applied so much.
    var answers: [(revision: Int64, connection: ServerConnection, ServerPacket)] = []
    /// Answers wait for a read at what is applied by then.
    var reads: [(revision: Int64, connection: ServerConnection, call: UInt64, RangeQuery)] = []
    /// When watchers that lag are next brought up to date.
    var syncAt: Instant?
    /// It was the leader, has not noticed yet that it is not any more, and knows these leases: their TTL and end.
    var staleLeases: [Int64: (ttl: Int64, expiry: Instant)]?
    var progressAt: Instant = 0

    struct Waiting {
        let since: Instant
        let connection: ServerConnection
        let request: Request
    }

    init(index: Int) { self.index = index }
}

enum Request {
    case unary(UInt64, EtcdMethod, frame: [UInt8])
    case renewal(stream: UInt64, lease: Int64)
}

/// A cluster of etcd: one replicated store and members that serve it, each as far as it has come. It reads requests
/// and writes answers as bytes, as the real one does. Time comes from outside.
package final class Cluster {
    package internal(set) var store = Store()
    package internal(set) var clusterID: UInt64 = 0xc1
    package let members: [Member]
    /// Packets to send. The caller takes them after each call.
    package var outbox: [(connection: Int, packet: ServerPacket)] = []
    /// Requests that ran although nobody waited for their answer any more.
    package private(set) var lateExecutions = 0

    package struct Settings {
        /// User and password; nil: no authentication.
        package var credentials: (user: [UInt8], password: [UInt8])?
        /// Renewed leases are kept this much longer, at most.
        package var slack: Instant = 500_000
        /// etcd before 3.4.34 and 3.5.16 forgets a deletion at exactly the compacted revision
        /// (https://github.com/etcd-io/etcd/issues/18089).
        package var forgetsCompactedDeletions = true
        /// Some servers tell older events than were asked for.
        package var tellsOlder = false
        package var fragments = false
        package var maximumRequest = 1_572_864
        /// The largest delay of applying what was committed.
        package var applyDelay: Instant = 500
        /// etcd 3.7.0 and 3.7.1 answer keys-only ranges from an index that knows no leases
        /// (https://github.com/etcd-io/etcd/issues/22209; server/etcdserver/txn/range.go, FastKeysOnly).
        package var leavesOutLeasesOfKeys = false
        /// Since etcd 3.5.28 and 3.6.9 a renewal needs a token that is good, and permission to write all keys of its
        /// lease; else its stream ends (server/etcdserver/v3_server.go, checkLeaseRenew).
        package var checksRenewals = false
        /// Since etcd 3.4.44, 3.5.30 and 3.6.11 a transaction may put a key onto a lease only with permission to write
        /// all keys of the lease (server/etcdserver/apply/auth.go, checkPutAuth).
        package var checksLeasesOfPuts = false
        /// The first write that finds no space is carried out; every later one gets NOSPACE
        /// (server/etcdserver/apply/quota.go, quotaApplierV3). Of these, one in so many is also
        /// refused as it ran out; 0: none.
        package var writesWithoutSpaceOneIn = 0
        /// etcd 3.5.0 to 3.5.6 refuses every transaction while its database is full, also one that puts nothing.
        package var refusesAllWithoutSpace = false
        /// A leader that is cut off from the others answers with the time to live that it last
        /// knew, until it notices (server/etcdserver/v3_server.go, leaseTimeToLive).
        package var tellsLeasesWithoutQuorum = false
        /// Watchers now and then get an empty message with the revision, asked for or not.
        package var tellsProgress = true
        /// Watchers catch up at once and in one message, and leases end on time: for tests that count
        /// requests and messages.
        package var isPrompt = false

        package init() {}
    }
    package var settings: Settings
    var random: Generator
    var now: Instant = 0
    var leader: Int? = 0
    private var electionAt: Instant?
    private var leaseCheckAt: Instant = 0
    /// The leader's leases, and when each expires.
    var expiries: [Int64: Instant] = [:]
    var lastToken: UInt64 = 0
    /// Whether the client of a connection has closed it, though its server may not have heard of it.
    package var isAbandoned: (Int) -> Bool = { _ in false }
    /// One write in so many is answered with a timeout, and perhaps carried out later; 0: none.
    package var timesOutOneIn = 0
    /// Writes of which one in so many is never answered: its connection breaks, and perhaps it is carried out, later;
    /// 0: none.
    package var breaksOneIn = 0
    /// The role of the clients' user; nil allows everything.
    package var role: Role?
    /// Its NOSPACE alarm is on.
    package var isFull = false
    /// The user's role allows nothing.
    package var isForbidden = false
    /// The password in the clients' configuration is not right any more.
    package var isPasswordChanged = false
    /// Members that no client knows; they live.
    package var unknownMembers = 0
    /// For each client, the number of leases that ended although it did not revoke them.
    private var lost: [Int: Int] = [:]
    private var countedLost: Set<Int64> = []
    /// Requests that were answered with a timeout and are carried out later.
    var late: [(at: Instant, connection: ServerConnection, request: Request)] = []

    package init(members count: Int, settings: Settings = Settings(), seed: UInt64 = 1) {
        members = (0..<count).map { Member(index: $0) }
        self.settings = settings
        random = Generator(seed: seed)
    }

    // MARK: - Leadership

    package var hasLeader: Bool { leader != nil }

    private var canElect: Bool {
        let count = members.filter { !$0.isRemoved }.count + unknownMembers
        return members.filter { isInQuorum($0) }.count + unknownMembers > count / 2
    }

    private func isInQuorum(_ member: Member) -> Bool {
        member.isUp && !member.isFrozen && (!member.isIsolated || members.count == 1)
    }

    /// Whether a member can have something decided now.
    func reachesLeader(_ member: Member) -> Bool {
        guard leader != nil else { return false }
        return isInQuorum(member)
    }

    /// The members or what lies between them have changed.
    func leadershipMayChange() {
        if let current = leader, !isInQuorum(members[current]) || !canElect {
            leader = nil
            if settings.tellsLeasesWithoutQuorum { members[current].staleLeases = knownLeases }
        }
        if leader == nil, canElect {
            electionAt = electionAt ?? now + random.within(1_000_000...2_000_000)
        } else {
            electionAt = nil
        }
        for member in members {
            if reachesLeader(member) {
                member.leaderlessSince = nil
                member.staleLeases = nil
                runWaiting(member)
            } else {
                // A follower notices after its election time-out.
                member.leaderlessSince = member.leaderlessSince ?? now + 1_000_000
            }
        }
    }

    private func elect() {
        electionAt = nil
        let candidates = members.filter { isInQuorum($0) }
        leader = candidates[random.below(candidates.count)].index
        // etcd gives every lease its full TTL again (server/lease/lessor.go, Promote).
        for (lease, ttl) in store.leases { expiries[lease] = now + Instant(ttl) * 1_000_000 }
        leadershipMayChange()
    }

    // MARK: - Time

    /// When `advance` has something to do.
    package var nextTime: Instant {
        var next = leaseCheckAt
        if let electionAt { next = min(next, electionAt) }
        for member in members where member.isUp && !member.isFrozen {
            if let first = member.applying.first, !member.isIsolated || members.count == 1 {
                next = min(next, max(first.at, now))
            }
            if let syncAt = member.syncAt { next = min(next, syncAt) }
        }
        return next
    }

    package func advance(to time: Instant) {
        now = max(now, time)
        if let electionAt, now >= electionAt { elect() }
        if now >= leaseCheckAt || settings.isPrompt {
            leaseCheckAt = now + 100_000
            expireLeases()
            executeLate()
            for member in members where member.isUp && !member.isFrozen {
                giveUpWaiting(member)
                tellProgress(member)
            }
        }
        for member in members where member.isUp && !member.isFrozen {
            apply(member)
            if let syncAt = member.syncAt, now >= syncAt { syncWatchers(member) }
        }
    }

    private func expireLeases() {
        guard leader != nil else { return }
        let due = expiries.filter { now >= $0.value + expiryDelay($0.key) }.keys.sorted()
        for id in due where store.leases[id] != nil {
            expiries[id] = nil
            noteLost(id)
            if store.revoke(id) { revisionCommitted() }
        }
    }

    /// How many leases of a client have ended, or have run out, without its doing.
    package func leasesLost(by author: Int) -> Int {
        let ended = store.leases.keys.filter {
            store.grantors[$0] == author && (expiries[$0] ?? .max) <= now
                && !countedLost.contains($0)
        }
        return (lost[author] ?? 0) + ended.count
    }

    func noteLost(_ lease: Int64) {
        guard countedLost.insert(lease).inserted, let author = store.grantors[lease] else { return }
        lost[author, default: 0] += 1
    }

    /// etcd looks for expired leases every 500 ms and revokes a bounded number at a time.
    private func expiryDelay(_ lease: Int64) -> Instant {
        settings.slack == 0 ? 0 : Instant(truncatingIfNeeded: lease &* 7919) % settings.slack
    }

    /// The newest revision is on its way to the members.
    func revisionCommitted() {
        for member in members {
            let earliest = member.applying.last?.at ?? 0
            let delay = settings.applyDelay == 0 ? 0 : random.within(0...settings.applyDelay)
            member.applying.append((store.revision, max(earliest, now + delay + member.lag)))
        }
    }

    private func apply(_ member: Member) {
        // A member that is cut off learns nothing.
        guard !member.isIsolated || members.count == 1 else { return }
        while let first = member.applying.first, now >= first.at {
            member.applying.removeFirst()
            let isNext = first.revision == member.applied + 1
            member.applied = first.revision
            if isNext {
                tellWatchers(member, first.revision)
            } else {
                watchersFellBehind(member)
            }
        }
        answerWaiting(member)
    }

    // MARK: - Requests that had to wait

    private func runWaiting(_ member: Member) {
        let waiting = member.waiting
        member.waiting = []
        for item in waiting {
            if !item.connection.isOpen {
                // Given up by its client; whether it is carried out is a matter of chance.
                guard random.oneIn(2) else { continue }
            }
            execute(item.request, item.connection, member)
        }
    }

    /// etcd answers what has waited for 7 s with an error (server/config, ReqTimeout), and ends streams on a
    /// member that has had no leader for about three election time-outs (server/etcdserver/api/v3rpc/interceptor.go).
    private func giveUpWaiting(_ member: Member) {
        member.waiting.removeAll { item in
            guard now >= item.since + 7_000_000 else { return false }
            switch item.request {
            case .unary: timeOut(item.request, item.connection)
            case .renewal(let stream, _): end(stream, of: item.connection, .timedOut)
            }
            return true
        }
        guard let since = member.leaderlessSince, now >= since + 2_500_000 else { return }
        for connection in member.connections {
            for stream in connection.streams where stream.isOpen {
                end(stream.id, of: connection, .noLeader)
            }
        }
    }

    /// etcd gives up waiting, but what it has proposed to the others may still be carried out, long after.
    func timeOut(_ request: Request, _ connection: ServerConnection) {
        guard case .unary(let call, let method, _) = request else { return }
        send(connection, .reply(call, .timedOut))
        if method.isWrite { mayComeLate(request, connection) }
    }

    /// A member has proposed a write to the others and dies, or is cut off, before its client is answered.
    func breakOff(_ request: Request, _ connection: ServerConnection, _ member: Member) {
        send(connection, .reset)
        connection.isOpen = false
        connection.streams = []
        member.connections.remove(id: connection.id)
        mayComeLate(request, connection)
    }

    private func mayComeLate(_ request: Request, _ connection: ServerConnection) {
        guard random.oneIn(2) else { return }
        let delay =
            random.oneIn(4) ? random.within(0...30_000_000) : random.within(0...3_000_000)
        late.append((now + delay, connection, request))
    }

    private func executeLate() {
        guard !late.isEmpty, leader != nil else { return }
        let due = late.filter { $0.at <= now }
        late.removeAll { $0.at <= now }
        for (_, connection, request) in due {
            guard case .unary(_, let method, let frame) = request else { continue }
            _ = write(method, frame, connection, isLate: true)
        }
    }

    /// Carries a write out.
    func write(
        _ method: EtcdMethod, _ frame: [UInt8], _ connection: ServerConnection, isLate: Bool
    ) -> Outcome {
        store.isLate = isLate
        if isLate { lateExecutions += 1 }
        defer { store.isLate = false }
        return write(method, WireInput(frame: frame), connection.author)
    }

    func answerWaiting(_ member: Member) {
        if !member.answers.isEmpty {
            let ready = member.answers.filter { $0.revision <= member.applied }
            member.answers.removeAll { $0.revision <= member.applied }
            for (_, connection, packet) in ready { send(connection, packet) }
        }
        if !member.reads.isEmpty {
            let ready = member.reads.filter { $0.revision <= member.applied }
            member.reads.removeAll { $0.revision <= member.applied }
            for (_, connection, call, query) in ready {
                send(connection, .reply(call, range(query, seenBy: member)))
            }
        }
    }

    func send(_ connection: ServerConnection, _ packet: ServerPacket) {
        if connection.isOpen { outbox.append((connection.id, packet)) }
    }

    func end(_ stream: UInt64, of connection: ServerConnection, _ outcome: Outcome) {
        connection.streams.removeAll { $0.id == stream }
        send(connection, .streamEnded(stream, outcome))
    }

}
