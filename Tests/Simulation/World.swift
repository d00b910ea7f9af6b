// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol
import MetadataCore

/// Hosts, a network and a cluster, all under one clock and one seed: the same seed gives the same run.
public final class World {
    enum Event {
        case wake(SimulatedHost, serial: UInt64)
        case toServer(Connection, ClientPacket)
        case toClient(Connection, ServerPacket)
        case connectionLost(Connection, Int)
        case serverNotices(Connection)
        case cluster
        case call(SimulatedHost)
        case fault
        case heal(() -> Void)
        case resolved(SimulatedHost, NetworkEvent)
        case start(place: Int)
        case remains(Dead)
    }
    let seed: UInt64
    let scenario: Scenario
    var random: Generator
    var now: Instant = 1_000_000_000
    var agenda = Agenda<Event>()
    let cluster: Cluster
    var hosts: [SimulatedHost] = []
    var connections: [Connection] = []
    /// Connections that may still carry something, by host and member.
    var recent: [[[Connection]]] = []
    var isHeldToServer: [[Bool]] = []
    var isHeldToClient: [[Bool]] = []
    var networkDelay: ClosedRange<Instant> = 50...500
    /// Every store that there was; the last is the one in use.
    var stores: [Store] = []
    var namespace = Bytes("/nixl/agents/")
    var names: [Bytes] = []
    let noticeLimit: Int
    let noticeBytes = 10_000
    private(set) var steps = 0
    private(set) var failure: String?
    private var clusterEventAt: Instant = .max
    private var authors = 0
    /// The ledger of each author, also of those that are gone.
    var ledgers: [OwnershipLedger] = []
    /// No faults and no calls of hosts any more: the world heals and must settle.
    var isHealing = false
    /// Until then a lost lease has its reason.
    var excuses: [Instant] = []
    var isTraced = false
    /// A digest of all actions and notices of all cores; nil: not wanted.
    var coreDigest: Digest?
    /// The states that any agent's registration was in; nil: not recorded.
    var registrationStates: Set<[UInt8]>?
    let history: NameHistory
    /// The operator's last snapshot, and how many stores there were then.
    var snapshot: (store: Store, stores: Int)?
    /// The store was wiped since.
    var isSnapshotOfAnother = false
    var tokensForgottenAt: Instant = 0
    /// How far the history had come at each second.
    var moments: [(at: Instant, moment: Moment)] = []
    /// Until then etcd's refusal has its reason.
    var refusedUntil: [Scenario.Fault: Instant] = [:]
    /// Processes that are no more.
    var dead: [Dead] = []

    init(seed: UInt64) {
        self.seed = seed
        scenario = Scenario(seed: seed)
        random = Generator(seed: seed)
        cluster = Cluster(
            members: scenario.memberCount, settings: scenario.settings, seed: seed &+ 1)
        noticeLimit = scenario.hasSlowHosts ? 24 : 100_000
        stores = [cluster.store]
        history = NameHistory()
        names = (0..<scenario.nameCount).map { Bytes("agent") + [UInt8(ascii: "a") + UInt8($0)] }
        recent = Array(
            repeating: Array(repeating: [], count: scenario.memberCount), count: scenario.hostCount)
        let row = Array(repeating: false, count: scenario.memberCount)
        isHeldToServer = Array(repeating: row, count: scenario.hostCount)
        isHeldToClient = isHeldToServer
        excuses = Array(repeating: 0, count: scenario.hostCount)
        cluster.isAbandoned = { [unowned self] in connections[$0].isClosed }
        if scenario.allows(.keyHung), scenario.authenticates {
            var end = namespace
            end[end.count - 1] += 1
            cluster.role = Role(read: [(namespace, end)], write: [(namespace, end)])
        }
        for place in 0..<scenario.hostCount { startHost(place) }
        if !scenario.faults.isEmpty { agenda.add(.fault, at: now + scenario.faultPause) }
    }

    func fail(_ text: String) {
        if failure == nil { failure = "at step \(steps), \(Double(now) / 1e6) s: \(text)" }
    }

    // MARK: - Hosts

