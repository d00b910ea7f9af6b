// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol
import MetadataCore

/// The keys that one process may have in the store, by its calls and their completions.
final class OwnershipLedger {
    struct Label {
        /// The blobs that the label may hold; nil: none.
        var allowed: [Bytes?] = [nil]
        var lastCall = 0
        var openCalls = 0

        mutating func allow(_ value: Bytes?) {
            if !allowed.contains(value) { allowed.append(value) }
        }
    }
    let author: Int
    private(set) var labels: [Bytes: Label] = [:]
    private(set) var isSuperseded = false
    /// A completion has confirmed that it owns its name.
    private(set) var mustHold = false
    /// Something of it may be there.
    private(set) var mayHold = false
    /// How often it may begin to take the name.
    private(set) var licences = 1
    /// LOST was reported and not RESTORED; nil: a withdrawal meanwhile may have ended that.
    private(set) var isLost: Bool? = false
    /// How often LOST was reported.
    private(set) var losses = 0
    private var lastLoss: Milliseconds?
    /// The earliest time, by its own clock, at which lost keys may be restored.
    private var restoreFrom: Milliseconds = 0
    private var removals = 0
    /// Withdrawals that etcd refused, and may have carried out: once the lease is gone nobody can tell whose doing it was.
    private var refusedWithdrawals = 0
    private var calls = 0
    private var serial = 0
    /// When the withdrawals that are open were asked for.
    private var withdrawals: [OperationID: Int] = [:]
    private var publishCalls: [OperationID: Int] = [:]
    private var lastWithdrawal = 0
    /// Whether a heartbeat must be running; nil: it is not known.
    private(set) var wantsLease: Bool? = false
    private var stopsOpen = 0
    /// When each stop that is open, and the last start, were asked for.
    private var stops: [OperationID: Int] = [:]
    private var lastStart = 0

    init(author: Int) { self.author = author }

    // MARK: - Calls

    func publish(_ label: Bytes, _ host: SimulatedHost) {
        serial += 1
        let text = "\(author).\(serial)"
        var blob = Array(text.utf8)
        if host.world.scenario.hasLargeBlobs {
            let padding = host.world.random.pick([0, 100, 1000, 2000, 2000, 3000])
            blob += Array(repeating: UInt8(ascii: "."), count: padding)
        }
        let id = host.operations.submit(
            .publish(label: label, blob: blob), timeout: timeout(host), host)
        begin(label, id)
        mayHold = true
    }

    /// When all has healed a publish must succeed.
    func probe(_ host: SimulatedHost) {
        guard !isSuperseded, !host.world.scenario.sharesNames else { return }
        serial += 1
        let id = host.operations.submit(
            .publish(label: "probe".utf8.map { $0 }, blob: Array("\(author).\(serial)".utf8)),
            timeout: 10_000, host)
        host.operations.mustSucceed.insert(id)
        begin("probe".utf8.map { $0 }, id)
        mayHold = true
    }

    func unpublish(_ label: Bytes, _ host: SimulatedHost) {
        let id = host.operations.submit(.unpublish(label: label), timeout: timeout(host), host)
        begin(label, id)
    }

    private func begin(_ label: Bytes, _ id: OperationID) {
        calls += 1
        labels[label, default: Label()].lastCall = calls
        labels[label, default: Label()].openCalls += 1
        publishCalls[id] = calls
    }

    func invalidate(_ host: SimulatedHost) {
        withdraw(host.operations.submit(.invalidate, timeout: timeout(host), host))
    }

    func startHeartbeat(_ host: SimulatedHost) {
        let plans: [(Milliseconds, Int64)] =
            host.world.scenario.isGentle
            ? [(1000, 5), (1500, 6), (2000, 10)] : [(300, 2), (1000, 3), (1000, 5), (3000, 10)]
        let (interval, ttl) = host.world.random.pick(plans)
        calls += 1
        lastStart = calls
        host.operations.submit(
            .startHeartbeat(interval: interval, ttlSeconds: ttl), timeout: timeout(host), host)
    }

    func stopHeartbeat(keep: Bool, _ host: SimulatedHost) {
        let id = host.operations.submit(.stopHeartbeat(keep: keep), timeout: timeout(host), host)
        calls += 1
        stops[id] = calls
        wantsLease = nil
        stopsOpen += 1
        if !keep { withdraw(id) }
    }

    private func withdraw(_ id: OperationID) {
        calls += 1
        withdrawals[id] = calls
        lastWithdrawal = calls
        licences += 1
        mustHold = false
        restoreFrom = 0
        if isLost == true { isLost = nil }
        // Until the withdrawal completes, both are possible.
        for label in labels.keys { labels[label]?.allow(nil) }
    }

