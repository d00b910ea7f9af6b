// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol
import MetadataCore

/// A process with one agent or observer: it ticks its core, makes calls, and records events and
/// completions.
final class SimulatedHost {
    enum Ticking {
        /// Sleeps on the efd.
        case onEvents
        /// Every so many microseconds, come what may.
        case periodic(Instant)
    }
    let index: Int
    /// Counts the processes that this place has had.
    let generation: Int
    /// Who writes, for the store's history: unique over all processes.
    let author: Int
    let name: [UInt8]?
    unowned let world: World
    let core: MetadataCore
    let ticking: Ticking
    /// Notices taken in one tick.
    let appetite: Int
    var clockOffset: Instant
    /// How far its clock has jumped in all.
    var jumped: Instant = 0
    var stalledUntil: Instant = 0
    /// Deadlines up to this time, by its own clock, may be late: it was held up or its clock
    /// jumped.
    var excusedUntil: Milliseconds = 0
    private var isHeldUp = false
    /// When it last heard anything, and when anything that was not a refusal, by its own clock.
    private var lastHeard: Milliseconds = 0
    private(set) var lastAnswer: Milliseconds = 0
    /// The last one of an earlier tick.
    private(set) var earlierAnswer: Milliseconds = 0
    /// When its queue was last full, or almost, by the world's clock.
    var wasFullAt: Instant = 0
    /// When a stream was ended because of a message that was too large.
    private(set) var wasTooLargeAt: Instant = 0
    var isShuttingDown = false
    /// The end of its shutdown's drain, by its own clock.
    var drainEnd: Milliseconds = 0
    /// Its heartbeat ran when it was asked to shut down.
    var hadLease = false
    var lastLease: Int64 = 0
    var isOver = false

    private var inbox: [(event: NetworkEvent, store: Int)] = []
    private var inboxTaken = 0
    /// The one with requests, and a second one beside it.
    private var connections: [Connection] = []
    var connection: Connection? { connections.first }
    private var isFirstCallAnswered = false
    /// Of which `callsOnConnection` are.
    private var called: ConnectionID = 0
    private var lastCall: UInt64 = 0
    private var callsOnConnection = 0
    private var wakeSerial: UInt64 = 0
    private var nextWake: Instant = .max
    private var sameInstantTicks = 0
    private var lastTick: Instant = 0
    private var noticesTaken = 0
    /// From which notice on they are about which store.
    private var storeMarks: [(from: Int, store: Int)] = [(0, 0)]
    private var connectTimes: [Instant] = []
    private var openTransactions: Set<CallID> = []
    /// How often it cannot know what has become of its transactions.
    private(set) var timesInDoubt = 0

    /// The store that was there when the process began, and its revision.
    let bornIn: Moment
    let operations: OperationChecker
    let ownership: OwnershipLedger
    var watches: [(operation: OperationID, checker: WatchChecker)] = []

    init(
        index: Int, generation: Int, author: Int, name: [UInt8]?, world: World,
        core: MetadataCore, ticking: Ticking, appetite: Int, clockOffset: Instant
    ) {
        self.index = index
        self.generation = generation
        self.author = author
        self.name = name
        self.world = world
        self.core = core
        self.ticking = ticking
        self.appetite = appetite
        self.clockOffset = clockOffset
        bornIn = world.moment
        operations = OperationChecker()
        ownership = OwnershipLedger(author: author)
    }

    /// The host's own clock, in its unit.
    var clock: Milliseconds { (world.now + clockOffset) / 1000 }

    /// How much later than its deadline something may come.
    var patience: Milliseconds {
        switch ticking {
        case .onEvents: 2
        case .periodic(let period): period / 1000 + 2
        }
    }

    var who: String {
        let agent = name.map { String(decoding: $0, as: UTF8.self) } ?? "observer"
        return "host \(index).\(generation) (\(agent))"
    }

    func fail(_ text: String) { world.fail("\(who): \(text)") }

    // MARK: - Time

    func wake(at: Instant) {
        guard at < nextWake else { return }
        nextWake = at
        wakeSerial += 1
        world.agenda.add(.wake(self, serial: wakeSerial), at: max(at, world.now))
    }

    func woke(_ serial: UInt64) {
        guard serial == wakeSerial, !isOver else { return }
        nextWake = .max
        if world.now < stalledUntil {
            isHeldUp = true
            wake(at: stalledUntil)
            return
        }
        tick()
    }

    /// Input makes the efd readable.
    private func wakeForInput() {
        if case .onEvents = ticking { wake(at: world.now + 20) }
    }

    private func scheduleNext() {
        guard !isOver else { return }
        switch ticking {
        case .periodic(let period): wake(at: world.now + period)
        case .onEvents:
            if inboxTaken < inbox.count || core.pendingNotices > 0 {
                wake(at: world.now + 50)
            } else if let deadline = core.nextDeadline {
                // A timer never fires early.
                let at = deadline * 1000
                let target = at > world.now + clockOffset ? at - clockOffset : world.now
                wake(at: target)
            }
        }
    }

