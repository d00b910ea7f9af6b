// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

// The ways from whoever asks to the connection, and from its answers back.

/// The purpose of a unary request: the receiver of its answer.
enum CallPurpose {
    case authenticate, greeting, probe
    case registration(RegistrationCall)
    // Answers of an earlier epoch are ignored.
    case fetch(Fetch, epoch: Int)
    case page(HostWatch, epoch: Int)
    /// The first pages of several watches.
    case pages([Work])
    case list(ListJob, epoch: Int)
    case otherSpelling

    /// A page may take the server long, so it has no deadline.
    var takesItsTime: Bool {
        switch self {
        case .page, .pages, .list: true
        case .authenticate, .greeting, .probe, .registration, .fetch, .otherSpelling: false
        }
    }
}

/// Work that waits for a free request, in FIFO order.
enum Work {
    case fetch(Fetch, epoch: Int)
    case page(HostWatch, epoch: Int)
    case list(ListJob, epoch: Int)

    var isEnded: Bool {
        switch self {
        case .fetch(let fetch, let epoch): !fetch.expects(epoch)
        case .page(let watch, let epoch): watch.isEnded || epoch != watch.epoch
        case .list(let job, let epoch): !job.expects(epoch)
        }
    }
}

extension MetadataCore {
    var isReady: Bool { connection.isReady }
    var hasFreeCall: Bool { connection.hasFreeCall(now: now) }
    private var tokenPauseMax: Milliseconds { registration.ttl / 3 }
    var currentTarget: Text { connection.target }

    /// Whether anything needs etcd. Without need nothing is connected.
    private var isLinkWanted: Bool {
        !operations.isEmpty || registration.needsConnection
    }

    /// What is owed beside the requests in flight.
    private var owed: Owed {
        var owed = Owed(ttl: registration.ttl)
        owed.renewal = registration.renewalSince
        owed.creation = watchStream.creationSince
        owed.isOfHost = operations.count > watches
        if watchStream.isOpen {
            owed.silence = registration.renews ? Timing.silenceOfAgent : Timing.silence
        }
        return owed
    }

    var connectionDeadline: Milliseconds? {
        let due = connection.deadline(isWanted: isLinkWanted, owed, now: now)
        guard let again = renewalAgainDue else { return due }
        return min(due ?? again, again)
    }

    // MARK: - Opening

    func driveConnection() {
        if mayJudge {
            mayJudge = false
            lookOut()
        }
        carryOut(connection.drive(isWanted: isLinkWanted, now: now, &random, &out))
    }

    private func lookOut() {
        let owed = owed
        let wasQuiet = !connection.isLookingOut
        let reason = connection.lookOut(owed, now: now, &random, &out)
        if wasQuiet, connection.isLookingOut, owed.renewal != .max { renewals.unanswered &+= 1 }
        if let reason { failConnection(reason) }
    }

    private func carryOut(_ wish: Connection.Wish) {
        switch wish {
        case .nothing: break
        case .authentication(let request): send(.authenticate(request), .authenticate)
        case .greeting where isAgent: greetAsAgent()
        case .greeting: send(.range(greeting), .greeting)
        case .probe:
            var request = greeting
            request.serializable = true
            send(.range(request), .probe)
        case .failure(let reason): failConnection(reason)
        case .refusal(let failure, let text): openingRefused(failure, text)
        }
    }

    private var greeting: RangeRequest {
        var request = RangeRequest(key: ownPresenceKey ?? keyspace.root)
        request.limit = 1
        request.keysOnly = true
        return request
    }

    private func greeted(_ answer: Answer) {
        var header: ResponseHeader?
        switch answer {
        case .message(let bytes):
            guard let response = decoded(bytes, RangeResponse.decode) else { return }
            header = response.header
        case .refused, .oversized: break
        }
        _ = isGreeted(answer, header)
    }

