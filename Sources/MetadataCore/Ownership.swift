// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// That the presence key is ours, and by what a transaction can tell.
struct Hold: Equatable {
    /// 0: permanent.
    let lease: Int64
    let createRevision: Int64
    let modRevision: Int64

    /// Of nobody, as was read at a revision: what is guarded by it is done only while there is no presence key.
    static func absent(at revision: Int64) -> Hold {
        Hold(lease: 0, createRevision: 0, modRevision: revision)
    }

    var isAbsent: Bool { createRevision == 0 }
}

/// Who owns this agent's name, as far as we know.
enum Ownership {
    /// Nothing of ours is in the store.
    case none
    case claiming(Claim)
    case owned(Hold)
    case moving(Move)
    /// Something contradicts our hold: look.
    case checking(Check)
    case restoring(Restore)
    case withdrawing(Hold)
    /// Somebody else removed our keys; the name is free until the host publishes again.
    case withdrawn(Hold)
    /// Final.
    case superseded

    struct Claim {
        enum Step {
            case read
            /// Remove what is there: guarded by the revision of the presence key (0: there is none).
            case sweep(seen: Int64, isPerhapsOurs: Bool)
            case put
        }
        var step = Step.read
        var conflicts = 0
        /// A Put was sent, so the name may be ours, or become so.
        var mayHavePut = false
        var isPutUnanswered = false
        /// When the key was last seen not to be there.
        var absentAt: Int64 = 0
    }

    /// From one lease to another, or to none: first the presence key, then the labels.
    struct Move {
        enum Step {
            case presence(Hold)
            case labels(Hold, after: Bytes?)
        }
        let target: Int64
        var step: Step

        var hold: Hold {
            switch step {
            case .presence(let hold), .labels(let hold, _): hold
            }
        }
    }

    struct Check {
        enum Step {
            case read
            case askLease(Int64)
        }
        let hold: Hold
        let move: Move?
        /// Our own withdrawal may have removed the keys, even if it is not wanted any more.
        var mayHaveWithdrawn = false
        /// Nothing contradicts our hold; but there is no self-watch: etcd refused it, and may allow it now.
        var isForSelfWatch = false
        /// etcd refused a withdrawal: no guard has failed, and what is asked again has its pause.
        var isAfterRefusal = false
        var step = Step.read
    }

    /// The keys were lost although we live: put them back where nobody has taken the name.
    struct Restore {
        enum Step {
            case read
            /// Over what was seen: its revision and that of its creation, or 0.
            case put(seen: Int64, created: Int64)
            /// Remove what may be ours, or another's: see `mayBeOurLateClaim` and `mayBeFromBefore`.
            case clear(seen: Int64)
            /// The self-watch must have told all up to our Put: somebody may have come and gone.
            case confirm(Hold)
            /// Somebody was there, or removed our keys: take our Put back.
            case retreat(Hold, isTaken: Bool)
        }
        /// The last hold; what others did to the name after it counts.
        var lost: Hold
        var step = Step.read
        /// Of the last presence key that was known to be ours.
        var created: Int64
        /// Of ours in the stores that were replaced; empty: it is the same store.
        let createdBefore: [Int64]
        /// When the key was last seen not to be there.
        var absentAt: Int64 = 0
        var isPutUnanswered = false
        /// We may have removed the key ourselves.
        var mayHaveCleared = false

        /// What we have put back.
        var hold: Hold? {
            switch step {
            case .confirm(let hold), .retreat(let hold, _): hold
            case .read, .put, .clear: nil
            }
        }

        init(lost: Hold, createdBefore: [Int64] = []) {
            self.lost = lost
            created = lost.createRevision
            self.createdBefore = createdBefore
        }
    }

    var needsLink: Bool {
        switch self {
        case .none, .superseded: false
        case .claiming, .owned, .moving, .checking, .restoring, .withdrawing, .withdrawn: true
        }
    }

    /// Whether nothing hangs on another lease than this and nothing is on its way.
    func isSettled(on lease: Int64) -> Bool {
        switch self {
        case .none, .withdrawn, .superseded: true
        case .owned(let hold): hold.lease == lease
        case .claiming, .moving, .checking, .restoring, .withdrawing: false
        }
    }
}

