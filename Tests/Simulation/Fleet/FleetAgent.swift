// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol
import MetadataCore

/// A process with one agent, which sleeps on its efd.
final class FleetAgent {
    let index: Int
    let name: Bytes
    unowned let world: FleetWorld
    let core: MetadataCore
    private var inbox: [NetworkEvent] = []
    private var wakeSerial: UInt64 = 0
    private var nextWake: Instant = .max
    private var lastOperation: OperationID = 0
    /// At most two.
    private(set) var connections: [FleetConnection] = []
    /// Connections that an etcd has accepted.
    var accepted = 0
    /// Connections that it lost because a member died or the network dropped them.
    var connectionsTaken = 0
    private var open: Set<OperationID> = []
    private var watches: Set<OperationID> = []
    /// Watches that are not synchronised, or have lost contact.
    private var blind: Set<OperationID> = []

    init(index: Int, world: FleetWorld, core: MetadataCore, name: Bytes) {
        self.index = index
        self.world = world
        self.core = core
        self.name = name
    }

    private var clock: Milliseconds { world.now / 1000 }

    // MARK: - The host

    func start() {
        let scenario = world.scenario
        let ttl = Milliseconds(scenario.ttlSeconds) * 1000
        submit(.startHeartbeat(interval: ttl / 3, ttlSeconds: Int64(scenario.ttlSeconds)))
        publish()
        for watched in world.watched(by: index) {
            let id = submit(.watch(agent: watched, presenceOnly: true))
            watches.insert(id)
            blind.insert(id)
        }
    }

    func publish() {
        let blob = Bytes(repeating: UInt8(ascii: "x"), count: world.scenario.blobBytes)
        submit(.publish(label: Bytes("metadata"), blob: blob))
    }

    @discardableResult
    private func submit(_ call: HostCall) -> OperationID {
        lastOperation += 1
        core.submit(call, operation: lastOperation, timeout: nil, now: clock)
        if case .watch = call {} else { open.insert(lastOperation) }
        wake(at: world.now)
        return lastOperation
    }

    /// Everything that it wants works: nothing is owed that was asked before this time.
    func isServed(since time: Instant) -> Bool {
        core.counters.isConnected && open.isEmpty && blind.isEmpty
            && connections.contains { $0.isAccepted }
            && connections.allSatisfy { $0.owesNothing(since: time) }
            && world.cluster.isAlive(core.ownLease)
    }

    /// For people who replay a seed.
    var condition: String {
        """
        connected \(core.counters.isConnected) by \(connections.count) connections, \
        operations \(open.count), blind watches \(blind.count), \
        requests owed \(connections.map { $0.owed.count }), \
        lease alive \(world.cluster.isAlive(core.ownLease))
        """
    }

    // MARK: - Time

    func wake(at: Instant) {
        guard at < nextWake else { return }
        nextWake = at
        wakeSerial += 1
        world.agenda.add(.wake(self, serial: wakeSerial), at: max(at, world.now))
    }

    func woke(_ serial: UInt64) {
        guard serial == wakeSerial else { return }
        nextWake = .max
        tick()
    }

    private func tick() {
        let now = clock
        for event in inbox { core.receive(event, now: now) }
        inbox.removeAll(keepingCapacity: true)
        core.advance(now: now, hasHeardAll: true)
        perform()
        while let notice = core.nextNotice() { take(notice) }
        core.advance(now: now, hasHeardAll: false)
        perform()
        if !inbox.isEmpty || core.pendingNotices > 0 {
            wake(at: world.now + 50)
        } else if let deadline = core.nextDeadline {
            wake(at: max(deadline * 1000, world.now))
        }
    }

    private func take(_ notice: Notice) {
        switch notice {
        case .completed(let completion):
            open.remove(completion.operation)
            if completion.status != .success {
                world.fail(
                    "\(who): operation \(completion.operation) ended with \(completion.status)")
            }
        case .event(let event):
            switch event.kind {
            case .contactLost, .resync: blind.insert(event.watch)
            case .contactRegained, .synced: blind.remove(event.watch)
            default: break
            }
        case .ownership: break
        }
    }

