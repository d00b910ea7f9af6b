// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

// The next request, and what is concluded without one.

extension NameKeeper {
    // MARK: - The next request

    /// Begins a connection: reads the agent's keys, or fences a write in doubt.
    mutating func greet(now: Milliseconds) -> (RegistrationCall, CallBody) {
        looking.begin()
        let fence = departure.isUnderWay ? nil : fence.step(presence)
        return send(fence ?? .observe, now)
    }

    mutating func greetAgain(now: Milliseconds) -> (RegistrationCall, CallBody)? {
        guard looking.canRead, inFlight == nil else { return nil }
        return send(.observe, now)
    }

    mutating func next(now: Milliseconds, isFree: Bool, _ out: inout Effects)
        -> (RegistrationCall, CallBody)?
    {
        guard inFlight == nil else { return nil }
        while true {
            chooseLease()
            let step = Plan.step(wanted, seen, now: now)
            switch step {
            case .nothing, .wait:
                settle(&out)
                return nil
            case .write:
                guard pacing.isDue(now), isFree else { return nil }
                return send(step, now)
            case .revoke where departure.isUnderWay:
                guard pacing.isDue(now) else { return nil }
                return send(step, now)
            case .observe
            where fence.doubt?.isAnswered == true && !looking.isWanted && published.inFlight == 0:
                // After 'no space' the next attempt waits, to know what became of the last one does not.
                guard !pacing.isBusy(now) else { return nil }
                return send(step, now)
            case .observe, .read, .fence, .ask, .grant, .claim, .evict, .rehang, .revoke, .remove,
                .askDead:
                guard pacing.isDue(now), published.inFlight == 0 else { return nil }
                return send(step, now)
            case .lose(let lease): lose(lease, now, &out)
            case .withdrawn: begin(.withdrawn, .mismatch, withdrawnText, &out)
            case .superseded: supersede(&out)
            case .nameIsTaken:
                giveUp(
                    "another process holds the agent's name '\(agent)'; it must be withdrawn, or removed, first",
                    &out)
            case .contended:
                giveUp(
                    "others claimed the agent's name '\(agent)' at the same time, \(takeover.evictions) times",
                    &out)
            case .leave: begin(.asked, .replaced, "", &out)
            case .stays(let lease): leaseStays(lease, &out)
            case .left: hasGone(&out)
            }
        }
    }

    private mutating func chooseLease() {
        if !departure.isUnderWay {
            leases.want(wantedLease, keeping: neededLeases)
            // A claim that may yet come is not wanted any more: it must find no lease.
            if !wantsName, leases.mayBeClaimed(leases.target) {
                leases.replaceTarget(keeping: neededLeases)
            }
            assert(!wantsName || leases.target != 0, "a name that hangs on nothing")
        }
        published.hang(on: leases.target)
    }

    /// Those that must not be forgotten when there are too many.
    var neededLeases: [Int64] {
        mutating get {
            guard leases.isFull else { return [] }
            var needed: [Int64] = []
            for lease in leases.ids where isNeeded(lease) { needed.append(lease) }
            return needed
        }
    }

    func isNeeded(_ lease: Int64) -> Bool {
        hanging.contains(lease) || published.mayHang(on: lease)
    }

    private var wantedLease: Leases.Kind? {
        if let plan = heartbeat.plan, wantsName || heartbeat.wantsLease {
            return .renewed(seconds: plan.seconds)
        }
        return wantsName ? .neverEnding : nil
    }

    private var wanted: Plan.Wanted {
        Plan.Wanted(
            isLeaving: departure.isUnderWay, isOver: standing == .superseded, name: wantsName,
            lease: leases.targetState.map { Plan.Target(id: leases.target, state: $0) },
            refusesTakeover: refusesTakeover)
    }

    private var seen: Plan.Seen {
        mutating get {
            Plan.Seen(
                presence: presence,
                mustLook: looking.isDue && (!departure.isUnderWay || looking.canRead),
                doubt: fence.doubt, isFenceRefused: trial.isOn(leases.target),
                absence: hanging.absence, hasOwned: standing != .stranger,
                isKnownDead: takeover.isKnownDead(presence), evictions: takeover.evictions,
                hasUnread: published.unread > 0, hasWrites: published.hasWork(),
                leavesBy: departure.way, hasLeftovers: departure.isUnderWay && hasLeftovers,
                spareLease: spareLease,
                deadLease: hasPresence ? takeover.lease : nil)
        }
    }

