// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

// Putting back what was lost while the process lives, and taking back what was published.

extension MetadataCore {
    /// The keys on `lease` are gone, and nobody asked for it.
    func keysAreLost(lease: Int64, _ text: Text) {
        switch ownership {
        case .none, .withdrawn, .superseded, .claiming:
            return  // Nothing was there that could be lost; a claim goes on under the next lease.
        case .owned(let hold), .withdrawing(let hold):
            if hold.lease == lease { lose(hold, text) }
        case .checking(let check):
            if check.hold.lease == lease {
                lose(check.hold, text)
            } else if case .askLease(lease) = check.step {
                lose(check.hold, text)  // A move had brought them onto it.
            }
        case .moving(let move):
            if move.hold.lease == lease {
                lose(move.hold, text)
            } else if move.target == lease {
                // Perhaps they are not on it yet.
                ownership = .checking(Ownership.Check(hold: move.hold, move: move))
            }
        case .restoring(var restore):
            if let hold = restore.hold, hold.lease != lease { return }
            // Lost once more before everything was back: the host has been told.
            restore.step = .read
            ownership = .restoring(restore)
        }
    }

    /// The store was wiped, or is another one: nothing that was learned from it holds any more.
    func ownershipStoreReplaced() {
        presenceLog.removeAll()
        cancel(&selfWatcher)
        lateClaimAfter = nil
        lateMove = nil
        latePermanent = nil
        let text: Text = "the store was replaced: it does not hold what it held"
        forgetLease(text)
        storeIsLost(text)
    }

    /// Everything is gone, and so is the meaning of every revision that we knew.
    func storeIsLost(_ text: Text) {
        switch ownership {
        case .none, .withdrawn, .superseded:
            break
        case .claiming(var claim):
            claim.step = .read
            claim.absentAt = 0
            ownership = .claiming(claim)
        case .owned(let hold), .withdrawing(let hold):
            tellLoss(text)
            loseStore(created: hold.createRevision)
        case .checking(let check):
            tellLoss(text)
            loseStore(created: check.hold.createRevision)
        case .moving(let move):
            tellLoss(text)
            loseStore(created: move.hold.createRevision)
        case .restoring(let restore):
            loseStore(created: restore.created)
        }
    }

    /// An older state of any of them may come back.
    private func loseStore(created: Int64) {
        if created != 0 {
            if creations.count == Limits.creations { creations.removeFirst() }
            creations.append(created)
        }
        ownership = .restoring(Ownership.Restore(lost: .absent(at: 0), createdBefore: creations))
    }

    private func lose(_ hold: Hold, _ text: Text) {
        tellLoss(text)
        ownership =
            isWithdrawalWanted
            ? .checking(Ownership.Check(hold: hold, move: nil, mayHaveWithdrawn: true))
            : .restoring(Ownership.Restore(lost: hold))
    }

    /// Once, however often it is lost before everything is back.
    func tellLoss(_ text: Text) {
        areLabelsBehind = true
        guard !isWithdrawalWanted, !isLossTold else { return }
        isLossTold = true
        tell(.ownership(.lost(text)), bytes: 0)
    }

    /// Every label is where the presence key is.
    func allIsThere() {
        areLabelsBehind = false
        guard isLossTold else { return }
        isLossTold = false
        counters.restores &+= 1
        log(.info, "agent '\(ownName)' is restored")
        tell(.ownership(.restored(revision: counters.revision)), bytes: 0)
    }

    func drive(_ restore: Ownership.Restore) {
        guard labelsInFlight == 0 else { return }
        switch restore.step {
        case .read:
            guard targetLease != nil || isWithdrawalWanted else { return }
            readKeys(.restoreRead)
        case .put where isWithdrawalWanted:
            var restore = restore
            restore.step = .read
            ownership = .restoring(restore)
            driveOwnership()
        case .put(let seen, let created):
            guard let lease = targetLease else { return }
            let target: Compare.Target = seen == 0 ? .createRevision(0) : .modRevision(seen)
            sendOwnership(
                .txn(putPresence(lease, if: target)),
                .restorePut(lease: lease, seen: seen, created: created))
        case .clear(let seen):
            var restore = restore
            restore.mayHaveCleared = true
            ownership = .restoring(restore)
            let hold = Hold(lease: 0, createRevision: seen, modRevision: seen)
            sendOwnership(.txn(withdrawal(hold)), .restoreClear)
        case .confirm(let hold):
            confirm(restore, hold)
        case .retreat(let hold, _):
            sendOwnership(.txn(withdrawal(hold)), .retreat)
        }
    }