    private func timeout(_ host: SimulatedHost) -> Milliseconds {
        host.world.scenario.isCalm || host.world.random.oneIn(2)
            ? 10_000 : host.world.random.within(20...3_000)
    }

    // MARK: - Events and completions

    func completed(_ completion: Completion, _ call: HostCall, _ host: SimulatedHost) {
        let isDone = completion.status == .success
        if case .stopHeartbeat = call { stopsOpen -= 1 }
        switch call {
        case .publish(let label, let blob):
            let isLast = (publishCalls[completion.operation] ?? 0) > lastWithdrawal
            ended(completion, label, isLast, blob)
            if isDone {
                checkWritten(completion, label, blob, host)
                if withdrawals.isEmpty, isLast { mustHold = !isSuperseded }
            }
        case .unpublish(let label):
            ended(completion, label, true, nil)
        case .invalidate: withdrew(completion)
        case .stopHeartbeat(keep: false):
            if isDone { hasStopped(completion.operation) }
            withdrew(completion)
        case .startHeartbeat:
            if isDone {
                // Earlier notices may be taken after the host called for the stop.
                wantsLease = stopsOpen > 0 ? nil : !isSuperseded
            } else if completion.status != .notAllowed {
                wantsLease = nil
            }
        case .stopHeartbeat: if isDone { hasStopped(completion.operation) }
        case .fetch, .watch, .list: break
        }
    }

    /// A start that was asked for later holds.
    private func hasStopped(_ operation: OperationID) {
        wantsLease = (stops.removeValue(forKey: operation) ?? 0) > lastStart ? false : nil
    }

    private func ended(
        _ completion: Completion, _ label: Bytes, _ isLast: Bool, _ value: Bytes?
    ) {
        labels[label]?.openCalls -= 1
        publishCalls[completion.operation] = nil
        switch completion.status {
        case .success:
            labels[label]?.allowed = [value]
            if !withdrawals.isEmpty || !isLast { labels[label]?.allow(nil) }
        case .notFound, .superseded, .limit, .shutDown: break
        default: labels[label]?.allow(value)
        }
    }

    private func withdrew(_ completion: Completion) {
        guard let at = withdrawals.removeValue(forKey: completion.operation) else { return }
        let isDone = completion.status == .success
        switch completion.status {
        case .success, .timedOut, .canceled: break
        default: refusedWithdrawals += 1
        }
        // It may have been asked for before LOST was heard of.
        if isLost == true { isLost = nil }
        for (label, entry) in labels {
            if isDone, entry.lastCall < at || entry.openCalls > 0 {
                labels[label]?.allowed = [nil]
            } else {
                labels[label]?.allow(nil)
            }
        }
        let isLast = !labels.values.contains { $0.lastCall > at }
        if isDone, isLast, withdrawals.isEmpty { mayHold = false }
    }

    func told(_ event: OwnershipEvent, _ host: SimulatedHost) {
        switch event {
        case .lost(let text):
            if isLost == true { host.fail("LOST twice") }
            isLost = true
            losses += 1
            pace(host)
            let stores = host.world.stores.count - 1 - host.bornIn.store
            if losses > host.world.cluster.leasesLost(by: author) + stores {
                let why = String(decoding: text.bytes, as: UTF8.self)
                host.fail("LOST \(losses) times, and no lease of it has ended so often: \(why)")
            }
            // A takeover revokes the lease that it has emptied, if that lease never ends.
            let isReplaced = host.world.history.replaced.contains(author)
            if host.world.now > host.world.excuses[host.index], !isReplaced {
                host.fail("LOST for no reason: \(String(decoding: text.bytes, as: UTF8.self))")
            }
        case .restored(let revision):
            if isLost == false { host.fail("RESTORED without LOST") }
            isLost = false
            if host.clock < restoreFrom {
                host.fail("RESTORED \(restoreFrom - host.clock) ms early after the second LOST")
            }
            checkRestored(revision, host)
        case .superseded:
            if isSuperseded { host.fail("SUPERSEDED twice") }
            if !host.world.history.replaced.contains(author) {
                host.fail("SUPERSEDED by nobody")
            }
            isSuperseded = true
            isLost = false
            wantsLease = false
            nothingIsLeft()
        case .withdrawn:
            removals += 1
            let others = host.world.history.removals(of: host)
            if removals > others + refusedWithdrawals {
                host.fail(
                    "WITHDRAWN \(removals) times; others removed its presence key \(others) times, itself at most \(refusedWithdrawals) times"
                )
            }
            licences += 1
            isLost = false
            nothingIsLeft()
        }
    }