    func startHost(_ place: Int) {
        let generation = place < hosts.count ? hosts[place].generation + 1 : 0
        var name: Bytes?
        if !(scenario.hasObservers && place == 0) {
            name = scenario.sharesNames ? names[place % names.count] : Bytes("host\(place)x".utf8)
        }
        let endpoints = (0..<scenario.memberCount).map { member in
            CoreConfiguration.Endpoint(
                name: Bytes("member\(member):2379".utf8),
                addresses: scenario.usesHostNames ? [] : [[UInt8(member)]],
                canResolve: scenario.usesHostNames)
        }
        let refuses = scenario.hasRefusals && random.oneIn(2)
        if refuses { history.refusing.insert(authors) }
        let credentials = scenario.settings.credentials
        var configuration = CoreConfiguration(
            namespace: namespace, agent: name, endpoints: endpoints,
            user: credentials?.user ?? [], password: credentials?.password ?? [],
            refuseTakeover: refuses, logLevel: .debug,
            seed: (random.next(), random.next()))
        configuration.noticeLimit = noticeLimit
        configuration.portions = scenario.portions
        if scenario.hasLargeBlobs, scenario.hasSlowHosts {
            configuration.noticeBytes = noticeBytes
        }
        let offset = random.within(0...1_000_000_000)
        let isSlow = scenario.hasSlowHosts && random.oneIn(2)
        let host = SimulatedHost(
            index: place, generation: generation, author: authors, name: name, world: self,
            core: MetadataCore(configuration, now: (now + offset) / 1000),
            ticking: random.oneIn(2)
                ? .onEvents : .periodic(random.pick([10_000, 50_000, 100_000])),
            appetite: isSlow ? 2 : 1_000_000, clockOffset: offset)
        authors += 1
        ledgers.append(host.ownership)
        if place < hosts.count { hosts[place] = host } else { hosts.append(host) }
        host.wake(at: now + random.within(0...100_000))
        agenda.add(.call(host), at: now + random.within(0...scenario.callPause))
    }

    /// A process has come to its orderly end.
    func ended(_ host: SimulatedHost) {
        guard !host.isOver else { return }
        host.operations.checkNothingIsOpen(host)
        host.die(says: true)
        died(host, isWithdrawn: host.clock < host.drainEnd)
        agenda.add(.start(place: host.index), at: now + random.within(10_000...5_000_000))
    }

    func resolve(_ endpoint: Int, for host: SimulatedHost) {
        // The name server is slow, and now and then has no answer.
        let fails = !isHealing && !scenario.isCalm && random.oneIn(5)
        let event = NetworkEvent.resolved(
            endpoint: endpoint, addresses: fails ? [] : [[UInt8(endpoint)]],
            reason: fails ? "the name server did not answer" : "")
        agenda.add(.resolved(host, event), at: now + random.within(1_000...500_000))
    }

    // MARK: - Running

    /// One step. False: there is nothing to do, which must not be.
    func step() {
        guard let (at, event) = agenda.popFirst() else {
            fail("nothing is going to happen any more")
            return
        }
        now = at
        steps += 1
        perform(event)
        flushCluster()
        scheduleCluster()
        history.follow(self)
        if let author = history.takeNewcomer() { stallNewcomer(author) }
    }

    private func stallNewcomer(_ author: Int) {
        guard scenario.newcomersStall, !isHealing,
            let host = hosts.first(where: { $0.author == author && !$0.isOver })
        else { return }
        excuse(host.index, 5_000_000)
        host.stalledUntil = max(host.stalledUntil, now + random.within(1_500_000...5_000_000))
    }

    private func perform(_ event: Event) {
        switch event {
        case .wake(let host, let serial): host.woke(serial)
        case .toServer(let connection, let packet): arrived(packet, connection)
        case .toClient(let connection, let packet): arrived(packet, connection)
        case .connectionLost(let connection, let generation):
            let host = hosts[connection.host]
            if host.generation == generation { host.connectionLost(connection, "connection reset") }
        case .serverNotices(let connection):
            cluster.connectionBroke(connection.id, to: connection.member)
        case .cluster:
            noteMoment()
            if now >= clusterEventAt { clusterEventAt = .max }
            cluster.advance(to: now)
        case .call(let host): makeCall(host)
        case .fault: makeFault()
        case .heal(let heal): heal()
        case .resolved(let host, let event): host.resolved(event)
        case .start(let place): if hosts[place].isOver { startHost(place) }
        case .remains(let dead): checkRemains(dead)
        }
    }

    private func scheduleCluster() {
        let next = max(cluster.nextTime, now)
        guard next < clusterEventAt else { return }
        clusterEventAt = next
        agenda.add(.cluster, at: next)
    }

    func trace(_ host: SimulatedHost, _ level: LogLevel, _ text: Text) {
        guard isTraced else { return }
        note("\(host.index).\(host.generation) \(String(decoding: text.bytes, as: UTF8.self))")
    }

    func note(_ commit: Commit) {
        guard isTraced else { return }
        for change in commit.changes {
            let key = String(decoding: change.key, as: UTF8.self)
            let value = change.record.map { String(decoding: $0.value, as: UTF8.self) }
            note(
                "revision \(commit.revision) by \(commit.author ?? -1): \(key) = \(value ?? "nothing") on lease \(change.record?.lease ?? 0)"
            )
        }
    }

    func note(_ text: @autoclosure () -> String) {
        if isTraced { print("\(Double(now) / 1e6) #\(steps) \(text())") }
    }
}
