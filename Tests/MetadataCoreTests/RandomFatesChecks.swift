// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

@testable import MetadataCore

/// An agent must satisfy this after a minute without faults, whatever happened to its requests.
extension RandomFates {
    func check() {
        for each in submitted where agent.completions[each.operation] == nil {
            fail("\(each.operation) \(brief(each.call)) never ended")
        }
        if let rival {
            checkRival(rival)
            return
        }
        // BACKEND leaves open whether a withdrawal will be carried out: a lease that then ends may have been withdrawn.
        let mayBeWithdrawn = submitted.contains {
            isWithdrawal($0.call) && agent.completions[$0.operation]?.status == .backend
        }
        if mayBeWithdrawn { wasWithdrawnLate = true }
        checkEvents()
        checkStore()
        checkLeases()
        checkHeartbeat()
        let waiting = agent.core.waiting
        if waiting.calls + waiting.others > 0 { fail("waits: \(waiting)") }
        // While a revocation of ours is in doubt, whatever ends the lease is taken for it.
        let isTakenForOurs =
            world.hasRevocationInDoubt && agent.ownership.contains { $0 == "WITHDRAWN" }
        if !operatorHasRemoved, !wasWithdrawnLate, !isTakenForOurs { checkBlobs() }
        checkQuiet()
        checkUse()
        checkShutdown()
    }

    /// The requests and connections since there were so many.
    func checkPace(
        since requests: Int, atMost limit: Int, _ connects: Int, atMost connectLimit: Int,
        _ when: String
    ) {
        let sent = world.etcd.requests - requests
        let connected = agent.connects - connects
        if sent > limit { fail("\(sent) requests \(when)") }
        if connected > connectLimit { fail("\(connected) connections \(when)") }
    }

    private func isOwned(by node: World.Node) -> Bool { node.owns(world.etcd, Self.presence) }

    private func text(_ bytes: Bytes?) -> String {
        bytes.map { String(decoding: $0, as: UTF8.self) } ?? "nothing"
    }

    private func key(_ label: Bytes) -> Bytes { Self.presence + label }

    private func isWithdrawal(_ call: HostCall) -> Bool {
        switch call {
        case .invalidate, .stopHeartbeat(keep: false): true
        default: false
        }
    }

    // MARK: - Two of one name

    private func checkRival(_ rival: World.Node) {
        checkLeases()
        // Its only publish is the last that it did.
        let publish = rival.completions.max { $0.key < $1.key }?.value
        guard publish?.status == .success else { return }
        guard isOwned(by: rival) else {
            if rival.ownership.isEmpty { fail("the other published, and owns nothing") }
            return
        }
        let label = key(Bytes("rival"))
        for record in world.etcd.store where record.key != label && record.key != Self.presence {
            fail("\(text(record.key)) on lease \(record.lease) is among the other's keys")
        }
        if world.etcd.value(label) == nil { fail("the other's label is missing") }
    }

    // MARK: - Events and completions of the host

    private func checkEvents() {
        // A withdrawal ends what was lost: then there is nothing to put back, and nothing to tell.
        let wasWithdrawn = submitted.contains { isWithdrawal($0.call) }
        var isLost = false
        for event in agent.ownership {
            switch event {
            case "LOST":
                if isLost, !wasWithdrawn { fail("LOST twice") }
                isLost = true
            case "RESTORED":
                if !isLost { fail("RESTORED without LOST") }
                isLost = false
            case "WITHDRAWN":
                if !operatorHasRemoved, !wasWithdrawnLate, !world.hasRevocationInDoubt {
                    fail("WITHDRAWN, by nobody")
                }
                isLost = false
            default: fail("\(event), by nobody")
            }
        }
        if isLost, !wasWithdrawn, isOwned(by: agent) { fail("LOST, and not RESTORED") }
    }

    // MARK: - What the store holds

