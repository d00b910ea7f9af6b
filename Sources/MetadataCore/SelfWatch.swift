// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

// What others do to our presence key, as etcd tells it.

extension MetadataCore {
    /// Watches our presence key from `revision` on, if that is not done already.
    func watchOurselves(from revision: Int64) {
        guard selfWatcher == nil, let key = ownPresenceKey else { return }
        selfWatchRetryAt = nil
        selfWatcher = startWatcher(
            key: key, rangeEnd: [], from: revision, keepsValues: false, for: .ourselves)
    }

    func ourPresenceChanged(_ events: [WatchResponse.Event]) {
        for event in events {
            let change = PresenceChange(
                modRevision: event.kv.modRevision, createRevision: event.kv.createRevision,
                lease: event.kv.lease,
                isDeleted: event.kind == .delete)
            // More than the log holds in one go is a fight over the name; the latest decide it.
            if presenceLog.count == Limits.presenceChanges { presenceLog.removeFirst() }
            presenceLog.append(change)
        }
    }

    /// The self-watch cannot go on where it stopped; what it missed is found by looking.
    func selfWatchWasInterrupted() {
        selfWatcher = nil
        switch ownership {
        case .owned(let hold):
            ownership = .checking(Ownership.Check(hold: hold, move: nil))
        case .moving(let move):
            ownership = .checking(Ownership.Check(hold: move.hold, move: move))
        case .none, .claiming, .checking, .restoring, .withdrawing, .withdrawn, .superseded:
            break  // They look, or will, before they write what is not guarded.
        }
    }

    /// Roles may be put right; until then only our own writes tell what others do to the name.
    func selfWatchWasRefused(_ text: Text) {
        selfWatcher = nil
        selfWatchRetryAt = now &+ Timing.selfWatchPause
        log(.warn, text)
    }

    /// The revision at which another process last took the name, since `hold`.
    func foreignPresence(since hold: Hold, but own: Int64? = nil) -> Int64? {
        for change in presenceLog.reversed()
        where change.modRevision > hold.modRevision && !change.isDeleted
            && change.modRevision != own && !isOurMove(change, since: hold)
            && !mayBeOurLateClaim(
                lease: change.lease, created: change.createRevision,
                modified: change.modRevision)
        {
            return change.modRevision
        }
        return nil
    }

    private func isOurMove(_ change: PresenceChange, since hold: Hold) -> Bool {
        guard change.lease == 0 else { return isOurs(lease: change.lease) }
        let isOfOurs =
            (hold.createRevision != 0 && change.createRevision == hold.createRevision)
            || beganOnOurLease(change)
        return isOfOurs && latePermanent != nil
    }

    /// What we put onto a lease of ours, and then over it, whether or not it was answered.
    private func beganOnOurLease(_ change: PresenceChange) -> Bool {
        presenceLog.contains {
            isOurs(lease: $0.lease) && $0.createRevision == change.createRevision
        }
    }

    /// Somebody removed our key when it was on no lease that could have taken it away: a move that was never answered had
    /// made it permanent.
    func wasRemoved(since restore: Ownership.Restore) -> Bool {
        let hold = restore.lost
        var isPermanent = hold.lease == 0 && !hold.isAbsent
        for change in presenceLog where change.modRevision > hold.modRevision {
            if change.isDeleted, isPermanent { return true }
            let isOurs =
                change.createRevision == hold.createRevision
                || change.createRevision == restore.created || beganOnOurLease(change)
            isPermanent = !change.isDeleted && change.lease == 0 && isOurs
        }
        return false
    }
}

/// What the self-watch told about our presence key.
struct PresenceChange {
    let modRevision: Int64
    let createRevision: Int64
    let lease: Int64
    let isDeleted: Bool
}