    /// The second loss within a minute is restored after a second, since something may revoke the
    /// lease again and again. Not where the store was replaced; and a host that hears late is not
    /// checked.
    private func pace(_ host: SimulatedHost) {
        defer { lastLoss = host.clock }
        guard let lastLoss, host.clock < lastLoss + 59_000, host.world.stores.count == 1,
            host.appetite > 2
        else { return }
        restoreFrom = host.clock + 990
    }

    /// Everything that was published is back, unless others, or a late request, have had the name since.
    private func checkRestored(_ revision: Int64, _ host: SimulatedHost) {
        guard let name = host.name, withdrawals.isEmpty else { return }
        let store = host.storeOfNotice
        guard revision <= store.revision,
            let presence = store.record(host.world.key(name, []), at: revision)
        else { return }
        let commit = store.commit(presence.modRevision)
        guard commit.author == author, !commit.isLate else { return }
        for (label, entry) in labels where entry.openCalls == 0 && entry.allowed.count == 1 {
            let found = store.record(host.world.key(name, label), at: revision)
            let value = found.flatMap { $0.value.isEmpty ? nil : $0.value }
            if value != entry.allowed[0] {
                func text(_ value: Bytes?) -> String {
                    value.map { String(decoding: $0.prefix(20), as: UTF8.self) } ?? "nothing"
                }
                host.fail(
                    "RESTORED at \(revision), and label \(text(label)) holds \(text(value)), not \(text(entry.allowed[0]))"
                )
            }
            if let found, found.lease != presence.lease {
                host.fail("RESTORED, and a label hangs on lease \(found.lease)")
            }
        }
    }

    private func nothingIsLeft() {
        mustHold = false
        restoreFrom = 0
        mayHold = labels.values.contains { $0.openCalls > 0 }
        for label in labels.keys { labels[label]?.allowed = [nil] }
    }

    /// A success names the revision that wrote it.
    private func checkWritten(
        _ completion: Completion, _ label: Bytes, _ blob: Bytes, _ host: SimulatedHost
    ) {
        guard let name = host.name else { return }
        let key = host.world.key(name, label)
        let revision = completion.revision
        let isTrue = host.world.stores.contains { store in
            guard revision > 1, revision <= store.revision else { return false }
            let commit = store.commit(revision)
            return commit.author == author
                && commit.changes.contains { $0.key == key && $0.record?.value == blob }
        }
        if !isTrue {
            host.fail("publish succeeded at revision \(revision), which does not hold it")
        }
    }

    // MARK: - When all is quiet

    func checkSettled(_ host: SimulatedHost) {
        guard let name = host.name else { return }
        let store = host.world.cluster.store
        let presence = store[host.world.key(name, [])]
        let owner = presence.flatMap { store.commit($0.modRevision).author }
        if isLost == true { host.fail("LOST and never RESTORED") }
        if let presence, !mayHold, host.world.mayHaveComeLate(presence) { return }
        guard owner == author, let presence else {
            if mustHold { host.fail("its keys are not there") }
            return
        }
        if !mayHold { host.fail("its presence key is there although it withdrew") }
        let lease = host.core.ownLease
        if presence.lease != lease {
            host.fail("its presence key hangs on lease \(presence.lease), not on \(lease)")
        }
        if lease != 0, store.leases[lease] == nil { host.fail("its lease is not alive") }
        // The lowest bit says that a lease never ends.
        if let wantsLease, wantsLease == (presence.lease & 1 == 1) {
            host.fail("its keys hang on lease \(presence.lease); heartbeat: \(wantsLease)")
        }
        guard mustHold else { return }
        checkLabels(host, name, lease)
    }

    private func checkLabels(_ host: SimulatedHost, _ name: Bytes, _ lease: Int64) {
        let prefix = host.world.key(name, [])
        var end = prefix
        end[end.count - 1] += 1
        let store = host.world.cluster.store
        var found: [Bytes: Bytes] = [:]
        for record in store.range(prefix, end, at: store.revision) where record.key != prefix {
            let label = Bytes(record.key.dropFirst(prefix.count))
            // An empty value is as good as none.
            if !record.value.isEmpty { found[label] = record.value }
            if record.lease != lease { host.fail("a label hangs on lease \(record.lease)") }
            if labels[label] == nil { host.fail("a label is there that it never published") }
        }
        for (label, entry) in labels where !entry.allowed.contains(found[label]) {
            func text(_ value: Bytes?) -> String {
                value.map { String(decoding: $0, as: UTF8.self) } ?? "nothing"
            }
            host.fail(
                "label \(text(label)) holds \(text(found[label])), not \(entry.allowed.map(text))")
        }
    }
}
