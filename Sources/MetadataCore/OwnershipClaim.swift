// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

// Taking the name, moving it between leases, and finding out whether it is still ours.
// etcd refuses two operations on one key in one transaction (api/v3rpc/rpctypes/error.go, 'duplicate key
// given'), so removing what an earlier process left and putting our presence key are two.

extension MetadataCore {
    private var isNameWanted: Bool { hasChanges && !isWithdrawalWanted }

    func drive(_ claim: Ownership.Claim) {
        var claim = claim
        if !isNameWanted {
            guard claim.mayHavePut else {
                giveUpClaim()
                driveOwnership()
                return
            }
            switch claim.step {
            case .read: break
            // What a Put that was never answered may have made is still to be looked for.
            case .sweep(_, isPerhapsOurs: false), .put: claim.step = .read
            case .sweep: break
            }
        }
        switch claim.step {
        case .read:
            let prefix = ownPresenceKey ?? []
            var request = RangeRequest(key: prefix, rangeEnd: Keyspace.end(of: prefix))
            request.keysOnly = true
            // The presence key sorts first; one more tells whether labels were left.
            request.limit = 2
            sendOwnership(.range(request), .claimRead)
        case .sweep(let seen, _):
            let prefix = ownPresenceKey ?? []
            let transaction = TxnRequest(
                compare: [Compare(key: prefix, target: .modRevision(seen))],
                success: [
                    .deleteRange(
                        DeleteRangeRequest(key: prefix, rangeEnd: Keyspace.end(of: prefix)))
                ])
            sendOwnership(.txn(transaction), .claimSweep)
        case .put:
            guard let lease = targetLease else { return }
            var sent = claim
            sent.mayHavePut = true
            ownership = .claiming(sent)
            sendOwnership(
                .txn(putPresence(lease, if: .createRevision(0))), .claimPut(lease: lease))
        }
    }

    func putPresence(_ lease: Int64, if target: Compare.Target) -> TxnRequest {
        let key = ownPresenceKey ?? []
        return TxnRequest(
            compare: [Compare(key: key, target: target)],
            success: [.put(PutRequest(key: key, value: [], lease: lease))])
    }

    func claimRead(
        _ claim: Ownership.Claim, _ presence: KeyValue?, _ response: RangeResponse
    ) {
        var claim = claim
        if let presence, isOurs(lease: presence.lease) {
            // The answer to our Put was lost.
            take(presence, from: response.header.revision)
            return
        }
        let isPerhapsOurs = presence.map { mayBeOurLateClaim($0, response) } ?? false
        guard isNameWanted || isPerhapsOurs else {
            // Nobody wants the name any more; what is there is another's.
            nothingIsOurs()
            withdrawalIsDone(revision: 0)
            return
        }
        guard !response.kvs.isEmpty else {
            claim.step = .put
            claim.absentAt = response.header.revision
            ownership = .claiming(claim)
            return
        }
        if presence != nil, !isPerhapsOurs {
            guard !wasRemovedByOthers else {
                supersede(supersededText)
                return
            }
            guard !configuration.refuseTakeover else {
                giveUpClaim()
                let whose: Text =
                    lateClaimAfter == nil
                    ? "another process holds"
                    : "another process, or a request of ours that was never answered, holds"
                failChanges(
                    .notAllowed,
                    "\(whose) the agent's name '\(ownName)'; it must be withdrawn, or removed, first"
                )
                return
            }
        }
        claim.step = .sweep(
            seen: presence?.modRevision ?? 0, isPerhapsOurs: isPerhapsOurs)
        ownership = .claiming(claim)
    }

    /// A permanent key has no lease to know it by. One that was made once, since our Put was sent whose answer was lost, and
    /// under which nothing was written, is in all likelihood that Put's; but to take it for ours could make two owners of one
    /// name. It is removed and put anew: if it was another's, that one is told. Who must not take a name over
    /// does so only with one that came while the Put in hand was under way.
    func mayBeOurLateClaim(_ presence: KeyValue, _ response: RangeResponse) -> Bool {
        // An owner writes labels as soon as it is one; older ones were left by a lease that ended amid a move.
        response.kvs.allSatisfy { $0.modRevision <= presence.createRevision }
            && mayBeOurLateClaim(
                lease: presence.lease, created: presence.createRevision,
                modified: presence.modRevision)
    }

    func mayBeOurLateClaim(lease: Int64, created: Int64, modified: Int64) -> Bool {
        guard let lateClaimAfter, lease == 0, created > lateClaimAfter, created == modified else {
            return false
        }
        return !configuration.refuseTakeover || created > absentBeforeUnanswered
    }

