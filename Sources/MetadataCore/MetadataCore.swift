// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import EtcdProtocol

/// Configuration of the core; checked by the shell.
public struct CoreConfiguration: Sendable {
    /// Tests reduce these to exercise the step from one portion to the next.
    public struct Portions: Sendable {
        public var pageKeys = Limits.pageKeys
        public var pageKeysMax = Limits.pageKeysMax
        public var keysAtOnce = Limits.keysAtOnce
        public var pageValues = Limits.pageValues
        public var batchOperations = Limits.batchOperations

        public init() {}
    }
    public struct Endpoint: Sendable {
        /// For people: `host:port` as it was given.
        public var name: Bytes
        /// Textual addresses; empty for a host name that is still to be resolved.
        public var addresses: [Bytes]
        /// A host name that can be resolved again with `Action.resolve`.
        public var canResolve: Bool

        public init(name: Bytes, addresses: [Bytes], canResolve: Bool) {
            self.name = name
            self.addresses = addresses
            self.canResolve = canResolve
        }
    }
    /// The namespace, byte for byte.
    public var namespace: Bytes
    /// nil: an observer.
    public var agent: Bytes?
    public var endpoints: [Endpoint]
    /// Empty: no authentication.
    public var user: Bytes
    public var password: Bytes
    public var refuseTakeover: Bool
    public var logLevel: LogLevel
    /// Callbacks that wait for the host before watches are resynchronised.
    public var noticeLimit = Limits.notices
    /// The blobs that they hold.
    public var noticeBytes = Limits.noticeBytes
    /// How much is read and written at once.
    public var portions = Portions()
    /// 128 random bits from the shell: lease ids and jitter come from it and from nothing else.
    public var seed: (UInt64, UInt64)

    public init(
        namespace: Bytes, agent: Bytes?, endpoints: [Endpoint], user: Bytes = [],
        password: Bytes = [], refuseTakeover: Bool = false, logLevel: LogLevel = .off,
        seed: (UInt64, UInt64)
    ) {
        self.namespace = namespace
        self.agent = agent
        self.endpoints = endpoints
        self.user = user
        self.password = password
        self.refuseTakeover = refuseTakeover
        self.logLevel = logLevel
        self.seed = seed
    }
}

/// Counters of the core; nixl_md_stats_t explains each.
public struct CoreCounters: Sendable {
    public var requests: UInt64 = 0
    public var requestsFailed: UInt64 = 0
    public var connects: UInt64 = 0
    public var connectsFailed: UInt64 = 0
    public var renewals: UInt64 = 0
    public var renewalsUnanswered: UInt64 = 0
    public var leasesLost: UInt64 = 0
    public var restores: UInt64 = 0
    public var namesLeftOut: UInt64 = 0
    public var isConnected = false
    public var leaseID: Int64 = 0
    public var leaseTTL: Milliseconds = 0
    public var revision: Int64 = 0
}

/// Renewals of leases.
struct RenewalCounters {
    var answered: UInt64 = 0
    var unanswered: UInt64 = 0
}

/// The agent as a state machine: no clock, no I/O, no random source of its own.
///
/// After each input the shell takes all actions with `nextAction()`, performs them in order, and runs
/// callbacks with `nextNotice()` as far as its budget goes; what is left stays queued.
///
/// Each idea has a file with an extension of this class. They work level by level: an input changes
/// state, then `pump` sends whatever the state as a whole wants sent. A lost connection so needs no
/// unwinding: what was not answered is wanted again.
public final class MetadataCore {

    var configuration: CoreConfiguration
    let keyspace: Keyspace
    let ownPresenceKey: Bytes?
    var now: Milliseconds
    var random: Random

    var out: Outputs
    var notices: Notices

    var connection: Connection
    var work = Queue<Work>()
    var watchStream: WatchStream
    /// When to look for silent watches; nil: there are none.
    var silenceDue: Milliseconds?
    /// When to list everything again because a proxy may lose events; nil: there is no proxy.
    var relistAt: Milliseconds?
    var keepAliveStream: StreamID?
    /// On which renewals were sent once more.
    var secondKeepAlive: StreamID?
    /// nil: there is nothing to tell, or nobody to tell it to.
    var otherSpelling: OtherSpelling?

    // Operations of the host.
    var operations = SortedMap<Operation>()
    /// How many of them are watches.
    var watches = 0
    var deadlines = DeadlineHeap()
    var sweeps: [Sweep] = []
    var paused = PausedReaders()
    var firstPages = FirstPages()
    var drain = Drain()
    /// The host has asked for something since the last `pump`.
    var hasNews = false
    /// Whether a missing answer may be held against the server.
    var mayJudge = false