    // MARK: - A tick

    func tick() {
        noticeSpinning()
        let now = clock
        if isHeldUp { excusedUntil = max(excusedUntil, now) }
        isHeldUp = false
        earlierAnswer = lastAnswer
        let isIdle =
            inboxTaken == inbox.count && core.pendingNotices == 0
            && core.nextDeadline.map { $0 > now } ?? true
        var taken = 0
        while inboxTaken < inbox.count, taken < 64 {
            let (event, store) = inbox[inboxTaken]
            inboxTaken += 1
            taken += 1
            hear(event)
            if store != storeMarks.last?.store {
                storeMarks.append((noticesTaken + core.pendingNotices, store))
            }
            core.receive(event, now: now)
        }
        if inboxTaken == inbox.count {
            inbox.removeAll(keepingCapacity: true)
            inboxTaken = 0
        }
        core.advance(now: now, hasHeardAll: inbox.isEmpty)
        let count = perform()
        if isIdle, count > 0 || core.pendingNotices > 0 {
            fail("it had something to do that its deadline had not announced")
        }
        checkQueues()
        takeNotices()
        core.advance(now: now, hasHeardAll: false)
        perform()
        world.registrationStates?.insert(core.registrationState)
        noticeSilence(now)
        if core.pendingNotices == 0 { operations.check(self, now: now) }
        if core.isShutDown, inbox.isEmpty { world.ended(self) }
        scheduleNext()
    }

    /// A core that always has something due would keep its host's processor busy.
    private func noticeSpinning() {
        sameInstantTicks = world.now < lastTick + 1000 ? sameInstantTicks + 1 : 0
        lastTick = world.now
        if sameInstantTicks > 3000 {
            fail("3000 ticks within less than a millisecond of each other")
        }
    }

    private func takeNotices() {
        for _ in 0..<appetite {
            guard let notice = core.nextNotice() else { break }
            noticesTaken += 1
            world.coreDigest?.mix(notice)
            switch notice {
            case .completed(let completion): operations.completed(completion, self)
            case .event(let event): told(event)
            case .ownership(let event): ownership.told(event, self)
            }
        }
        if core.pendingNotices == 0 {
            for (_, checker) in watches { checker.allTaken(self) }
        }
    }

    /// The store that the notice in hand is about.
    var storeOfNotice: Store {
        world.stores[storeMarks.last { $0.from < noticesTaken }?.store ?? 0]
    }

    private func told(_ event: WatchEvent) {
        guard let at = watches.firstIndex(where: { $0.operation == event.watch }) else {
            fail("an event of watch \(event.watch), which is not open: \(event.kind)")
            return
        }
        watches[at].checker.told(event, self)
        if case .ended(let status, _) = event.kind {
            watches.remove(at: at)
            operations.watchEnded(event.watch, status, self)
        }
    }

    // MARK: - The transport

    private func hear(_ event: NetworkEvent) {
        switch event {
        case .reply(let call, let reply):
            isFirstCallAnswered = true
            lastHeard = clock
            let isTransaction = openTransactions.remove(call) != nil
            if case .ok = reply {
                lastAnswer = clock
            } else if isTransaction {
                timesInDoubt += 1
            }
        case .message:
            lastHeard = clock
            lastAnswer = clock
        case .streamEnded(_, let reply):
            lastHeard = clock
            if case .tooLarge = reply { wasTooLargeAt = world.now }
        case .heard, .path: lastHeard = clock
        case .connectionLost, .resolved: break
        }
    }

    /// After 5 s of silence, a question and its deadline, and a second of trying, watches have got
    /// CONTACT_LOST.
    private func noticeSilence(_ now: Milliseconds) {
        // An agent's renewals ask, or a probe after 10 s; three slow acknowledgements give a silence up to a third of the TTL.
        let bound: Milliseconds = name == nil ? 12_000 : 22_000
        guard appetite > 2, !watches.isEmpty, now > max(lastHeard, excusedUntil) + bound else {
            return
        }
        for (_, checker) in watches where checker.begunAt + bound * 1000 < world.now {
            checker.checkContact(self)
        }
    }

    func hear(_ packet: ServerPacket, on connection: Connection) {
        guard connections.contains(where: { $0 === connection }) else { return }
        let id = connection.coreID
        switch packet {
        case .settings: add(.heard(id, acknowledges: false, isMidMessage: false), nil)
        case .acknowledgement: add(.heard(id, acknowledges: true, isMidMessage: false), nil)
        case .reply(let call, let outcome):
            if world.random.oneIn(50) {
                add(
                    .heard(connection.coreID, acknowledges: false, isMidMessage: true),
                    connection.store)
            }
            if isTooLarge(outcome) {
                add(.reply(call, .tooLarge(Scenario.largestMessage + 1)), nil)
                return
            }
            // A refusal says nothing about what there is.
            if case .ok = outcome {
                add(.reply(call, reply(outcome)), connection.store)
            } else {
                add(.reply(call, reply(outcome)), nil)
            }
        case .message(let stream, let bytes):
            if isTooLarge(.ok(bytes)) {
                add(.streamEnded(stream, .tooLarge(bytes.count)), nil)
            } else {
                add(.message(stream, bytes), connection.store)
            }
        case .streamEnded(let stream, let outcome):
            add(.streamEnded(stream, reply(outcome)), nil)
        case .reset:
            connectionLost(connection, "connection reset by peer")
        }
    }

