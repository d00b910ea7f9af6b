// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

// No answers, and refusals.

extension NameKeeper {
    // MARK: - No answers

    /// The connection is lost, with everything that was not answered on it.
    mutating func connectionIsLost(now: Milliseconds) {
        pacing.forgetRefusal()
        pacing.connectionIsLost()
        departure.connectionIsLost()
        trial.connectionIsLost()
        leases.connectionIsLost(now: now)
        looking.isFailed()
    }

    mutating func unanswered(_ call: RegistrationCall) {
        if call.step != .write { inFlight = nil }
        switch call.step {
        case .grant(let lease): leases.grantIsUnanswered(lease)
        case .claim(let lease), .evict(_, let lease):
            leases.claimIsUnanswered(lease)
            looking.again()
        case .write, .rehang, .fence, .remove:
            published.areUnanswered(call.labels, on: call.lease)
            mayBeCarriedOut(call, isAnswered: false)
        case .observe, .read, .ask, .revoke, .askDead: looking.again()
        case .nothing, .wait, .lose, .withdrawn, .superseded, .nameIsTaken, .contended, .stays,
            .leave, .left:
            assertionFailure("no request")
        }
    }

    private mutating func mayBeCarriedOut(_ call: RegistrationCall, isAnswered: Bool) {
        let isDoubt = fence.mayBeCarriedOut(at: call.revision, presence, isAnswered: isAnswered)
        if !isDoubt { looking.again() }
    }

    // MARK: - Refusals

    mutating func refused(
        _ call: RegistrationCall, _ failure: Failure, _ text: Text, _ now: Milliseconds,
        _ out: inout Effects
    ) {
        switch failure {
        case .leaseNotFound: leaseIsUnknown(call, now, &out)
        case .leaseExists where call.isGrant: leases.idIsTaken(call.target)
        case .permission where isTried(call, now):
            published.areNotWritten(call.labels, on: call.lease, &out)
        case .tooLarge where call.canBeSmaller:
            published.areNotWritten(call.labels, on: call.lease, &out)
            batchBytes /= 2
            out.log(.info, "labels are written in smaller portions: \(text)")
            return
        default: isRefused(call, failure, text, &out)
        }
        pacing.refused(now)
    }

    /// On another lease, or label by label, the presence key moving without any.
    private mutating func isTried(_ call: RegistrationCall, _ now: Milliseconds) -> Bool {
        switch call.step {
        case .claim, .evict, .write, .rehang, .fence: break
        case .observe, .read, .ask, .grant, .revoke, .remove, .askDead, .nothing, .wait, .lose,
            .withdrawn, .superseded, .nameIsTaken, .contended, .stays, .leave, .left:
            return false
        }
        // A label that waits for a withdrawal is tried again if that is refused.
        guard !departure.isUnderWay else { return call.step == .write }
        // Another answer to what the trial is for: it is tried on that lease as well.
        if trial.isOn(leases.target), !trial.isOn(call.lease) {
            trial.wasRefused(call.labels)
            return true
        }
        if beginTrial(now, refused: call.labels) { return true }
        guard call.canBeSmaller else { return false }
        trial.takeApart()
        return true
    }

    mutating func beginTrial(_ now: Milliseconds, refused: [Bytes]?) -> Bool {
        guard trial.mayBegin(leases.target, now) else { return false }
        leases.replaceTarget(keeping: neededLeases)
        trial.begin(leases.target, now, refused: refused)
        return true
    }

    private mutating func leaseIsUnknown(
        _ call: RegistrationCall, _ now: Milliseconds, _ out: inout Effects
    ) {
        published.areNotWritten(call.labels, on: call.lease, &out)
        switch call.step {
        case .revoke: revoked(call, departure.revision, now, isFound: false, &out)
        case .askDead(let lease): takeover.forget(lease)
        case .grant(let lease): leases.grantIsUnanswered(lease)
        case .claim, .evict, .fence, .rehang, .write, .remove, .observe, .read, .ask, .nothing,
            .wait, .lose, .withdrawn, .superseded, .nameIsTaken, .contended, .stays, .leave, .left:
            leaseIsGone(call.lease, &out)
        }
    }

