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
        case opening(ConnectionID)
        case ready(ConnectionID, since: Milliseconds)
        /// For good.
        case closed

        var connection: ConnectionID? {
            switch self {
            case .idle, .backoff, .closed: nil
            case .opening(let connection), .ready(let connection, _): connection
            }
        }
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
    /// The same of the last connection that was made.
    private var nextTarget: Text = ""
    private var nextEndpoint = 0
    private(set) var patience = Patience(now: 0)
    private var lookout = Lookout()
    private var backoff = Timing.backoffFirst
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

    /// It is ready and not silent.
    var answers: Bool { isReady && contact.isThere }

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
        counters.isConnected = answers
        counters.revision = store.revision
    }

    // MARK: - Opening

    /// `isWanted`: something needs etcd; without need nothing is connected.
    mutating func drive(
        isWanted: Bool, now: Milliseconds, _ random: inout Random, _ out: inout Outputs
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
            if let request = credentials.request(now: now) { return .authentication(request) }
            return credentials.isReady ? .greeting : .nothing
        case .ready:
            if let request = credentials.request(now: now) { return .authentication(request) }
            // It lives again: an answer shows that it serves, too.
            guard contact.isLost, !lookout.isOn, calls.isEmpty, credentials.isReady, busyUntil == 0
            else { return .nothing }
            return .probe
        }
    }

    private mutating func open(
        now: Milliseconds, _ random: inout Random, _ out: inout Outputs
    ) -> Wish {
        contact.isMissing(now: now)
        resolveNames(onlyUnknown: true, now: now, &out)
        guard let next = endpoints.next(besideHome: false, now: now) else {
            if endpoints.isEmpty {
                link = .backoff(until: now &+ Timing.backoffMax)
            } else {
                backOff(now: now, &random, &out)
            }
            return .nothing
        }
        assert(calls.isEmpty, "requests of a connection that is gone")
        begin(connect(next, &out), now: now)
        return drive(isWanted: true, now: now, &random, &out)
    }

    private mutating func connect(
        _ next: EndpointPool.Target, _ out: inout Outputs
    ) -> ConnectionID {
        let connection = out.newID()
        let name = names[next.endpoint]
        nextTarget = name.hasPrefix(next.address) ? "\(name)" : "\(name) [\(next.address)]"
        nextEndpoint = next.endpoint
        out.log(.debug, "connecting to \(nextTarget)")
        out.act(.connect(connection, endpoint: next.endpoint, address: next.address))
        return connection
    }

    /// The connection that was made last is the first from now on.
    private mutating func begin(_ connection: ConnectionID, now: Milliseconds) {
        target = nextTarget
        targetEndpoint = nextEndpoint
        endpoints.isInUse()
        credentials.connectionIsNew()
        busyUntil = 0
        store.connectionIsNew()
        patience = Patience(now: now)
        lookout.stop()
        link = .opening(connection)
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
        guard case .opening(let connection) = link else { return .same }
        let verdict = store.greeted(header)
        link = .ready(connection, since: now)
        connects &+= 1
        contact.isFound()
        out.log(.info, "connected to \(target)")
        return verdict
    }

    /// After a refusal of the opening, and after `fail`. Wrong credentials end what cannot succeed with them; then it is tried
    /// again, slowly: they may be put right in etcd. A token that was too old once more is an ordinary failure. True: the
    /// credentials are wrong.
    mutating func pausesForCredentials(
        after failure: Failure, now: Milliseconds, _ out: inout Outputs
    ) -> Bool {
        switch failure {
        case .unauthenticated: break
        case .tokenRefused, .permission:
            guard credentials.token.isEmpty else { return false }
        case .transient, .busy, .authenticationNotEnabled, .tooLarge, .noSpace, .leaseNotFound,
            .leaseExists, .compacted, .other:
            return false
        }
        if let second = link.connection { out.act(.disconnect(second)) }
        link = .backoff(until: now &+ Timing.credentialsBackoff)
        return true
    }

    // MARK: - Its end

    /// Gives the connection up. The second one takes its place, if there is one. Returns the requests that were not answered,
    /// which are asked again; nil: there was no connection.
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
        if lookout.connection != 0 {
            begin(lookout.connection, now: now)
        } else if endpoints.left == 0 {
            backOff(now: now, &random, &out)
        }
        return unanswered
    }

    /// Nothing is connected any more, whatever is wanted.
    mutating func close(_ out: inout Outputs) {
        if let connection = link.connection { out.act(.disconnect(connection)) }
        stopLookingOut(&out)
        link = .closed
        calls.forgetAll()
    }

    private mutating func backOff(
        now: Milliseconds, _ random: inout Random, _ out: inout Outputs
    ) {
        link = .backoff(until: now &+ backoff &- random.below(backoff / 2))
        backoff = min(backoff &* 2, Timing.backoffMax)
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
        _ random: inout Random, _ out: inout Outputs
    ) {
        let wasEmpty = endpoints.isEmpty
        let hadOthers = hasOthers
        endpoints.resolved(endpoint, addresses: addresses)
        if !hadOthers, hasOthers, lookout.connection != 0 {
            // It went to the endpoint that is silent, for want of another.
            out.act(.disconnect(lookout.connection))
            lookout.failed(isRoundOver: false, now: now, &random)
        }
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
        patience.heard(now: now)
        if isReady { contact.lives() }
    }

    mutating func acknowledged(now: Milliseconds) {
        patience.acknowledged(now: now)
    }

    /// An answer shows that there is contact. Whether that is news.
    mutating func isAnswered(now: Milliseconds) -> Bool {
        guard case .ready(_, let since) = link else { return false }
        if now &- since >= Timing.stable { lookout.isGood() }
        guard contact.isLost else { return false }
        contact.isFound()
        return true
    }

    /// Part of a large answer has come: its request, whichever it is, is being answered.
    mutating func progressed(now: Milliseconds) {
        heard(now: now)
        calls.progressed(now: now)
    }

    // MARK: - Silence

    /// Whether the whole connection may be silent: then a single late answer says nothing about its request.
    var isProbing: Bool { patience.isProbing }
    var hasOthers: Bool { endpoints.hasSeveral }
    var isLookingOut: Bool { lookout.isOn }

    func isSecond(_ connection: ConnectionID) -> Bool {
        connection != 0 && connection == lookout.connection
    }

    mutating func secondAnswered() { lookout.answered() }

    /// The second connection is of no use.
    mutating func secondFailed(
        _ reason: Text, now: Milliseconds, _ random: inout Random, _ out: inout Outputs
    ) {
        secondEnded(reason, now: now, &out)
        lookout.failed(isRoundOver: endpoints.left == 0, now: now, &random)
    }

    private mutating func secondEnded(
        _ reason: Text, now: Milliseconds, _ out: inout Outputs
    ) {
        out.act(.disconnect(lookout.connection))
        trouble(nextEndpoint, reason, now: now, &out)
        connectsFailed &+= 1
        resolveNames(onlyUnknown: false, now: now, &out)
    }

    mutating func examined(
        _ connection: ConnectionID, isDead: Bool, now: Milliseconds, _ random: inout Random,
        _ out: inout Outputs
    ) {
        if isIt(connection) {
            lookout.examined(isDead: isDead)
        } else if isDead, isSecond(connection) {
            secondFailed(Self.verdict(nextTarget), now: now, &random, &out)
        }
    }

    /// Adds the requests in flight.
    private func owing(_ owed: Owed) -> Owed {
        var owed = owed
        calls.count(into: &owed)
        owed.hasOthers = hasOthers
        return owed
    }

    @inline(never)
    private static func verdict(_ target: Text) -> Text { "\(target) does not answer" }

    /// Asks for signs of life, and looks elsewhere while there are none. The result is why the first connection has to go;
    /// nil: it has not.
    mutating func lookOut(
        _ others: Owed, now: Milliseconds, _ random: inout Random, _ out: inout Outputs
    ) -> Text? {
        guard let connection = link.connection else { return nil }
        let owed = owing(others)
        if now >= patience.probeDue(owed) {
            patience.probe(owed, now: now)
            out.act(.probe(connection))
        }
        let isSilent = now >= patience.silenceDue(owed)
        guard isSilent || now >= patience.slowDue(owed) else {
            if lookout.isOn { stopLookingOut(&out) }
            return nil
        }
        if isSilent { contact.isMissing(now: now) }
        if !lookout.isOn {
            trouble(targetEndpoint, Self.verdict(target), now: now, &out)
            endpoints.wasSilent(isInUse: true, now: now)
            endpoints.newRound()
            resolveNames(onlyUnknown: true, now: now, &out)
            lookout.begin(owed, now: now, &random)
        }
        switch lookout.step(
            owed, silentSince: waitingSince(owed, isSilent: isSilent), wasGood: isReady, now: now)
        {
        case .nothing: break
        case .examineFirst: out.act(.examine(connection))
        case .examineSecond: out.act(.examine(lookout.connection))
        case .replace:
            secondEnded(Self.verdict(nextTarget), now: now, &out)
            endpoints.wasSilent(isInUse: false, now: now)
            lookout.wasSilent(owed, now: now, &random)
        case .open:
            if endpoints.left == 0 { endpoints.newRound() }
            if let next = endpoints.next(besideHome: true, now: now) {
                lookout.opened(connect(next, &out), now: now)
            } else {
                lookout.failed(isRoundOver: true, now: now, &random)
            }
        case .take: return Self.verdict(target)
        }
        return nil
    }

    /// Since when the second connection has been waited for. A living connection that leaves a request unanswered is judged by
    /// that request: its signs of life do not count.
    private func waitingSince(_ owed: Owed, isSilent: Bool) -> Milliseconds {
        isSilent ? patience.silentSince(owed) : min(owed.request, owed.renewal)
    }

    private mutating func stopLookingOut(_ out: inout Outputs) {
        if lookout.connection != 0 { out.act(.disconnect(lookout.connection)) }
        lookout.stop()
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
    func deadline(isWanted: Bool, _ others: Owed, now: Milliseconds) -> Milliseconds? {
        var earliest: Milliseconds?
        func consider(_ deadline: Milliseconds?) {
            if let deadline { earliest = min(earliest ?? deadline, deadline) }
        }
        switch link {
        case .idle, .closed: break
        case .backoff(let until): if isWanted { consider(until) }
        case .opening where calls.isEmpty:
            consider(max(busyUntil, credentials.deadline ?? 0))
        case .opening, .ready:
            if isReady { consider(credentials.deadline) }
            if busyUntil > 0 { consider(busyUntil) }
            let due = lookoutDue(others, now: now)
            if due != .max { consider(due) }
        }
        consider(contact.deadline)
        return earliest
    }

    @inline(never)
    private func lookoutDue(_ others: Owed, now: Milliseconds) -> Milliseconds {
        let owed = owing(others)
        var due = min(patience.silenceDue(owed), patience.slowDue(owed))
        if lookout.isOn {
            // Where there is no reason any more, it ends at once.
            due =
                due > now
                ? now
                : lookout.due(
                    owed,
                    silentSince: waitingSince(owed, isSilent: now >= patience.silenceDue(owed)),
                    wasGood: isReady)
        }
        return min(due, patience.probeDue(owed))
    }
}
