// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol
import MetadataCore

/// A fleet of agents and an etcd that is short of CPU, under one clock and one seed. The store is that of the other
/// simulation; here each request waits its turn and costs what it costs a real etcd.
final class FleetWorld {
    enum Event {
        case wake(FleetAgent, serial: UInt64)
        case syn(FleetConnection, attempt: Int)
        case toServer(FleetConnection, FleetMember.Work)
        case toClient(FleetConnection, FromServer)
        case served(FleetMember, FleetMember.Job, life: Int)
        case cluster
        case step(() -> Void)
    }
    enum FromServer {
        /// Requests may be sent.
        case opened
        /// The server's first SETTINGS.
        case settings
        /// A SETTINGS frame was acknowledged.
        case acknowledged
        case packet(ServerPacket)
        case reset, refused
    }
    let scenario: FleetScenario
    private(set) var now: Instant = 1_000_000_000
    var agenda = Agenda<Event>()
    var random: Generator
    let cluster: Cluster
    let members: [FleetMember]
    private(set) var agents: [FleetAgent] = []
    private(set) var failure: String?
    let isTraced: Bool
    private var connections: [Int: FleetConnection] = [:]
    private var lastConnection = 0
    private var isClusterStopped = false
    private var clusterEventAt: Instant = .max
    /// One way.
    private static let delay: Instant = 250
    private let namespace = Bytes("/nixl/agents/")

    init(_ scenario: FleetScenario, isTraced: Bool = false) {
        self.scenario = scenario
        self.isTraced = isTraced
        random = Generator(seed: scenario.seed ^ 0x666c_6565_7400)
        var settings = Cluster.Settings()
        settings.tellsProgress = false
        if scenario.authenticates {
            settings.credentials = (Array("root".utf8), Array("secret".utf8))
        }
        cluster = Cluster(
            members: scenario.members, settings: settings, seed: scenario.seed &+ 1)
        members = (0..<scenario.members).map {
            FleetMember(index: $0, capacity: FleetScenario.capacityOfSetup)
        }
        agents = (0..<scenario.agents).map { makeAgent($0) }
    }

    private func makeAgent(_ index: Int) -> FleetAgent {
        let name = name(of: index)
        let endpoints = members.map { member in
            CoreConfiguration.Endpoint(
                name: Bytes("member\(member.index):2379".utf8), addresses: [[UInt8(member.index)]],
                canResolve: false)
        }
        let credentials = scenario.authenticates ? (Bytes("root"), Bytes("secret")) : ([], [])
        let configuration = CoreConfiguration(
            namespace: namespace, agent: name, endpoints: endpoints, user: credentials.0,
            password: credentials.1, logLevel: isTraced ? .debug : .off,
            seed: (random.next(), random.next()))
        let core = MetadataCore(configuration, now: now / 1000)
        return FleetAgent(index: index, world: self, core: core, name: name)
    }

    private func name(of index: Int) -> Bytes { Bytes("agent\(index)".utf8) }

    /// The agents that one watches; nil stands for the namespace.
    func watched(by index: Int) -> [Bytes?] {
        switch scenario.watches {
        case .namespace(let oneIn): index % oneIn == 0 ? [nil] : []
        case .peers(let count):
            (1...count).map { name(of: (index + $0) % agents.count) }
        }
    }

    func fail(_ text: String) {
        if failure == nil { failure = "at \(seconds(now)) s: \(text)" }
    }

    private func seconds(_ time: Instant) -> Double { Double(time - 1_000_000_000) / 1e6 }

    func note(_ text: @autoclosure () -> String) {
        if isTraced { print(seconds(now), text()) }
    }

    // MARK: - Running

    func run(until end: Instant) {
        while failure == nil, let next = agenda.next, next <= end,
            let (at, event) = agenda.popFirst()
        {
            now = at
            perform(event)
            flushCluster(servedOn: nil)
            scheduleCluster()
        }
        now = max(now, end)
    }

    func at(_ time: Instant, _ step: @escaping () -> Void) { agenda.add(.step(step), at: time) }

