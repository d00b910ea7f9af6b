// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import EtcdProtocol

/// What the core must know before it starts; checked by the shell.
public struct CoreConfiguration: Sendable {
    /// Less than by default only where the way from one portion to the next is to be tested.
    public struct Portions: Sendable {
        public var pageKeys = Limits.pageKeys
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

/// What the core counts; see nixl_md_stats_t for the meaning of each.
public struct CoreCounters: Sendable {
    public var requests: UInt64 = 0
    public var requestsFailed: UInt64 = 0
    public var connects: UInt64 = 0
    public var connectsFailed: UInt64 = 0
    public var renewals: UInt64 = 0
    public var renewalsUnanswered: UInt64 = 0
    public var leasesLost: UInt64 = 0
    public var restores: UInt64 = 0
    public var isConnected = false
    public var leaseID: Int64 = 0
    public var leaseTTL: Milliseconds = 0
    public var revision: Int64 = 0
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
    public internal(set) var counters = CoreCounters()

    let configuration: CoreConfiguration
    let keyspace: Keyspace
    let ownPresenceKey: Bytes?
    var now: Milliseconds
    var random: Random
    private var lastID: UInt64 = 0

    // To the shell.
    private var actions = Queue<Action>()
    var notices = Queue<(Notice, bytes: Int)>()
    var noticeBytes = 0

    // Link.
    var link = Link.idle
    var endpoints: EndpointPool
    var currentTarget: Text = ""
    var currentEndpoint = 0
    var connectDeadline = Timing.connectDeadline
    var backoff = Timing.backoffFirst
    var hadSilence = false
    var lastReceived: Milliseconds = 0
    var lastTrouble: Text = ""
    /// Endpoints whose trouble has been told since one has answered.
    var troubled: [Int] = []
    var token = Bytes()
    var clusterID: UInt64 = 0
    /// What the answers on this connection have told; 0: nothing yet.
    var connectionCluster: UInt64 = 0
    var connectionRevision: Int64 = 0
    /// It lacks what the one known before must have had.
    var isStoreInDoubt = false
    /// What an answer in hand must have seen of the store.
    var leastRevision: Int64 = 0

    // Contact, as watches are told.
    var unreachableSince: Milliseconds?
    var isContactLost = false

    // Requests.
    var calls = SortedMap<CallInFlight>()
    var callBytes = 0
    var purposeInHand: CallPurpose?
    var work = Queue<Work>()
    var watchStream = WatchStream()
    var keepAliveStream: StreamID?
    /// nil: there is nothing to tell, or nobody to tell it to.
    var otherSpelling: OtherSpelling?

    // Operations of the host.
    var operations = SortedMap<Operation>()
    var deadlines = DeadlineHeap()
    var sweeps: [Sweep] = []
    var stalledWatches: [HostWatch] = []
    /// They have a page to tell that was too much for one tick.
    var unfinishedWatches: [HostWatch] = []
    var drainDeadline: Milliseconds?
    var isShutDownComplete = false
    /// The host has asked for something since the last `pump`.
    var hasNews = false
    /// Whether a missing answer may be held against the server.
    var mayJudge = false

