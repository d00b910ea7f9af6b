// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

// Takes what etcd tells: readings of our keys, answers to requests, renewals.

extension NameKeeper {
    // MARK: - Observations

    mutating func saw(_ found: Observation, _ now: Milliseconds, _ out: inout Effects) {
        // An older answer changes nothing.
        guard found.revision >= looking.revision else { return }
        if isOfAnotherStore(found) {
            out.storeIsAnother("its presence key differs from the last observation")
            storeIsAnother("the store shows an older state", &out)
            if let key = found.presence, !leases.isOurs(key.lease) { takeover.hasRisen(key) }
            return
        }
        adoptLeases(found, now)
        let key = found.presence.flatMap { leases.isOurs($0.lease) ? $0 : nil }
        let isBack = key.map(isBackByALateClaim) ?? false
        looking.saw(found, isOurs: key != nil)
        fence.saw(ours: key?.revision, isFull: looking.isFull(found))
        if let key {
            let wasWanted = wantsName
            guard sawLabels(found, now, &out) else {
                out.storeIsAnother("a label is older than it was")
                storeIsAnother("the store shows an older state", &out)
                return
            }
            let before = hanging
            isThere(key, wasWanted, now)
            if isBack { hanging.isBack(on: key.lease, before: before) }
        } else if let other = found.presence {
            presence = .anothers(lease: other.lease, revision: other.revision)
            hanging.isNoQuestion()
        } else {
            presence = .absent(isMarked: found.isMarked)
            let known = leases.ids
            hanging.isAbsent(isMarked: found.isMarked, now) { known.contains($0) }
        }
    }

    /// Observes our labels. False: one has a lower revision than before.
    private mutating func sawLabels(
        _ found: Observation, _ now: Milliseconds, _ out: inout Effects
    ) -> Bool {
        // Where the name is not wanted they go with their leases.
        guard let labels = found.labels, wantsName, standing != .superseded else {
            if !fence.isInDoubt, looking.isFull(found) { published.doubtIsOver(&out) }
            return true
        }
        let hasGoneBack = published.observed(
            labels, isOver: !fence.isInDoubt, at: found.revision, &out)
        return !hasGoneBack
    }

    /// Labels, or a mark, may hang on a lease of ours that an older state of the store has brought back.
    private mutating func adoptLeases(_ found: Observation, _ now: Milliseconds) {
        adopt(found.markLease ?? 0, now)
        for label in found.labels ?? [] { adopt(label.lease, now) }
    }

    private mutating func adopt(_ lease: Int64, _ now: Milliseconds) {
        guard leases.isOurs(lease), !leases.isKnown(lease) else { return }
        leases.adopt(lease, now: now, keeping: neededLeases)
    }

    /// A key has an old revision that differs from the one seen.
    private func isOfAnotherStore(_ found: Observation) -> Bool {
        guard case .ours(_, let known) = presence, let key = found.presence else { return false }
        return key.revision != known && key.revision <= looking.revision
    }

    /// Our key has been gone, or is not the one that we know, and no write of ours that may have moved it is in doubt. A
    /// claim whose answer was lost may put it whenever there is none.
    private func isBackByALateClaim(_ key: Observation.Key) -> Bool {
        let mayBeClaim = leases.mayBeClaimed(key.lease) && standing == .owner
        guard case .ours(_, let known) = presence else {
            return hanging.absence == .removed || hanging.absence != nil && mayBeClaim
        }
        return hanging.absence != nil
            || mayBeClaim && key.revision > known && fence.doubt?.revision != known
    }

    private mutating func isThere(_ key: Observation.Key, _ isWanted: Bool, _ now: Milliseconds) {
        presence = .ours(lease: key.lease, revision: key.revision)
        leases.adopt(key.lease, now: now, keeping: neededLeases)
        guard isWanted else {
            hanging.isNoQuestion()
            return
        }
        if standing == .stranger { standing = .owner }
        takeover.isOver()
        hanging.isSeen(on: key.lease, isInDoubt: fence.isInDoubt)
    }