    /// etcd does not know it any more.
    mutating func leaseIsGone(_ lease: Int64, _ out: inout Effects) {
        published.leaseIsGone(lease, isOver: !fence.isInDoubt, &out)
        if hanging.contains(lease) || isPresence(on: lease) { looking.again() }
        // A lease that we asked etcd to revoke is not a loss.
        if !hanging.contains(lease) || !leases.isAskedToGo(lease) { leases.forget(lease) }
    }

    private mutating func isRefused(
        _ call: RegistrationCall, _ failure: Failure, _ text: Text, _ out: inout Effects
    ) {
        let status = failure.status
        let isNews = pacing.lastRefusal?.status != status
        pacing.note(status, text)
        out.log(isNews ? .warn : .debug, "etcd refused a request about the agent's keys: \(text)")
        // A failure that leaves the outcome open puts the write in doubt.
        let isCertain = failure == .permission || failure == .tooLarge
        let isFull = failure == .noSpace
        switch call.step {
        case .write where isFull, .rehang where isFull, .fence where isFull:
            published.areUnanswered(call.labels, on: call.lease)
            mayBeCarriedOut(call, isAnswered: true)
        case .write:
            let isStuck = published.areRefused(
                call.labels, on: call.lease, status, isInDoubt: !isCertain,
                isFinal: failure == .tooLarge, &out
            ) { failure.explain(text, blob: $0, request: call.size) }
            if isStuck { heartbeat.fail(status, "a label cannot be moved: \(text)", &out) }
            if !isCertain { mayBeCarriedOut(call, isAnswered: false) }
        case .grant(let lease):
            grantIsRefused(lease, isCertain: isCertain, isFull: isFull)
            if !isFull { failWaiting(status, "etcd granted no lease: \(text)", &out) }
        case .observe where failure == .permission: lookIsRefused(status, text, &out)
        case .read: published.doubtIsOver(&out)
        case .revoke(let lease):
            // ('No space' is no answer of etcd's to this.)
            let mayBeCarriedOut = call.wasAsked || !isCertain && !isFull
            let refusal = Pacing.Refusal(status: status, text: text)
            revocationIsRefused(lease, refusal, mayBeCarriedOut: mayBeCarriedOut, &out)
        case .remove:
            if !isCertain { mayBeCarriedOut(call, isAnswered: false) }
            withdrawalIsRefused(Pacing.Refusal(status: status, text: text), &out)
        case .askDead(let lease): takeover.forget(lease)
        case .claim, .evict, .rehang, .fence:
            if isCertain {
                published.areNotWritten(call.labels, on: call.lease, &out)
            } else {
                unanswered(call)
            }
            // Who leaves tries it no other way, and whoever waits is served after the withdrawal.
            if !isFull, !departure.isUnderWay {
                failWaiting(status, "the agent's keys cannot be written: \(text)", &out)
            }
        case .ask where departure.isUnderWay:
            // It is taken for there.
            if case .checking(let lease, _) = departure.way {
                departure.goesOn(by: .checking(lease, isAsked: true))
            }
        case .observe, .ask:
            looking.isFailed()
            if !isFull { cannotRead(status, text, &out) }
        case .nothing, .wait, .lose, .withdrawn, .superseded, .nameIsTaken, .contended, .stays,
            .leave, .left:
            assertionFailure("no request")
        }
    }

    private mutating func lookIsRefused(_ status: Status, _ text: Text, _ out: inout Effects) {
        looking.isRefused()
        guard !looking.canRead else { return }
        if fence.doubt?.isAnswered == true {
            // etcd has answered everything, and nobody can look.
            fence.isOver()
            published.doubtIsOver(&out)
        }
        // The self-watch may have seen a change that cannot be read.
        if looking.isDue { cannotRead(status, text, &out) }
    }

    private mutating func grantIsRefused(_ lease: Int64, isCertain: Bool, isFull: Bool) {
        if isCertain || isFull {
            leases.grantIsRefused(lease, isCertain: isCertain)
        } else {
            // A late grant must not bring back a revoked lease: its generation is not used again.
            leases.grantIsUnanswered(lease)
        }
    }