    // What this agent has in the store.
    var incarnation: UInt64
    var generation: UInt16 = 0
    var heartbeat = Heartbeat()
    var leasesToRevoke: [Int64] = []
    /// A lease on which an unanswered request may still put the presence key.
    var tainted: Int64 = 0
    /// A Put of the presence key without lease was never answered: it may make the key at any revision after this one.
    var lateClaimAfter: Int64?
    /// A move that was never answered: it may put the presence key onto the lease while its revision is `over`.
    var lateMove: (lease: Int64, over: Int64)?
    /// A move to permanent that was never answered, over this revision (0: one that is gone). While there is none, who makes
    /// our key permanent is another.
    var latePermanent: Int64?
    var ownership = Ownership.none
    var isOwnershipBusy = false
    var ownershipRetryAt: Milliseconds = 0
    var ownershipFailures = 0
    var selfWatcher: Watcher?
    /// nil: it was not refused.
    var selfWatchRetryAt: Milliseconds?
    var selfRestarts = Restarts()
    var ownershipRestarts = Restarts()
    var presenceLog: [PresenceChange] = []
    var isWithdrawalWanted = false
    /// etcd refused the last one.
    var isWithdrawalRefused = false
    /// One was sent and may have been carried out.
    var isWithdrawalUnanswered = false
    /// etcd refused to give a lease back.
    var isRevocationRefused = false
    /// At which our presence key was made in the stores before this one.
    var creations: [Int64] = []
    /// LOST was told, and RESTORED is to follow.
    var isLossTold = false
    /// Labels may be missing, or on another lease than the presence key.
    var areLabelsBehind = false
    /// Others removed our keys after we had the name: who has it now came later than we did.
    var wasRemovedByOthers = false
    var withdrawals: [OperationID] = []
    var labels = ByteMap<LabelRecord>()
    var labelQueue = Queue<LabelRecord>()
    var labelsInFlight = 0
    /// Of one transaction of several labels; less where etcd's limit is.
    var batchBytes = Limits.batchBytes

    public init(_ configuration: CoreConfiguration, now: Milliseconds) {
        let keyspace = Keyspace(namespace: configuration.namespace)
        var random = Random(seed: configuration.seed)
        self.configuration = configuration
        self.keyspace = keyspace
        ownPresenceKey = configuration.agent.map { keyspace.key(agent: $0) }
        self.now = now
        incarnation = Incarnation.choose(&random)
        endpoints = EndpointPool(configuration.endpoints, random: &random)
        self.random = random
        if configuration.logLevel <= .warn {
            otherSpelling = OtherSpelling(of: configuration.namespace)
        }
    }

    var ownName: Bytes { configuration.agent ?? [] }

    func newID() -> UInt64 {
        lastID += 1
        return lastID
    }

    func act(_ action: Action) {
        actions.append(action)
    }

    func log(_ level: LogLevel, _ text: @autoclosure () -> Text) {
        if level >= configuration.logLevel { act(.log(level, text())) }
    }

    // MARK: - Inputs

    /// A starting call. `timeout` nil: never. Its operation completes exactly once, by a notice. Nothing is
    /// sent before the next `advance`, which is then due: calls that are made together meet in the queue.
    public func submit(
        _ call: HostCall, operation: OperationID, timeout: Milliseconds?, now: Milliseconds
    ) {
        self.now = now
        operations[operation] = .starting
        guard drainDeadline == nil else {
            complete(operation, .shutDown, "the handle is being shut down")
            return
        }
        if let timeout { deadlines.insert(operation, at: now &+ timeout) }
        switch call {
        case .publish(let label, let blob): publish(operation, label: label, blob: blob)
        case .unpublish(let label): unpublish(operation, label: label)
        case .startHeartbeat(let interval, let ttlSeconds):
            startHeartbeat(operation, interval: interval, ttlSeconds: ttlSeconds)
        case .stopHeartbeat(let keep): stopHeartbeat(operation, keep: keep)
        case .fetch(let agent, let label, let wait):
            fetch(operation, agent: agent, label: label, waits: wait)
        case .watch(let agent, let presenceOnly):
            watch(operation, agent: agent, presenceOnly: presenceOnly)
        case .invalidate: invalidate(operation)
        case .list: list(operation)
        }
        hasNews = true
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
        guard !isShutDownComplete else { return }
        switch event {
        case .reply(let call, let reply): replied(call, reply)
        case .message(let stream, let bytes): message(stream, bytes)
        case .streamEnded(let stream, let reply): streamEnded(stream, reply)
        case .progress(let connection):
            if connection == link.connection { progressed() }
        case .connectionLost(let connection, let reason):
            if connection == link.connection { failConnection(reason) }
        case .resolved(let endpoint, let addresses, let reason):
            addressesResolved(endpoint: endpoint, addresses: addresses, reason: reason)
        }
        pump()
    }

    private func message(_ stream: StreamID, _ bytes: Bytes) {
        lastReceived = now
        if stream == watchStream.id {
            watchMessage(bytes)
        } else if stream == keepAliveStream {
            renewalAnswered(bytes)
        }
    }