    // This agent's own keys.
    var registration: Registration
    var renewals = RenewalCounters()
    var selfWatcher: Watcher?
    /// nil: it was not refused.
    var selfWatchRetryAt: Milliseconds?
    var selfRestarts = Restarts()

    public init(_ configuration: CoreConfiguration, now: Milliseconds) {
        let keyspace = Keyspace(namespace: configuration.namespace)
        var random = Random(seed: configuration.seed)
        self.configuration = configuration
        self.keyspace = keyspace
        ownPresenceKey = configuration.agent.map { keyspace.key(agent: $0) }
        self.now = now
        out = Outputs(logLevel: configuration.logLevel)
        notices = Notices(limit: configuration.noticeLimit, byteLimit: configuration.noticeBytes)
        watchStream = WatchStream(isAuthenticated: !configuration.user.isEmpty)
        registration = Registration(
            agent: configuration.agent ?? [], presenceKey: ownPresenceKey ?? [],
            refusesTakeover: configuration.refuseTakeover,
            batchOperations: configuration.portions.batchOperations,
            random: Random(seed: (random.next(), random.next())))
        connection = Connection(configuration, random: &random)
        self.random = random
        if configuration.logLevel <= .warn {
            otherSpelling = OtherSpelling(of: configuration.namespace)
        }
    }

    var ownName: Bytes { configuration.agent ?? [] }

    func newID() -> UInt64 { out.newID() }

    func act(_ action: Action) { out.act(action) }

    func log(_ level: LogLevel, _ text: @autoclosure () -> Text) {
        if level >= configuration.logLevel { out.act(.log(level, text())) }
    }

    // MARK: - Inputs

    /// A starting call. `timeout` nil: never. Its operation completes exactly once, by a notice. Nothing is
    /// sent before the next `advance`, which is then due: calls that are made together meet in the queue.
    public func submit(
        _ call: HostCall, operation: OperationID, timeout: Milliseconds?, now: Milliseconds
    ) {
        self.now = now
        operations[operation] = .starting
        guard drain.isOpen else {
            complete(operation, .shutDown, "the handle is being shut down")
            return
        }
        if let timeout { deadlines.insert(operation, at: now &+ timeout) }
        begin(call, operation)
        hasNews = true
    }

    private func begin(_ call: HostCall, _ id: OperationID) {
        var effects = Effects()
        switch call {
        case .publish(let label, let blob):
            operations[id] = .change(label)
            registration.change(label, to: blob, id, &effects)
        case .unpublish(let label):
            operations[id] = .change(label)
            registration.change(label, to: nil, id, &effects)
        case .startHeartbeat(let interval, let seconds):
            operations[id] = .registration
            let plan = Heartbeating.Plan(interval: interval, seconds: seconds)
            registration.startHeartbeat(plan, id, now: now, &effects)
        case .stopHeartbeat(let keep):
            operations[id] = .registration
            registration.stopHeartbeat(keep: keep, id, &effects)
        case .invalidate:
            operations[id] = .registration
            registration.invalidate(id, &effects)
        case .fetch(let agent, let label, let wait):
            fetch(id, agent: agent, label: label, waits: wait)
        case .watch(let agent, let presenceOnly):
            watch(id, agent: agent, presenceOnly: presenceOnly)
        case .list: list(id)
        }
        carryOut(effects)
    }

    /// Cancels an operation or ends a watch; unknown ids (just completed) are ignored.
    public func cancel(_ operation: OperationID, now: Milliseconds) {
        self.now = now
        guard let canceled = operations[operation] else { return }
        end(operation, canceled, .canceled, "canceled by the host")
        hasNews = true
    }

    /// Something happened on the network.
    public func receive(_ event: NetworkEvent, now: Milliseconds) {
        self.now = now
        guard !drain.isOver else { return }
        switch event {
        case .reply(let call, let reply): replied(call, reply)
        case .message(let stream, let bytes): message(stream, bytes)
        case .streamEnded(let stream, let reply): streamEnded(stream, reply)
        case .heard(let connection, let acknowledges, let isMidMessage):
            heard(connection, acknowledges: acknowledges, isMidMessage: isMidMessage)
            // What follows of it is judged by `advance`.
            return
        case .path(let connection, let isDead):
            self.connection.examined(connection, isDead: isDead, now: now, &random, &out)
            return
        case .connectionLost(let connection, let reason): isLost(connection, reason)
        case .resolved(let endpoint, let addresses, let reason):
            connection.resolved(
                endpoint, addresses: addresses, reason: reason, now: now, &random, &out)
        }
        pump()
    }