    private mutating func revocationIsRefused(
        _ lease: Int64, _ refusal: Pacing.Refusal, mayBeCarriedOut: Bool, _ out: inout Effects
    ) {
        // A certain refusal counts as never requested.
        if !mayBeCarriedOut { leases.isToStay(lease) }
        if departure.isUnderWay {
            departure.isRefused(refusal, lease, isAsked: !mayBeCarriedOut)
        } else if leases.mayBeClaimed(lease) || presence == .absent(isMarked: true) {
            // A claim may yet come, or a mark of ours is on it: it is asked to go again, but nobody need wait for that.
            heartbeat.failStops(
                refusal.status, "its lease cannot be revoked: \(refusal.text)", &out)
        } else {
            isNotNeeded(lease)
        }
    }

    private mutating func cannotRead(_ status: Status, _ text: Text, _ out: inout Effects) {
        failWaiting(status, "the agent's keys cannot be read: \(text)", &out)
        // Nor can they be removed one by one then.
        switch departure.way {
        case .revoking: break
        case .checking, .removing:
            withdrawalIsRefused(Pacing.Refusal(status: status, text: text), &out)
        }
    }

    private mutating func failWaiting(_ status: Status, _ text: Text, _ out: inout Effects) {
        published.failWaiting(status, text, &out)
        heartbeat.fail(status, text, &out)
    }

    /// etcd refuses to revoke it, and no attempt has ended it.
    mutating func leaseStays(_ lease: Int64, _ out: inout Effects) {
        departure.goesOn(by: .revoking)
        guard let refusal = departure.refusal else { return }
        if mayBeLeft(on: lease) {
            departure.goesOn(by: .removing(lease))
        } else if departure.reason == .asked,
            leases.mayBeClaimed(lease)
                || (hanging.contains(lease) || published.mayHang(on: lease)) && !looking.sawNothing
        {
            withdrawalIsRefused(refusal, &out)
        } else if leases.mayBeClaimed(lease)
            || departure.reason == .superseded && hanging.contains(lease)
                && Incarnation.mayOutliveItsProcess(lease)
        {
            // A claim may yet come, or a stock agent has put its key over ours, and labels of ours are beside it. It is asked to
            // go again, but nobody need wait for that. One of a heartbeat ends by itself.
            departure.completeWaiting(refusal.status, refusal.text, &out)
        } else {
            // Under another's presence key nobody looks for labels of ours.
            if case .anothers = presence { logStaying(refusal, &out) }
            isNotNeeded(lease)
        }
    }

    /// Something of ours. Without a presence key: labels, or the mark of a newcomer, which may be our own.
    func mayBeLeft(on lease: Int64) -> Bool {
        switch presence {
        case .absent(let isMarked):
            !looking.sawNothing && (isMarked || published.mayHang(on: lease))
        case .ours: isPresence(on: lease) || published.mayHang(on: lease)
        case .anothers: false
        }
    }

    /// Nothing of ours hangs on it.
    private mutating func isNotNeeded(_ lease: Int64) {
        forgetLease(lease)
        takeover.forget(lease)
    }

    func isPresence(on lease: Int64) -> Bool {
        if case .ours(lease, _) = presence { true } else { false }
    }

    private mutating func forgetLease(_ lease: Int64) {
        leases.forget(lease)
        hanging.forget(lease)
    }

    private func logStaying(_ refusal: Pacing.Refusal, _ out: inout Effects) {
        out.log(.warn, "keys on the lease of agent '\(agent)' stay: \(refusal.text)")
    }

    private mutating func withdrawalIsRefused(
        _ refusal: Pacing.Refusal, _ out: inout Effects
    ) {
        departure.completeWaiting(refusal.status, refusal.text, &out)
        if departure.reason == .asked {
            _ = departure.end()
            looking.again()
            goOn(&out)
            return
        }
        // The reason of the departure is reported anyway.
        logStaying(refusal, &out)
        switch departure.way {
        case .revoking: break
        case .checking(let lease, _), .removing(let lease): forgetLease(lease)
        }
        departure.goesOn(by: .revoking)
    }
}