    private var hasLeftovers: Bool {
        leases.ids.contains { mayBeLeft(on: $0) }
    }

    /// While leaving, the lease of the presence key first; otherwise one without known keys.
    /// Mutating, as `seen` is, to read in place: else the whole state is copied.
    private var spareLease: Int64? {
        mutating get {
            if departure.isUnderWay {
                let ids = leases.ids
                return hanging.leases.first { ids.contains($0) } ?? ids.first
            }
            if hasPresence, let empty = takeover.emptyLease { return empty }
            for at in 0..<leases.count {
                let lease = leases.id(at: at)
                if lease != leases.target, !hanging.contains(lease), !published.mayHang(on: lease) {
                    return lease
                }
            }
            return nil
        }
    }

    private mutating func send(_ step: Plan.Step, _ now: Milliseconds) -> (
        RegistrationCall, CallBody
    ) {
        var call = RegistrationCall(step)
        let body = request(step, &call)
        call.size = body.encodedSize
        if case .revoke(let lease) = step { call.wasAsked = leases.isAskedToGo(lease) }
        if step != .write { inFlight = call }
        switch step {
        case .grant(let lease): leases.grantIsSent(lease, now: now)
        case .rehang(_, _, let lease), .fence(_, let lease): hanging.mayBe(on: lease)
        case .evict: takeover.isSent(presence)
        case .revoke(let lease): leases.isToGo(lease)
        case .observe, .read, .write, .ask, .claim, .remove, .askDead: break
        case .nothing, .wait, .lose, .withdrawn, .superseded, .nameIsTaken, .contended, .stays,
            .leave, .left:
            assertionFailure("no request")
        }
        return (call, body)
    }

    private mutating func request(_ step: Plan.Step, _ call: inout RegistrationCall) -> CallBody {
        switch step {
        case .observe: return .range(looking.request(keys))
        case .read:
            call.labels = published.nextUnread.map { [$0] } ?? []
            return .range(keys.read(keys.label(call.labels.first ?? [])))
        case .ask(let lease): return .timeToLive(LeaseTimeToLiveRequest(id: lease))
        case .askDead(let lease): return .timeToLive(LeaseTimeToLiveRequest(id: lease, keys: true))
        case .grant(let lease):
            return .grant(LeaseGrantRequest(ttl: leases.targetKind?.seconds ?? 0, id: lease))
        case .revoke(let lease): return .revoke(LeaseRevokeRequest(id: lease))
        case .claim(let lease):
            call.lease = lease
            return .txn(keys.claim(lease))
        case .evict(let revision, let lease):
            call.lease = lease
            return .txn(keys.evict(revision, lease))
        case .fence(let revision, let lease):
            (call.revision, call.lease) = (revision, lease)
            return .txn(keys.fence(revision, lease, readsLabels: looking.readsLabels))
        case .rehang(let revision, _, let lease):
            (call.revision, call.lease) = (revision, lease)
            call.labels =
                trial.writesApart ? [] : published.toCarry(batchOperations - 1, bytes: batchBytes)
            let labels = published.send(call.labels, on: lease)
            return .txn(keys.rehang(revision, lease, labels, readsLabels: looking.readsLabels))
        case .remove(let revision):
            call.revision = revision
            return .txn(keys.remove(revision))
        case .write:
            if case .ours(let lease, let revision) = presence {
                (call.revision, call.lease) = (revision, lease)
            }
            call.labels = published.nextBatch(
                trial.writesApart ? 1 : batchOperations, bytes: batchBytes)
            let labels = published.send(call.labels, on: call.lease)
            return .txn(keys.write(call.revision, call.lease, labels))
        case .nothing, .wait, .lose, .withdrawn, .superseded, .nameIsTaken, .contended, .stays,
            .leave, .left:
            return .txn(TxnRequest(compare: [], success: []))
        }
    }

    // MARK: - Conclusions

    private var withdrawnText: Text {
        "somebody removed the keys of agent '\(agent)'; the next publish claims the name again"
    }

    /// Nothing of ours is in the store any more, as far as is known.
    mutating func nothingIsOurs() {
        presence = .absent(isMarked: false)
        hanging.isNowhere()
        fence.isOver()
        trial.isOver()
        takeover.isOver()
    }

