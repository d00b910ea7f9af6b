// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// What a unary request is for: who gets its answer.
enum CallPurpose {
    case authenticate, hello, probe
    case grant(lease: Int64)
    case revoke(lease: Int64)
    case ownership(OwnershipStep)
    case label(LabelRecord)
    case fetch(Fetch)
    case page(HostWatch, epoch: Int)
    case list(ListJob)
    case otherSpelling
}

/// A request; encoded when it is sent, so that one that waits holds no second copy of a blob.
enum CallBody {
    case range(RangeRequest)
    case txn(TxnRequest)
    case grant(LeaseGrantRequest)
    case revoke(LeaseRevokeRequest)
    case timeToLive(LeaseTimeToLiveRequest)
    case authenticate(AuthenticateRequest)

    var method: EtcdMethod {
        switch self {
        case .range: .range
        case .txn: .txn
        case .grant: .leaseGrant
        case .revoke: .leaseRevoke
        case .timeToLive: .leaseTimeToLive
        case .authenticate: .authenticate
        }
    }

    func frame() -> Bytes {
        switch self {
        case .range(let request): request.frame()
        case .txn(let request): request.frame()
        case .grant(let request): request.frame()
        case .revoke(let request): request.frame()
        case .timeToLive(let request): request.frame()
        case .authenticate(let request): request.frame()
        }
    }
}

struct CallInFlight {
    let purpose: CallPurpose
    let sentAt: Milliseconds
    let bytes: Int
    /// The newest that this connection had told when it was sent: what is read after that cannot be older.
    let revision: Int64
    var deadline: Milliseconds
}

/// How a unary request was answered, connection failures excepted: those are repeated elsewhere.
enum Answer {
    case message(Bytes)
    case refused(Failure, Text)
    /// The answer is over the cap on messages; its size.
    case oversized(Int)
}

/// What waits for a free request, first come, first served.
enum Work {
    case fetch(Fetch)
    case page(HostWatch, epoch: Int)
    case list(ListJob)

    var isEnded: Bool {
        switch self {
        case .fetch(let fetch): if case .done = fetch.state { true } else { false }
        case .page(let watch, let epoch): watch.isEnded || epoch != watch.epoch
        case .list(let job): job.isDone
        }
    }
}

extension MetadataCore {
    func driveWork() {
        if operations.isEmpty, !work.isEmpty { work.removeAll { $0.isEnded } }
        while hasFreeCall, !isReplacingStore, let item = work.popFirst() {
            switch item {
            case .fetch(let fetch): sendFetch(fetch)
            case .page(let watch, let epoch): sendPage(watch, epoch: epoch)
            case .list(let job): sendList(job)
            }
        }
    }

    var hasFreeCall: Bool {
        isReady && calls.count < Limits.callsInFlight && callBytes < Limits.bytesInFlight
    }

    /// The result is the size of the request.
    @discardableResult
    func send(_ body: CallBody, _ purpose: CallPurpose) -> Int {
        guard let connection = link.connection else { return 0 }
        let id = newID()
        let frame = body.frame()
        log(.trace, "request \(id): \(body.method.path), \(frame.count) bytes")
        callBytes += frame.count
        let transfer = Milliseconds(callBytes / Timing.bytesPerMillisecond)
        calls[id] = CallInFlight(
            purpose: purpose, sentAt: now, bytes: frame.count, revision: connectionRevision,
            deadline: now &+ Timing.requestDeadline &+ transfer)
        counters.requests &+= 1
        if case .authenticate = purpose {
            act(.call(id, connection, body.method, frame: frame, token: []))
        } else {
            act(.call(id, connection, body.method, frame: frame, token: token))
        }
        return frame.count
    }

    func replied(_ id: CallID, _ reply: Reply) {
        guard let call = calls[id] else { return }
        lastReceived = now
        switch reply {
        case .ok(let bytes):
            log(
                .trace,
                "request \(id): answered with \(bytes.count) bytes after \(now &- call.sentAt) ms")
            remove(id, call)
            answered(call, .message(bytes))
        case .tooLarge(let size):
            counters.requestsFailed &+= 1
            remove(id, call)
            answered(call, .oversized(size))
        case .failed(let status):
            let failure = Failure(status)
            log(.debug, "request \(id): refused: \(status.message)")
            guard !endsConnection(failure) else {
                failConnection("\(currentTarget) answered: \(status.message)")
                return
            }
            counters.requestsFailed &+= 1
            remove(id, call)
            answered(call, .refused(failure, failure.explain(status)))
        }
    }