/// The requests that ownership makes; at most one is in flight.
enum OwnershipStep {
    case claimRead, claimSweep
    case claimPut(lease: Int64)
    case movePresence(lease: Int64, with: [LabelRecord])
    case moveLabels([LabelRecord])
    case checkRead, checkLease
    case restoreRead
    /// `seen` and `created`: of what it goes over, or 0.
    case restorePut(lease: Int64, seen: Int64, created: Int64)
    case restoreClear, retreat, withdraw
}

extension MetadataCore {
    var supersededText: Text {
        "another process has taken over the agent's name '\(ownName)'"
    }

    /// What lets a transaction write only while the name is ours, and under the very hold for which it was sent: a request
    /// whose answer was lost may be carried out much later, by a member that hung, and must then do nothing.
    func guardOf(_ hold: Hold) -> [Compare] {
        let key = ownPresenceKey ?? []
        if hold.isAbsent { return [Compare(key: key, target: .modRevision(0))] }
        let isUnchanged = Compare(key: key, target: .modRevision(hold.modRevision))
        return hold.lease != 0
            ? [Compare(key: key, target: .lease(hold.lease)), isUnchanged] : [isUnchanged]
    }

    /// A presence key that only this process can have put.
    func isOurs(lease: Int64) -> Bool {
        lease != 0 && Incarnation.of(lease: lease) == incarnation
    }

    /// Without a lease what began with our Put is ours while nobody has put it anew but we ourselves, as far as we know. Our own
    /// kind removes the key before it takes a name over; stock NIXL puts it over what is there.
    func isOurs(_ presence: KeyValue, created: Int64, known: Int64) -> Bool {
        guard presence.lease == 0 else { return isOurs(lease: presence.lease) }
        let isUnchanged =
            presence.modRevision == known || presence.modRevision == presence.createRevision
        return created != 0 && presence.createRevision == created
            && (isUnchanged || latePermanent != nil)
    }

    func mayMoveLate(_ hold: Hold) -> Bool { lateMove?.over == hold.modRevision }

    func isSettled(on lease: Int64) -> Bool {
        if case .owned(let hold) = ownership, mayMoveLate(hold) || areLabelsBehind { return false }
        return ownership.isSettled(on: lease)
    }

    func driveOwnership() {
        guard isReady, !isOwnershipBusy, now >= ownershipRetryAt else { return }
        switch ownership {
        case .none, .withdrawn: driveWithoutHold()
        case .claiming(let claim): drive(claim)
        case .owned(let hold): drive(hold)
        case .moving(let move): drive(move)
        case .checking(let check): drive(check)
        case .restoring(let restore): drive(restore)
        case .withdrawing(let hold): sendWithdrawal(hold)
        case .superseded: break
        }
    }

    private func driveWithoutHold() {
        if isWithdrawalWanted { withdrawalIsDone(revision: 0) }
        if case .withdrawn(let hold) = ownership, foreignPresence(since: hold) != nil {
            supersede(supersededText)
            return
        }
        guard hasChanges, targetLease != nil else { return }
        ownership = .claiming(Ownership.Claim())
        driveOwnership()
    }

    private func drive(_ hold: Hold) {
        if let change = presenceLog.last, change.modRevision > hold.modRevision,
            !isOurs(lease: change.lease) || change.createRevision != hold.createRevision
        {
            ownership = .checking(Ownership.Check(hold: hold, move: nil))
        } else if isWithdrawalWanted {
            guard labelsInFlight == 0 else { return }
            ownership = .withdrawing(hold)
        } else if let target = targetLease, target != hold.lease || mayMoveLate(hold) {
            // Where a move that was given up may yet be carried out, too: its lease is about to end, and would take the key
            // along. Written anew, the key is not the one that it is bound to; before it is moved onto a third lease, too.
            guard labelsInFlight == 0 else { return }
            let isElsewhere = hold.lease == 0 && mayMoveLate(hold) && lateMove?.lease != target
            ownership = .moving(
                Ownership.Move(target: isElsewhere ? 0 : target, step: .presence(hold)))
        } else if areLabelsBehind, drainDeadline == nil || !isWithdrawalRefused {
            guard labelsInFlight == 0 else { return }
            ownership = .moving(
                Ownership.Move(target: hold.lease, step: .labels(hold, after: nil)))
        } else if selfWatcher == nil, now >= selfWatchRetryAt ?? 0 {
            ownership = .checking(Ownership.Check(hold: hold, move: nil, isForSelfWatch: true))
        } else {
            writeLabels(hold)
            return
        }
        driveOwnership()
    }

