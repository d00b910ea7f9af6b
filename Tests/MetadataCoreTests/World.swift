// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

@testable import MetadataCore

/// Cores and one model of etcd. The test moves the clock.
final class World {
    /// One process: a core, and the events and completions that its host got.
    final class Node {
        let core: MetadataCore
        var connection: ConnectionID?
        /// Beside it, while it is silent.
        var second: ConnectionID?
        /// What waits for a server that is silent.
        var held: [Action] = []
        /// Connections whose server has not sent its SETTINGS.
        var unsettled: [ConnectionID] = []
        var probes = 0
        var watchStreams: Set<StreamID> = []
        var keepAlives: Set<StreamID> = []
        var completions: [OperationID: Completion] = [:]
        var events: [WatchEvent] = []
        var ownership: [String] = []
        var connects = 0
        /// The host does not tick.
        var isStalled = false
        /// The presence key is on the lease that this process has chosen.
        func owns(_ etcd: ModelEtcd, _ presence: Bytes) -> Bool {
            core.ownLease != 0 && etcd.value(presence)?.lease == core.ownLease
        }
        private var lastOperation: OperationID = 0

        init(_ core: MetadataCore) { self.core = core }

        func newOperation() -> OperationID {
            lastOperation += 1
            return lastOperation
        }
    }
    var now: Milliseconds = 1_000_000
    let etcd = ModelEtcd()
    var nodes: [Node] = []
    /// Connections are refused.
    var isDown = false
    /// Everything is taken, and answered when this is over; `executes`: requests are carried out and never answered.
    var isSilent = false
    var executesSilently = false
    /// Requests are never answered; connections are, and probes.
    var isMute = false
    /// Nobody acknowledges packets.
    var isPathDead = false
    /// The fate of the next requests; a request for which none is left is carried out and answered.
    enum Fate {
        case ordinary
        /// Carried out, and the connection breaks before the answer.
        case answerLost
        /// The connection breaks; carried out when `executeLate` says so.
        case late
        case refused(GRPCStatus)
    }
    var fates: [(method: EtcdMethod, fate: Fate)] = []
    /// All of these are refused, until somebody puts it right.
    var refusals: [EtcdMethod: GRPCStatus] = [:]
    /// A transaction that names this key is not permitted.
    var forbidden: Bytes?
    /// Empty ones of which nobody knows any more: granted when nobody waited, or not revoked when asked to.
    private(set) var leftLeases: Set<Int64> = []
    /// A revocation was not answered, or was refused although it may be carried out.
    private(set) var hasRevocationInDoubt = false
    private var lateRequests: [(EtcdMethod, Bytes)] = []
    /// The tokens that etcd takes; nil: authentication is off.
    var tokens: Set<Bytes>?
    private(set) var authentications = 0
    /// With what a stream of renewals is ended at the next one; each once.
    var renewalRefusals: [GRPCStatus] = []
    /// Replaces etcd's answer to a request.
    var answerInstead: ((EtcdMethod, Reply) -> Reply)?
    /// Replaces a message of the stream of watches; a nil result drops it.
    var messageInstead: ((Bytes) -> Bytes?)?

    func add(
        _ agent: StaticString?, seed: UInt64 = 1, endpoints: Int = 1, user: StaticString = "",
        refuseTakeover: Bool = false,
        portions: CoreConfiguration.Portions = CoreConfiguration.Portions()
    ) -> Node {
        let list = (0..<endpoints).map { index in
            CoreConfiguration.Endpoint(
                name: Bytes("127.0.0.1:2379"), addresses: [[UInt8(index)]], canResolve: false)
        }
        var configuration = CoreConfiguration(
            namespace: Bytes("/nixl/agents/"), agent: agent.map { Bytes($0) }, endpoints: list,
            user: Bytes(user), password: Bytes(user), refuseTakeover: refuseTakeover,
            seed: (seed, 2))
        configuration.portions = portions
        let node = Node(MetadataCore(configuration, now: now))
        nodes.append(node)
        return node
    }

    @discardableResult
    func submit(
        _ node: Node, _ call: HostCall, timeout: Milliseconds? = 10_000
    ) -> OperationID {
        let operation = node.newOperation()
        node.core.submit(call, operation: operation, timeout: timeout, now: now)
        node.core.advance(now: now)
        settle()
        return operation
    }

    // MARK: - Time

    /// Lets everything that needs no time happen.
    func settle() {
        var wasBusy = true
        while wasBusy {
            wasBusy = false
            for node in nodes where !node.isStalled {
                if !isSilent, !node.held.isEmpty || !node.unsettled.isEmpty {
                    let (held, unsettled) = (node.held, node.unsettled)
                    (node.held, node.unsettled) = ([], [])
                    wasBusy = true
                    for connection in unsettled { hear(connection, acknowledges: false, node) }
                    for action in held { perform(action, node) }
                }
                while let action = node.core.nextAction() {
                    wasBusy = true
                    perform(action, node)
                }
                while let notice = node.core.nextNotice() { take(notice, node) }
            }
            wasBusy = deliver() || wasBusy
        }
    }