    /// When the key was not there, before the Put of the claim or restore in hand that was never answered.
    private var absentBeforeUnanswered: Int64 {
        switch ownership {
        case .claiming(let claim): claim.isPutUnanswered ? claim.absentAt : .max
        case .restoring(let restore): restore.isPutUnanswered ? restore.absentAt : .max
        case .none, .owned, .moving, .checking, .withdrawing, .withdrawn, .superseded: .max
        }
    }

    /// The name is not wanted, or cannot be had. A Put of ours that was never answered may yet be carried out.
    func giveUpClaim() {
        ownership = .none
        retireTaintedLease()
    }

    /// The presence key is ours as it was read.
    private func take(_ presence: KeyValue, from revision: Int64) {
        own(
            Hold(
                lease: presence.lease, createRevision: presence.createRevision,
                modRevision: presence.modRevision))
        watchOurselves(from: revision &+ 1)
    }

    func swept(_ claim: Ownership.Claim, _ succeeded: Bool, _ revision: Int64) {
        var claim = claim
        if succeeded {
            claim.step = .put
            claim.absentAt = revision
            ownership = .claiming(claim)
        } else {
            conflicted(claim)
        }
    }

    func claimPut(_ claim: Ownership.Claim, _ succeeded: Bool, _ lease: Int64, _ revision: Int64) {
        guard succeeded else {
            conflicted(claim)
            return
        }
        log(.info, "the agent's name '\(ownName)' is claimed at revision \(revision)")
        // What the self-watch of an earlier hold has told is older than this.
        own(Hold(lease: lease, createRevision: revision, modRevision: revision))
        watchOurselves(from: revision &+ 1)
    }

    /// Somebody else writes the same name at the same time.
    private func conflicted(_ claim: Ownership.Claim) {
        var claim = claim
        claim.conflicts += 1
        claim.step = .read
        ownership = .claiming(claim)
        guard claim.conflicts >= Limits.claimConflicts else { return }
        giveUpClaim()
        failChanges(
            .notAllowed,
            "others claimed the agent's name '\(ownName)' at the same time, \(claim.conflicts) times"
        )
    }

    // MARK: - Moving

    func drive(_ move: Ownership.Move) {
        guard !isWithdrawalWanted else {
            ownership = .withdrawing(move.hold)
            driveOwnership()
            return
        }
        switch move.step {
        case .presence(let hold) where move.target != targetLease && move.target != hold.lease:
            // The heartbeat has ended or begun anew since. What was sent may have been carried out.
            ownership = .checking(Ownership.Check(hold: hold, move: move))
            driveOwnership()
        case .presence(let hold):
            // With as many labels as fit: where all do, no lease that ends and no process that dies leaves some behind.
            let batch = nextBatch(after: nil, beside: 1)
            var transaction = batchTransaction(batch, hold, onto: move.target)
            // First: in this order etcd tells of it, and a peer to which the agent was gone knows it before its labels.
            transaction.success.insert(
                .put(PutRequest(key: ownPresenceKey ?? [], value: [], lease: move.target)), at: 0)
            sendOwnership(
                .txn(transaction), .movePresence(lease: move.target, with: batch))
        case .labels(let hold, let last):
            let batch = nextBatch(after: last)
            guard !batch.isEmpty else {
                own(hold)
                allIsThere()
                driveOwnership()
                return
            }
            sendOwnership(
                .txn(batchTransaction(batch, hold, onto: hold.lease)), .moveLabels(batch))
        }
    }

    func presenceMoved(
        _ move: Ownership.Move, _ succeeded: Bool, _ batch: [LabelRecord], _ revision: Int64
    ) {
        guard case .presence(let hold) = move.step else { return }
        guard succeeded else {
            ownership = .checking(Ownership.Check(hold: hold, move: move))
            return
        }
        wrote(batch, at: revision)
        areLabelsBehind = true
        let moved = Hold(
            lease: move.target, createRevision: hold.createRevision, modRevision: revision)
        ownership = .moving(
            Ownership.Move(target: move.target, step: .labels(moved, after: batch.last?.label)))
    }

    func labelsMoved(
        _ move: Ownership.Move, _ succeeded: Bool, _ batch: [LabelRecord], _ revision: Int64
    ) {
        guard case .labels(let hold, _) = move.step else { return }
        guard succeeded else {
            ownership = .checking(Ownership.Check(hold: hold, move: move))
            return
        }
        var move = move
        wrote(batch, at: revision)
        move.step = .labels(hold, after: batch.last?.label)
        ownership = .moving(move)
    }

    // MARK: - Checking

    /// Reads which of our keys are there, and of which revision.
    func readKeys(_ step: OwnershipStep) {
        let prefix = ownPresenceKey ?? []
        sendOwnership(
            .range(
                RangeRequest(key: prefix, rangeEnd: Keyspace.end(of: prefix), keysOnly: true)),
            step)
    }

    /// A transaction of a label found the name not to be ours.
    func guardFailed() {
        if case .owned(let hold) = ownership {
            ownership = .checking(Ownership.Check(hold: hold, move: nil))
        }
    }