    func sendOwnership(_ body: CallBody, _ step: OwnershipStep) {
        isOwnershipBusy = true
        send(body, .ownership(step))
    }

    /// Settled as ours: what we knew of others' doing before is history.
    func own(_ hold: Hold) {
        ownership = .owned(hold)
        wasRemovedByOthers = false
        ownershipFailures = 0
        isWithdrawalUnanswered = false
        if latePermanent != hold.modRevision { latePermanent = nil }
        presenceLog.removeAll { $0.modRevision <= hold.modRevision }
    }

    func ownershipUnanswered(_ step: OwnershipStep) {
        noteUnanswered(step)
        ownershipEnded(step)
    }

    /// What was sent may be carried out later.
    private func noteUnanswered(_ step: OwnershipStep) {
        switch step {
        case .claimPut(let lease):
            var absentAt: Int64 = 0
            if case .claiming(var claim) = ownership {
                absentAt = claim.absentAt
                claim.isPutUnanswered = true
                ownership = .claiming(claim)
            }
            putUnanswered(on: lease, absentAt: absentAt)
        case .restorePut(let lease, seen: 0, _):
            var absentAt: Int64 = 0
            if case .restoring(var restore) = ownership {
                absentAt = restore.absentAt
                restore.isPutUnanswered = true
                ownership = .restoring(restore)
            }
            putUnanswered(on: lease, absentAt: absentAt)
        case .restorePut(let lease, let seen, _):
            if lease != 0 { tainted = lease } else { latePermanent = seen }
        case .movePresence(let lease, let batch):
            areLabelsBehind = true
            for record in batch { record.noteUnanswered() }
            var over: Int64 = 0
            if case .moving(let move) = ownership { over = move.hold.modRevision }
            if case .checking(let check) = ownership { over = check.hold.modRevision }
            if lease == 0 {
                latePermanent = over
            } else {
                tainted = lease
                if over != 0 { lateMove = (lease, over) }
            }
        case .moveLabels(let batch):
            for record in batch { record.noteUnanswered() }
        case .withdraw:
            isWithdrawalUnanswered = true
        case .claimRead, .claimSweep, .checkRead, .checkLease, .restoreRead, .restoreClear,
            .retreat:
            break
        }
    }

    private func ownershipEnded(_ step: OwnershipStep) {
        isOwnershipBusy = false
        switch ownership {
        case .claiming(var claim):
            claim.step = .read
            ownership = .claiming(claim)
        case .restoring(var restore):
            switch restore.step {
            case .read, .put, .clear: restore.step = .read
            case .confirm, .retreat: break
            }
            ownership = .restoring(restore)
        case .none, .owned, .moving, .checking, .withdrawing, .withdrawn, .superseded:
            break
        }
    }

    /// A Put of the presence key where there was none may be carried out whenever there is none again.
    private func putUnanswered(on lease: Int64, absentAt: Int64) {
        if lease != 0 {
            tainted = lease
        } else {
            lateClaimAfter = min(lateClaimAfter ?? absentAt, absentAt)
        }
    }

    func ownershipAnswered(_ step: OwnershipStep, _ answer: Answer) {
        switch answer {
        case .message(let bytes):
            ownershipMessage(step, bytes)
        case .refused(.leaseNotFound, let text):
            let lease = leaseNamed(by: step)
            ownershipEnded(step)
            leaseIsUnknown(lease, "etcd does not know the lease any more (\(text))")
        case .refused(.tooLarge, let text) where onlyLabel(step) != nil:
            isOwnershipBusy = false
            if let record = onlyLabel(step) { isTooLarge(record, text) }
        case .refused(.tooLarge, let text) where canBeSmaller(step):
            ownershipEnded(step)
            batchBytes /= 2
            log(.info, "labels are written in smaller portions: \(text)")
        case .refused(let failure, let text):
            // What is refused itself is told; an earlier attempt is to be looked for.
            let wasUnanswered = isWithdrawalUnanswered
            switch failure {
            case .permission, .noSpace, .tooLarge: break  // Nothing of it was, or will be, done.
            case .transient, .tokenRefused, .unauthenticated, .authenticationNotEnabled,
                .leaseNotFound, .leaseExists, .compacted, .other:
                noteUnanswered(step)
            }
            ownershipEnded(step)
            ownershipRefused(failure.status, text, wasUnanswered: wasUnanswered)
        case .oversized(let size):
            let wasUnanswered = isWithdrawalUnanswered
            ownershipUnanswered(step)
            ownershipRefused(
                .backend, "etcd answered with \(size) bytes", wasUnanswered: wasUnanswered)
        }
    }

