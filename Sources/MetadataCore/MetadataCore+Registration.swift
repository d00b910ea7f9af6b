// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

// Between the registration and the rest of the core.

extension MetadataCore {
    var isAgent: Bool { configuration.agent != nil }

    /// Carries out what the registration has to say.
    func carryOut(_ effects: Effects) {
        for item in effects.items {
            switch item {
            case .completed(let operation, let status, let text, let revision, let ttl):
                var completion = Completion(operation: operation, status: status, text: text)
                completion.revision = revision
                completion.ttl = ttl
                complete(completion)
            case .event(let event): tell(.ownership(event), bytes: 0)
            case .log(let level, let text): log(level, text)
            case .storeIsAnother(let text):
                stopWatchingOurselves()
                sweep(.replaceStore("the store may have been replaced: \(text)"))
            case .isNotPlausible(let text): isMalformed(text)
            }
        }
    }

    /// The lease on which this agent's keys are to hang; 0: none. For tests.
    package var ownLease: Int64 { registration.lease }
    /// For the simulator.
    package var registrationState: [UInt8] { registration.stateClass }

    // MARK: - Requests and renewals

    func driveRegistration() {
        guard isAgent, connection.takesRequests else { return }
        let isFree = hasFreeCall
        while true {
            var effects = Effects()
            let next = registration.next(now: now, isFree: isFree, &effects)
            carryOut(effects)
            guard let (call, body) = next else { break }
            log(.debug, "registration: \(call.step.name)")
            send(body, .registration(call))
            guard hasFreeCall else { break }
        }
        driveSelfWatch()
        driveRenewals()
    }

    private func driveRenewals() {
        if let due = renewalAgainDue, now >= due { renewOnceMore() }
        while connection.takesRequests, let lease = registration.nextRenewal(now: now) {
            if keepAliveStream == nil { keepAliveStream = openRenewals() }
            renew(lease, on: keepAliveStream)
        }
    }

    private func openRenewals() -> StreamID? {
        guard let ground = connection.ground else { return nil }
        let stream = newID()
        log(.debug, "the stream of renewals is opened")
        act(.openStream(stream, ground.connection, .leaseKeepAlive, token: ground.token))
        return stream
    }

    private func renew(_ lease: Int64, on stream: StreamID?) {
        if let stream { act(.send(stream, frame: LeaseKeepAliveRequest(id: lease).frame())) }
    }

    /// A balancer that spreads requests may have given a renewal to a server that hangs, and nothing else keeps the lease. The
    /// first one keeps its place in the queue.
    private func renewOnceMore() {
        secondKeepAlive = openRenewals()
        for lease in registration.renewalsUnanswered { renew(lease, on: secondKeepAlive) }
    }

    var renewalAgainDue: Milliseconds? {
        guard secondKeepAlive == nil, !connection.hasOthers, keepAliveStream != nil,
            connection.takesRequests, !connection.isProbing, registration.renewalSince != .max
        else { return nil }
        return registration.renewalSince &+ registration.ttl / 3
    }

    /// The server has ended it.
    func renewalStreamEnded() {
        keepAliveStream = secondKeepAlive == 0 ? nil : secondKeepAlive
        secondKeepAlive = nil
    }

    /// Of the two streams of renewals the one that was answered.
    func keepOnly(_ stream: StreamID) {
        guard let second = secondKeepAlive, let first = keepAliveStream else { return }
        let other = stream == second ? first : second
        if other != 0 { act(.closeStream(other)) }
        keepAliveStream = stream
        secondKeepAlive = nil
    }

    func renewalAnswered(_ bytes: Bytes) {
        guard let response = decoded(bytes, LeaseKeepAliveResponse.decode) else { return }
        seen(response.header)
        var effects = Effects()
        let isRenewed = registration.renewalAnswered(
            response.id, seconds: response.ttl, now: now, &effects)
        carryOut(effects)
        guard isRenewed else { return }
        renewals.answered &+= 1
        log(.trace, "lease \(hex: UInt64(bitPattern: response.id)) is renewed")
    }

    /// etcd 3.5.28, 3.6.9 and later ask whether the user may write what hangs on a lease that it renews.
    func renewalsAreRefused(_ status: GRPCStatus) {
        renewalStreamEnded()
        var effects = Effects()
        registration.renewalsAreRefused("\(status.message)", now: now, &effects)
        carryOut(effects)
    }

    // MARK: - Answers

    func registrationAnswered(_ call: RegistrationCall, _ answer: Answer) {
        let typed: RegistrationAnswer
        let header: ResponseHeader?
        switch answer {
        case .message(let bytes):
            guard let (read, readHeader) = decode(bytes, for: call) else { return }
            (typed, header) = (read, readHeader)
        case .refused(let failure, let text):
            (typed, header) = (.refused(failure, text), nil)
        case .oversized(let size): (typed, header) = (.oversized(size), nil)
        }
        guard connection.isOpening else {
            if let header { seen(header) }
            take(call, typed)
            return
        }
        if case .refused(let failure, _) = answer, call.mayBeReplaced(after: failure) {
            // Nothing is known of the store yet: a plain reading may tell.
            take(call, typed)
            if !greetAgain() { _ = isGreeted(answer, nil) }
        } else if isGreeted(answer, header) {
            take(call, typed)
        }
    }

    private func take(_ call: RegistrationCall, _ answer: RegistrationAnswer) {
        var effects = Effects()
        registration.answered(call, answer, now: now, &effects)
        carryOut(effects)
    }