    /// The first request of a connection is answered, with this header where that was good. Whether it can be used.
    func isGreeted(_ answer: Answer, _ header: ResponseHeader?) -> Bool {
        guard connection.isOpening else { return false }
        if case .refused(let failure, let text) = answer, failure.refusesService {
            openingRefused(failure, text)
            return false
        }
        switch connection.greeted(header, now: now, &out) {
        case .same: break
        case .replaced: storeWasReplaced()
        }
        return true
    }

    private func openingRefused(_ failure: Failure, _ text: Text) {
        failConnection("\(currentTarget) refused: \(text)")
        guard connection.pausesForCredentials(after: failure, now: now, &out) else { return }
        sweep(
            .endAll(
                .unauthenticated,
                "\(text): check user and password, in the configuration and in etcd"))
    }

    private func storeWasReplaced() {
        log(.warn, "the store behind \(currentTarget) was replaced")
        sweep(.replaceStore("the store was replaced"))
        var effects = Effects()
        registration.storeIsAnother("the store was replaced", &effects)
        stopWatchingOurselves()
        carryOut(effects)
    }

    // MARK: - Its end

    /// The connection is of no use any more: what was not answered is asked again on the next.
    func failConnection(_ reason: Text) {
        guard let dropped = connection.fail(reason, now: now, &random, &out) else { return }
        registration.connectionIsLost(now: now)
        for purpose in dropped { unanswered(purpose) }
        keepAliveStream = nil
        secondKeepAlive = nil
        watchStream.lost(now: now)
        lookForSilence()
    }

    var troubleText: Text { connection.contact.troubleText(now: now) }

    /// Remembers a failure for the texts of time-outs and CONTACT_LOST.
    func note(_ reason: Text) {
        connection.note(reason, now: now)
    }

    /// Drops the connection after an answer that etcd never sends: no conclusion from it would be sound.
    func isMalformed(_ reason: Text) {
        failConnection(connection.malformed(reason))
    }

    /// A server that causes restarts of one operation without end would keep the host busy.
    func givesUpRestarting(_ restarts: inout Restarts, _ reason: Text) -> Bool {
        givesUp(if: restarts.isTooMany(now: now), reason)
    }

    func givesUp(if isTooOften: Bool, _ reason: Text) -> Bool {
        guard isTooOften else { return false }
        failConnection("\(currentTarget) interrupts the same operation over and over: \(reason)")
        return true
    }

    func noticeLostContact() {
        guard mayJudge, connection.losesContact(now: now) else { return }
        log(
            .warn,
            "no etcd can be reached, retrying; last failure: \(connection.contact.lastTrouble)"
        )
        tellContact()
    }

    // MARK: - Requests

    func driveWork() {
        if operations.isEmpty, !work.isEmpty { work.removeAll { $0.isEnded } }
        while hasFreeCall, !isReplacingStore, firstPages.mayAsk, let item = work.popFirst() {
            switch item {
            case .fetch(let fetch, let epoch): sendFetch(fetch, epoch: epoch)
            case .page(let watch, let epoch): sendPage(watch, epoch: epoch)
            case .list(let job, let epoch): sendList(job, epoch: epoch)
            }
        }
    }

    /// The result is the size of the request.
    @discardableResult
    func send(_ body: CallBody, _ purpose: CallPurpose) -> Int {
        connection.send(body, purpose, now: now, &out)
    }

    /// Bytes have come.
    func heard(_ id: ConnectionID, acknowledges: Bool, isMidMessage: Bool) {
        if connection.isSecond(id) {
            connection.secondAnswered()
        } else if connection.isIt(id) {
            connection.heard(now: now)
            if acknowledges { connection.acknowledged(now: now) }
            guard isMidMessage else { return }
            connection.progressed(now: now)
            watchStream.progressed(now: now)
        }
    }

