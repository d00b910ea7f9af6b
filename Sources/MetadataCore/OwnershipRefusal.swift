// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

extension MetadataCore {
    /// etcd refuses what ownership needs (permission, no space, ...): those who wait are told, and what must go on is
    /// tried again, slowly.
    func ownershipRefused(_ status: Status, _ text: Text, wasUnanswered: Bool) {
        log(.warn, "etcd refused to write the agent's keys: \(text)")
        lastTrouble = text
        ownershipFailures += 1
        ownershipRetryAt = now &+ min(Timing.retryPause << min(ownershipFailures, 5), 2000)
        switch ownership {
        case .claiming(let claim):
            if !claim.isPutUnanswered || lateClaimAfter == nil {
                giveUpClaim()
            } else if isWithdrawalWanted {
                // What a permanent Put may have made that was never answered is still to be looked for.
                withdrawalIsRefused(status, text)
            }
            failChanges(status, "the agent's name cannot be claimed: \(text)")
        case .moving:
            if let operation = heartbeat.startOperation {
                complete(operation, status, text)
                heartbeatStartEnded(status, text)
            }
            failQueuedChanges(status, "the agent's keys cannot be moved: \(text)")
        case .withdrawing(let hold):
            withdrawingRefused(hold, status, text, wasUnanswered: wasUnanswered)
        case .restoring:
            if isWithdrawalWanted { withdrawalIsRefused(status, text) }
            failQueuedChanges(status, "the agent's keys cannot be put back: \(text)")
        case .checking(let check) where check.isForSelfWatch:
            // What is published goes on without.
            ownershipRetryAt = now
            selfWatchRetryAt = now &+ Timing.selfWatchPause
            ownership = .owned(check.hold)
        case .none, .owned, .checking, .withdrawn, .superseded:
            break
        }
    }

    private func withdrawingRefused(
        _ hold: Hold, _ status: Status, _ text: Text, wasUnanswered: Bool
    ) {
        if withdrawals.isEmpty, !heartbeat.isOn, hold.lease != 0 {
            // Wanted by a stop that has timed out: nobody renews the lease, nobody is told, and nothing is to stay. What a
            // move has not yet brought onto the lease would, so there it is tried on.
            guard !areLabelsBehind else {
                failQueuedChanges(status, "the agent's keys cannot be withdrawn: \(text)")
                return
            }
            withdrawalIsDone(revision: 0)
            leaveToLease(hold)
        } else if wasUnanswered {
            // An earlier attempt may have been carried out: nobody is told that it was refused before that is known.
            isWithdrawalUnanswered = false
            look(for: hold, mayHaveWithdrawn: true)
        } else if hold.isAbsent, drainDeadline == nil, heartbeat.isOn || !withdrawals.isEmpty {
            // A lease has ended amid a move. What it has left stays, so it is to be whole again.
            withdrawalIsRefused(status, text)
            tellLoss(text)
            ownership = .restoring(Ownership.Restore(lost: hold))
        } else {
            // It counts as not done: if it was all the same, the agent is told that its keys are gone.
            withdrawalIsRefused(status, text)
            look(for: hold, mayHaveWithdrawn: hold.isAbsent)
        }
    }

    private func withdrawalIsRefused(_ status: Status, _ text: Text) {
        isWithdrawalRefused = true
        failWithdrawal(status, text)
    }

    private func look(for hold: Hold, mayHaveWithdrawn: Bool) {
        ownership = .checking(
            Ownership.Check(
                hold: hold, move: nil, mayHaveWithdrawn: mayHaveWithdrawn, isAfterRefusal: true))
    }
}