    /// Begins a connection: reads our own keys.
    func greetAsAgent() {
        let (call, body) = registration.greet(now: now)
        send(body, .registration(call))
    }

    private func greetAgain() -> Bool {
        guard let (call, body) = registration.greetAgain(now: now) else { return false }
        send(body, .registration(call))
        return true
    }

    private func decode(_ bytes: Bytes, for call: RegistrationCall)
        -> (RegistrationAnswer, ResponseHeader)?
    {
        switch call.step.method {
        case .range:
            guard let response = decoded(bytes, RangeResponse.decode) else { return nil }
            return (.range(response), response.header)
        case .leaseGrant:
            guard let response = decoded(bytes, LeaseGrantResponse.decode) else { return nil }
            return (.grant(response), response.header)
        case .leaseRevoke:
            guard let response = decoded(bytes, LeaseRevokeResponse.decode) else { return nil }
            return (.revoke(response), response.header)
        case .leaseTimeToLive:
            guard let response = decoded(bytes, LeaseTimeToLiveResponse.decode) else { return nil }
            return (.timeToLive(response), response.header)
        case .txn, .authenticate, .watch, .leaseKeepAlive:
            guard let response = decoded(bytes, TxnResponse.decode) else { return nil }
            return (.txn(response), response.header)
        }
    }

    // MARK: - The self-watch

    private func driveSelfWatch() {
        guard let from = registration.watchFrom, let key = ownPresenceKey else {
            stopWatchingOurselves()
            return
        }
        guard selfWatcher == nil, now >= selfWatchRetryAt ?? 0 else { return }
        selfWatchRetryAt = nil
        selfWatcher = watchStream.watch(
            key: key, end: [], from: from, keepsValues: false, for: .registration, now: now)
    }

    func stopWatchingOurselves() {
        cancel(selfWatcher)
        selfWatcher = nil
    }

    func ourPresenceChanged(_ events: [WatchResponse.Event]) {
        guard let last = events.last else { return }
        registration.presenceChanged(at: last.kv.modRevision)
    }

    /// The self-watch cannot go on where it stopped.
    func selfWatchWasInterrupted() {
        selfWatcher = nil
        registration.mayHaveMissed()
    }

    /// Roles may be put right; until then our own writes tell what others do to the name.
    func selfWatchWasRefused(_ text: Text) {
        selfWatcher = nil
        selfWatchRetryAt = now &+ Timing.selfWatchPause
        log(.warn, text)
    }

    var registrationDeadline: Milliseconds? {
        guard isAgent, connection.takesRequests else { return nil }
        let own = registration.nextDeadline(now: now)
        guard selfWatcher == nil, registration.watchFrom != nil, let at = selfWatchRetryAt else {
            return own
        }
        return min(own ?? at, at)
    }

    // MARK: - The end

    func abandon(_ operation: OperationID, label: Bytes?) {
        var effects = Effects()
        registration.abandon(operation, label: label, &effects)
        carryOut(effects)
    }

    /// Begins the drain: what reads is ended, what is queued to be written is written, then everything is
    /// withdrawn.
    public func shutdown(drain: Milliseconds, now: Milliseconds) {
        self.now = now
        guard self.drain.isOpen else { return }
        self.drain.begin(drain, now)
        sweep(.endReaders("the handle is being shut down"))
        hasNews = true
    }

    /// The steps of the drain, each when the one before is done.
    func driveDrain() {
        guard !drain.isOpen, !drain.isOver else { return }
        guard !drain.isLate(now) else {
            if drain.takeWarning() {
                log(.warn, "the drain of the shutdown ran out before everything was withdrawn")
            }
            if operations.isEmpty {
                finishDrain()
            } else if sweeps.isEmpty {
                sweep(.endAll(.canceled, "the drain time of the shutdown has passed"))
            }
            return
        }
        if drain.isWriting {
            let isIdle = operations.isEmpty && registration.isIdle
            guard drain.withdraws(isIdle: isIdle, now) else { return }
            var effects = Effects()
            registration.shutDown(&effects)
            carryOut(effects)
            driveRegistration()
        } else if isAgent {
            var effects = Effects()
            registration.shutDownAgain(now: now, &effects)
            carryOut(effects)
        }
        guard operations.isEmpty, connection.callCount == 0, !isAgent || registration.hasLeft else {
            return
        }
        finishDrain()
    }

    private func finishDrain() {
        drain.end()
        stopWatchingOurselves()
        connection.close(&out)
    }
}

extension Plan.Step {
    /// For people who read the log.
    fileprivate var name: StaticString {
        switch self {
        case .observe: "read our own keys"
        case .read: "read a label"
        case .write: "write labels"
        case .fence: "fence"
        case .ask: "query a lease"
        case .grant: "grant a lease"
        case .claim: "claim the name"
        case .evict: "evict the name's owner"
        case .rehang: "put the keys onto another lease"
        case .revoke: "revoke a lease"
        case .remove: "remove our own keys"
        case .askDead: "query the lease of the name's last owner"
        case .nothing, .wait, .lose, .withdrawn, .superseded, .nameIsTaken, .contended, .stays,
            .leave, .left:
            ""
        }
    }

    /// With which it is asked.
    fileprivate var method: EtcdMethod {
        switch self {
        case .observe, .read: .range
        case .grant: .leaseGrant
        case .revoke: .leaseRevoke
        case .ask, .askDead: .leaseTimeToLive
        case .nothing, .write, .fence, .wait, .claim, .evict, .rehang, .remove, .lose, .withdrawn,
            .superseded, .nameIsTaken, .contended, .stays, .leave, .left:
            .txn
        }
    }
}
