// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// A request; encoded when it is sent, so that one that waits holds no second copy of a blob.
package enum CallBody: Hashable {
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

    var encodedSize: Int {
        switch self {
        case .range(let request): request.encodedSize
        case .txn(let request): request.encodedSize
        case .grant(let request): request.encodedSize
        case .revoke(let request): request.encodedSize
        case .timeToLive(let request): request.encodedSize
        case .authenticate(let request): request.encodedSize
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

/// How a unary request was answered, connection failures excepted: those are repeated elsewhere.
enum Answer {
    case message(Bytes)
    case refused(Failure, Text)
    /// The answer is over the cap on messages; its size.
    case oversized(Int)
}

/// The unary requests that are on their way.
struct CallsInFlight {
    /// A class: copies of a struct of this size cost more.
    private final class Call {
        let purpose: CallPurpose
        let sentAt: Milliseconds
        let bytes: Int
        /// The newest revision of this connection when the call was sent: its answer cannot be older.
        let revision: Int64
        /// Which token it carries.
        let token: Int
        /// From then on it is slow.
        var slowAt: Milliseconds

        init(
            _ purpose: CallPurpose, sentAt: Milliseconds, bytes: Int, revision: Int64, token: Int,
            slowAt: Milliseconds
        ) {
            self.purpose = purpose
            self.sentAt = sentAt
            self.bytes = bytes
            self.revision = revision
            self.token = token
            self.slowAt = slowAt
        }
    }
    private var calls = SortedMap<Call>()
    private var bytes = 0
    /// It is being answered: an answer that cannot be read ends the connection, and what it was for must not be lost with it.
    private var inHand: Call?
    private var sent: UInt64 = 0
    private var failed: UInt64 = 0

    var isEmpty: Bool { calls.isEmpty }
    var count: Int { calls.count }
    var hasFree: Bool {
        calls.count < Limits.callsInFlight && bytes < Limits.bytesInFlight
    }
    /// How long all of them take on their way.
    var transfer: Milliseconds { Milliseconds(bytes / Timing.bytesPerMillisecond) }
    /// The lowest valid revision of the current answer.
    var leastRevision: Int64 { inHand?.revision ?? 0 }

    func count(into counters: inout CoreCounters) {
        counters.requests = sent
        counters.requestsFailed = failed
    }

    mutating func add(
        _ id: CallID, _ purpose: CallPurpose, bytes size: Int, revision: Int64, token: Int,
        now: Milliseconds
    ) {
        bytes += size
        calls[id] = Call(
            purpose, sentAt: now, bytes: size, revision: revision, token: token,
            slowAt: purpose.takesItsTime ? .max : now &+ Timing.slowRequest &+ transfer)
        sent &+= 1
    }

    func isAuthentication(_ id: CallID) -> Bool {
        if case .authenticate = calls[id]?.purpose { true } else { false }
    }

    /// nil: there is no such request any more.
    func sentAt(_ id: CallID) -> Milliseconds? { calls[id]?.sentAt }

    mutating func answered(_ id: CallID, _ answer: Answer) -> CallPurpose? {
        assert(inHand == nil, "two answers at once")
        guard let call = take(id) else { return nil }
        switch answer {
        case .message: break
        case .refused, .oversized: failed &+= 1
        }
        inHand = call
        return call.purpose
    }

    /// It was refused and must be sent again. Returns its purpose and token.
    mutating func refused(_ id: CallID) -> (purpose: CallPurpose, token: Int)? {
        guard let call = take(id) else { return nil }
        failed &+= 1
        return (call.purpose, call.token)
    }

    private mutating func take(_ id: CallID) -> Call? {
        guard let call = calls[id] else { return nil }
        calls[id] = nil
        bytes -= call.bytes
        assert(bytes >= 0 && (bytes == 0 || !calls.isEmpty), "bytes that are not on their way")
        return call
    }

    mutating func answerIsTaken() {
        inHand = nil
    }

    /// With their connection. The result are those that were not answered, or not legibly.
    mutating func dropAll() -> [CallPurpose] {
        var purposes = calls.values.map { $0.purpose }
        failed &+= UInt64(purposes.count)
        if let inHand { purposes.append(inHand.purpose) }
        forgetAll()
        return purposes
    }

    mutating func forgetAll() {
        calls.removeAll()
        bytes = 0
        inHand = nil
    }

    func progressed(now: Milliseconds) {
        calls.forEach { call in
            let prolonged = min(now &+ Timing.slowRequest, call.sentAt &+ Timing.slowRequestMax)
            call.slowAt = max(call.slowAt, prolonged)
        }
    }

    func count(into owed: inout Owed) {
        var (oldest, slow) = (owed.request, owed.slow)
        calls.forEach {
            oldest = min(oldest, $0.sentAt)
            slow = min(slow, $0.slowAt)
        }
        (owed.request, owed.slow) = (oldest, slow)
    }
}