    func isLost(_ id: ConnectionID, _ reason: Text) {
        if connection.isSecond(id) {
            connection.secondFailed(reason, now: now, &random, &out)
        } else if connection.isIt(id) {
            failConnection(reason)
        }
    }

    /// An answer has come.
    func answerIsSeen() {
        if connection.isAnswered(now: now) { tellContact() }
    }

    // MARK: - Answers

    func replied(_ id: CallID, _ reply: Reply) {
        let replied = connection.replied(
            id, reply, now: now, tokenPauseMax: tokenPauseMax, &random, &out)
        switch replied {
        case .nothing: break
        case .again(let purpose, let due):
            registration.serverIsBusy(until: due)
            unanswered(purpose)
        case .tokenRefused(let purpose, let reason):
            unanswered(purpose)
            tokenIsRefused(reason)
        case .failure(let reason): failConnection(reason)
        case .answered(let purpose, let answer):
            // Who refuses to be probed serves.
            if case .message = answer {
                answerIsSeen()
            } else if case .probe = purpose {
                answerIsSeen()
            }
            answered(purpose, answer)
            connection.answerIsTaken()
        }
    }

    /// The next token is asked for on this connection, whose endpoint has done nothing wrong. Streams carry the old one.
    func tokenIsRefused(_ reason: Text) {
        log(.info, "a new token is needed: \(reason)")
        for _ in 0..<2 {
            if let stream = keepAliveStream { act(.closeStream(stream)) }
            renewalStreamEnded()
        }
        registration.renewAgain(at: now)
        if let stream = watchStream.stream { act(.closeStream(stream)) }
        watchStream.lost(now: now)
        lookForSilence()
    }

    func streamTokenIsRefused(_ reason: Text) {
        connection.streamTokenIsRefused(now: now, pauseMax: tokenPauseMax)
        tokenIsRefused(reason)
    }

    private func answered(_ purpose: CallPurpose, _ answer: Answer) {
        switch purpose {
        case .authenticate: carryOut(connection.authenticated(answer, now: now))
        case .greeting: greeted(answer)
        case .probe: break
        case .registration(let call): registrationAnswered(call, answer)
        case .fetch(let fetch, let epoch): fetchAnswered(fetch, epoch: epoch, answer)
        case .page(let watch, let epoch): pageAnswered(watch, epoch: epoch, answer)
        case .pages(let pages): pagesAnswered(pages, answer)
        case .list(let job, let epoch): listAnswered(job, epoch: epoch, answer)
        case .otherSpelling: otherSpellingAnswered(answer)
        }
    }

    /// A request whose outcome is not known: whoever sent it asks again when there is a connection.
    private func unanswered(_ purpose: CallPurpose) {
        switch purpose {
        case .authenticate, .greeting, .probe: break
        case .registration(let call): registration.unanswered(call)
        case .fetch(let fetch, let epoch): work.append(.fetch(fetch, epoch: epoch))
        case .page(let watch, let epoch): work.append(.page(watch, epoch: epoch))
        case .pages(let pages): askAgain(pages)
        case .list(let job, let epoch): work.append(.list(job, epoch: epoch))
        case .otherSpelling: otherSpellingUnanswered()
        }
    }

    /// Decodes an answer; nil ends the connection.
    func decoded<Message: EtcdResponse>(
        _ bytes: Bytes, _ decode: (Bytes) throws(WireError) -> Message
    ) -> Message? {
        let message = try? decode(bytes)
        let isSound = isSound(message?.header, needsRevision: message?.needsRevision ?? false)
        return isSound ? message : nil
    }

    /// Not generic, so that there is one copy of it.
    @inline(never)
    private func isSound(_ header: ResponseHeader?, needsRevision: Bool) -> Bool {
        guard let reason = connection.defect(of: header, needsRevision: needsRevision) else {
            return true
        }
        failConnection(reason)
        return false
    }

    /// Checks the header of an answer.
    func seen(_ header: ResponseHeader) {
        connection.seen(header)
    }
}