    var who: String { "agent \(index)" }

    // MARK: - The network

    func hear(_ event: FleetWorld.FromServer, on connection: FleetConnection) {
        switch event {
        case .opened:
            connection.isOpen = true
            let unsent = connection.unsent
            connection.unsent = []
            for work in unsent { world.send(work, on: connection) }
        case .settings: add(.heard(connection.coreID, acknowledges: false, isMidMessage: false))
        case .acknowledged:
            add(.heard(connection.coreID, acknowledges: true, isMidMessage: false))
        case .reset, .refused: lose(connection)
        case .packet(let packet): hear(packet, on: connection)
        }
    }

    private func lose(_ lost: FleetConnection) {
        lost.isClosed = true
        connections.removeAll { $0 === lost }
        add(.connectionLost(lost.coreID, "connection reset by peer"))
    }

    private func hear(_ packet: ServerPacket, on connection: FleetConnection) {
        switch packet {
        case .reply(let call, let outcome):
            connection.owed[call] = nil
            add(.reply(call, reply(outcome)))
        case .message(let stream, let bytes):
            connection.answered(stream)
            add(.message(stream, bytes))
        case .streamEnded(let stream, let outcome): add(.streamEnded(stream, reply(outcome)))
        case .settings, .acknowledgement, .reset: break
        }
    }

    private func add(_ event: NetworkEvent) {
        inbox.append(event)
        wake(at: world.now + 20)
    }

    private func reply(_ outcome: Outcome) -> Reply {
        switch outcome {
        case .ok(let bytes): .ok(bytes)
        case .failed(let code, let text): .failed(GRPCStatus(code: code, message: Bytes(text)))
        }
    }

    private func perform() {
        while let action = core.nextAction() { perform(action) }
    }

    private func perform(_ action: Action) {
        switch action {
        case .connect(let id, let endpoint, _):
            connections.append(world.connect(self, id, to: endpoint))
            if connections.count > 2 { world.fail("\(who) has \(connections.count) connections") }
        case .disconnect(let id): disconnect(id)
        case .probe(let id):
            if let connection = connection(id) { world.transmit(.settings, on: connection) }
        case .examine(let id):
            // The network of a fleet loses nothing: without an acknowledgement is a SYN that finds no room.
            guard let connection = connection(id) else { return }
            add(.path(id, isDead: !connection.isEstablished))
        case .call(let call, let id, let method, let frame, let token):
            guard let connection = connection(id) else { return }
            connection.owed[call] = world.now
            send(.call(call, method, frame: frame, token: token), on: connection)
        case .abandonCall(let call):
            for connection in connections { connection.owed[call] = nil }
        case .openStream(let stream, let id, let method, let token):
            guard let connection = connection(id) else { return }
            connection.open(stream, method)
            send(.openStream(stream, method, token: token), on: connection)
        case .send(let stream, let frame):
            guard let connection = connection(with: stream) else { return }
            connection.asks(stream, at: world.now)
            send(.send(stream, frame: frame), on: connection)
        case .closeStream(let stream):
            guard let connection = connection(with: stream) else { return }
            connection.answered(stream)
            send(.closeStream(stream), on: connection)
        case .resolve: break
        case .log(_, let text):
            world.note("\(who): \(String(decoding: text.bytes, as: UTF8.self))")
        }
    }

    private func send(_ packet: ClientPacket, on connection: FleetConnection) {
        world.transmit(.request(packet), on: connection)
    }

    private func connection(_ id: ConnectionID) -> FleetConnection? {
        connections.first { $0.coreID == id }
    }

    private func connection(with stream: StreamID) -> FleetConnection? {
        connections.first { $0.has(stream) }
    }

    private func disconnect(_ id: ConnectionID) {
        guard let connection = connection(id) else { return }
        connections.removeAll { $0 === connection }
        connection.isClosed = true
        world.close(connection)
    }
}