    func restoreRead(
        _ restore: Ownership.Restore, _ presence: KeyValue?, _ response: RangeResponse
    ) {
        var restore = restore
        guard let presence else {
            if isWithdrawalWanted {
                withdrawWhatIsLeft(!response.kvs.isEmpty, at: response.header.revision)
                return
            }
            restore.step = .put(seen: 0, created: 0)
            restore.absentAt = response.header.revision
            ownership = .restoring(restore)
            return
        }
        let mayBeOurs = mayBeOurLateClaim(presence, response) || mayBeFromBefore(presence, restore)
        if mayBeOurs, presence.createRevision != restore.created {
            restore.step = .clear(seen: presence.modRevision)
            ownership = .restoring(restore)
            return
        }
        guard isOurs(presence, created: restore.created, known: restore.lost.modRevision) else {
            supersede(supersededText)
            return
        }
        if isWithdrawalWanted {
            ownership = .withdrawing(
                Hold(
                    lease: presence.lease, createRevision: presence.createRevision,
                    modRevision: presence.modRevision))
            return
        }
        restore.created = presence.createRevision
        if presence.lease == 0 {
            // What others did to the name counts from here.
            restore.lost = Hold(
                lease: 0, createRevision: presence.createRevision,
                modRevision: presence.modRevision)
        }
        if presence.lease == targetLease {
            // The answer to our Put was lost.
            restore.step = .confirm(
                Hold(
                    lease: presence.lease, createRevision: presence.createRevision,
                    modRevision: presence.modRevision))
        } else {
            restore.step = .put(
                seen: presence.modRevision, created: presence.createRevision)
        }
        ownership = .restoring(restore)
    }

    func restorePut(
        _ restore: Ownership.Restore, _ succeeded: Bool, _ lease: Int64, created: Int64,
        _ revision: Int64
    ) {
        var restore = restore
        // Also where the lease was lost meanwhile and all begins again: the key is ours.
        if succeeded { restore.created = created == 0 ? revision : created }
        if succeeded, case .put = restore.step {
            restore.step = .confirm(
                Hold(
                    lease: lease, createRevision: restore.created, modRevision: revision))
        } else {
            restore.step = .read
            if succeeded, lease == 0 { latePermanent = 0 }
        }
        ownership = .restoring(restore)
        if !succeeded { restoreBeginsAnew() }
    }

    /// A guard has failed: look again, but not as fast as the server answers.
    private func restoreBeginsAnew() {
        _ = givesUpRestarting(&ownershipRestarts, "it refuses what is ours")
    }

    /// The store may be an older state of the one that we know, with our permanent key in it and labels that have been
    /// unpublished since; or a new one, where another process has made its key at the same revision.
    private func mayBeFromBefore(_ presence: KeyValue, _ restore: Ownership.Restore) -> Bool {
        presence.lease == 0 && restore.createdBefore.contains(presence.createRevision)
    }

    func restoreCleared(_ restore: Ownership.Restore, _ succeeded: Bool, _ revision: Int64) {
        var restore = restore
        restore.step = .read
        // What others did to the name counts from here.
        if succeeded { restore.lost = .absent(at: revision) }
        ownership = .restoring(restore)
        restoreBeginsAnew()
    }

    /// Waits until the self-watch has told our own Put, so that nobody who came and went before it is
    /// overlooked. (A progress request would be the shorter way; etcd before 3.4.25 and 3.5.8 may answer it
    /// ahead of events, https://github.com/etcd-io/etcd/issues/15220.)
    private func confirm(_ restore: Ownership.Restore, _ hold: Hold) {
        var restore = restore
        if let selfWatcher, selfWatcher.next <= hold.modRevision { return }
        if foreignPresence(since: restore.lost, but: hold.modRevision) != nil {
            restore.step = .retreat(hold, isTaken: true)
        } else if !restore.mayHaveCleared, wasRemoved(since: restore) {
            restore.step = .retreat(hold, isTaken: false)
        }
        if case .retreat = restore.step {
            ownership = .restoring(restore)
        } else {
            own(hold)  // The labels follow.
        }
        watchOurselves(from: hold.modRevision &+ 1)
        driveOwnership()
    }