    private func isTooLarge(_ outcome: Outcome) -> Bool {
        guard world.scenario.hasLargeBlobs, case .ok(let bytes) = outcome else { return false }
        return bytes.count > Scenario.largestMessage
    }

    private func add(_ event: NetworkEvent, _ store: Int?) {
        inbox.append((event, store ?? inbox.last?.store ?? storeMarks.last?.store ?? 0))
        wakeForInput()
    }

    func connectionLost(_ lost: Connection, _ text: Text) {
        guard connections.contains(where: { $0 === lost }) else { return }
        connections.removeAll { $0 === lost }
        lost.isClosed = true
        add(.connectionLost(lost.coreID, text), nil)
    }

    private func reply(_ outcome: Outcome) -> Reply {
        switch outcome {
        case .ok(let bytes): .ok(bytes)
        case .failed(let code, let text):
            .failed(GRPCStatus(code: code, message: Bytes(text)))
        }
    }

    /// The result is how many actions there were, the log apart.
    @discardableResult
    private func perform() -> Int {
        var count = 0
        while let action = core.nextAction() {
            if case .log = action {} else { count += 1 }
            world.coreDigest?.mix(action)
            perform(action)
        }
        if count > 2000 { fail("\(count) actions at once") }
        return count
    }

    private func perform(_ action: Action) {
        switch action {
        case .connect(let id, let endpoint, let address):
            noticeConnect()
            let member = address.first.map(Int.init) ?? endpoint
            let made = world.connect(self, id, member: member)
            connections.append(made)
            if connections.count > 2 { fail("a third connection") }
            world.send(.preface, on: made)
        case .disconnect(let id):
            for connection in connections where connection.coreID == id { disconnect(connection) }
        case .probe(let id):
            if let connection, connection.coreID == id { world.send(.probe, on: connection) }
        case .examine(let id):
            guard let connection = connections.first(where: { $0.coreID == id }) else { return }
            add(.path(id, isDead: world.isPathDead(connection)), nil)
        case .call(let call, let id, let method, let frame, let token):
            guard let connection, connection.coreID == id else {
                if connections.contains(where: { $0.coreID == id }) {
                    fail("a call on the second connection")
                }
                return
            }
            if called != id {
                // Requests on the last connection get no answer any more.
                if !openTransactions.isEmpty { timesInDoubt += 1 }
                openTransactions.removeAll()
                isFirstCallAnswered = false
                callsOnConnection = 0
                called = id
            }
            if callsOnConnection > 0, !isFirstCallAnswered {
                fail("a second call before the first one of a connection is answered")
            }
            if call <= lastCall { fail("call id \(call) is not new") }
            lastCall = call
            callsOnConnection += 1
            if method == .txn { openTransactions.insert(call) }
            world.send(.call(call, method, frame: frame, token: token), on: connection)
        case .openStream(let stream, let id, let method, let token):
            guard let connection, connection.coreID == id else { return }
            if !isFirstCallAnswered { fail("a stream before the first call is answered") }
            world.send(.openStream(stream, method, token: token), on: connection)
        case .send(let stream, let frame):
            if let connection { world.send(.send(stream, frame: frame), on: connection) }
        case .closeStream(let stream):
            if let connection { world.send(.closeStream(stream), on: connection) }
        case .resolve(let endpoint): world.resolve(endpoint, for: self)
        case .abandonCall: break
        case .log(let level, let text): world.trace(self, level, text)
        }
    }

    func resolved(_ event: NetworkEvent) {
        if !isOver { add(event, nil) }
    }

    private func disconnect(_ connection: Connection) {
        connections.removeAll { $0 === connection }
        world.send(.goodbye, on: connection)
        connection.isClosed = true
    }

    /// The process is gone; its kernel closes the connection, if its machine lives.
    func die(says goodbye: Bool) {
        isOver = true
        for connection in connections {
            if goodbye { disconnect(connection) }
            connection.isClosed = true
        }
        connections = []
    }

    /// With refused connections a core may try at most so often: each round of endpoints ends in a pause of 25 ms or more.
    private func noticeConnect() {
        let now = world.now
        connectTimes.removeAll { $0 + 1_000_000 < now }
        connectTimes.append(now)
        let limit = 60 * world.scenario.memberCount
        if connectTimes.count > limit { fail("\(connectTimes.count) connects within a second") }
    }
}