    func advance(by duration: Milliseconds) {
        let end = now + duration
        while now < end {
            var next = end
            for node in nodes where !node.isStalled {
                if let deadline = node.core.nextDeadline {
                    next = min(next, max(deadline, now + 1))
                }
            }
            for lease in etcd.leases.values { next = min(next, max(lease.expires, now + 1)) }
            now = next
            etcd.advance(to: now)
            settle()
            for node in nodes where !node.isStalled { node.core.advance(now: now) }
            settle()
        }
    }

    // MARK: - The network

    func cut(_ node: Node) {
        guard let connection = node.connection else { return }
        drop(node)
        (node.connection, node.second) = (node.second, nil)
        node.core.receive(.connectionLost(connection, "cut"), now: now)
        settle()
    }

    private func drop(_ node: Node) {
        node.connection = nil
        node.held = []
        for stream in node.watchStreams { etcd.close(stream) }
        node.watchStreams = []
        node.keepAlives = []
    }

    /// Stream and call ids are unique per core only.
    private func global(_ id: UInt64, _ node: Node) -> UInt64 {
        let index = nodes.firstIndex { $0 === node } ?? 0
        return UInt64(index) << 32 | id
    }

    private func perform(_ action: Action, _ node: Node) {
        switch action {
        case .connect(let connection, _, _):
            node.connects += 1
            guard !isDown else {
                return node.core.receive(
                    .connectionLost(connection, "connection refused"), now: now)
            }
            precondition(node.second == nil, "a third connection")
            if node.connection == nil {
                node.connection = connection
            } else {
                node.second = connection
            }
            hear(connection, acknowledges: false, node)
        case .disconnect(let connection):
            if connection == node.connection {
                drop(node)
                (node.connection, node.second) = (node.second, nil)
            } else if connection == node.second {
                node.second = nil
            }
        case .probe(let connection):
            node.probes += 1
            hear(connection, acknowledges: true, node)
        case .examine(let connection):
            node.core.receive(.path(connection, isDead: isPathDead), now: now)
        case .call(let call, let connection, let method, let frame, let token):
            guard connection == node.connection else { return }
            if isSilent {
                if executesSilently {
                    _ = etcd.answer(method, frame, now)
                } else {
                    node.held.append(action)
                }
                return
            }
            if isMute { return }
            if let reply = authenticated(method, token) {
                return node.core.receive(.reply(call, reply), now: now)
            }
            answer(call, connection, method, frame, node)
        case .openStream(let stream, _, let method, _):
            if method == .watch {
                node.watchStreams.insert(global(stream, node))
            } else {
                node.keepAlives.insert(stream)
            }
        case .send(let stream, let frame):
            guard !isSilent else { return node.held.append(action) }
            guard !isMute else { return }
            if node.keepAlives.contains(stream) {
                if let refusal = renewalRefusals.popLast() {
                    node.keepAlives.remove(stream)
                    return node.core.receive(.streamEnded(stream, .failed(refusal)), now: now)
                }
                node.core.receive(.message(stream, etcd.keepAlive(frame, now)), now: now)
            } else if node.watchStreams.contains(global(stream, node)) {
                etcd.watch(global(stream, node), frame)
            }
        case .closeStream(let stream):
            node.keepAlives.remove(stream)
            node.watchStreams.remove(global(stream, node))
            etcd.close(global(stream, node))
        case .abandonCall, .resolve, .log: break
        }
    }

    private func hear(_ connection: ConnectionID, acknowledges: Bool, _ node: Node) {
        guard connection == node.connection || connection == node.second else { return }
        guard !isSilent else {
            if acknowledges {
                node.held.append(.probe(connection))
            } else {
                node.unsettled.append(connection)
            }
            return
        }
        node.core.receive(
            .heard(connection, acknowledges: acknowledges, isMidMessage: false), now: now)
    }

    /// etcd's refusal before it looks at a request; nil: the request may be carried out.
    private func authenticated(_ method: EtcdMethod, _ token: Bytes) -> Reply? {
        guard let tokens else { return nil }
        if method == .authenticate {
            authentications += 1
            let token = Bytes("token.\(authentications)".utf8)
            self.tokens = tokens.union([token])
            return .ok(etcd.token(token))
        }
        return tokens.contains(token) ? nil : .failed(Self.invalidToken)
    }