    private func leaseNamed(by step: OwnershipStep) -> Int64 {
        switch step {
        case .claimPut(let lease), .movePresence(let lease, _), .restorePut(let lease, _, _):
            return lease
        case .moveLabels:
            if case .moving(let move) = ownership { return move.hold.lease }
            return 0
        case .claimRead, .claimSweep, .checkRead, .checkLease, .restoreRead, .restoreClear,
            .retreat, .withdraw:
            return 0
        }
    }

    /// The one label of a transaction.
    private func onlyLabel(_ step: OwnershipStep) -> LabelRecord? {
        switch step {
        case .moveLabels(let batch):
            batch.count == 1 ? batch[0] : nil
        case .claimRead, .claimSweep, .claimPut, .movePresence, .checkRead, .checkLease,
            .restoreRead, .restorePut, .restoreClear, .retreat, .withdraw:
            nil
        }
    }

    /// etcd's limit may be below its default. One label alone went through before.
    private func canBeSmaller(_ step: OwnershipStep) -> Bool {
        switch step {
        case .moveLabels(let batch): batch.count > 1
        case .movePresence(_, let batch): !batch.isEmpty
        case .claimRead, .claimSweep, .claimPut, .checkRead, .checkLease,
            .restoreRead, .restorePut, .restoreClear, .retreat, .withdraw:
            false
        }
    }

    private func ownershipMessage(_ step: OwnershipStep, _ bytes: Bytes) {
        switch step {
        case .claimRead, .checkRead, .restoreRead:
            guard let response = decoded(bytes, RangeResponse.decode) else { return }
            isOwnershipBusy = false
            seen(response.header)
            presenceRead(step, response)
        case .checkLease:
            guard let response = decoded(bytes, LeaseTimeToLiveResponse.decode) else { return }
            isOwnershipBusy = false
            seen(response.header)
            leaseAsked(secondsLeft: response.ttl)
        case .claimSweep, .claimPut, .movePresence, .moveLabels, .restorePut, .restoreClear,
            .retreat, .withdraw:
            guard let response = decoded(bytes, TxnResponse.decode) else { return }
            isOwnershipBusy = false
            seen(response.header)
            transacted(step, response.succeeded, response.header.revision)
        }
    }

    private func presenceRead(_ step: OwnershipStep, _ response: RangeResponse) {
        // It sorts first.
        let presence = response.kvs.first.flatMap { $0.key == ownPresenceKey ? $0 : nil }
        switch (step, ownership) {
        case (.claimRead, .claiming(let claim)): claimRead(claim, presence, response)
        case (.checkRead, .checking(let check)):
            learnRevisions(response)
            checkRead(check, presence, response)
        case (.restoreRead, .restoring(let restore)):
            learnRevisions(response)
            restoreRead(restore, presence, response)
        default: break  // The state has moved on (the lease was lost, the store replaced).
        }
    }

    private func transacted(_ step: OwnershipStep, _ succeeded: Bool, _ revision: Int64) {
        switch (step, ownership) {
        case (.claimSweep, .claiming(let claim)):
            swept(claim, succeeded, revision)
        case (.claimPut(let lease), .claiming(let claim)):
            claimPut(claim, succeeded, lease, revision)
        case (.movePresence(_, let batch), .moving(let move)):
            presenceMoved(move, succeeded, batch, revision)
        case (.moveLabels(let batch), .moving(let move)):
            labelsMoved(move, succeeded, batch, revision)
        case (.restorePut(let lease, _, let created), .restoring(let restore)):
            restorePut(restore, succeeded, lease, created: created, revision)
        case (.restoreClear, .restoring(let restore)):
            restoreCleared(restore, succeeded, revision)
        case (.retreat, .restoring(let restore)):
            retreated(restore)
        case (.withdraw, .withdrawing(let hold)):
            withdrew(hold, succeeded, revision)
        case (.movePresence(lease: 0, _), _), (.restorePut(lease: 0, _, _), _):
            // The state has moved on; what was put is ours.
            if succeeded { latePermanent = 0 }
        default: break
        }
    }
}
