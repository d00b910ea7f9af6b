// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CNixlMD
import CSystem
import EtcdProtocol
import MetadataCore

/// Limits of one tick: counts, and the CPU time after which it takes no more work of a kind. A tick does at least one
/// of each kind. The efd stays readable for the rest.
enum TickBudget {
    static let callbacks = 256
    /// Bytes of blobs passed to callbacks.
    static let blobBytes = 1 << 20
    /// Time in callbacks and between them, in nanoseconds.
    static let callbackTime: UInt64 = 5_000_000
    /// Notices that are taken from the core at a time; the clocks are read once for each batch.
    static let batch = 32
    /// Calls of the host, and bytes of their blobs, that are given to the core.
    static let calls = 1000
    static let callBytes = 4 << 20
    /// Events of the network, and bytes of their messages, that are given to the core. How much is read and written at most is
    /// in `TransportBudget`.
    static let events = 1000
    static let eventBytes = 1 << 20
    /// CPU time after which nothing more is taken from the network, or from the host, in nanoseconds: one step of the core
    /// costs more where it holds thousands of labels.
    static let networkTime: UInt64 = 4_000_000
    static let callTime: UInt64 = 6_000_000
    /// CPU time after which what callbacks have started is left to the next tick.
    static let followUpTime: UInt64 = 8_000_000
    /// Decoding and freeing a message of this size or more takes most of a tick (16 MiB: 4 ms, twice that on a busy
    /// machine), so a tick does it first.
    static let largeMessage = 1 << 20
    static let largeAfter: UInt64 = 1_000_000
    /// Steps between two looks at the clock.
    static let stepsPerLook = 32
    /// How often sockets are read again when a deadline has passed, before it is judged.
    static let rereads = 8
    /// How often the core may answer to what its own actions led to, for example by trying the next endpoint.
    static let rounds = 16
}

/// The side of a handle that ticks: the core, the transport and what moves between them. Only the thread that has the turn
/// touches it.
final class Engine {
    let core: MetadataCore
    let transport: Transport
    let shared: SharedState
    let gate: Gate
    let logger: Logger
    var wakeup: Wakeup
    var resolver: Resolver
    let owner: OwnerListener

    /// Calls of the host that are still to be given to the core.
    var intake: [QueuedCall] = []
    var intakeTaken = 0
    // Work that this tick has passed to the core.
    var callsTaken = 0
    var callBytesTaken = 0
    var eventsHeard = 0
    var eventBytesHeard = 0
    /// Notices from the core, not delivered yet.
    var batch: [Notice] = []
    var batchTold = 0

    /// What this tick has called; other types count the rest of `nixl_md_stats_t`.
    struct Counted {
        var callbacks: UInt64 = 0
        var events: UInt64 = 0
        var resyncs: UInt64 = 0
    }
    var counted = Counted()
    var meter = TickMeter()

    init(
        core: MetadataCore, transport: Transport, shared: SharedState, gate: Gate, logger: Logger,
        wakeup: Wakeup, resolver: Resolver, owner: OwnerListener
    ) {
        self.core = core
        self.transport = transport
        self.shared = shared
        self.gate = gate
        self.logger = logger
        self.wakeup = wakeup
        self.resolver = resolver
        self.owner = owner
    }

    /// The shutdown is complete and delivered.
    var isOver: Bool { core.isShutDown && batchTold == batch.count }

    /// Nothing that had come in when this tick looked was left unread.
    var hasHeardAll = true

    /// A refused system call; the tick in which it happened returns it.
    var failure: Refusal?

    /// A tick. The result is the number of callbacks run.
    func tick() throws(Refusal) -> Int32 {
        guard !isOver else {
            shared.countIdleTick()
            throw Refusal(StatusCode.shutDown, "the shutdown is complete: call nixl_md_close()")
        }
        // Zeroed like this, not as an array: an idle tick allocates nothing.
        var ready = ReadyList()
        let count = try ready.fill(from: wakeup)
        guard count > 0 || wakeup.isOverdue(at: Self.clock()) else {
            shared.countIdleTick()
            return 0
        }
        meter = TickMeter()
        (callsTaken, callBytesTaken, eventsHeard, eventBytesHeard) = (0, 0, 0, 0)
        shared.beginTurn()
        transport.beginTurn()
        let callbacks = work(ready, count)
        // In a child that a callback forked, nothing of the parent's may be touched.
        guard !gate.isForked else { throw Handle.forkedRefusal }
        endTurn()
        if let failure {
            self.failure = nil
            throw failure
        }
        return callbacks
    }

