// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

// Packets that arrive at a member.

extension Cluster {
    /// A client's connection begins. False: nobody listens there.
    package func connect(_ id: Int, to member: Int, author: Int) -> Bool {
        guard members[member].isUp else { return false }
        members[member].connections.append(ServerConnection(id: id, author: author))
        return true
    }

    package func deliver(_ packet: ClientPacket, on id: Int, to index: Int, at time: Instant) {
        now = max(now, time)
        let member = members[index]
        guard member.isUp else { return }
        guard !member.isFrozen else {
            member.inbox.append((id, packet))
            return
        }
        guard let connection = member.connections[id] else { return }
        take(packet, connection, member)
    }

    func take(_ packet: ClientPacket, _ connection: ServerConnection, _ member: Member) {
        switch packet {
        case .preface: send(connection, .settings)
        case .probe: send(connection, .acknowledgement)
        case .call(let call, let method, let frame, let token):
            called(call, method, frame, token, connection, member)
        case .openStream(let stream, let method, let token):
            guard member.leaderlessSince.map({ now < $0 }) ?? true else {
                send(connection, .streamEnded(stream, .noLeader))
                return
            }
            connection.streams.append(
                ServerStream(
                    id: stream, method: method, token: token, tokenIsGood: isGood(token, member)))
        case .send(let id, let frame):
            guard let stream = connection.streams.first(where: { $0.id == id }) else { return }
            switch stream.method {
            case .watch: watchCommand(frame, stream, connection, member)
            default:
                let lease = Pair(WireInput(frame: frame)).numbers.0
                submit(.renewal(stream: id, lease: lease), connection, member)
            }
        case .closeStream(let id):
            connection.streams.removeAll { $0.id == id }
        case .goodbye:
            connection.isOpen = false
            connection.streams = []
            member.connections.remove(id: connection.id)
        }
    }

    private func called(
        _ call: UInt64, _ method: EtcdMethod, _ frame: [UInt8], _ token: [UInt8],
        _ connection: ServerConnection, _ member: Member
    ) {
        func refuse(_ outcome: Outcome) { send(connection, .reply(call, outcome)) }
        guard frame.count - 5 <= settings.maximumRequest else { return refuse(.tooLarge) }
        if method != .authenticate, !isGood(token, member) {
            return refuse(random.oneIn(4) ? .oldAuthStore : .invalidToken)
        }
        // `hasleader` is asked of every call.
        guard member.leaderlessSince.map({ now < $0 }) ?? true else { return refuse(.noLeader) }
        let input = WireInput(frame: frame)
        guard mayAsk(method, input) else { return refuse(.forbidden) }
        if method == .leaseTimeToLive, let leases = member.staleLeases {
            send(connection, .reply(call, timeToLive(input, leases)))
            return
        }
        if method == .range {
            let query = RangeQuery(input)
            if query.serializable {
                send(connection, .reply(call, range(query, seenBy: member)))
                return
            }
        }
        let request = Request.unary(call, method, frame: frame)
        if timesOutOneIn > 0, method != .range, method != .authenticate,
            random.oneIn(timesOutOneIn)
        {
            timeOut(request, connection)
            return
        }
        if breaksOneIn > 0, method.isWrite, random.oneIn(breaksOneIn) {
            breakOff(request, connection, member)
            return
        }
        submit(request, connection, member)
    }

    private func submit(_ request: Request, _ connection: ServerConnection, _ member: Member) {
        if reachesLeader(member) {
            execute(request, connection, member)
        } else {
            member.waiting.append(
                Member.Waiting(since: now, connection: connection, request: request))
        }
    }

    func execute(_ request: Request, _ connection: ServerConnection, _ member: Member) {
        switch request {
        case .unary(let call, let method, let frame):
            if method == .range {
                let query = RangeQuery(WireInput(frame: frame))
                member.reads.append((store.revision, connection, call, query))
            } else {
                let isLate = !connection.isOpen || isAbandoned(connection.id)
                let outcome = write(method, frame, connection, isLate: isLate)
                member.answers.append((store.revision, connection, .reply(call, outcome)))
            }
            answerWaiting(member)
        case .renewal(let stream, let lease):
            guard let opened = connection.streams.first(where: { $0.id == stream }) else { return }
            if settings.checksRenewals, !isGood(opened.token, member) {
                end(stream, of: connection, .invalidToken)
            } else if settings.checksRenewals, !mayWriteAll(of: lease) {
                end(stream, of: connection, .forbidden)
            } else {
                send(connection, .message(stream, renew(lease)))
            }
        }
    }