    // MARK: - Answers

    mutating func answered(
        _ call: RegistrationCall, _ answer: RegistrationAnswer, now: Milliseconds,
        _ out: inout Effects
    ) {
        if call.step != .write { inFlight = nil }
        switch answer {
        case .txn(let response): transacted(call, response, now, &out)
        case .range(let response): read(call, response, now, &out)
        case .grant(let response):
            leases.granted(call.target, seconds: response.ttl, now: now)
            pacing.succeeded()
        case .timeToLive(let response): asked(call, response, now, &out)
        case .revoke(let response):
            revoked(call, response.header.revision, now, isFound: true, &out)
        case .refused(let failure, let text): refused(call, failure, text, now, &out)
        case .oversized(let size):
            unanswered(call)
            refused(call, .other, "etcd answered with \(size) bytes", now, &out)
        }
        settle(&out)
    }

    private mutating func transacted(
        _ call: RegistrationCall, _ response: TxnResponse, _ now: Milliseconds, _ out: inout Effects
    ) {
        let revision = response.header.revision
        guard response.succeeded else {
            published.areNotWritten(call.labels, on: call.lease, &out)
            contradicted(call, response, now, &out)
            return
        }
        pacing.succeeded()
        trial.wrote(call.labels, on: call.lease)
        if case .fence = call.step {
            let key = Observation.Key(lease: call.lease, revision: revision)
            saw(
                keys.observation(response.responses.dropFirst(), at: revision, presence: key), now,
                &out)
            return
        }
        looking.wrote(at: revision)
        switch call.step {
        case .claim(let lease):
            out.log(.info, "the agent's name '\(agent)' is claimed at revision \(revision)")
            published.nothingIsThere(&out)
            nothingIsOurs()
            takeover.claimed()
            looking.claimed()
            isThere(Observation.Key(lease: lease, revision: revision), true, now)
        case .evict:
            takeover.attempted()
            presence = .absent(isMarked: true)
        case .rehang:
            published.areWritten(call.labels, on: call.lease, at: revision, &out)
            presence = .ours(lease: call.lease, revision: revision)
            hanging.isMoved(to: call.lease, isInDoubt: fence.isInDoubt)
        case .write: published.areWritten(call.labels, on: call.lease, at: revision, &out)
        case .remove:
            // Nothing of ours hangs on the lease any more: it may be revoked now.
            departure.removed(at: revision)
            nothingIsOurs()
            published.nothingIsThere(&out)
        case .fence, .observe, .read, .ask, .grant, .revoke, .askDead, .nothing, .wait, .lose,
            .withdrawn, .superseded, .nameIsTaken, .contended, .stays, .leave, .left:
            assertionFailure("not a transaction, or handled above")
        }
    }

    /// The presence key is not what the transaction was bound to.
    private mutating func contradicted(
        _ call: RegistrationCall, _ response: TxnResponse, _ now: Milliseconds,
        _ out: inout Effects
    ) {
        if case .remove = call.step {
            // It does not read: the role may not allow it.
            if !looking.canRead { presence = .absent(isMarked: false) }
            looking.again()
            pacing.pause(now)
            return
        }
        guard !response.responses.isEmpty else {
            out.isNotPlausible("a transaction that reads has read nothing")
            return
        }
        let found = keys.observation(response.responses[...], at: response.header.revision)
        if call.revision != 0, found.presence?.revision == call.revision {
            out.isNotPlausible("a transaction failed that must succeed")
            return
        }
        if case .claim = call.step, found.presence == nil {
            out.isNotPlausible("a claim of a free name has failed")
            return
        }
        saw(found, now, &out)
        if case .evict = call.step, case .anothers = presence { takeover.attempted() }
    }