    private func streamEnded(_ stream: StreamID, _ reply: Reply) {
        guard stream == watchStream.id || stream == keepAliveStream else { return }
        switch reply {
        case .tooLarge(let size) where stream == watchStream.id: watchMessageTooLarge(size)
        case .failed(let status):
            failConnection("\(currentTarget) ended a stream: \(status.message)")
        case .ok, .tooLarge: failConnection("\(currentTarget) ended a stream")
        }
    }

    /// Time has passed: does what is due. Call it at `nextDeadline` at the latest.
    ///
    /// `hasHeardAll`: everything that came in until now has been given to `receive`. Only then a missing
    /// answer is held against the server: a host that was held up must not take its own absence for a dead peer.
    public func advance(now: Milliseconds, hasHeardAll: Bool = true) {
        self.now = now
        guard !isShutDownComplete else { return }
        mayJudge = hasHeardAll
        expireOperations()
        sweepOn()
        tellUnfinishedPage()
        expireCalls()
        expireCreations()
        noticeLostContact()
        pump()
        mayJudge = false
    }

    // MARK: - The engine

    /// Sends what the state wants sent.
    func pump() {
        guard !isShutDownComplete else { return }
        hasNews = false
        driveLink()
        resumeStalledWatches()
        driveHeartbeat()
        driveOwnership()
        settleHeartbeat()
        driveWork()
        driveWatchStream()
        driveOtherSpelling()
        driveDrain()
        // One of them may have found the connection dead.
        if case .idle = link { driveLink() }
    }

    /// A connection is there: everything that the last one left unfinished goes on.
    func linkIsReady() {
        renewOnNewConnection()
    }

    /// The streams are gone with their connection.
    func streamsAreLost() {
        keepAliveStream = nil
        watchStreamIsLost()
    }

    /// The revisions we know mean nothing in the store that answers now.
    func storeWasReplaced() {
        log(.warn, "the store behind \(currentTarget) is not the one known before")
        sweep(.replaceStore("the store was replaced"))
        ownershipStoreReplaced()
    }

    /// One that was wiped, and has already passed the revision that we knew, shows itself by nothing but what it lacks. What is
    /// asked on this connection began in the one or in the other: all begins anew on the next.
    func storeMayBeAnother() {
        isStoreInDoubt = true
        failConnection("\(currentTarget) may have another store than before")
    }

    private func noticeLostContact() {
        guard mayJudge, let since = unreachableSince, !isContactLost,
            now &- since >= Timing.contactLost
        else { return }
        isContactLost = true
        log(.warn, "no etcd can be reached, it is tried on; last trouble: \(lastTrouble)")
        for operation in operations.values {
            if case .watch(let watch) = operation { contactLost(watch) }
        }
    }

    // MARK: - Outputs

    /// When `advance` has something to do next; nil: never.
    public var nextDeadline: Milliseconds? {
        guard !isShutDownComplete else { return nil }
        if hasNews || !sweeps.isEmpty || !unfinishedWatches.isEmpty
            || (notices.isEmpty && !stalledWatches.isEmpty)
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
        consider(linkDeadline)
        consider(callDeadline)
        consider(creationDeadline)
        consider(heartbeatDeadline)
        consider(drainDeadline)
        if isReady, ownershipRetryAt > now { consider(ownershipRetryAt) }
        if isReady, case .owned = ownership { consider(selfWatchRetryAt) }
        if let unreachableSince, !isContactLost {
            consider(unreachableSince &+ Timing.contactLost)
        }
        return earliest
    }

    public func nextAction() -> Action? { actions.popFirst() }

    public func nextNotice() -> Notice? {
        guard let (notice, bytes) = notices.popFirst() else { return nil }
        noticeBytes -= bytes
        return notice
    }

    /// Notices that wait for `nextNotice()`.
    public var pendingNotices: Int { notices.count }

    /// The drain is over and no notice is left.
    public var isShutDown: Bool { isShutDownComplete && notices.isEmpty }
}
