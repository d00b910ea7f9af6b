// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol
import MetadataCore

/// Every operation completes exactly once, with a status that fits, and does not outlive its time-out.
final class OperationChecker {
    enum Kind {
        case publish, unpublish, startHeartbeat, stopHeartbeat, fetch, watch, invalidate, list
    }
    struct Open {
        let id: OperationID
        let call: HostCall
        let kind: Kind
        let deadline: Milliseconds?
        let begun: Moment
        /// Some time before that.
        let earlier: Moment
    }
    private(set) var open: [Open] = []
    private var isCanceled: Set<OperationID> = []
    /// Operations up to this one may have waited for a heartbeat whose start was canceled.
    private var lastBeforeCancel: OperationID = 0
    var isShuttingDown = false
    /// Made when all was well again.
    var mustSucceed: Set<OperationID> = []
    private var lastID: OperationID = 0

    @discardableResult
    func submit(
        _ call: HostCall, timeout: Milliseconds?, _ host: SimulatedHost
    ) -> OperationID {
        lastID += 1
        let now = host.clock
        open.append(
            Open(
                id: lastID, call: call, kind: Kind(call), deadline: timeout.map { now + $0 },
                begun: host.world.moment, earlier: host.world.earlier))
        host.core.submit(call, operation: lastID, timeout: timeout, now: now)
        host.wake(at: host.world.now)
        return lastID
    }

    /// One of those open is canceled.
    func cancelAny(_ random: inout Generator) -> OperationID? {
        guard !open.isEmpty else { return nil }
        let operation = open[random.below(open.count)]
        isCanceled.insert(operation.id)
        if operation.kind == .startHeartbeat { lastBeforeCancel = lastID }
        return operation.id
    }

    private func close(_ id: OperationID, _ host: SimulatedHost) -> Open? {
        guard let at = open.firstIndex(where: { $0.id == id }) else {
            host.fail("operation \(id) completes again, or was never begun")
            return nil
        }
        return open.remove(at: at)
    }

    func completed(_ completion: Completion, _ host: SimulatedHost) {
        guard let done = close(completion.operation, host) else { return }
        if done.kind == .watch { host.fail("watch \(done.id) completes like an operation") }
        checkStatus(completion, done, host)
        checkPunctual(completion, done, host)
        switch done.call {
        case .fetch(let agent, let label, _):
            checkFetch(completion, agent, label, done.begun, host)
        case .list: checkList(completion, done.begun, host)
        case .publish, .unpublish:
            if completion.status == .notAllowed { checkRefusal(done, host) }
            host.ownership.completed(completion, done.call, host)
        default: host.ownership.completed(completion, done.call, host)
        }
    }

    func watchEnded(_ id: OperationID, _ status: Status, _ host: SimulatedHost) {
        guard close(id, host) != nil else { return }
        switch status {
        case .permission, .unauthenticated: checkRefused(status, "watch \(id)", host)
        default:
            if status != .canceled || !(isCanceled.contains(id) || isShuttingDown) {
                host.fail("watch \(id) ended with \(status)")
            }
        }
    }

    /// etcd refuses for good only while it has a reason.
    private func checkRefused(_ status: Status, _ what: String, _ host: SimulatedHost) {
        let fault: Scenario.Fault? =
            switch status {
            case .noSpace: .noSpace
            case .permission: .forbidden
            case .unauthenticated: .passwordChanged
            default: nil
            }
        let until = fault.flatMap { host.world.refusedUntil[$0] }
        // A write that a full database refuses waits for its time-out, and is repeated every two
        // seconds.
        let grace: Milliseconds = status == .noSpace ? 2500 : 0
        // A host that is slow or stood still hears late: an earlier answer may be the last that it
        // heard.
        let isLate = host.appetite <= 2 || host.clock <= host.excusedUntil + 1000 + grace
        guard let until, host.world.now <= until + Instant(grace) * 1000 || isLate else {
            host.fail("\(what) ended with \(status) for no reason")
            return
        }
    }

    /// After a tick, when all its notices have been taken.
    func check(_ host: SimulatedHost, now: Milliseconds) {
        for operation in open {
            if let deadline = operation.deadline, now >= deadline {
                host.fail("operation \(operation.id) (\(operation.kind)) outlives its time-out")
            }
        }
    }

    func checkNothingIsOpen(_ host: SimulatedHost) {
        for operation in open {
            host.fail("operation \(operation.id) (\(operation.kind)) is left open by the shutdown")
        }
    }

    // MARK: - What may come

