// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import MetadataCore

/// The possible next events. A name says who does what.
enum Happening: Hashable {
    case starts(Int)
    case publishes(Int)
    case withdraws(Int)
    case stopsHeartbeat(Int)
    case shutsDown(Int)
    case publishesMeanwhile(Int)
    case renewalsAreRefused(Int)
    case peerPuts(mark: Bool)
    case publishesAgain(Int)
    /// The heartbeat starts, or stops with KEEP.
    case movesKeys(Int)
    case connects(Int)
    case sends(Int)
    case timePasses(Int)
    case selfWatch(Int)
    case renewalTells(Int, lease: Int64)
    case answered(Int, request: Int)
    /// The connection breaks; of the requests in flight those with a bit are carried out, the others perhaps later.
    case breaks(Int, carriedOut: Int)
    case refused(Int, request: Int)
    case noSpace(Int, request: Int, carriedOut: Bool)
    /// etcd answers with a timeout, and carries it out now, later, or never.
    case timesOut(Int, request: Int, carriedOut: Bool)
    /// The host gives up its last call about the first label.
    case abandons(Int)
    /// The self-watch may have missed something.
    case misses(Int)
    case late(Int)
    case operatorRemoves(butLabels: Bool)
    case stockPuts
    case leaseEnds(Int64)
    case snapshotIsTaken
    case snapshotComesBack

    /// Whether it needs nobody but the processes and the server.
    var isOrdinary: Bool {
        switch self {
        case .connects, .sends, .timePasses, .selfWatch, .renewalTells, .answered, .late: true
        default: false
        }
    }
}

extension Explored {
    // MARK: - What may happen

    func happenings() -> [Happening] {
        var all: [Happening] = []
        for index in processes.indices { collect(index, &all) }
        for at in late.indices where at == 0 || late[at] != late[at - 1] { all.append(.late(at)) }
        let hasPresence = store[Self.presence] != nil
        if hasPresence, left.operators > 0 {
            all.append(.operatorRemoves(butLabels: false))
            all.append(.operatorRemoves(butLabels: true))
        }
        if left.peers > 0 {
            if hasPresence { all.append(.peerPuts(mark: false)) }
            all.append(.peerPuts(mark: true))
        }
        if left.stock > 0 { all.append(.stockPuts) }
        if left.expiries > 0 { all += store.leases.map { .leaseEnds($0) } }
        if left.snapshots > 0 {
            all.append(snapshot == nil ? .snapshotIsTaken : .snapshotComesBack)
        }
        return all
    }

    private func collect(_ index: Int, _ all: inout [Happening]) {
        let process = processes[index]
        guard process.isStarted else {
            all.append(.starts(index))
            return
        }
        guard process.isConnected else {
            all.append(.connects(index))
            return
        }
        let registration = process.registration
        if process.isShut, registration.hasLeft, process.open.isEmpty { return }
        if left.shutdowns > 0, !process.isShut { all.append(.shutsDown(index)) }
        if left.renewals > 0,
            registration.leasesKnown.contains(where: { $0 & 1 == 0 && registration.isGranted($0) })
        {
            all.append(.renewalsAreRefused(index))
        }
        if !registration.isOver, !process.isShut {
            if left.laters > 0, registration.isLeaving {
                all.append(.publishesMeanwhile(index))
                if left.moves > 0, process.hasWithdrawn { all.append(.movesKeys(index)) }
            }
            if left.stops > 0, process.hasHeartbeat, !process.hasWithdrawn {
                all.append(.stopsHeartbeat(index))
            }
            if left.changes > 0, process.asked[0] != 0, !registration.isLeaving {
                all.append(.publishes(index))
            }
            if left.leaves > 0, !process.hasWithdrawn { all.append(.withdraws(index)) }
            if left.republish > 0, process.isGone { all.append(.publishesAgain(index)) }
            if left.moves > 0, !process.hasWithdrawn { all.append(.movesKeys(index)) }
            if left.abandoned > 0, process.open.contains(process.askedBy[0]) {
                all.append(.abandons(index))
            }
            if left.missed > 0, registration.watchFrom != nil { all.append(.misses(index)) }
        }
        for at in process.requests.indices {
            all.append(.answered(index, request: at))
            if left.refusals > 0, isRefusable(process.requests[at]) {
                all.append(.refused(index, request: at))
            }
            if left.reads > 0, !isRefusable(process.requests[at]) {
                all.append(.refused(index, request: at))
            }
            let isGrant = process.requests[at].call.isGrant
            if isGrant ? left.grants > 0 : left.timeouts > 0 && isRefusable(process.requests[at]) {
                all.append(.timesOut(index, request: at, carriedOut: true))
                all.append(.timesOut(index, request: at, carriedOut: false))
            }
            if isGrant ? left.grants > 0 : left.noSpace > 0 && isPut(process.requests[at]) {
                all.append(.noSpace(index, request: at, carriedOut: true))
                all.append(.noSpace(index, request: at, carriedOut: false))
            }
        }
        if left.losses > 0, !process.requests.isEmpty {
            for mask in 0..<(1 << process.requests.count) {
                all.append(.breaks(index, carriedOut: mask))
            }
        }
        var probe = registration
        var effects = Effects()
        if process.isShut { probe.shutDownAgain(now: Self.start, &effects) }
        if probe.next(now: Self.start, isFree: true, &effects) != nil || probe != registration {
            all.append(.sends(index))
        } else if process.requests.isEmpty, probe.nextDeadline(now: Self.start) != nil {
            all.append(.timePasses(index))
        }
        if registration.watchFrom.map({ store.presenceEvent >= $0 }) ?? false {
            all.append(.selfWatch(index))
        }
        for lease in registration.leasesKnown
        where !store.leases.contains(lease) && registration.isGranted(lease) {
            all.append(.renewalTells(index, lease: lease))
        }
    }