    private mutating func read(
        _ call: RegistrationCall, _ response: RangeResponse, _ now: Milliseconds,
        _ out: inout Effects
    ) {
        if case .read = call.step {
            guard let label = call.labels.first else { return }
            published.read(label, response.kvs.first, isOver: !fence.isInDoubt, &out)
        } else if let found = looking.answered(response, keys) {
            saw(found, now, &out)
        }
    }

    private mutating func asked(
        _ call: RegistrationCall, _ response: LeaseTimeToLiveResponse, _ now: Milliseconds,
        _ out: inout Effects
    ) {
        let lease = call.target
        if case .checking(lease, _) = departure.way {
            if response.ttl < 0 {
                // An attempt was carried out.
                departure.goesOn(by: .revoking)
                revoked(call, response.header.revision, now, isFound: true, &out)
            } else {
                departure.goesOn(by: .checking(lease, isAsked: true))
            }
            return
        }
        if case .askDead = call.step {
            let isEmpty = response.ttl > 0 && response.keyCount == 0
            takeover.asked(isEmpty: isEmpty && response.grantedTTL == Limits.neverEndingSeconds)
            return
        }
        leases.asked(
            lease, seconds: response.ttl < 0 ? nil : response.grantedTTL, now: now,
            keeping: neededLeases)
        let isKnown = hanging.asked(
            lease, ttl: response.ttl, wasAskedToGo: leases.isAskedToGo(lease), now)
        if !isKnown { pacing.pause(now) }
    }

    mutating func revoked(
        _ call: RegistrationCall, _ revision: Int64, _ now: Milliseconds, isFound: Bool,
        _ out: inout Effects
    ) {
        let lease = call.target
        if !leases.ids.contains(lease) { takeover.forget(lease) }
        // The time to live is answered without a quorum: a lease that is not there now was lost, after all.
        let isLost =
            !isFound && departure.reason == .withdrawn && hanging.contains(lease) && !call.wasAsked
            // Where the host wants everything withdrawn, it is.
            && !departure.isAskedFor
        leases.forget(lease)
        hanging.forget(lease)
        if isPresence(on: lease) {
            // Unless a write in doubt had moved it before.
            if fence.isInDoubt { looking.again() } else { isRevoked() }
        }
        // With the last one all labels are forgotten; one by one, 4,096 of them make a tick long.
        if !departure.isUnderWay || !leases.isEmpty {
            published.leaseIsGone(lease, isOver: !fence.isInDoubt, &out)
        }
        departure.revoked(at: revision)
        guard isLost else { return }
        _ = departure.end()
        lose(lease, now, &out)
        goOn(&out)
    }

    private mutating func isRevoked() {
        presence = .absent(isMarked: false)
        hanging.isNowhere()
    }

    // MARK: - Renewals

    /// Whether it was expected and the lease is there.
    mutating func renewalAnswered(
        _ lease: Int64, seconds: Int64, now: Milliseconds, _ out: inout Effects
    ) -> Bool {
        switch leases.renewalAnswered(lease, seconds: seconds, now: now) {
        case .alive:
            if leases.ids == [lease] { trial.renewed(lease) }
            return true
        case .unexpected: return false
        case .ended(let early):
            let wasHanging = hanging.contains(lease)
            leaseHasEnded(lease, &out)
            if wasHanging { endedEarly(early, &out) }
            return false
        }
    }

    func endedEarly(_ early: Milliseconds, _ out: inout Effects) {
        guard early > 0 else { return }
        out.storeIsAnother(
            "it does not know our lease, which had \(early) ms left: it was revoked, or the store was replaced"
        )
    }

    /// A renewal has found the lease gone.
    mutating func leaseHasEnded(_ lease: Int64, _ out: inout Effects) {
        leaseIsGone(lease, &out)
        settle(&out)
    }

    mutating func renewalsAreRefused(_ text: Text, now: Milliseconds, _ out: inout Effects) {
        leases.renewalsAreRefused(now: now)
        pacing.note(.permission, text)
        out.log(.warn, "etcd refuses to renew the agent's lease: \(text)")
        _ = beginTrial(now, refused: nil)
    }
}
