// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

// Putting back what was lost while the process lives, and taking back what was published.

extension MetadataCore {
    /// The keys on `lease` (0: the permanent ones) are gone, and nobody asked for it.
    func keysAreLost(lease: Int64, _ text: Text) {
        switch ownership {
        case .none, .withdrawn, .superseded, .claiming:
            return  // Nothing was there that could be lost; a claim goes on under the next lease.
        case .owned(let hold), .withdrawing(let hold):
            lose(hold, text)
        case .checking(let check):
            lose(check.hold, text)
        case .moving(let move):
            switch move.step {
            case .presence(let hold), .labels(let hold, _): lose(hold, text)
            }
        case .restoring(var restore):
            // Lost once more before everything was back: the host has been told.
            restore.step = .read
            ownership = .restoring(restore)
        }
    }

    private func lose(_ hold: Hold, _ text: Text) {
        if isWithdrawalWanted {
            ownership = .checking(Ownership.Check(hold: hold, move: nil))
            return
        }
        tell(.ownership(.lost(text)), bytes: 0)
        ownership = .restoring(Ownership.Restore(lost: hold))
    }

    func drive(_ restore: Ownership.Restore) {
        guard labelsInFlight == 0 else { return }
        switch restore.step {
        case .read:
            guard targetLease != nil else { return }
            readKeys(.restoreRead)
        case .put(let seen, _):
            guard let lease = targetLease else { return }
            var sent = restore
            sent.mayHavePut = true
            ownership = .restoring(sent)
            let target: Compare.Target = seen == 0 ? .createRevision(0) : .modRevision(seen)
            sendOwnership(.txn(putPresence(lease, if: target)), .restorePut(lease: lease))
        case .confirm(let hold):
            confirm(restore, hold)
        case .labels(let hold, let last):
            restoreLabels(restore, hold, after: last)
        case .retreat(let hold):
            sendOwnership(.txn(withdrawal(hold)), .retreat)
        }
    }

    func restoreRead(_ restore: Ownership.Restore, _ presence: KeyValue?) {
        var restore = restore
        guard let presence else {
            if isWithdrawalWanted {
                nothingIsOurs()
                withdrawalIsDone(revision: 0)
                return
            }
            restore.step = .put(seen: 0, created: 0)
            ownership = .restoring(restore)
            return
        }
        // A permanent key has no lease to know it by: it must be the one that we had, or the one into which a Put that
        // was never answered has turned it.
        let isPermanentOfOurs =
            presence.lease == 0
            && (presence.modRevision == restore.lost.modRevision
                || (mayBePermanent && presence.createRevision == restore.lost.createRevision)
                || (restore.mayHavePut && targetLease == 0))
        guard isOurs(lease: presence.lease) || isPermanentOfOurs else {
            supersede(supersededText)
            return
        }
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
        _ restore: Ownership.Restore, _ succeeded: Bool, _ lease: Int64, _ revision: Int64
    ) {
        var restore = restore
        if succeeded, case .put(_, let created) = restore.step {
            restore.step = .confirm(
                Hold(
                    lease: lease, createRevision: created == 0 ? revision : created,
                    modRevision: revision))
        } else {
            restore.step = .read
        }
        ownership = .restoring(restore)
    }

    /// Waits until the self-watch has told our own Put, so that nobody who came and went before it is
    /// overlooked. (A progress request would be the shorter way; etcd before 3.4.25 and 3.5.8 may answer it
    /// ahead of events, https://github.com/etcd-io/etcd/issues/15220.)
    private func confirm(_ restore: Ownership.Restore, _ hold: Hold) {
        var restore = restore
        if let selfWatcher, selfWatcher.next <= hold.modRevision { return }
        if foreignPresence(after: restore.lost.modRevision, but: hold.modRevision) != nil {
            restore.step = .retreat(hold)
        } else {
            restore.step = .labels(hold, after: nil)
        }
        ownership = .restoring(restore)
        watchOurselves(from: hold.modRevision &+ 1)
        driveOwnership()
    }

    private func restoreLabels(_ restore: Ownership.Restore, _ hold: Hold, after last: Bytes?) {
        if isWithdrawalWanted {
            own(hold)
            driveOwnership()
            return
        }
        let batch = nextBatch(after: last)
        guard !batch.isEmpty else {
            counters.restores &+= 1
            log(.info, "agent '\(ownName)' is restored")
            own(hold)
            tell(.ownership(.restored(revision: counters.revision)), bytes: 0)
            driveOwnership()
            return
        }
        sendOwnership(.txn(batchTransaction(batch, hold)), .restoreLabels(batch))
    }

    func labelsRestored(
        _ restore: Ownership.Restore, _ succeeded: Bool, _ batch: [LabelRecord], _ revision: Int64
    ) {
        guard case .labels(let hold, _) = restore.step else { return }
        var restore = restore
        if succeeded { wrote(batch, at: revision) }
        restore.step = succeeded ? .labels(hold, after: batch.last?.label) : .read
        ownership = .restoring(restore)
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
            if record.confirmed == nil, !record.isBusy { labels[record.label] = nil }
        }
    }

    func invalidateEnded(_ id: OperationID, canceled: Bool) {
        withdrawals.removeAll { $0 == id }
        guard canceled, withdrawals.isEmpty, heartbeat.stop == nil, drainDeadline == nil else {
            return  // After a time-out the withdrawal goes on: the host wants to be gone.
        }
        if case .withdrawing = ownership { return }
        isWithdrawalWanted = false
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
            ownership = .checking(Ownership.Check(hold: hold, move: nil))
            return
        }
        log(.info, "agent '\(ownName)' is withdrawn at revision \(revision)")
        nothingIsOurs()
        withdrawalIsDone(revision: revision)
    }

    /// None of our keys is in the store, by our own will.
    func nothingIsOurs() {
        ownership = .none
        presenceLog.removeAll()
        mayBePermanent = false
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
        let waiting = withdrawals
        withdrawals.removeAll()
        for operation in waiting { complete(operation, status, text) }
    }
}
