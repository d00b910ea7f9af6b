// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import struct EtcdModel.Generator
import EtcdProtocol

@testable import MetadataCore

/// One agent, one etcd, and what may befall each single request, by chance. (The simulator refuses all
/// requests for a while, never one among others that are taken.) The same seed, the same run.
final class RandomFates {
    struct Submitted {
        let operation: OperationID
        let call: HostCall
    }
    let world = World()
    let agent: World.Node
    /// Another process of the same name, from some moment on.
    var rival: World.Node?
    var submitted: [Submitted] = []
    /// The operator removed the agent's presence key.
    var operatorHasRemoved = false
    var wasWithdrawnLate = false
    private(set) var failures: [String] = []
    private(set) var trace: [String] = []
    private var random: Generator
    private let isTraced: Bool
    private let hasOperator: Bool
    private let hasRival: Bool
    private var blobs = 0
    private var eventsTraced = 0

    static let labels: [StaticString] = ["a", "b", "c", "d"]
    static let presence = Bytes("/nixl/agents//alpha/")
    /// Those after which nothing can have been carried out, and one after which it can.
    private static let refusals = [
        GRPCStatus(code: 7, message: Bytes("etcdserver: permission denied")),
        GRPCStatus(code: 8, message: Bytes("etcdserver: mvcc: database space exceeded")),
        GRPCStatus(code: 15, message: Bytes("etcdserver: corrupt cluster")),
    ]
    private static let withdrawals = [HostCall.stopHeartbeat(keep: false), .invalidate]
    private static let heartbeat = HostCall.startHeartbeat(interval: 1000, ttlSeconds: 5)

    init(seed: UInt64, isTraced: Bool = false) {
        self.isTraced = isTraced
        random = Generator(seed: seed)
        // With two labels to a transaction, a move and a restore take several.
        var portions = CoreConfiguration.Portions()
        if random.oneIn(2) { portions.batchOperations = 2 }
        agent = world.add("alpha", seed: seed, portions: portions)
        hasOperator = random.oneIn(3)
        hasRival = random.oneIn(7)
    }

    func run() {
        begin()
        let steps = 8 + random.below(25)
        let rivalAt = hasRival ? random.below(steps) : steps
        for index in 0..<steps {
            step()
            if index == rivalAt { rivalComes() }
        }
        if rival == nil, random.oneIn(2) { refuseEverything() }
        heal()
        note("now on lease \(agent.core.ownLease), \(world.etcd.store.count) keys")
        for each in submitted {
            let end = agent.completions[each.operation].map { "\($0.status)" } ?? "never ended"
            note("operation \(each.operation), \(brief(each.call)): \(end)")
        }
        check()
    }

    func fail(_ text: String) { failures.append(text) }

    func note(_ text: @autoclosure () -> String) {
        guard isTraced else { return }
        let events = agent.ownership[eventsTraced...].map { ", told \($0)" }.joined()
        eventsTraced = agent.ownership.count
        trace.append("\(world.now - 1_000_000) ms: \(text())\(events)")
    }

    func brief(_ call: HostCall) -> String {
        func text(_ bytes: Bytes) -> String { String(decoding: bytes, as: UTF8.self) }
        return switch call {
        case .publish(let label, let blob): "publish \(text(label))=\(text(blob))"
        case .unpublish(let label): "unpublish \(text(label))"
        default: "\(call)"
        }
    }

    // MARK: - What happens

    /// Mostly with something published, mostly under a lease.
    private func begin() {
        guard !random.oneIn(4) else { return }
        if !random.oneIn(3) { submitForSomeTime(Self.heartbeat) }
        for label in Self.labels {
            submitForSomeTime(.publish(label: Bytes(label), blob: Bytes("first")))
        }
        world.advance(by: 500)
    }

    private func step() {
        switch random.below(22) {
        case 0...3:
            blobs += 1
            let blob = Bytes("\(blobs)".utf8)
            submitForSomeTime(.publish(label: Bytes(random.pick(Self.labels)), blob: blob))
        case 4: submitForSomeTime(.unpublish(label: Bytes(random.pick(Self.labels))))
        case 5, 6: submitForSomeTime(.invalidate)
        case 7, 8: submitForSomeTime(Self.heartbeat)
        case 9: submitForSomeTime(.stopHeartbeat(keep: true))
        case 10: submitForSomeTime(.stopHeartbeat(keep: false))
        case 11: cancelLast()
        case 12: cut()
        case 13:
            world.isDown = true
            cut()
        case 14, 15:
            note("etcd can be reached")
            world.isDown = false
        case 16: revokeLease()
        case 17: executeLate()
        case 18 where hasOperator: operatorRemoves()
        default:
            addFate()
            addFate()
            if random.oneIn(2) { add(.late, of: .txn) }
        }
        let pause: Milliseconds = random.pick([0, 10, 100, 300, 1500])
        if pause > 0 { world.advance(by: pause) }
    }

    @discardableResult
    private func submit(_ call: HostCall, timeout: Milliseconds?) -> OperationID {
        note("\(brief(call)), time-out \(timeout.map { "\($0)" } ?? "none")")
        let operation = world.submit(agent, call, timeout: timeout)
        submitted.append(Submitted(operation: operation, call: call))
        return operation
    }

    private func submitForSomeTime(_ call: HostCall) {
        submit(call, timeout: random.pick([300, 2000, 30_000]))
    }

