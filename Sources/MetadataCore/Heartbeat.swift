// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// The lease and its renewal.
struct Heartbeat {
    struct Plan {
        let interval: Milliseconds
        let ttlSeconds: Int64
    }
    struct Lease {
        struct Attempt {
            let sentAt: Milliseconds
            let deadline: Milliseconds
        }
        let id: Int64
        let grantedAt: Milliseconds
        /// As granted.
        var ttl: Milliseconds
        var renewAt: Milliseconds
        var attempt: Attempt?
        /// It cannot have run out before. 0: not known.
        var endsAfter: Milliseconds
        /// Nothing has been heard of it on this connection.
        var isFromBefore = false
    }
    enum State {
        case off
        /// `sentAt` nil: to be sent. A repeated one may find the lease made by the first.
        case granting(lease: Int64, sentAt: Milliseconds?, isRepeated: Bool)
        case alive(Lease)
    }
    struct Stop {
        let keep: Bool
        var operation: OperationID?
        /// Set when the keys are off the lease and it is being given back.
        var revoking: Int64?
    }
    var plan = Plan(interval: 0, ttlSeconds: 0)
    var state = State.off
    var startOperation: OperationID?
    var stop: Stop?
    /// A failed grant is repeated not before.
    var retryAt: Milliseconds = 0

    var isOn: Bool {
        if case .off = state { stop != nil } else { true }
    }

    var lease: Lease? {
        if case .alive(let lease) = state { lease } else { nil }
    }

    /// From sending the last answered renewal to sending the next.
    func period(_ ttl: Milliseconds) -> Milliseconds {
        min(plan.interval, ttl / 3)
    }
}

extension MetadataCore {
    /// The lease on which our keys are to hang (0: none); nil while it is not yet known.
    var targetLease: Int64? {
        switch heartbeat.state {
        case .off: 0
        case .granting: nil
        case .alive(let lease): heartbeat.stop?.keep == true ? 0 : lease.id
        }
    }

    func startHeartbeat(_ id: OperationID, interval: Milliseconds, ttlSeconds: Int64) {
        if case .superseded = ownership {
            complete(id, .superseded, supersededText)
            return
        }
        guard !heartbeat.isOn else {
            complete(
                id, .notAllowed,
                heartbeat.stop == nil
                    ? "a heartbeat runs already; stop it first"
                    : "the heartbeat is being stopped; wait for the completion of that")
            return
        }
        heartbeat.plan = Heartbeat.Plan(interval: interval, ttlSeconds: ttlSeconds)
        heartbeat.startOperation = id
        operations[id] = .startHeartbeat
        wantLease()
    }

    func stopHeartbeat(_ id: OperationID, keep: Bool) {
        if case .superseded = ownership {
            complete(id, .superseded, supersededText)
            return
        }
        guard heartbeat.isOn, heartbeat.stop == nil else {
            complete(id, .notFound, "no heartbeat runs")
            return
        }
        complete(
            heartbeat.startOperation, .canceled, "the heartbeat was stopped before it had begun")
        heartbeat.startOperation = nil
        operations[id] = .stopHeartbeat
        beginStop(keep: keep, operation: id)
    }

    func beginStop(keep: Bool, operation: OperationID?) {
        heartbeat.stop = Heartbeat.Stop(keep: keep, operation: operation)
        if case .granting(let lease, let sentAt, let isRepeated) = heartbeat.state {
            // One that may have been made is given back; while its request is in flight, after the answer: two
            // requests in flight may be carried out in any order.
            if sentAt == nil, isRepeated { leasesToRevoke.append(lease) }
            heartbeat.state = .off
        }
        if !keep { wantWithdrawal("the heartbeat was stopped and everything withdrawn") }
    }

    /// The start operation ended without success: then no heartbeat may run.
    func heartbeatStartEnded(_ status: Status, _ text: Text) {
        heartbeat.startOperation = nil
        failWhatWaitsForTheLease(status, text)
        if heartbeat.isOn, heartbeat.stop == nil { beginStop(keep: true, operation: nil) }
    }