    private func checkStatus(_ completion: Completion, _ done: Open, _ host: SimulatedHost) {
        let status = completion.status
        if mustSucceed.contains(done.id), status != .success {
            host.fail(
                "\(done.kind) ends with \(status) although all is well: \(String(decoding: completion.text.bytes, as: UTF8.self))"
            )
        }
        let mayBe: [Status] =
            switch done.kind {
            case .publish, .unpublish:
                [.success, .replaced, .notFound, .notAllowed, .mismatch, .superseded, .limit]
            case .startHeartbeat: [.success, .notAllowed, .superseded, .canceled]
            case .stopHeartbeat: [.success, .notFound, .superseded, .replaced]
            case .fetch: [.success, .notFound]
            case .invalidate: [.success, .superseded]
            case .list: [.success]
            case .watch: []
            }
        if mayBe.contains(status) { return }
        switch status {
        case .permission
        where (done.kind == .invalidate || done.kind == .stopHeartbeat)
            && host.world.holdsForeignKey(of: host.author):
            // A claim without an answer may be carried out later, as long as its lease is there.
            break
        case .noSpace, .permission, .unauthenticated:
            checkRefused(status, "\(done.kind) \(done.id)", host)
        case .tooLarge:
            guard case .publish(_, let blob) = done.call,
                blob.count + 400 > host.world.scenario.settings.maximumRequest
            else {
                host.fail("\(done.kind) was too large although it is small")
                return
            }
        case .canceled, .shutDown:
            let mayHaveWaited =
                (done.kind == .publish || done.kind == .unpublish) && done.id <= lastBeforeCancel
            if !isShuttingDown, !isCanceled.contains(done.id), !mayHaveWaited {
                host.fail("operation \(done.id) (\(done.kind)) was canceled by nobody")
            }
        case .timedOut:
            // Without faults only what waits for others may run out of time.
            if host.world.scenario.isCalm, done.kind != .fetch, host.appetite > 2 {
                host.fail("operation \(done.id) (\(done.kind)) timed out for no reason")
            }
        default:
            host.fail(
                "operation \(done.id) (\(done.kind)) completes with \(status): \(String(decoding: completion.text.bytes, as: UTF8.self))"
            )
        }
    }

    /// The core wakes its host for a time-out, so that it ends when it says and not whenever something else happens.
    private func checkPunctual(_ completion: Completion, _ done: Open, _ host: SimulatedHost) {
        guard let deadline = done.deadline, deadline > host.excusedUntil, host.appetite > 2 else {
            return
        }
        let late = host.clock > deadline ? host.clock - deadline : 0
        if late > host.patience {
            host.fail("\(done.kind) ends with \(completion.status) \(late) ms after its time-out")
        }
    }

    /// A fetch returns a state of the store between its call and its answer.
    private func checkFetch(
        _ completion: Completion, _ agent: Bytes, _ label: Bytes, _ begun: Moment,
        _ host: SimulatedHost
    ) {
        let world = host.world
        let key = world.key(agent, label)
        switch completion.status {
        case .success:
            let revision = completion.revision
            let isTrue = world.stores.enumerated().contains { index, store in
                guard index >= begun.store, revision > 1, revision <= store.revision else {
                    return false
                }
                let wasPut = store.commit(revision).changes.contains {
                    $0.key == key && $0.record?.value == completion.blob
                }
                guard wasPut, index == begun.store, revision <= begun.revision else {
                    return wasPut
                }
                return store.record(key, at: begun.revision)?.modRevision == revision
            }
            if !isTrue {
                host.fail("a fetch found what was not there at its time, at revision \(revision)")
            }
        case .notFound:
            // A label on a lease that never ends counts while its agent's presence key is there.
            let wasAbsent =
                world.was(since: begun, key) { $0?.value.isEmpty ?? true }
                || world.was(since: begun, key) { $0.map { $0.lease & 1 == 1 } ?? true }
                    && world.was(since: begun, world.key(agent, [])) { $0 == nil }
            if !wasAbsent {
                host.fail(
                    "a fetch found nothing although label '\(String(decoding: key, as: UTF8.self))' was there"
                )
            }
        default: break
        }
    }

    private func checkList(_ completion: Completion, _ begun: Moment, _ host: SimulatedHost) {
        guard completion.status == .success, let agents = completion.agents else { return }
        func line(_ name: Bytes, _ incarnation: UInt64) -> String {
            "\(String(decoding: name, as: UTF8.self)) \(incarnation)"
        }
        let told = agents.map { line($0.name, $0.incarnation) }
        let store = host.storeOfNotice
        if store === host.world.stores[begun.store], completion.revision < begun.revision {
            host.fail("a list is of revision \(completion.revision), older than its call")
        }
        let was = AgentState.all(host.world, store, at: completion.revision).map {
            line($0.0, $0.1.incarnation ?? 0)
        }
        if told != was {
            host.fail("a list told \(told); at its revision \(completion.revision) it was \(was)")
        }
    }

    /// NOT_ALLOWED: another held the name at some moment since the call, or since shortly before it: a claim may have
    /// been under way. A permanent key of its own, whose Put was never answered, it cannot tell from another's.
    private func checkRefusal(_ done: Open, _ host: SimulatedHost) {
        guard let name = host.name else { return }
        let world = host.world
        let wasAnothers = world.was(since: done.earlier, world.key(name, [])) { record in
            record.map { world.author(of: $0) != host.author || $0.lease == 0 } ?? false
        }
        if !wasAnothers { host.fail("\(done.kind) was not allowed although nobody had the name") }
    }
}

extension OperationChecker.Kind {
    init(_ call: HostCall) {
        self =
            switch call {
            case .publish: .publish
            case .unpublish: .unpublish
            case .startHeartbeat: .startHeartbeat
            case .stopHeartbeat: .stopHeartbeat
            case .fetch: .fetch
            case .watch: .watch
            case .invalidate: .invalidate
            case .list: .list
            }
    }
}