    static let invalidToken = GRPCStatus(
        code: 16, message: Bytes("etcdserver: invalid auth token"))

    private func answer(
        _ call: CallID, _ connection: ConnectionID, _ method: EtcdMethod, _ frame: Bytes,
        _ node: Node
    ) {
        var fate = refusals[method].map { Fate.refused($0) } ?? .ordinary
        if method == .txn, let forbidden, names(frame, forbidden) {
            fate = .refused(
                GRPCStatus(code: 7, message: Bytes("etcdserver: permission denied")))
        }
        if let next = fates.first, next.method == method {
            fate = next.fate
            fates.removeFirst()
        }
        if case .refused(let status) = fate, method == .leaseRevoke,
            etcd.isEmpty(ModelEtcd.lease(in: frame))
        {
            // Removing nothing needs no permission; where a whole member refuses, an empty lease
            // stays.
            if status.code == GRPCStatus.permissionDenied {
                fate = .ordinary
            } else {
                leftLeases.insert(ModelEtcd.lease(in: frame))
            }
        }
        if method == .leaseRevoke { hasRevocationInDoubt = hasRevocationInDoubt || isInDoubt(fate) }
        switch fate {
        case .ordinary:
            let reply = etcd.answer(method, frame, now)
            let told = answerInstead.map { $0(method, reply) } ?? reply
            node.core.receive(.reply(call, told), now: now)
        case .answerLost:
            _ = etcd.answer(method, frame, now)
            breaks(connection, node)
        case .late:
            lateRequests.append((method, frame))
            breaks(connection, node)
        case .refused(let status):
            node.core.receive(.reply(call, .failed(status)), now: now)
        }
    }

    private func isInDoubt(_ fate: Fate) -> Bool {
        switch fate {
        case .ordinary: false
        case .answerLost, .late: true
        case .refused(let status): Failure(status) != .permission
        }
    }

    private func names(_ frame: Bytes, _ key: Bytes) -> Bool {
        guard frame.count >= key.count else { return false }
        return (0...frame.count - key.count).contains { start in
            key.indices.allSatisfy { frame[start + $0] == key[$0] }
        }
    }

    private func breaks(_ connection: ConnectionID, _ node: Node) {
        drop(node)
        (node.connection, node.second) = (node.second, nil)
        node.core.receive(.connectionLost(connection, "reset"), now: now)
    }

    /// A member that hung carries out its requests when it continues.
    func executeLate() {
        for (method, frame) in lateRequests {
            let before = Set(etcd.leases.keys)
            _ = etcd.answer(method, frame, now)
            if method == .leaseGrant {
                leftLeases.formUnion(Set(etcd.leases.keys).subtracting(before))
            }
        }
        lateRequests = []
        settle()
    }

    private func deliver() -> Bool {
        guard !etcd.outbox.isEmpty else { return false }
        let messages = etcd.outbox
        etcd.outbox = []
        for (stream, bytes) in messages {
            let node = nodes[Int(stream >> 32)]
            if node.isStalled {
                etcd.outbox.append((stream, bytes))
                continue
            }
            guard node.watchStreams.contains(stream), !isSilent else { continue }
            guard let told = messageInstead.map({ $0(bytes) }) ?? bytes else { continue }
            node.core.receive(.message(stream & 0xffff_ffff, told), now: now)
        }
        return etcd.outbox.count < messages.count
    }

    private func take(_ notice: Notice, _ node: Node) {
        switch notice {
        case .completed(let completion):
            precondition(node.completions[completion.operation] == nil, "completed twice")
            node.completions[completion.operation] = completion
        case .event(let event): node.events.append(event)
        case .ownership(.lost): node.ownership.append("LOST")
        case .ownership(.restored): node.ownership.append("RESTORED")
        case .ownership(.superseded): node.ownership.append("SUPERSEDED")
        case .ownership(.withdrawn): node.ownership.append("WITHDRAWN")
        }
    }
}

extension WatchEvent {
    /// Short, for comparisons.
    var brief: String {
        func text(_ bytes: Bytes) -> String { String(decoding: bytes, as: UTF8.self) }
        switch kind {
        case .put(let agent, let label, let blob):
            return "put \(text(agent)) \(text(label))=\(text(blob))"
        case .appeared(let agent, _): return "appeared \(text(agent))"
        case .delete(let agent, let label): return "delete \(text(agent)) \(text(label))"
        case .gone(let agent): return "gone \(text(agent))"
        case .restarted(let agent, _): return "restarted \(text(agent))"
        case .returned(let agent, _): return "returned \(text(agent))"
        case .synced: return "synced"
        case .contactLost: return "contact lost"
        case .contactRegained: return "contact regained"
        case .resync: return "resync"
        case .ended(let status, _): return "ended \(status)"
        }
    }
}