    private func perform(_ event: Event) {
        switch event {
        case .wake(let agent, let serial): agent.woke(serial)
        case .syn(let connection, let attempt): synArrived(connection, attempt)
        case .toServer(let connection, let work): arrived(work, on: connection)
        case .toClient(let connection, let event):
            if !connection.isClosed { connection.agent.hear(event, on: connection) }
        case .served(let member, let job, let life):
            guard life == member.life else { return }
            member.end(job)
            finish(job)
            serve(member)
        case .cluster:
            if now >= clusterEventAt { clusterEventAt = .max }
            if !isClusterStopped { cluster.advance(to: now) }
        case .step(let step): step()
        }
    }

    private func scheduleCluster() {
        let next = max(cluster.nextTime, isClusterStopped ? now + 10_000 : now)
        guard next < clusterEventAt else { return }
        clusterEventAt = next
        agenda.add(.cluster, at: next)
    }

    // MARK: - The network

    func connect(
        _ agent: FleetAgent, _ coreID: ConnectionID, to endpoint: Int
    ) -> FleetConnection {
        lastConnection += 1
        let connection = FleetConnection(
            id: lastConnection, agent: agent, member: members[endpoint], coreID: coreID)
        connections[connection.id] = connection
        agenda.add(.syn(connection, attempt: 0), at: now + Self.delay)
        return connection
    }

    /// Sends now, or when the connection is open.
    func transmit(_ work: FleetMember.Work, on connection: FleetConnection) {
        if connection.isOpen {
            send(work, on: connection)
        } else {
            connection.unsent.append(work)
        }
    }

    func send(_ work: FleetMember.Work, on connection: FleetConnection) {
        agenda.add(.toServer(connection, work), at: now + Self.delay)
    }

    /// The client's side is closed.
    func close(_ connection: FleetConnection) {
        send(.request(.goodbye), on: connection)
    }

    private func tell(_ event: FromServer, on connection: FleetConnection) {
        agenda.add(.toClient(connection, event), at: now + Self.delay)
    }

    private func synArrived(_ connection: FleetConnection, _ attempt: Int) {
        guard !connection.isClosed else {
            connections[connection.id] = nil
            return
        }
        let member = connection.member
        guard member.state != .dead else {
            connections[connection.id] = nil
            tell(.refused, on: connection)
            return
        }
        guard member.unaccepted < FleetMember.acceptQueue else {
            agenda.add(
                .syn(connection, attempt: attempt + 1), at: now + 1_000_000 << Instant(attempt))
            return
        }
        connection.isEstablished = true
        member.unaccepted += 1
        let cost = UnitCosts.connection(scenario.security)
        member.add(FleetMember.Job(connection: connection, work: .accept, cost: cost))
        if scenario.security == .none { tell(.opened, on: connection) }
        serve(member)
    }

    private func arrived(_ work: FleetMember.Work, on connection: FleetConnection) {
        // Its member has died meanwhile, or never heard of it.
        guard connection.isEstablished else { return }
        let job = FleetMember.Job(connection: connection, work: work, cost: cost(work, connection))
        if connection.isAccepted {
            connection.member.add(job)
            serve(connection.member)
        } else {
            connection.waiting.append(job)
            connection.member.expect(job.cost)
        }
    }

    private func cost(_ work: FleetMember.Work, _ connection: FleetConnection) -> Double {
        switch work {
        case .accept: UnitCosts.connection(scenario.security)
        case .settings: UnitCosts.settings
        case .event(.message(_, let bytes)): UnitCosts.event(bytes: bytes.count)
        case .event: 0
        case .request(.call(_, let method, let frame, _)):
            UnitCosts.request(method, frame: frame, store: cluster.store)
        case .request(.openStream), .request(.closeStream): UnitCosts.cancellation
        case .request(.send(let stream, _)):
            connection.isOfRenewals(stream) ? UnitCosts.renewal : UnitCosts.watch
        case .request(.goodbye): UnitCosts.goodbye
        case .request(.preface), .request(.probe): 0
        }
    }

