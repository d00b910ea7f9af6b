// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

// Requests wait until `Credentials` has a token, while opening or ready.

/// The connection: it goes from endpoint to endpoint, holds the requests in flight, and notices another store.
///
///     idle -> opening (the greeting) -> ready -> idle ...
///     idle -> back-off, when all endpoints have failed -> idle
struct Connection {
    private enum Link {
        case idle
        /// All targets have failed: wait.
        case backoff(until: Milliseconds)
        case opening(Opening)
        case ready(ConnectionID, since: Milliseconds)
        /// For good.
        case closed

        var connection: ConnectionID? {
            switch self {
            case .idle, .backoff, .closed: nil
            case .opening(let opening): opening.connection
            case .ready(let connection, _): connection
            }
        }
    }
    private struct Opening {
        let connection: ConnectionID
        var deadline: Milliseconds
    }
    /// The next thing that the core must do for the connection.
    enum Wish {
        case nothing
        /// There is no token: nothing but this is sent.
        case authentication(AuthenticateRequest)
        /// One linearizable read before anything else: does a member with a leader answer, and of which store?
        case greeting
        /// A read that any member may answer: it shows that the endpoint is alive.
        case probe
        /// The connection is dead: drop it.
        case failure(Text)
        /// The server refuses this client.
        case refusal(Failure, Text)
    }
    /// The outcome of a request.
    enum Replied {
        case nothing
        case answered(CallPurpose, Answer)
        /// Must be sent again, not before that time. `token`: streams have the old one, too.
        case again(CallPurpose, at: Milliseconds)
        case tokenRefused(CallPurpose, Text)
        case failure(Text)
    }
    /// Parameters for new requests and streams.
    struct Ground {
        let connection: ConnectionID
        let token: Bytes
        /// The newest revision that is known.
        let revision: Int64
        /// The time that sending the request takes.
        let transfer: Milliseconds
    }
    private let names: [Bytes]
    private var credentials: Credentials
    private var link = Link.idle
    private var endpoints: EndpointPool
    private var calls = CallsInFlight()
    private var store = StoreSeen()
    private(set) var contact = Contact()
    /// Where it goes to, for people.
    private(set) var target: Text = ""
    private var targetEndpoint = 0
    private var connectDeadline = Timing.connectDeadline
    private var backoff = Timing.backoffFirst
    private var hadSilence = false
    private var lastReceived: Milliseconds = 0
    /// Answers in a row that tell of a slow server.
    private var busyAnswers = 0
    /// Requests to a slow server wait until then; 0: no pause.
    private(set) var busyUntil: Milliseconds = 0
    private var connects: UInt64 = 0
    private var connectsFailed: UInt64 = 0

    init(_ configuration: CoreConfiguration, random: inout Random) {
        names = configuration.endpoints.map { $0.name }
        credentials = Credentials(user: configuration.user, password: configuration.password)
        endpoints = EndpointPool(configuration.endpoints, random: &random)
    }

    /// Overwrites the password and the token. Nothing can be authenticated afterwards.
    mutating func forgetSecrets() {
        credentials.forget()
    }

    // MARK: - State

    var hasUser: Bool { credentials.hasUser }

    mutating func note(_ trouble: Text, now: Milliseconds) { contact.note(trouble, now: now) }

    var isReady: Bool {
        if case .ready = link { true } else { false }
    }

    var isIdle: Bool {
        if case .idle = link { true } else { false }
    }

    var isOpening: Bool {
        if case .opening = link { true } else { false }
    }

    /// nil: it is not ready, or there is no token.
    var ground: Ground? {
        guard case .ready(let connection, _) = link, credentials.isReady else { return nil }
        return Ground(
            connection: connection, token: credentials.token, revision: store.revision,
            transfer: calls.transfer)
    }

    /// It is ready, and there is a token where one is needed.
    var takesRequests: Bool { isReady && credentials.isReady }
    func hasFreeCall(now: Milliseconds) -> Bool {
        takesRequests && calls.hasFree && now >= busyUntil
    }
    /// Its last answers tell of a slow server.
    var isBusy: Bool { busyAnswers > 0 }
    var callCount: Int { calls.count }
    /// The newest revision of the store that is known.
    var revision: Int64 { store.revision }

    func isIt(_ connection: ConnectionID) -> Bool { connection == link.connection }

    func count(into counters: inout CoreCounters) {
        calls.count(into: &counters)
        counters.connects = connects
        counters.connectsFailed = connectsFailed
        counters.isConnected = isReady
        counters.revision = store.revision
    }

    // MARK: - Opening

    /// The deadline of an opening has passed: why it is given up.
    mutating func overdueOpening(now: Milliseconds) -> Text? {
        guard case .opening(let opening) = link, !calls.isEmpty, now >= opening.deadline else {
            return nil
        }
        hadSilence = true
        endpoints.wasSilent(now: now)
        return "no answer within \(connectDeadline) ms after connecting to \(target)"
    }