    private func isRefusable(_ request: Request) -> Bool {
        switch request.body {
        case .txn, .revoke: true
        case .range, .grant, .timeToLive, .authenticate: false
        }
    }

    private func isPut(_ request: Request) -> Bool {
        guard case .txn(let txn) = request.body else { return false }
        return txn.success.contains { if case .put = $0 { true } else { false } }
    }

    // MARK: - What it does

    mutating func happen(_ happening: Happening) {
        switch happening {
        case .starts(let index):
            processes[index].isStarted = true
            for label in processes[index].asked.indices { publish(index, label, 1) }
            connect(index)
        case .connects(let index): connect(index)
        case .publishes(let index):
            if processes[index].asked[0] == 1 {
                publish(index, 0, 2)
            } else {
                left.changes -= 1
                publish(index, 0, 0)
            }
        case .publishesAgain(let index):
            left.republish -= 1
            processes[index].hasWithdrawn = false
            processes[index].isGone = false
            for label in processes[index].asked.indices { publish(index, label, 1) }
        case .withdraws(let index):
            processes[index].hasWithdrawn = true
            for label in processes[index].asked.indices { processes[index].asked[label] = 0 }
            call(index) { $0.invalidate($1, &$2) }
        case .stopsHeartbeat(let index):
            left.stops -= 1
            processes[index].hasWithdrawn = true
            processes[index].hasHeartbeat = false
            for label in processes[index].asked.indices { processes[index].asked[label] = 0 }
            call(index) { $0.stopHeartbeat(keep: false, $1, &$2) }
        case .shutsDown(let index):
            left.shutdowns -= 1
            processes[index].isShut = true
            processes[index].hasWithdrawn = true
            for label in processes[index].asked.indices { processes[index].asked[label] = 0 }
            give(index) { $0.shutDown(&$1) }
        case .publishesMeanwhile(let index):
            left.laters -= 1
            processes[index].hasWithdrawn = false
            for label in processes[index].confirmed.indices {
                processes[index].confirmed[label] = 0
            }
            publish(index, 0, 1)
            processes[index].later = processes[index].lastOperation
            // It need not know any more what became of the keys before.
            processes[index].isRemoved = false
        case .renewalsAreRefused(let index):
            left.renewals -= 1
            give(index) { $0.renewalsAreRefused("no", now: Self.start, &$1) }
        case .peerPuts(let mark):
            left.peers -= 1
            store.peerPuts(mark: mark)
        case .movesKeys(let index): move(index)
        case .sends(let index):
            if processes[index].isShut {
                give(index) { $0.shutDownAgain(now: Self.start, &$1) }
            }
            let request = give(index) { $0.next(now: Self.start, isFree: true, &$1) }
            if let request { send(index, request) }
        case .timePasses(let index): passTime(index)
        case .selfWatch(let index):
            processes[index].registration.presenceChanged(at: store.presenceEvent)
        case .renewalTells(let index, let lease): give(index) { $0.leaseHasEnded(lease, &$1) }
        case .answered(let index, let at):
            let request = processes[index].requests.remove(at: at)
            let answer = execute(request)
            give(index) { $0.answered(request.call, answer, now: Self.start, &$1) }
        case .breaks(let index, let mask): breakConnection(index, mask)
        case .refused(let index, let at):
            let request = processes[index].requests.remove(at: at)
            if isRefusable(request) {
                left.refusals -= 1
            } else {
                left.reads -= 1
                causes.insert(.readingRefused)
            }
            give(index) {
                $0.answered(request.call, .refused(.permission, "no"), now: Self.start, &$1)
            }
        case .noSpace(let index, let at, let isCarriedOut):
            let request = processes[index].requests.remove(at: at)
            if request.call.isGrant { left.grants -= 1 } else { left.noSpace -= 1 }
            if isCarriedOut { _ = execute(request) }
            give(index) {
                $0.answered(request.call, .refused(.noSpace, "no"), now: Self.start, &$1)
            }
        case .timesOut(let index, let at, let isCarriedOut):
            let request = processes[index].requests.remove(at: at)
            if request.call.isGrant { left.grants -= 1 } else { left.timeouts -= 1 }
            if isCarriedOut { executeUnseen(request) } else { late.append(request) }
            give(index) {
                $0.answered(request.call, .refused(.other, "late"), now: Self.start, &$1)
            }
        case .abandons(let index): abandon(index)
        case .misses(let index):
            left.missed -= 1
            processes[index].registration.mayHaveMissed()
        case .late(let at):
            let request = late.remove(at: at)
            if case .revoke = request.call.step { causes.insert(.removedUnseen(request.process)) }
            executeUnseen(request)
        case .operatorRemoves(let butLabels):
            left.operators -= 1
            causes.insert(.operators)
            noteRemoval()
            store.removeAll(butLabels: butLabels)
        case .stockPuts:
            left.stock -= 1
            causes.insert(.stock)
            store.stockPuts()
        case .leaseEnds(let lease):
            left.expiries -= 1
            for index in processes.indices where isLease(lease, of: index) {
                causes.insert(.ended(index))
            }
            store.end(lease)
        case .snapshotIsTaken: snapshot = store
        case .snapshotComesBack: comeBack()
        }
        for at in processes.indices {
            processes[at].registration.rebase(now: Self.start, to: Self.start)
        }
        canonize()
    }