    private func cancelLast() {
        guard let open = submitted.last(where: { agent.completions[$0.operation] == nil }) else {
            return
        }
        note("cancel \(brief(open.call))")
        agent.core.cancel(open.operation, now: world.now)
        world.settle()
    }

    private func addFate() {
        // Half of them of transactions, by which all keys are written.
        let method: EtcdMethod = random.pick([
            .txn, .txn, .txn, .txn, .range, .leaseGrant, .leaseTimeToLive, .leaseRevoke,
        ])
        switch random.below(10) {
        case 0...2: add(.ordinary, of: method)
        case 3, 4: add(.answerLost, of: method)
        case 5, 6: add(.late, of: method)
        default: add(.refused(random.pick(Self.refusals)), of: method)
        }
    }

    private func add(_ fate: World.Fate, of method: EtcdMethod) {
        note("to come: \(method) \(brief(fate))")
        world.fates.append((method, fate))
    }

    private func brief(_ fate: World.Fate) -> String {
        if case .refused(let status) = fate { "refused with \(status.code)" } else { "\(fate)" }
    }

    private func cut() {
        note("the connection breaks\(world.isDown ? ", and there is no other" : "")")
        world.cut(agent)
    }

    private func revokeLease() {
        let lease = agent.core.ownLease
        guard world.etcd.leases[lease] != nil else { return }
        note("lease \(lease) is revoked")
        world.etcd.revoke(lease)
        world.settle()
    }

    private func operatorRemoves() {
        note("an operator removes all keys")
        if world.etcd.value(Self.presence) != nil { operatorHasRemoved = true }
        let end = Keyspace.end(of: Self.presence)
        world.etcd.apply([.delete(key: Self.presence, rangeEnd: end)])
        world.settle()
    }

    private func executeLate() {
        note("what is late is carried out")
        let wasThere = world.etcd.value(Self.presence) != nil
        world.executeLate()
        if wasThere, world.etcd.value(Self.presence) == nil { wasWithdrawnLate = true }
    }

    private func rivalComes() {
        note("another process takes the name")
        let node = world.add("alpha", seed: .max)
        rival = node
        if random.oneIn(2) { world.submit(node, Self.heartbeat) }
        world.submit(
            node, .publish(label: Bytes("rival"), blob: Bytes("rival")), timeout: 30_000)
    }

    /// etcd refuses all writes for a while: a withdrawal or publish then gets that status, and
    /// nothing spins.
    private func refuseEverything() {
        let status = random.pick(Self.refusals)
        let isFull = status.code == GRPCStatus.resourceExhausted
        note("everything that writes is refused with \(status.code)")
        world.fates = []
        world.refusals = [.txn: status]
        // Leases can be revoked while the database is full, but none is granted.
        world.refusals[isFull ? .leaseGrant : .leaseRevoke] = status
        // By the time it is refused, the host may have given it up, or its lease may have ended.
        world.isDown = random.oneIn(2)
        if world.isDown { cut() }
        for _ in 0..<random.below(4) {
            if random.oneIn(2) { revokeLease() }
            submitForSomeTime(random.pick(Self.withdrawals))
            world.advance(by: random.pick([0, 10, 1000, 6000]))
        }
        // 'No space' is no answer to a reading.
        if random.oneIn(2), status.code != GRPCStatus.resourceExhausted { refuseReads(status) }
        // The database may be compacted meanwhile: 'no space' must be reported after the time-out
        // has passed.
        let timeout: Milliseconds? = isFull ? 20_000 : nil
        let operations = [
            submit(random.pick(Self.withdrawals), timeout: nil),
            submit(
                .publish(label: Bytes("refused"), blob: Bytes("refused")), timeout: timeout),
        ]
        if random.oneIn(2) { revokeLease() }
        world.isDown = false
        let requests = world.etcd.requests
        let connects = agent.connects
        // Some hosts ask again and again: no reason to doubt the connection.
        for _ in 0..<random.pick([0, 0, 0, 30]) {
            submit(.invalidate, timeout: nil)
            world.advance(by: 100)
        }
        world.advance(by: 35_000)
        for operation in operations where agent.completions[operation] == nil {
            fail("\(operation) is not told that etcd refuses it")
        }
        // A second one, where a lease that is missing leaves the store in doubt.
        checkPace(since: requests, atMost: 200, connects, atMost: 2, "while all is refused")
    }

    /// The answer to a withdrawal is lost, and from then on nothing can be read either.
    private func refuseReads(_ status: GRPCStatus) {
        note("reads are refused, too, behind a lost withdrawal")
        let wasDown = world.isDown
        world.isDown = false
        let isCarriedOut = random.oneIn(2)
        world.fates = [(.leaseRevoke, isCarriedOut ? .answerLost : .late)]
        submitForSomeTime(random.pick(Self.withdrawals))
        world.advance(by: 100)
        // A later withdrawal may be reported as refused, and then that the keys are gone: both are
        // true.
        if isCarriedOut { wasWithdrawnLate = true }
        world.fates = []
        world.isDown = wasDown
        for method: EtcdMethod in [.range, .leaseTimeToLive] { world.refusals[method] = status }
    }

    private func heal() {
        note("all is well from here on")
        world.fates = []
        world.refusals = [:]
        world.isDown = false
        let requests = world.etcd.requests
        let connects = agent.connects
        executeLate()
        world.advance(by: 60_000)
        checkPace(since: requests, atMost: 200, connects, atMost: 5, "while it settles")
    }
}