    /// `isWanted`: something needs etcd; without need nothing is connected. `hasStreams`: some are open.
    mutating func drive(
        isWanted: Bool, hasStreams: Bool, now: Milliseconds, _ random: inout Random,
        _ out: inout Outputs
    ) -> Wish {
        if busyUntil <= now { busyUntil = 0 }
        switch link {
        case .backoff(let until):
            guard now >= until else { return .nothing }
            endpoints.newRound()
            link = .idle
            return isWanted ? open(now: now, &random, &out) : .nothing
        case .idle:
            return isWanted ? open(now: now, &random, &out) : .nothing
        case .closed:
            return .nothing
        case .opening:
            guard calls.isEmpty, busyUntil == 0 else { return .nothing }
            prolongOpening(now: now)
            if let request = credentials.request(now: now) { return .authentication(request) }
            return credentials.isReady ? .greeting : .nothing
        case .ready:
            if let request = credentials.request(now: now) { return .authentication(request) }
            let isSilent = silenceDue(hasStreams).map { now >= $0 } ?? false
            return isSilent ? .probe : .nothing
        }
    }

    /// When to probe the endpoint. A request with a deadline makes it unnecessary; a list has none, and open streams may
    /// have no events.
    private func silenceDue(_ hasStreams: Bool) -> Milliseconds? {
        guard isReady, calls.deadline == nil else { return nil }
        // A list that was just asked for does not put off what the streams need.
        let ofStreams = hasStreams ? lastReceived &+ Timing.silence : nil
        guard let oldest = calls.oldest else { return ofStreams }
        let ofList = max(oldest, lastReceived) &+ Timing.requestDeadline
        return min(ofList, ofStreams ?? ofList)
    }

    private mutating func open(
        now: Milliseconds, _ random: inout Random, _ out: inout Outputs
    ) -> Wish {
        contact.isMissing(now: now)
        resolveNames(onlyUnknown: true, now: now, &out)
        guard let next = endpoints.next(now: now) else {
            if endpoints.isEmpty {
                link = .backoff(until: now &+ Timing.backoffMax)
            } else {
                backOff(now: now, &random, &out)
            }
            return .nothing
        }
        assert(calls.isEmpty, "requests of a connection that is gone")
        let connection = out.newID()
        let name = names[next.endpoint]
        target = name.hasPrefix(next.address) ? "\(name)" : "\(name) [\(next.address)]"
        targetEndpoint = next.endpoint
        credentials.connectionIsNew()
        busyUntil = 0
        store.connectionIsNew()
        out.log(.debug, "connecting to \(target)")
        out.act(.connect(connection, endpoint: next.endpoint, address: next.address))
        link = .opening(Opening(connection: connection, deadline: now &+ connectDeadline))
        return drive(
            isWanted: true, hasStreams: false, now: now, &random, &out)
    }

    private mutating func prolongOpening(now: Milliseconds) {
        guard case .opening(var opening) = link else { return }
        opening.deadline = now &+ connectDeadline
        link = .opening(opening)
    }

    mutating func authenticated(_ answer: Answer, now: Milliseconds) -> Wish {
        switch answer {
        case .message(let bytes):
            let response = try? AuthenticateResponse.decode(bytes)
            let needsRevision = response?.needsRevision ?? false
            if let reason = defect(of: response?.header, needsRevision: needsRevision) {
                return .failure(reason)
            }
            let token = response?.token ?? []
            guard token.count <= Limits.tokenBytes else {
                return .failure(malformed("a token of \(token.count) bytes"))
            }
            credentials.given(token)
        case .refused(.authenticationNotEnabled, _):
            credentials.isNotNeeded()
        case .refused(let failure, let text):
            return .refusal(failure, text)
        case .oversized:
            return .failure("\(target) answered Authenticate with an oversized message")
        }
        return .nothing
    }

    /// A stream was refused for its token, which all streams carry: open them again with the next token.
    mutating func streamTokenIsRefused(now: Milliseconds, pauseMax: Milliseconds) {
        _ = credentials.refused(credentials.serial, now: now, pauseMax: pauseMax)
    }

    /// A slow server ended a stream. Returns the time to open it again; nil: use another endpoint.
    mutating func streamIsBusy(now: Milliseconds, _ random: inout Random) -> Milliseconds? {
        pauseBusy(now: now, &random)
    }

    private mutating func pauseBusy(
        now: Milliseconds, _ random: inout Random
    ) -> Milliseconds? {
        busyAnswers += 1
        if busyAnswers >= Limits.busyAnswers, endpoints.hasSeveral { return nil }
        let pause = min(Timing.busyPause << UInt64(min(busyAnswers, 10)), Timing.busyPauseMax)
        busyUntil = now &+ random.below(pause)
        return busyUntil
    }