    /// Our Put is taken back: for one who has the name, or because somebody wants our keys away.
    func retreated(_ restore: Ownership.Restore) {
        guard case .retreat(let hold, let isTaken) = restore.step else { return }
        if isTaken { supersede(supersededText) } else { withdrawnByOthers(hold) }
    }

    // MARK: - Withdrawing

    func invalidate(_ id: OperationID) {
        switch ownership {
        case .superseded:
            complete(id, .superseded, supersededText)
        case .none, .withdrawn:
            replaceWaiting("everything was withdrawn after it")
            complete(id, .success)
        case .claiming, .owned, .moving, .checking, .restoring, .withdrawing:
            operations[id] = .invalidate
            withdrawals.append(id)
            wantWithdrawal("everything was withdrawn after it")
        }
    }

    /// Everything that we published is to go. What the host publishes after this comes after it.
    func wantWithdrawal(_ text: Text) {
        isWithdrawalRefused = false
        replaceWaiting(text)
        switch ownership {
        case .none, .withdrawn, .superseded: break
        case .claiming, .owned, .moving, .checking, .restoring, .withdrawing:
            isWithdrawalWanted = true
        }
    }

    private func replaceWaiting(_ text: Text) {
        for record in labels.values {
            guard let next = record.next else { continue }
            record.next = nil
            complete(next.operation, .replaced, text)
        }
        dropEmptyLabels()
    }

    func invalidateEnded(_ id: OperationID, canceled: Bool) {
        withdrawals.removeAll { $0 == id }
        guard canceled, withdrawals.isEmpty, !isStopWithdrawing, drainDeadline == nil else {
            return  // After a time-out the withdrawal goes on: the host wants to be gone.
        }
        if case .withdrawing = ownership { return }
        isWithdrawalWanted = false
    }

    /// The stop of a heartbeat waits for everything to be withdrawn.
    private var isStopWithdrawing: Bool {
        guard let stop = heartbeat.stop else { return false }
        return !stop.keep && stop.revoking == nil
    }

    /// The presence key is gone already. Labels may have stayed on another lease, or on none, where a lease ended
    /// amid a move.
    func withdrawWhatIsLeft(_ areLabelsLeft: Bool, at revision: Int64) {
        if areLabelsLeft {
            ownership = .withdrawing(.absent(at: revision))
        } else {
            nothingIsOurs()
            withdrawalIsDone(revision: 0)
        }
    }

    private func withdrawal(_ hold: Hold) -> TxnRequest {
        let prefix = ownPresenceKey ?? []
        return TxnRequest(
            compare: guardOf(hold),
            success: [
                .deleteRange(DeleteRangeRequest(key: prefix, rangeEnd: Keyspace.end(of: prefix)))
            ])
    }

    /// Never unguarded: in a rolling restart the old process must not wipe the new one's keys.
    func sendWithdrawal(_ hold: Hold) {
        sendOwnership(.txn(withdrawal(hold)), .withdraw)
    }

    func withdrew(_ hold: Hold, _ succeeded: Bool, _ revision: Int64) {
        guard succeeded else {
            // One whose answer was lost may have been carried out.
            ownership = .checking(
                Ownership.Check(hold: hold, move: nil, mayHaveWithdrawn: true))
            return
        }
        log(.info, "agent '\(ownName)' is withdrawn at revision \(revision)")
        nothingIsOurs()
        withdrawalIsDone(revision: revision)
    }

    /// None of our keys is in the store, by our own will.
    func nothingIsOurs() {
        ownership = .none
        isWithdrawalUnanswered = false
        isLossTold = false
        areLabelsBehind = false
        presenceLog.removeAll()
        cancel(&selfWatcher)
        labelsWereWithdrawn()
        retireTaintedLease()
    }

    func withdrawalIsDone(revision: Int64) {
        isWithdrawalWanted = false
        let waiting = withdrawals
        withdrawals.removeAll()
        for operation in waiting { complete(operation, .success, revision: revision) }
    }

    func failWithdrawal(_ status: Status, _ text: Text) {
        isWithdrawalWanted = false
        if isStopWithdrawing {
            complete(heartbeat.stop?.operation, status, text)
            heartbeat.stop = nil
            // It goes on, also where it has lost its lease meanwhile.
            if case .off = heartbeat.state, drainDeadline == nil, !isSuperseded { wantLease() }
        }
        let waiting = withdrawals
        withdrawals.removeAll()
        for operation in waiting { complete(operation, status, text) }
    }
}