    /// The stop operation ended by its time-out (then renewing ends at once) or by cancel (then it goes on untold).
    func heartbeatStopEnded(timedOut: Bool) {
        heartbeat.stop?.operation = nil
        if timedOut { heartbeatIsOff() }
    }

    func heartbeatIsOff() {
        heartbeat.state = .off
        heartbeat.stop = nil
        counters.leaseID = 0
        counters.leaseTTL = 0
        closeKeepAlive()
    }

    /// A new lease: its id names this process in the upper bits and counts generations in the lower.
    func wantLease() {
        if generation == UInt16.max {
            generation = 0
            incarnation = Incarnation.choose(&random)
        }
        generation += 1
        heartbeat.state = .granting(
            lease: Incarnation.lease(incarnation, generation: generation), sentAt: nil,
            isRepeated: false)
        heartbeat.retryAt = 0
    }

    func driveHeartbeat() {
        guard isReady else { return }
        switch heartbeat.state {
        case .off: break
        case .granting(let id, nil, let isRepeated):
            guard now >= heartbeat.retryAt else { return }
            heartbeat.state = .granting(lease: id, sentAt: now, isRepeated: isRepeated)
            send(
                .grant(LeaseGrantRequest(ttl: heartbeat.plan.ttlSeconds, id: id)),
                .grant(lease: id))
        case .granting: break
        case .alive(let lease): renewIfDue(lease)
        }
        settleHeartbeat()
        while let id = leasesToRevoke.popLast() {
            send(.revoke(LeaseRevokeRequest(id: id)), .revoke(lease: id))
        }
    }

    // MARK: - Granting

    func granted(_ id: Int64, _ answer: Answer) {
        guard case .granting(id, let sentAt?, let isRepeated) = heartbeat.state else {
            if case .message = answer { leasesToRevoke.append(id) }
            return
        }
        switch answer {
        case .message(let bytes):
            guard let response = decoded(bytes, LeaseGrantResponse.decode) else { return }
            seen(response.header)
            leaseIsAlive(id, ttl: milliseconds(response.ttl), since: sentAt)
        case .refused(.leaseExists, _) where isRepeated:
            // Made by the earlier request, whose answer was lost. The first renewal tells its TTL.
            leaseIsAlive(id, ttl: milliseconds(heartbeat.plan.ttlSeconds), since: 0)
        case .refused(.leaseExists, _):
            incarnation = Incarnation.choose(&random)
            wantLease()
            // Of 47 random bits never by chance: a server that says so of each is not asked as fast as it answers.
            heartbeat.retryAt = now &+ Timing.retryPause
        case .refused(let failure, let text):
            grantFailed(id, failure.status, text)
        case .oversized(let size):
            grantFailed(id, .backend, "etcd answered with \(size) bytes")
        }
    }

    private func leaseIsAlive(_ id: Int64, ttl: Milliseconds, since: Milliseconds) {
        let period = heartbeat.period(ttl)
        heartbeat.state = .alive(
            Heartbeat.Lease(
                id: id, grantedAt: now, ttl: ttl,
                renewAt: since == 0 ? now : since &+ jittered(period), attempt: nil,
                endsAfter: since == 0 ? 0 : since &+ ttl))
        counters.leaseID = id
        counters.leaseTTL = ttl
        log(.info, "lease \(hex: UInt64(bitPattern: id)) granted for \(ttl) ms")
    }

    private func grantFailed(_ id: Int64, _ status: Status, _ text: Text) {
        log(.warn, "etcd granted no lease: \(text)")
        if let operation = heartbeat.startOperation {
            heartbeat.startOperation = nil
            heartbeatIsOff()
            complete(operation, status, "etcd granted no lease: \(text)")
            failWhatWaitsForTheLease(status, text)
        } else {
            heartbeat.state = .granting(lease: id, sentAt: nil, isRepeated: true)
            heartbeat.retryAt = now &+ Timing.backoffMax
            lastTrouble = text
        }
    }