    /// Our lease is gone although we live: put back what hung on it, under the next generation.
    mutating func lose(_ lease: Int64, _ now: Milliseconds, _ out: inout Effects) {
        endedEarly(leases.timeLeft(lease, now: now), &out)
        leases.forget(lease)
        leases.replaceTarget(keeping: neededLeases)
        leasesLost &+= 1
        lost(
            "lease \(hex: UInt64(bitPattern: lease)) does not exist any more: it expired or was revoked",
            &out)
        pacing.lost(now)
    }

    private mutating func lost(_ text: Text, _ out: inout Effects) {
        out.log(.warn, "the keys of agent '\(agent)' are lost: \(text)")
        nothingIsOurs()
        published.nothingIsThere(&out)
        if standing != .lost { out.tell(.lost(text)) }
        standing = .lost
    }

    /// The store was replaced: all observations are void.
    mutating func storeIsAnother(_ text: Text, _ out: inout Effects) {
        let hadName = hasPresence || !hanging.leases.isEmpty
        takeover.storeIsAnother()
        looking.storeIsAnother()
        if hadName, !departure.isUnderWay {
            lost(text, &out)
            leases.replaceTarget(keeping: neededLeases)
        } else {
            nothingIsOurs()
            published.nothingIsThere(&out)
        }
    }

    private mutating func supersede(_ out: inout Effects) {
        out.log(.warn, supersededText)
        standing = .superseded
        published.removeAll(.superseded, supersededText, &out)
        out.tell(.superseded(supersededText))
        heartbeat.end(.superseded, supersededText, &out)
        begin(.superseded, .replaced, supersededText, &out)
    }

    /// The name cannot be had.
    private mutating func giveUp(_ text: Text, _ out: inout Effects) {
        published.removeAll(.notAllowed, text, &out)
        heartbeat.failStarts(.notAllowed, text, &out)
        begin(.nameIsTaken, .replaced, text, &out)
    }

    /// Every lease is revoked: nothing of this process is in the store.
    private mutating func hasGone(_ out: inout Effects) {
        guard let end = departure.end() else { return }
        nothingIsOurs()
        if standing == .lost { standing = .owner }
        switch end.reason {
        case .asked:
            if standing != .superseded { standing = .stranger }
            published.removeAll(end.status, "a later withdrawal removed everything", &out)
        case .withdrawn:
            out.log(.warn, withdrawnText)
            published.removeAll(.mismatch, withdrawnText, &out)
            out.tell(.withdrawn(withdrawnText))
        case .superseded, .nameIsTaken: break
        }
        if end.stopsHeartbeat { heartbeat.end(.canceled, "the heartbeat was stopped", &out) }
        heartbeat.nothingIsLeft()
        let isOver = standing == .superseded
        departure.completeWaiting(
            isOver ? .superseded : .success, isOver ? supersededText : "", revision: end.revision,
            &out)
        goOn(&out)
    }

    /// The calls that were made meanwhile.
    mutating func goOn(_ out: inout Effects) {
        let calls = departure.takePostponed()
        for label in calls.keys {
            guard let call = calls[label] else { continue }
            if call.blob == nil, call.isSecond, !published.has(label) {
                out.complete(call.operation, .success)
            } else {
                change(label, to: call.blob, call.operation, &out)
            }
        }
    }

    /// Completes what waited for this state.
    mutating func settle(_ out: inout Effects) {
        guard !departure.isUnderWay, !fence.isInDoubt, hanging.absence == nil, inFlight == nil
        else { return }
        guard standing == .lost || heartbeat.hasWaiting || pacing.waitsForSpace else { return }
        let isThere: Bool
        switch presence {
        case .ours(let lease, _): isThere = lease == leases.target && published.isSettled()
        case .absent, .anothers: isThere = !wantsName && leases.targetState ?? .alive == .alive
        }
        guard isThere else { return }
        // etcd had applied the write that it refused.
        if pacing.waitsForSpace { pacing.forgetRefusal() }
        if standing == .lost {
            standing = .owner
            restores &+= 1
            out.log(.info, "agent '\(agent)' is restored")
            out.tell(.restored(revision: looking.revision))
        }
        if heartbeat.isOn, leases.targetState == .alive, leases.targetKind != .neverEnding {
            heartbeat.hasStarted(ttl: leases.ttl, &out)
        } else if !heartbeat.isOn, !leases.hasRenewed {
            heartbeat.hasStopped(&out)
        }
    }
}