    func isLease(_ lease: Int64, of index: Int) -> Bool {
        processes[index].registration.isOurs(lease)
    }

    private mutating func noteRemoval() {
        guard let owner = store[Self.presence]?.lease else { return }
        for index in processes.indices where isLease(owner, of: index) {
            let process = processes[index]
            processes[index].isRemoved =
                !process.isLost && !process.registration.isLeaving
                && process.confirmed.contains { $0 != 0 }
        }
    }

    private mutating func publish(_ index: Int, _ label: Int, _ version: UInt8) {
        processes[index].asked[label] = version
        processes[index].askedBy[label] = processes[index].lastOperation + 1
        processes[index].refusedLabels &= ~(1 << UInt8(label))
        let blob: Bytes? = version == 0 ? nil : [version]
        call(index) { $0.change(Self.labels[label], to: blob, $1, &$2) }
    }

    private mutating func abandon(_ index: Int) {
        left.abandoned -= 1
        let operation = processes[index].askedBy[0]
        processes[index].open.removeAll { $0 == operation }
        processes[index].refusedLabels |= 1
        give(index) { $0.abandon(operation, label: Self.labels[0], &$1) }
    }

    private mutating func move(_ index: Int) {
        left.moves -= 1
        if processes[index].hasHeartbeat {
            processes[index].hasHeartbeat = false
            call(index) { $0.stopHeartbeat(keep: true, $1, &$2) }
        } else {
            processes[index].hasHeartbeat = true
            call(index) {
                $0.startHeartbeat(
                    Heartbeating.Plan(interval: 1000, seconds: 100), $1, now: Self.start, &$2)
            }
        }
    }

    private mutating func call(
        _ index: Int, _ body: (inout Registration, OperationID, inout Effects) -> Void
    ) {
        processes[index].lastOperation += 1
        let operation = processes[index].lastOperation
        processes[index].open.append(operation)
        give(index) { body(&$0, operation, &$1) }
    }

    private mutating func send(_ index: Int, _ request: (RegistrationCall, CallBody)) {
        if case .evict = request.0.step { processes[index].evictions += 1 }
        processes[index].requests.append(
            Request(process: index, call: request.0, body: request.1))
    }

    private mutating func connect(_ index: Int) {
        processes[index].isConnected = true
        send(index, processes[index].registration.greet(now: Self.start))
    }

    private mutating func breakConnection(_ index: Int, _ mask: Int) {
        left.losses -= 1
        let requests = processes[index].requests
        processes[index].requests = []
        processes[index].isConnected = false
        processes[index].registration.connectionIsLost(now: Self.start)
        for (at, request) in requests.enumerated() {
            processes[index].registration.unanswered(request.call)
            if mask >> at & 1 == 1 {
                executeUnseen(request)
            } else if isRefusable(request) || request.call.isGrant {
                late.append(request)
            }
        }
    }