    /// What was published behind the start of the heartbeat was meant to end with this process, not to be permanent.
    private func failWhatWaitsForTheLease(_ status: Status, _ text: Text) {
        switch ownership {
        case .none, .withdrawn, .claiming:
            failChanges(status, "it was to hang on a lease, and etcd granted none: \(text)")
        case .owned, .moving, .checking, .restoring, .withdrawing, .superseded:
            break  // The name is held without one; so is what is published under it.
        }
    }

    func grantUnanswered(_ id: Int64) {
        if case .granting(id, _, _) = heartbeat.state {
            heartbeat.state = .granting(lease: id, sentAt: nil, isRepeated: true)
        } else {
            leasesToRevoke.append(id)
        }
    }

    // MARK: - Renewing

    private func renewIfDue(_ lease: Heartbeat.Lease) {
        var lease = lease
        if let attempt = lease.attempt {
            guard mayJudge, now >= attempt.deadline else { return }
            lease.attempt = nil
            heartbeat.state = .alive(lease)
            counters.renewalsUnanswered &+= 1
            endpoints.wasSilent(now: now)
            failConnection(
                "\(currentTarget) left a lease renewal unanswered for \(now &- attempt.sentAt) ms")
            return
        }
        guard now >= lease.renewAt, let connection = link.connection else { return }
        let stream = keepAliveStream ?? newID()
        if keepAliveStream == nil {
            keepAliveStream = stream
            log(.debug, "the stream of renewals is opened")
            act(.openStream(stream, connection, .leaseKeepAlive, token: token))
        }
        act(.send(stream, frame: LeaseKeepAliveRequest(id: lease.id).frame()))
        let patience = min(
            max(lease.ttl / 6, Timing.renewalDeadlineMin), Timing.renewalDeadlineMax)
        lease.attempt = Heartbeat.Lease.Attempt(sentAt: now, deadline: now &+ patience)
        heartbeat.state = .alive(lease)
    }

    func renewalAnswered(_ bytes: Bytes) {
        guard let response = decoded(bytes, LeaseKeepAliveResponse.decode) else { return }
        guard case .alive(var lease) = heartbeat.state, lease.id == response.id,
            let attempt = lease.attempt
        else { return }
        seen(response.header)
        guard response.ttl > 0 else {
            leaseIsLost("etcd does not know the lease any more: it ran out")
            return
        }
        counters.renewals &+= 1
        log(.trace, "the lease is renewed, answered after \(now &- attempt.sentAt) ms")
        lease.attempt = nil
        lease.ttl = milliseconds(response.ttl)
        lease.endsAfter = attempt.sentAt &+ lease.ttl
        lease.isFromBefore = false
        lease.renewAt = attempt.sentAt &+ jittered(heartbeat.period(lease.ttl))
        heartbeat.state = .alive(lease)
        counters.leaseTTL = lease.ttl
    }

    /// After a new connection the lease is renewed at once: the interruption may have eaten its time.
    func renewOnNewConnection() {
        guard case .alive(var lease) = heartbeat.state else { return }
        lease.attempt = nil
        lease.renewAt = now
        lease.isFromBefore = true
        heartbeat.state = .alive(lease)
    }

    func closeKeepAlive() {
        guard let stream = keepAliveStream else { return }
        keepAliveStream = nil
        act(.closeStream(stream))
    }

    private func jittered(_ period: Milliseconds) -> Milliseconds {
        period &- random.below(period &* Timing.renewalJitter / 1000 &+ 1)
    }

    private func milliseconds(_ seconds: Int64) -> Milliseconds {
        // A server's number: bounded, so that nothing computed from it can overflow.
        Milliseconds(max(1, min(seconds, Limits.ttlSeconds))) &* 1000
    }

