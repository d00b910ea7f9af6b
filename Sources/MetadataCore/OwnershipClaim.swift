// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

// Taking the name, moving it between leases, and finding out whether it is still ours.
// etcd refuses two operations on one key in one transaction (api/v3rpc/rpctypes/error.go, 'duplicate key
// given'), so removing what an earlier process left and putting our presence key are two.

extension MetadataCore {
    func drive(_ claim: Ownership.Claim) {
        guard claim.mayHavePut || (hasChanges && !isWithdrawalWanted) else {
            ownership = .none
            driveOwnership()
            return
        }
        switch claim.step {
        case .read:
            let prefix = ownPresenceKey ?? []
            var request = RangeRequest(key: prefix, rangeEnd: Keyspace.end(of: prefix))
            request.keysOnly = true
            // The presence key sorts first; one more tells whether labels were left.
            request.limit = 2
            sendOwnership(.range(request), .claimRead)
        case .sweep(let seen):
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
        guard !response.kvs.isEmpty else {
            if isWithdrawalWanted || !hasChanges {
                // Nobody wants the name any more.
                nothingIsOurs()
                withdrawalIsDone(revision: 0)
                return
            }
            claim.step = .put
            claim.absentAt = response.header.revision
            ownership = .claiming(claim)
            return
        }
        // A permanent key has no lease to know it by: if it was put once since it was absent, then by the Put whose
        // answer was lost.
        let isPermanentOfOurs =
            presence.map {
                (claim.mayHavePut || mayBePermanent) && $0.lease == 0 && targetLease == 0
                    && $0.createRevision > claim.absentAt && $0.createRevision == $0.modRevision
            } ?? false
        if let presence, isOurs(lease: presence.lease) || isPermanentOfOurs {
            // The answer to our Put was lost.
            take(presence, from: response.header.revision)
            return
        }
        if presence != nil, wasRemovedByOthers {
            supersede(supersededText)
            return
        }
        if presence != nil, configuration.refuseTakeover {
            ownership = .none
            failChanges(
                .notAllowed,
                "another process holds the agent's name '\(ownName)'; it must withdraw first")
            return
        }
        claim.step = .sweep(seen: presence?.modRevision ?? 0)
        ownership = .claiming(claim)
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
        claim.mayHavePut = false
        ownership = .claiming(claim)
        guard claim.conflicts >= Limits.claimConflicts else { return }
        ownership = .none
        failChanges(
            .notAllowed,
            "others claimed the agent's name '\(ownName)' at the same time, \(claim.conflicts) times"
        )
    }

    // MARK: - Moving

    func drive(_ move: Ownership.Move) {
        switch move.step {
        case .presence(let hold):
            let transaction = TxnRequest(
                compare: guardOf(hold),
                success: [
                    .put(PutRequest(key: ownPresenceKey ?? [], value: [], lease: move.target))
                ])
            // Whatever becomes of this hold before the answer comes.
            if move.target == 0 { mayBePermanent = true }
            sendOwnership(.txn(transaction), .movePresence(lease: move.target))
        case .labels(let hold, let last):
            let batch = nextBatch(after: last)
            guard !batch.isEmpty else {
                own(hold)
                driveOwnership()
                return
            }
            sendOwnership(.txn(batchTransaction(batch, hold)), .moveLabels(batch))
        }
    }

    func presenceMoved(_ move: Ownership.Move, _ succeeded: Bool, _ revision: Int64) {
        guard case .presence(let hold) = move.step else { return }
        guard succeeded else {
            ownership = .checking(Ownership.Check(hold: hold, move: move))
            return
        }
        let moved = Hold(
            lease: move.target, createRevision: hold.createRevision, modRevision: revision)
        ownership = .moving(
            Ownership.Move(target: move.target, step: .labels(moved, after: nil)))
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

    func drive(_ check: Ownership.Check) {
        // What is on its way was guarded by the hold in doubt: its answers first.
        guard labelsInFlight == 0 else { return }
        switch check.step {
        case .read:
            readKeys(.checkRead)
        case .askLease:
            sendOwnership(
                .timeToLive(LeaseTimeToLiveRequest(id: check.hold.lease)), .checkLease)
        }
    }

    func checkRead(_ check: Ownership.Check, _ presence: KeyValue?, _ revision: Int64) {
        guard let presence else {
            presenceIsAbsent(check)
            return
        }
        let hold = check.hold
        // A permanent key has no lease to know it by: it must be the very one, or the one into which our
        // own move has turned it.
        let isOurs =
            isOurs(lease: presence.lease) || presence.modRevision == hold.modRevision
            || (check.move?.target == 0 && presence.lease == 0
                && presence.createRevision == hold.createRevision)
        guard isOurs else {
            supersede(supersededText)
            return
        }
        take(presence, from: revision)
        presenceLog.removeAll { $0.modRevision <= revision }
        guard let move = check.move, case .owned(let found) = ownership else { return }
        ownership = .moving(
            Ownership.Move(
                target: move.target,
                step: found.lease == move.target ? .labels(found, after: nil) : .presence(found)))
    }

    private func presenceIsAbsent(_ check: Ownership.Check) {
        if isWithdrawalWanted {
            nothingIsOurs()
            withdrawalIsDone(revision: 0)
        } else if check.hold.lease == 0 {
            withdrawnByOthers(check.hold)
        } else {
            var check = check
            check.step = .askLease
            ownership = .checking(check)
        }
    }

    /// Our presence key is gone. With its lease: we were too slow. Without: somebody removed it, an
    /// operator or a process that is about to take the name over; putting it back would start a fight.
    func leaseAsked(isAlive: Bool) {
        guard case .checking(let check) = ownership else { return }
        guard !isAlive else {
            withdrawnByOthers(check.hold)
            return
        }
        let text: Text = "the lease ran out and etcd removed the keys"
        if heartbeat.lease?.id == check.hold.lease {
            leaseIsLost(text)
        } else {
            keysAreLost(lease: check.hold.lease, text)
        }
    }

    private func withdrawnByOthers(_ hold: Hold) {
        let text: Text =
            "somebody removed the keys of agent '\(ownName)'; the next publish claims the name again"
        log(.warn, text)
        ownership = .withdrawn
        mayBePermanent = false
        wasRemovedByOthers = true
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
        tell(.ownership(.superseded(text)), bytes: 0)
        dropLabels(.superseded, text)
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