    private func message(_ stream: StreamID, _ bytes: Bytes) {
        let isOfWatches = watchStream.isIt(stream)
        guard isOfWatches || stream == keepAliveStream || stream == secondKeepAlive else { return }
        connection.heard(now: now)
        answerIsSeen()
        if isOfWatches {
            watchMessage(bytes)
        } else {
            keepOnly(stream)
            renewalAnswered(bytes)
        }
    }

    private func streamEnded(_ stream: StreamID, _ reply: Reply) {
        if stream == secondKeepAlive {
            // It is not opened again.
            secondKeepAlive = 0
            return
        }
        guard watchStream.isIt(stream) || stream == keepAliveStream else { return }
        switch reply {
        case .tooLarge(let size) where watchStream.isIt(stream): watchMessageTooLarge(size)
        case .failed(let status): streamIsRefused(stream, status)
        case .ok, .tooLarge, .unprocessed: streamFailed(stream, "\(currentTarget) ended a stream")
        }
    }

    private func streamIsRefused(_ stream: StreamID, _ status: GRPCStatus) {
        let text: Text = "\(currentTarget) ended a stream: \(status.message)"
        switch Failure(status) {
        case .permission where stream == keepAliveStream: renewalsAreRefused(status)
        case .tokenRefused where connection.hasUser, .unauthenticated where connection.hasUser:
            streamTokenIsRefused(text)
        case .busy where stream == keepAliveStream:
            guard let due = connection.streamIsBusy(now: now, &random) else {
                return failConnection(text)
            }
            note(text)
            renewalStreamEnded()
            registration.renewAgain(at: due)
        case .transient, .busy, .tokenRefused, .unauthenticated, .authenticationNotEnabled,
            .permission, .tooLarge, .noSpace, .leaseNotFound, .leaseExists, .compacted, .other:
            streamFailed(stream, text)
        }
    }

    private func streamFailed(_ stream: StreamID, _ text: Text) {
        if stream == keepAliveStream {
            failConnection(text)
        } else {
            watchStreamFailed(text)
        }
    }

    /// Time has passed: does what is due. Call it at `nextDeadline` at the latest.
    ///
    /// `hasHeardAll`: everything that came in until now has been given to `receive`. Only then a missing
    /// answer is held against the server: a host that was held up must not take its own absence for a dead peer.
    public func advance(now: Milliseconds, hasHeardAll: Bool = true) {
        self.now = now
        guard !drain.isOver else { return }
        mayJudge = hasHeardAll
        expireOperations()
        sweepOn()
        tellUnfinishedPage()
        expireCreations()
        noticeLostContact()
        noticeSilentWatches()
        relistBehindProxy()
        pump()
        mayJudge = false
    }

    // MARK: - The engine

    /// Sends what the state wants sent.
    func pump() {
        guard !drain.isOver else { return }
        hasNews = false
        driveConnection()
        resumeStalledWatches()
        driveRegistration()
        driveWork()
        driveWatchStream()
        driveOtherSpelling()
        driveDrain()
        if let warning = notices.leftOut.takeWarning() { log(.warn, warning) }
        // One of them may have found the connection dead.
        if connection.isIdle { driveConnection() }
    }

    // MARK: - Outputs

    public var counters: CoreCounters {
        var counters = CoreCounters()
        connection.count(into: &counters)
        counters.renewals = renewals.answered
        counters.renewalsUnanswered = renewals.unanswered
        registration.count(into: &counters)
        counters.namesLeftOut = notices.leftOut.count
        return counters
    }

    /// When `advance` has something to do next; nil: never.
    public var nextDeadline: Milliseconds? {
        guard !drain.isOver else { return nil }
        if hasNews || !sweeps.isEmpty || paused.hasUnfinished
            || (notices.isEmpty && paused.hasStalled)
        {
            return now
        }
        while let first = deadlines.first, operations[first.operation] == nil {
            deadlines.removeFirst()
        }
        var earliest: Milliseconds?
        func consider(_ deadline: Milliseconds?) {
            if let deadline { earliest = min(earliest ?? deadline, deadline) }
        }
        consider(deadlines.first?.at)
        consider(connectionDeadline)
        consider(watchStream.creationDeadline)
        if connection.takesRequests {
            consider(watchStream.retryAt.map { max($0, connection.busyUntil) })
        }
        consider(silenceDue)
        consider(relistAt)
        consider(registrationDeadline)
        consider(drain.nextDeadline)
        return earliest
    }

    public func nextAction() -> Action? { out.next() }

    public func nextNotice() -> Notice? { notices.next() }

    /// Notices that wait for `nextNotice()`.
    public var pendingNotices: Int { notices.count }

    /// The drain is over and no notice is left.
    public var isShutDown: Bool { drain.isOver && notices.isEmpty }
}