    /// The greeting was answered, with this header or, nil, with a refusal that concerns only the key that was read.
    mutating func greeted(
        _ header: ResponseHeader?, now: Milliseconds, _ out: inout Outputs
    ) -> StoreSeen.Verdict {
        guard case .opening(let opening) = link else { return .same }
        let verdict = store.greeted(header)
        link = .ready(opening.connection, since: now)
        connects &+= 1
        connectDeadline = Timing.connectDeadline
        hadSilence = false
        contact.isThere()
        out.log(.info, "connected to \(target)")
        return verdict
    }

    /// After a refusal of the opening, and after `fail`. Wrong credentials end what cannot succeed with them; then it is tried
    /// again, slowly: they may be put right in etcd. A token that was too old once more is an ordinary failure. True: the
    /// credentials are wrong.
    mutating func pausesForCredentials(after failure: Failure, now: Milliseconds) -> Bool {
        switch failure {
        case .unauthenticated: break
        case .tokenRefused, .permission:
            guard credentials.token.isEmpty else { return false }
        case .transient, .busy, .authenticationNotEnabled, .tooLarge, .noSpace, .leaseNotFound,
            .leaseExists, .compacted, .other:
            return false
        }
        link = .backoff(until: now &+ Timing.credentialsBackoff)
        return true
    }

    // MARK: - Its end

    /// The connection is of no use any more: everything on it is dropped and asked again on the next. The result is what was
    /// not answered; nil: there was no connection.
    mutating func fail(
        _ reason: Text, now: Milliseconds, _ random: inout Random, _ out: inout Outputs
    ) -> [CallPurpose]? {
        guard let connection = link.connection else { return nil }
        trouble(targetEndpoint, reason, now: now, &out)
        connectsFailed &+= 1
        out.act(.disconnect(connection))
        if case .ready(_, let since) = link, now &- since >= Timing.stable {
            endpoints.newRound()
            backoff = Timing.backoffFirst
        }
        contact.isMissing(now: now)
        link = .idle
        busyAnswers = 0
        credentials.isUnanswered()
        let unanswered = calls.dropAll()
        if endpoints.left == 0 { backOff(now: now, &random, &out) }
        return unanswered
    }

    /// The endpoint left a request unanswered; `fail` must be called.
    mutating func wasSilent(now: Milliseconds) {
        endpoints.wasSilent(now: now)
    }

    /// Nothing is connected any more, whatever is wanted.
    mutating func close(_ out: inout Outputs) {
        if let connection = link.connection { out.act(.disconnect(connection)) }
        link = .closed
        calls.forgetAll()
    }

    private mutating func backOff(
        now: Milliseconds, _ random: inout Random, _ out: inout Outputs
    ) {
        link = .backoff(until: now &+ backoff &- random.below(backoff / 2))
        backoff = min(backoff &* 2, Timing.backoffMax)
        if hadSilence { connectDeadline = min(connectDeadline &* 2, Timing.connectDeadlineMax) }
        hadSilence = false
        resolveNames(onlyUnknown: false, now: now, &out)
    }

    /// Warns once per endpoint, then logs at debug level.
    private mutating func trouble(
        _ endpoint: Int, _ reason: Text, now: Milliseconds, _ out: inout Outputs
    ) {
        out.log(contact.trouble(endpoint, reason, now: now) ? .warn : .debug, reason)
    }

    // MARK: - Names

    private mutating func resolveNames(
        onlyUnknown: Bool, now: Milliseconds, _ out: inout Outputs
    ) {
        for name in endpoints.namesToResolve(onlyUnknown: onlyUnknown, now: now) {
            out.log(.debug, "resolving \(names[name])")
            out.act(.resolve(endpoint: name))
        }
    }

    mutating func resolved(
        _ endpoint: Int, addresses: [Bytes], reason: Text, now: Milliseconds,
        _ out: inout Outputs
    ) {
        let wasEmpty = endpoints.isEmpty
        endpoints.resolved(endpoint, addresses: addresses)
        if addresses.isEmpty, names.indices.contains(endpoint) {
            trouble(
                endpoint, "\(names[endpoint]) cannot be resolved: \(reason)", now: now, &out)
        }
        if wasEmpty, !endpoints.isEmpty, case .backoff = link { link = .idle }
    }

    // MARK: - Requests