    // MARK: - Members

    func serve(_ member: FleetMember) {
        guard let (job, lasts) = member.begin() else { return }
        agenda.add(.served(member, job, life: member.life), at: now + lasts)
    }

    private func finish(_ job: FleetMember.Job) {
        let connection = job.connection
        switch job.work {
        case .accept: accept(connection)
        case .settings: tell(.acknowledged, on: connection)
        case .event(let packet): tell(.packet(packet), on: connection)
        case .request(let packet):
            cluster.deliver(packet, on: connection.id, to: connection.member.index, at: now)
            if case .goodbye = packet { connections[connection.id] = nil }
            flushCluster(servedOn: connection)
        }
    }

    private func accept(_ connection: FleetConnection) {
        let member = connection.member
        member.unaccepted -= 1
        connection.agent.accepted += 1
        // The network has dropped it.
        guard connection.isEstablished else { return }
        connection.isAccepted = true
        _ = cluster.connect(connection.id, to: member.index, author: connection.agent.index)
        for job in connection.waiting {
            member.expected(job.cost)
            member.add(job)
        }
        connection.waiting = []
        if scenario.security != .none { tell(.opened, on: connection) }
        tell(.settings, on: connection)
    }

    /// Answers go out at once: their cost is in the request. What a watch is told of others is work of its own.
    private func flushCluster(servedOn: FleetConnection?) {
        guard !cluster.outbox.isEmpty else { return }
        let packets = cluster.outbox
        cluster.outbox = []
        for (id, packet) in packets {
            guard let connection = connections[id] else { continue }
            if connection !== servedOn, case .message(let stream, _) = packet,
                connection.isOfWatches(stream)
            {
                let work = FleetMember.Work.event(packet)
                connection.member.add(
                    FleetMember.Job(
                        connection: connection, work: work, cost: cost(work, connection)))
                serve(connection.member)
            } else {
                tell(.packet(packet), on: connection)
            }
        }
    }

    // MARK: - Faults

    func limitCPU() {
        for member in members { member.capacity = scenario.capacity / Double(members.count) }
    }

    /// SIGSTOP and SIGCONT of all members.
    func stopAll() {
        isClusterStopped = true
        for member in members { member.change(to: .stopped) }
    }

    func continueAll() {
        isClusterStopped = false
        for member in members {
            member.change(to: .up)
            serve(member)
        }
    }

    /// SIGSTOP and SIGCONT of one.
    func stop(_ member: FleetMember) {
        member.change(to: .stopped)
        cluster.freeze(member.index, at: now)
    }

    func `continue`(_ member: FleetMember) {
        member.change(to: .up)
        cluster.thaw(member.index, at: now)
        serve(member)
    }

    /// SIGKILL.
    func kill(_ member: FleetMember) {
        member.change(to: .dead)
        cluster.stop(member.index, resets: false, at: now)
        reset(member)
    }

    /// It listens, and serves when there is a leader (server/embed/serve.go waits for ReadyNotify).
    func start(_ member: FleetMember) {
        member.change(to: .stopped)
        cluster.start(member.index, at: now)
        serveWhenReady(member, life: member.life)
    }

    private func serveWhenReady(_ member: FleetMember, life: Int) {
        guard member.life == life else { return }
        guard cluster.hasLeader else {
            return at(now + 20_000) { [unowned self] in serveWhenReady(member, life: life) }
        }
        member.change(to: .up)
        serve(member)
    }

    /// All connections of a member are gone, and their clients hear it.
    func reset(_ member: FleetMember) {
        let lost = connections.values.filter { $0.member === member && $0.isEstablished }
        for connection in lost.sorted(by: { $0.id < $1.id }) {
            connections[connection.id] = nil
            connection.isEstablished = false
            if member.state != .dead { for job in connection.waiting { member.expected(job.cost) } }
            connection.waiting = []
            if !connection.isClosed { connection.agent.connectionsTaken += 1 }
            cluster.connectionBroke(connection.id, to: member.index)
            tell(.reset, on: connection)
        }
    }
}