    private func work(_ ready: borrowing ReadyList, _ count: Int) -> Int32 {
        readNetwork(ready, count)
        takeCalls(now)
        core.advance(now: now, hasHeardAll: hasHeardAll && !transport.hasMore)
        settle(now)
        let callbacks = runCallbacks()
        guard callbacks > 0, !gate.isForked, !meter.hasTaken(TickBudget.followUpTime) else {
            return callbacks
        }
        // Send the requests that callbacks started before this tick ends. A callback may have taken long, and the
        // network was not read in that time.
        now = Self.clock()
        let taken = callsTaken
        takeCalls(now)
        guard callsTaken > taken else { return callbacks }
        core.advance(now: now, hasHeardAll: false)
        settle(now)
        return callbacks
    }

    private func endTurn() {
        transport.updateInterest()
        let deadline = Self.earlier(core.nextDeadline, transport.timeout)
        do throws(Refusal) {
            try wakeup.arm(deadline, now: now)
        } catch {
            failure = error
        }
        let hasMore =
            intakeTaken < intake.count || transport.hasMore || batchTold < batch.count
            || core.pendingNotices > 0 || core.isShutDown
        shared.endTurn(hasMore: hasMore, dueAt: deadline) { collect(&$0) }
    }

    // MARK: Time

    var now: Milliseconds = Engine.clock()

    static func clock() -> Milliseconds { csystem_boottime() / 1_000_000 }

    private static func earlier(_ a: Milliseconds?, _ b: Milliseconds?) -> Milliseconds? {
        guard let a else { return b }
        guard let b else { return a }
        return min(a, b)
    }

    // MARK: Statistics

    /// Into where the host reads them; `counted` is added.
    private func collect(_ stats: inout nixl_md_stats_t) {
        stats.callbacks &+= counted.callbacks
        stats.events &+= counted.events
        stats.resyncs &+= counted.resyncs
        counted = Counted()
        let (cpu, wall) = (meter.cpu, meter.wall)
        stats.size = UInt32(MemoryLayout<nixl_md_stats_t>.size)
        stats.tick_wall_max_ns = max(stats.tick_wall_max_ns, wall)
        stats.tick_cpu_total_ns &+= cpu
        if transport.takeTLSSetup() {
            stats.ticks_tls_setup &+= 1
            stats.tick_tls_setup_cpu_max_ns = max(stats.tick_tls_setup_cpu_max_ns, cpu)
        } else {
            stats.tick_cpu_max_ns = max(stats.tick_cpu_max_ns, cpu)
        }
        stats.bytes_sent = transport.bytesSent
        stats.bytes_received = transport.bytesReceived
        stats.resolver_threads = resolver.threadsStarted
        stats.callbacks_queued = UInt64(core.pendingNotices + batch.count - batchTold)
        let counters = core.counters
        stats.requests = counters.requests
        stats.requests_failed = counters.requestsFailed
        stats.connects = counters.connects
        stats.connects_failed = counters.connectsFailed
        stats.renewals = counters.renewals
        stats.renewals_unanswered = counters.renewalsUnanswered
        stats.leases_lost = counters.leasesLost
        stats.restores = counters.restores
        stats.names_left_out = counters.namesLeftOut
        stats.connected = counters.isConnected ? 1 : 0
        stats.lease_id = UInt64(bitPattern: counters.leaseID)
        stats.lease_ttl_ms = counters.leaseTTL
        stats.revision = counters.revision
    }
}

/// Room for what epoll reports, on the stack.
struct ReadyList {
    private var entries: InlineArray<16, csystem_ready> = .init(repeating: csystem_ready())

    mutating func fill(from wakeup: Wakeup) throws(Refusal) -> Int {
        var span = entries.mutableSpan
        return try span.withUnsafeMutableBufferPointer { buffer throws(Refusal) in
            guard let start = buffer.baseAddress else { return 0 }
            return try wakeup.poll(start)
        }
    }

    @inline(__always)
    subscript(index: Int) -> csystem_ready { entries[index] }
}