    private func checkStore() {
        guard !world.etcd.store.isEmpty else { return }
        if world.etcd.value(Self.presence) == nil { fail("labels without a presence key") }
        let lease = agent.core.ownLease
        for record in world.etcd.store where record.lease != lease || lease == 0 {
            fail("\(text(record.key)) is on lease \(record.lease), not \(lease)")
        }
    }

    /// Each is of one process that lives, or came when nobody waited for it any more, and is empty.
    private func checkLeases() {
        let owned = world.nodes.map { $0.core.ownLease }
        for lease in world.etcd.leases.keys.sorted() where !owned.contains(lease) {
            let isEmpty = !world.etcd.store.contains { $0.lease == lease }
            if isEmpty, world.leftLeases.contains(lease) { continue }
            fail("lease \(lease) is left")
        }
    }

    /// The heartbeat is a mode: while it is on, what is there hangs on its lease, else on one that never ends.
    private func checkHeartbeat() {
        guard let isOn = isHeartbeatExpected, let key = world.etcd.value(Self.presence) else {
            return
        }
        if isOn != (key.lease == agent.core.counters.leaseID) {
            fail("the heartbeat is \(isOn ? "off" : "on")")
        }
    }

    /// The completions decide what each label must hold.
    private func checkBlobs() {
        for label in Self.labels.map({ Bytes($0) }) {
            guard case .some(let blob) = expected(label) else { continue }
            // An empty value is none: it is what a label leaves whose removal waits for its turn.
            let kept = world.etcd.value(key(label)).map { $0.value }
            let found = kept?.isEmpty == true ? nil : kept
            if found != blob { fail("\(text(label)) is \(text(found)), expected \(text(blob))") }
        }
    }

    /// nil: it may be one or the other, or nothing was said.
    private func expected(_ label: Bytes) -> Bytes?? {
        var expected: Bytes??
        for each in submitted {
            let status = agent.completions[each.operation]?.status
            switch each.call {
            case .publish(label, let blob): expected = status == .success ? .some(blob) : nil
            case .unpublish(label):
                if status == .success {
                    expected = .some(nil)
                } else if status != .notFound {
                    expected = nil
                }
            case let call where isWithdrawal(call):
                switch status {
                case .success: expected = .some(nil)
                case .timedOut, .canceled, .replaced: expected = nil
                default: break
                }
            default: break
            }
        }
        return expected
    }

    /// Follows from the completions, in their order. nil: a withdrawal that timed out may have
    /// ended it or not.
    private var isHeartbeatExpected: Bool? {
        var isOn: Bool? = false
        for each in submitted {
            let status = agent.completions[each.operation]?.status
            switch each.call {
            case .startHeartbeat: isOn = true
            case .stopHeartbeat(keep: true): isOn = false
            case .stopHeartbeat:
                switch status {
                case .success, .notFound: isOn = false
                // A withdrawal that etcd refuses leaves the heartbeat on.
                case .permission, .noSpace, .backend: break
                default: isOn = nil
                }
            default: break
            }
        }
        return isOn
    }

    // MARK: - What comes after

    private func checkQuiet() {
        let requests = world.etcd.requests
        let connects = agent.connects
        world.advance(by: 10_000)
        checkPace(since: requests, atMost: 10, connects, atMost: 0, "when all is quiet")
    }

    /// It is as good as new.
    private func checkUse() {
        let publish = world.submit(
            agent, .publish(label: Bytes("after"), blob: Bytes("after")), timeout: 10_000)
        world.advance(by: 10_100)
        guard let status = agent.completions[publish]?.status, status == .success else {
            fail("a publish afterwards: \(String(describing: agent.completions[publish]?.status))")
            return
        }
    }

    private func checkShutdown() {
        agent.core.shutdown(drain: 5000, now: world.now)
        agent.core.advance(now: world.now)
        world.advance(by: 5100)
        if !agent.core.isShutDown { fail("not shut down in its time") }
        if !world.etcd.store.isEmpty { fail("a shutdown leaves \(world.etcd.store.count) keys") }
        for lease in world.etcd.leases.keys where !world.leftLeases.contains(lease) {
            fail("a shutdown leaves lease \(lease)")
        }
    }
}