    func drive(_ check: Ownership.Check) {
        // What is on its way was guarded by the hold in doubt: its answers first.
        guard labelsInFlight == 0 else { return }
        switch check.step {
        case .read:
            readKeys(.checkRead)
        case .askLease(let lease):
            sendOwnership(.timeToLive(LeaseTimeToLiveRequest(id: lease)), .checkLease)
        }
    }

    func checkRead(
        _ check: Ownership.Check, _ presence: KeyValue?, _ response: RangeResponse
    ) {
        let revision = response.header.revision
        guard let presence else {
            presenceIsAbsent(check, areLabelsLeft: !response.kvs.isEmpty, at: revision)
            return
        }
        if presence.createRevision != check.hold.createRevision,
            isOurs(lease: presence.lease) || mayBeOurLateClaim(presence, response)
        {
            // Ours was removed first, by its lease or by somebody.
            if isWithdrawalWanted || check.mayHaveWithdrawn {
                // If that is refused, they are to be put back.
                areLabelsBehind = true
                ownership = .withdrawing(
                    Hold(
                        lease: presence.lease, createRevision: presence.createRevision,
                        modRevision: presence.modRevision))
            } else {
                presenceIsAbsent(check, areLabelsLeft: true, at: revision)
            }
            return
        }
        guard
            isOurs(
                presence, created: check.hold.createRevision, known: check.hold.modRevision)
        else {
            supersede(supersededText)
            return
        }
        // Why did the guard fail? Asked once more, a write is as good as ever; but not as fast as the server answers.
        guard
            check.isAfterRefusal
                || !givesUpRestarting(&ownershipRestarts, "it refuses what is ours")
        else { return }
        take(presence, from: revision)
        presenceLog.removeAll { $0.modRevision <= revision }
        // What is left of a move begins anew from what was found.
        if let move = check.move, presence.lease == move.target { areLabelsBehind = true }
    }

    private func presenceIsAbsent(
        _ check: Ownership.Check, areLabelsLeft: Bool, at revision: Int64
    ) {
        // A move whose answer was lost may have brought it onto a lease that has ended since.
        let late = mayMoveLate(check.hold) ? lateMove?.lease : nil
        let lease =
            check.hold.lease != 0 ? check.hold.lease : late ?? check.move?.target ?? 0
        if isWithdrawalWanted || check.mayHaveWithdrawn {
            withdrawWhatIsLeft(areLabelsLeft, at: revision)
        } else if lease == 0 {
            withdrawnByOthers(check.hold)
        } else {
            var check = check
            check.step = .askLease(lease)
            ownership = .checking(check)
        }
    }

    /// Our presence key is gone. With its lease: we were too slow. Without: somebody removed it, an
    /// operator or a process that is about to take the name over; putting it back would start a fight.
    func leaseAsked(secondsLeft: Int64) {
        guard case .checking(let check) = ownership, case .askLease(let lease) = check.step else {
            return
        }
        if secondsLeft > 0 {
            withdrawnByOthers(check.hold)
        } else if secondsLeft == 0 {
            // Rounded towards 0: it is about to end, or has run out and is about to be revoked. The leader that answers may
            // be behind the member that was read from: in a moment it is known.
            ownershipRetryAt = now &+ Timing.retryPause
        } else {
            leaseIsUnknown(lease, "the lease ran out and etcd removed the keys")
        }
    }

    func withdrawnByOthers(_ hold: Hold) {
        let text: Text =
            "somebody removed the keys of agent '\(ownName)'; the next publish claims the name again"
        log(.warn, text)
        ownership = .withdrawn(hold)
        wasRemovedByOthers = true
        isLossTold = false
        areLabelsBehind = false
        retireTaintedLease()
        // What was put over our key before it was removed was our own move to a permanent one.
        presenceLog.removeAll {
            $0.isDeleted || $0.modRevision <= hold.modRevision
                || $0.createRevision == hold.createRevision
        }
        dropLabels(.mismatch, text)
        tell(.ownership(.withdrawn(text)), bytes: 0)
    }

    /// Another process has the name. From here on nothing is written by this handle.
    func supersede(_ text: Text) {
        guard !isSuperseded else { return }
        log(.warn, text)
        ownership = .superseded
        presenceLog.removeAll()
        cancel(&selfWatcher)
        dropLabels(.superseded, text)
        tell(.ownership(.superseded(text)), bytes: 0)
        failWithdrawal(.superseded, text)
        complete(heartbeat.startOperation, .superseded, text)
        heartbeat.startOperation = nil
        complete(heartbeat.stop?.operation, .superseded, text)
        if let lease = heartbeat.lease { leasesToRevoke.append(lease.id) }
        heartbeatIsOff()
    }

    var isSuperseded: Bool {
        if case .superseded = ownership { true } else { false }
    }
}