    func write(_ method: EtcdMethod, _ input: WireInput, _ author: Int) -> Outcome {
        switch method {
        case .txn:
            let transaction = Transaction(input)
            guard isFull, transaction.hasPut || settings.refusesAllWithoutSpace else {
                return self.transaction(transaction, author: author)
            }
            return withoutSpace { self.transaction(transaction, author: author) }
        case .leaseGrant: return grant(Pair(input), author)
        case .leaseRevoke: return revoke(Pair(input).numbers.0, author)
        case .leaseTimeToLive: return timeToLive(input, knownLeases)
        case .authenticate: return authenticate(Pair(input))
        case .range, .watch, .leaseKeepAlive: return .damaged
        }
    }

    /// etcd looks at the space when it takes a request and once more when it applies it; then it applies it and says
    /// that there was no space, unless the request fails by itself.
    private func withoutSpace(_ write: () -> Outcome) -> Outcome {
        let oneIn = settings.writesWithoutSpaceOneIn
        guard oneIn > 0, random.oneIn(oneIn) else { return .noSpace }
        let outcome = write()
        if case .ok = outcome { return .noSpace }
        return outcome
    }

    // MARK: - Leases

    /// server/lease/lessor.go, MaxLeaseTTL: some 285 years.
    package static var longestLease: Int64 { 9_000_000_000 }

    private func grant(_ request: Pair, _ author: Int) -> Outcome {
        isFull ? withoutSpace { grantNow(request, author) } : grantNow(request, author)
    }

    private func grantNow(_ request: Pair, _ author: Int) -> Outcome {
        let (ttl, id) = request.numbers
        guard ttl <= Self.longestLease else { return .leaseTooLong }
        guard store.leases[id] == nil else {
            store.tellsLease(id)
            return .leaseExists
        }
        // The least TTL is 1.5 election time-outs (server/etcdserver/server.go, minTTL).
        let granted = max(2, ttl)
        store.grant(id, ttl: granted, author: author)
        expiries[id] = now + Instant(granted) * 1_000_000
        var output = header(store.revision)
        output.int(2, id)
        output.int(3, granted)
        return .ok(output.bytes)
    }

    private func revoke(_ id: Int64, _ author: Int) -> Outcome {
        guard store.leases[id] != nil else { return .leaseNotFound }
        // Its keys must be ours to remove (server/etcdserver/apply_auth.go, checkLeasePuts).
        guard mayWriteAll(of: id) else { return .forbidden }
        expiries[id] = nil
        // A newcomer revokes what its predecessor has left, if that never ends.
        if store.grantors[id] != author { noteLost(id) }
        if store.revoke(id) { revisionCommitted() }
        return .ok(header(store.revision).bytes)
    }

    var knownLeases: [Int64: (ttl: Int64, expiry: Instant)] {
        var known: [Int64: (ttl: Int64, expiry: Instant)] = [:]
        for (id, ttl) in store.leases {
            if let expiry = expiries[id] { known[id] = (ttl, expiry) }
        }
        return known
    }

    /// LeaseTimeToLiveRequest: its ID, and whether the keys of the lease are wanted, which one must be allowed to read.
    private func timeToLive(
        _ input: WireInput, _ leases: [Int64: (ttl: Int64, expiry: Instant)]
    ) -> Outcome {
        let (id, wantsKeys) = Pair(input).numbers
        let keys = store.records.filter { $0.lease == id }.map { $0.key }
        if wantsKeys != 0, !keys.allSatisfy({ mayRead($0, []) }) { return .forbidden }
        var output = header(store.revision)
        output.int(2, id)
        if let (ttl, expiry) = leases[id] {
            // Rounded towards 0, and below it once it has run out and is not revoked yet (server/lease/lessor.go,
            // `Remaining`; v3_server.go, `LeaseTimeToLive`).
            output.int(3, (Int64(expiry) - Int64(now)) / 1_000_000)
            output.int(4, ttl)
            if wantsKeys != 0 { for key in keys { output.message(5, key) } }
        } else {
            output.int(3, -1)
        }
        return .ok(output.bytes)
    }

    private func renew(_ id: Int64) -> [UInt8] {
        var output = header(store.revision)
        output.int(2, id)
        // A lease that has run out and is not yet revoked is not renewed any more.
        if let ttl = store.leases[id], let expiry = expiries[id], expiry > now {
            expiries[id] = now + Instant(ttl) * 1_000_000
            output.int(3, ttl)
        } else {
            // An election may extend the lease, but its client already knows that it ended.
            noteLost(id)
        }
        return output.bytes
    }

    // MARK: - Authentication

    private func isGood(_ token: [UInt8], _ member: Member) -> Bool {
        settings.credentials == nil || member.tokens.contains(token)
    }

    private func authenticate(_ request: Pair) -> Outcome {
        guard let credentials = settings.credentials else { return .noAuthentication }
        guard !isPasswordChanged,
            request.strings == (credentials.user, credentials.password)
        else {
            return .invalidCredentials
        }
        lastToken += 1
        let token = Array("token.\(lastToken)".utf8)
        for member in members where member.isUp { member.tokens.insert(token) }
        var output = header(store.revision)
        output.data(2, token)
        return .ok(output.bytes)
    }
}