    /// The result is the size of the request; 0: there is no connection.
    @discardableResult
    mutating func send(
        _ body: CallBody, _ purpose: CallPurpose, now: Milliseconds, _ out: inout Outputs
    ) -> Int {
        guard let connection = link.connection else { return 0 }
        let id = out.newID()
        let frame = body.frame()
        out.log(.trace, "request \(id): \(body.method.path), \(frame.count) bytes")
        calls.add(
            id, purpose, bytes: frame.count, revision: store.connectionRevision,
            token: credentials.serial, now: now)
        // While one is asked for there is none.
        out.act(.call(id, connection, body.method, frame: frame, token: credentials.token))
        return frame.count
    }

    mutating func replied(
        _ id: CallID, _ reply: Reply, now: Milliseconds, tokenPauseMax: Milliseconds,
        _ random: inout Random, _ out: inout Outputs
    ) -> Replied {
        guard let sentAt = calls.sentAt(id) else { return .nothing }
        heard(now: now)
        let answer: Answer
        switch reply {
        case .ok(let bytes):
            out.log(
                .trace,
                "request \(id): answered with \(bytes.count) bytes after \(now &- sentAt) ms")
            answer = .message(bytes)
            busyAnswers = 0
        case .tooLarge(let size):
            answer = .oversized(size)
        case .unprocessed:
            return .failure("\(target) refused a request before it processed it")
        case .failed(let status):
            let failure = Failure(status)
            out.log(.debug, "request \(id): refused: \(status.message)")
            let text: Text = "\(target) answered: \(status.message)"
            switch failure {
            case .transient: return .failure(text)
            case .busy:
                guard let due = pauseBusy(now: now, &random) else { return .failure(text) }
                guard let call = calls.refused(id) else { return .nothing }
                if case .authenticate = call.purpose { credentials.isUnanswered() }
                contact.note(text, now: now)
                return .again(call.purpose, at: due)
            case .tokenRefused, .unauthenticated:
                guard credentials.hasUser, !calls.isAuthentication(id) else { break }
                guard let call = calls.refused(id) else { return .nothing }
                let isNews = credentials.refused(
                    call.token, now: now, pauseMax: tokenPauseMax)
                return isNews ? .tokenRefused(call.purpose, text) : .again(call.purpose, at: now)
            case .authenticationNotEnabled, .permission, .tooLarge, .noSpace, .leaseNotFound,
                .leaseExists, .compacted, .other:
                break
            }
            answer = .refused(failure, failure.explain(status))
        }
        guard let purpose = calls.answered(id, answer) else { return .nothing }
        return .answered(purpose, answer)
    }

    /// The receiver has taken the answer.
    mutating func answerIsTaken() {
        calls.answerIsTaken()
    }

    /// Something came from the endpoint.
    mutating func heard(now: Milliseconds) {
        lastReceived = now
    }

    /// Part of a large answer has come: its request, whichever it is, is being answered.
    mutating func progressed(now: Milliseconds) {
        heard(now: now)
        calls.progressed(now: now)
    }

    /// An endpoint that does not answer a request is dead for all of them.
    func hasOverdueCall(now: Milliseconds) -> Bool {
        calls.deadline.map { now >= $0 } ?? false
    }

    // MARK: - Answers

    /// Checks the header of an answer.
    mutating func seen(_ header: ResponseHeader) {
        store.seen(header)
    }

    /// Why etcd never sends an answer with this header, so that no conclusion from it would be sound: drop the connection.
    /// `header` nil: the answer cannot be decoded.
    mutating func defect(of header: ResponseHeader?, needsRevision: Bool) -> Text? {
        guard let header else { return malformed("it cannot be decoded") }
        if store.isPlausible(header, needsRevision ? max(1, calls.leastRevision) : 0) { return nil }
        return malformed("its header cannot be true (revision \(header.revision))")
    }

    @inline(never)
    mutating func malformed(_ reason: Text) -> Text {
        "\(target) sent a message that is not etcd's: \(reason)"
    }

    // MARK: - Time

    /// Whether contact counts as lost from now on.
    mutating func losesContact(now: Milliseconds) -> Bool { contact.isNewlyLost(now: now) }

    /// When it has something to do.
    // Inlined into its one caller: else all of this type is copied for it, with a retain for each array in it.
    @inline(__always)
    func deadline(isWanted: Bool, hasStreams: Bool) -> Milliseconds? {
        var earliest: Milliseconds?
        func consider(_ deadline: Milliseconds?) {
            if let deadline { earliest = min(earliest ?? deadline, deadline) }
        }
        switch link {
        case .idle, .closed: break
        case .backoff(let until): if isWanted { consider(until) }
        case .opening(let opening):
            if calls.isEmpty {
                consider(max(busyUntil, credentials.deadline ?? 0))
            } else {
                consider(opening.deadline)
            }
        case .ready:
            consider(credentials.deadline)
            if busyUntil > 0 { consider(busyUntil) }
            consider(silenceDue(hasStreams))
        }
        consider(calls.deadline)
        consider(contact.deadline)
        return earliest
    }
}