    /// The lease ran out although we live. What hung on it is put back under a new one.
    func leaseIsLost(_ text: Text) {
        guard let lease = heartbeat.lease else { return }
        guard lease.isFromBefore, now < lease.endsAfter else {
            forgetLease(text)
            keysAreLost(lease: lease.id, text)
            return
        }
        let reason: Text =
            "etcd does not know the lease, which had \(lease.endsAfter &- now) ms left: it was revoked, or the store was replaced"
        forgetLease(reason)
        keysAreLost(lease: lease.id, reason)
        storeMayBeAnother()
    }

    /// etcd does not know the lease on which something of ours was to be put, whether it is renewed now or was before.
    func leaseIsUnknown(_ lease: Int64, _ text: Text) {
        if heartbeat.lease?.id == lease {
            leaseIsLost(text)
        } else {
            keysAreLost(lease: lease, text)
            ownershipRetryAt = now &+ Timing.retryPause
        }
    }

    func forgetLease(_ text: Text) {
        guard let lease = heartbeat.lease else { return }
        counters.leasesLost &+= 1
        counters.leaseID = 0
        counters.leaseTTL = 0
        log(.warn, "lease \(hex: UInt64(bitPattern: lease.id)) is lost: \(text)")
        if heartbeat.stop == nil {
            wantLease()
            // A server that grants what it does not keep is not asked as fast as it answers.
            if now &- lease.grantedAt < Timing.backoffMax {
                heartbeat.retryAt = now &+ Timing.backoffMax
            }
        } else {
            heartbeat.state = .off
        }
    }

    /// Nothing of ours is there any more. A Put of the presence key that was never answered could still be carried out and
    /// bring it back: not on a lease that is gone.
    func retireTaintedLease() {
        guard let lease = heartbeat.lease, lease.id == tainted, heartbeat.stop == nil else {
            return
        }
        leasesToRevoke.append(lease.id)
        counters.leaseID = 0
        wantLease()
    }

    // MARK: - Settling

    /// Completes what waited for the keys to be on the lease, or off it.
    func settleHeartbeat() {
        if let operation = heartbeat.startOperation, let lease = heartbeat.lease,
            isSettled(on: lease.id)
        {
            heartbeat.startOperation = nil
            var completion = Completion(operation: operation, status: .success)
            completion.ttl = lease.ttl
            complete(completion)
        }
        guard let stop = heartbeat.stop, stop.revoking == nil else { return }
        guard stop.keep ? isSettled(on: 0) : !isWithdrawalWanted else { return }
        let lease = heartbeat.lease
        heartbeat.state = .off
        counters.leaseID = 0
        counters.leaseTTL = 0
        closeKeepAlive()
        if let lease {
            heartbeat.stop?.revoking = lease.id
            leasesToRevoke.append(lease.id)
        } else {
            heartbeat.stop = nil
            complete(stop.operation, .success)
        }
    }

    /// Answered in whatever way: what etcd does not know is as good as revoked, and what it refuses ends with its time.
    func revoked(_ lease: Int64, _ answer: Answer) {
        if case .refused(let failure, _) = answer {
            switch failure {
            case .leaseNotFound: break
            case .transient, .tokenRefused, .unauthenticated, .authenticationNotEnabled,
                .permission, .tooLarge, .noSpace, .leaseExists, .compacted, .other:
                isRevocationRefused = true
            }
        }
        guard let stop = heartbeat.stop, stop.revoking == lease else { return }
        heartbeat.stop = nil
        complete(stop.operation, .success)
    }

    func revokeUnanswered(_ lease: Int64) {
        leasesToRevoke.append(lease)
    }

    /// When `driveHeartbeat` has something to do.
    var heartbeatDeadline: Milliseconds? {
        guard isReady else { return nil }
        switch heartbeat.state {
        case .off: return nil
        case .granting(_, let sentAt, _): return sentAt == nil ? heartbeat.retryAt : nil
        case .alive(let lease): return lease.attempt?.deadline ?? lease.renewAt
        }
    }
}