    /// Whether to try the same again on another connection, perhaps to another member.
    func endsConnection(_ failure: Failure) -> Bool {
        switch failure {
        case .transient: return true
        case .tokenRefused, .unauthenticated:
            // On a connection that is not yet ready these are about our credentials.
            return isReady && !configuration.user.isEmpty
        case .authenticationNotEnabled, .permission, .tooLarge, .noSpace, .leaseNotFound,
            .leaseExists, .compacted, .other:
            return false
        }
    }

    private func remove(_ id: CallID, _ call: CallInFlight) {
        calls[id] = nil
        callBytes -= call.bytes
    }

    private func answered(_ call: CallInFlight, _ answer: Answer) {
        // An answer that cannot be read ends the connection; what it was for must not be lost with it.
        purposeInHand = call.purpose
        leastRevision = call.revision
        switch call.purpose {
        case .authenticate: authenticated(answer)
        case .hello: greeted(answer)
        case .probe: break
        case .grant(let lease): granted(lease, answer)
        case .revoke(let lease): revoked(lease, answer)
        case .ownership(let step): ownershipAnswered(step, answer)
        case .label(let record): labelAnswered(record, answer)
        case .fetch(let fetch): fetchAnswered(fetch, answer)
        case .page(let watch, let epoch): pageAnswered(watch, epoch: epoch, answer)
        case .list(let job): listAnswered(job, answer)
        case .otherSpelling: otherSpellingAnswered(answer)
        }
        purposeInHand = nil
        leastRevision = 0
    }

    /// Decodes an answer; nil ends the connection.
    func decoded<Message: EtcdResponse>(
        _ bytes: Bytes, _ decode: (Bytes) throws(WireError) -> Message
    ) -> Message? {
        do throws(WireError) {
            let message = try decode(bytes)
            if isPlausible(message) { return message }
            isMalformed("its header cannot be true (revision \(message.header.revision))")
        } catch {
            isMalformed("it cannot be decoded")
        }
        return nil
    }

    /// What etcd never sends ends the connection: nothing that is concluded from it would be true.
    func isMalformed(_ reason: Text) {
        failConnection("\(currentTarget) sent a message that is not etcd's: \(reason)")
    }

    /// Whether a header can be true: a store begins with revision 1 and never goes back, and whoever answers on one
    /// connection is of one cluster. (etcd's gRPC proxy leaves the cluster out of some answers.)
    private func isPlausible(_ message: some EtcdResponse) -> Bool {
        let header = message.header
        guard header.revision >= 0, header.revision < Int64.max else { return false }
        if message.needsRevision, header.revision < max(1, leastRevision) { return false }
        if header.clusterID == 0 { return true }
        if connectionCluster == 0 { connectionCluster = header.clusterID }
        return header.clusterID == connectionCluster
    }

    /// All calls are gone with their connection.
    func dropCalls() {
        let dropped = calls.values
        calls.removeAll()
        callBytes = 0
        counters.requestsFailed &+= UInt64(dropped.count)
        for call in dropped { unanswered(call.purpose) }
        if let purpose = purposeInHand {
            purposeInHand = nil
            unanswered(purpose)
        }
    }

    /// A request whose outcome is not known: whoever sent it asks again when there is a connection.
    private func unanswered(_ purpose: CallPurpose) {
        switch purpose {
        case .authenticate, .hello, .probe: break
        case .grant(let lease): grantUnanswered(lease)
        case .revoke(let lease): revokeUnanswered(lease)
        case .ownership(let step): ownershipUnanswered(step)
        case .label(let record): labelUnanswered(record)
        case .fetch(let fetch): fetchUnanswered(fetch)
        case .page(let watch, let epoch): pageUnanswered(watch, epoch: epoch)
        case .list(let job): listUnanswered(job)
        case .otherSpelling: otherSpellingUnanswered()
        }
    }

    /// Part of a large answer has come: its request, whichever it is, is being answered.
    func progressed() {
        lastReceived = now
        creationsProgressed()
        let now = now
        calls.changeEach { call in
            let prolonged = min(
                now &+ Timing.requestDeadline, call.sentAt &+ Timing.requestDeadlineMax)
            call.deadline = max(call.deadline, prolonged)
        }
    }

    /// An endpoint that does not answer a request is dead for all of them.
    func expireCalls() {
        guard mayJudge, let deadline = callDeadline, now >= deadline else { return }
        endpoints.wasSilent(now: now)
        failConnection("\(currentTarget) left a request unanswered for too long")
    }

    var callDeadline: Milliseconds? {
        var earliest: Milliseconds?
        for call in calls.values {
            earliest = min(earliest ?? call.deadline, call.deadline)
        }
        return earliest
    }
}