    private mutating func passTime(_ index: Int) {
        guard
            let deadline = processes[index].registration.nextDeadline(now: Self.start)
        else { return }
        processes[index].registration.rebase(now: deadline, to: Self.start)
    }

    /// Nobody is answered.
    private mutating func executeUnseen(_ request: Request) {
        if case .remove = request.call.step { causes.insert(.removedUnseen(request.process)) }
        _ = execute(request)
    }

    private mutating func execute(_ request: Request) -> RegistrationAnswer {
        let hadPresence = store[Self.presence] != nil
        let answer = store.execute(request.body)
        if case .evict = request.call.step, case .txn(let response) = answer, response.succeeded,
            hadPresence
        {
            causes.insert(.evicted(by: request.process))
            if processes[request.process].registration.isOver || processes[request.process].isGone {
                causes.insert(.evictedLate)
            }
        }
        if case .remove = request.call.step { causes.insert(.leaseIsLeft) }
        if case .revoke(let lease) = request.body {
            // The lease of one that was evicted, found empty.
            for index in processes.indices
            where index != request.process && isLease(lease.id, of: index) {
                causes.insert(.ended(index))
            }
        }
        return answer
    }

    private mutating func comeBack() {
        guard var old = snapshot else { return }
        left.snapshots -= 1
        causes.insert(.snapshot)
        // It goes on behind every revision that there was, or is noticed by its revision.
        old.revision = store.revision + 1
        store = old
        late = []
        // With the keys that an operator has removed.
        for index in processes.indices { processes[index].isRemoved = false }
        for index in processes.indices where processes[index].isConnected {
            let requests = processes[index].requests
            processes[index].requests = []
            processes[index].isConnected = false
            processes[index].registration.connectionIsLost(now: Self.start)
            for request in requests { processes[index].registration.unanswered(request.call) }
        }
    }

    // MARK: - Reports to the host

    @discardableResult
    private mutating func give<Result>(
        _ index: Int, _ body: (inout Registration, inout Effects) -> Result
    ) -> Result {
        var effects = Effects()
        let result = body(&processes[index].registration, &effects)
        for item in effects.items { take(item, index) }
        return result
    }

    private mutating func take(_ item: Effects.Item, _ index: Int) {
        switch item {
        case .completed(let operation, let status, _, _, _):
            processes[index].open.removeAll { $0 == operation }
            for label in processes[index].askedBy.indices
            where processes[index].askedBy[label] == operation && !processes[index].hasWithdrawn {
                if status == .success {
                    processes[index].confirmed[label] = processes[index].asked[label]
                } else {
                    processes[index].refusedLabels |= 1 << UInt8(label)
                }
            }
            if processes[index].hasWithdrawn, status == .success,
                !processes[index].registration.isLeaving
            {
                isGone(index)
            }
        case .event(.lost):
            processes[index].told.insert(.lost)
            processes[index].isRemoved = false
            processes[index].isLost = true
        case .event(.withdrawn):
            // Its withdrawal was refused, because nobody reported that it had been carried out.
            if processes[index].hasWithdrawn, causes.contains(.readingRefused) {
                causes.insert(.removedUnseen(index))
            }
            processes[index].told.insert(.withdrawn)
            processes[index].hasWithdrawn = true
            isGone(index)
        case .event(.superseded):
            processes[index].told.insert(.superseded)
            isGone(index)
        case .storeIsAnother: processes[index].told.insert(.another)
        case .isNotPlausible: processes[index].told.insert(.implausible)
        case .event(.restored): processes[index].isLost = false
        case .log(_, let text):
            // The agent leaves for another reason than its host's call: etcd refuses the
            // withdrawal.
            if String(decoding: text.bytes, as: UTF8.self).contains("stay:") {
                causes.insert(.leaseIsLeft)
            }
        }
    }

    private mutating func isGone(_ index: Int) {
        processes[index].isRemoved = false
        // A call that the host made meanwhile follows now.
        if processes[index].later != 0, processes[index].askedBy[0] == processes[index].later {
            processes[index].hasWithdrawn = false
            processes[index].later = 0
            for label in processes[index].asked.indices {
                processes[index].confirmed[label] = 0
                if label > 0 { processes[index].asked[label] = 0 }
            }
            return
        }
        processes[index].isGone = true
        processes[index].isRemoved = false
        for label in processes[index].asked.indices {
            processes[index].asked[label] = 0
            processes[index].confirmed[label] = 0
        }
    }
}
