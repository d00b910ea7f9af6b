// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import MetadataCore

/// Runs one seed of a fleet: start, fault, and what must hold afterwards.
public struct FleetRun {
    public let scenario: FleetScenario
    /// nil: passed.
    public private(set) var failure: String?
    /// After the end of the fault, in seconds: until all were back for good; nil: never.
    public private(set) var back: Double?
    /// The time that they may take.
    public private(set) var limit = 0.0
    /// CPU seconds.
    public private(set) var queue = 0.0
    public private(set) var leasesLost = 0
    /// By the agent that made the most of them, for one outage.
    public private(set) var accepted = 0
    public private(set) var acceptedOnAverage = 0.0
    /// Each half second: agents served, and seconds of work in the queue.
    public private(set) var curve: [(at: Double, served: Int, queue: Double, accepted: Int)] = []

    /// Connections that etcd may accept of an agent for each outage: on average, and in the worst case with two more for
    /// each TTL that the outage lasts.
    static let connectionsOfOutage = 3.0
    static let connectionsOfAgent = 6

    public init(_ scenario: FleetScenario, isTraced: Bool = false, drawsCurve: Bool = false) {
        self.scenario = scenario
        let world = FleetWorld(scenario, isTraced: isTraced)
        let outage = Outage(world)
        if drawsCurve { curve = outage.drawCurve() } else { outage.run() }
        failure = world.failure
        back = outage.back
        limit = outage.limit
        queue = outage.queue
        leasesLost = outage.leasesLost
        accepted = outage.accepted
        acceptedOnAverage = outage.acceptedOnAverage
    }
}

/// A fault of a fleet, and the checks.
private final class Outage {
    let world: FleetWorld
    private let scenario: FleetScenario
    private var began: Instant = 0
    private var ended: Instant = 0
    private var outages = 1
    private var acceptedBefore: [Int] = []
    private var lostBefore: [Int] = []
    private var leaseEnds: [Instant] = []
    private(set) var queue = 0.0
    private(set) var back: Double?
    private(set) var leasesLost = 0

    init(_ world: FleetWorld) {
        self.world = world
        scenario = world.scenario
    }

    private var ttl: Instant { Instant(scenario.ttlSeconds) * 1_000_000 }
    private var wait: Double { queue / scenario.capacity }
    var limit: Double { 2 * wait + 10 }
    var accepted: Int { ((acceptedByEach.max() ?? 0) + outages - 1) / outages }
    var acceptedOnAverage: Double {
        Double(acceptedByEach.reduce(0, +)) / Double(max(1, outages * world.agents.count))
    }
    private var acceptedByEach: [Int] {
        zip(world.agents, acceptedBefore).map { $0.accepted - $1 }
    }

    func run() {
        setUp()
        makeFault()
        world.run(until: ended)
        takeStock()
        watch(until: ended + Instant(limit * 1e6) + ttl + 2_000_000)
        check()
    }

    // MARK: - Until the fault

    private func setUp() {
        began = world.now
        if scenario.fault != .start {
            // Renewals are spread over their period, as after a long time.
            for agent in world.agents {
                world.at(world.now + world.random.within(0...ttl / 3)) { agent.start() }
            }
            let settled = world.now + ttl / 3 + 3_000_000
            world.run(until: settled)
            world.limitCPU()
            began = settled + world.random.within(1_000_000...1_000_000 + ttl / 3)
            world.run(until: began)
            for agent in world.agents where !agent.isServed(since: 0) {
                world.fail("\(agent.who) is not served before the fault: \(agent.condition)")
            }
        }
        acceptedBefore = world.agents.map { $0.accepted }
        lostBefore = world.agents.map { Int($0.core.counters.leasesLost) }
    }

    private func makeFault() {
        world.note("\(scenario.fault) for \(scenario.lasts / 1000) ms")
        let members = world.members
        ended = began + scenario.lasts
        switch scenario.fault {
        case .stall:
            world.stopAll()
            world.at(ended) { [world] in world.continueAll() }
        case .restart: restart(members, at: began)
        case .rollingRestart:
            outages = members.count
            for (number, member) in members.enumerated() {
                let at = began + Instant(number) * FleetScenario.betweenRestarts
                restart([member], at: at)
                ended = at + scenario.lasts
            }
        case .slowMember:
            ended = began + 30_000_000
            let usual = members[0].capacity
            members[0].capacity = usual / FleetScenario.slowness
            world.at(ended) { members[0].capacity = usual }
        case .stopMember:
            ended = began + 30_000_000
            world.stop(members[0])
            world.at(ended) { [world] in world.continue(members[0]) }
        case .allReconnect:
            ended = began
            for member in members { world.reset(member) }
        case .start:
            ended = began
            world.limitCPU()
            for agent in world.agents {
                world.at(began + world.random.within(0...200_000)) { agent.start() }
            }
        }
    }

    private func restart(_ members: [FleetMember], at time: Instant) {
        world.at(time) { [world] in for member in members { world.kill(member) } }
        world.at(time + scenario.lasts) { [world] in for member in members { world.start(member) } }
    }

    // MARK: - Afterwards

    /// The work in hand when the fault ends, and a reconnect of each agent whose connection was really lost.
    private func takeStock() {
        let inHand = world.members.reduce(0) { $0 + $1.backlog } / 1e6
        let taken = world.agents.filter { $0.connectionsTaken > 0 }.count
        queue = inHand + Double(taken) * scenario.reconnect
        if scenario.fault == .start { queue += scenario.startOfAll }
        leaseEnds = world.agents.map { world.cluster.expiry(of: $0.core.ownLease) ?? 0 }
        world.note("the fault ends; the queue is \(queue) CPU s, \(wait) s")
    }

    private func watch(until end: Instant) {
        var since: Instant?
        while world.now < end, world.failure == nil {
            world.run(until: world.now + 250_000)
            let isBack = world.agents.allSatisfy { $0.isServed(since: ended) }
            since = isBack ? since ?? world.now : nil
        }
        back = since.map { Double($0 - ended) / 1e6 }
    }

    private func check() {
        leasesLost = world.agents.reduce(0) { $0 + losses($1) }
        if let back, back <= limit + 0.25 {
        } else {
            let late = world.agents.filter { !$0.isServed(since: ended) }
            let first = late.first.map { "; \($0.who): \($0.condition)" } ?? ""
            world.fail(
                "\(late.count) of \(world.agents.count) are not back, of \(limit) s they took \(back ?? -1)\(first)"
            )
        }
        for (agent, end) in zip(world.agents, leaseEnds) {
            let isExcused = end <= ended + Instant(1.2e6 * wait) && !scenario.fault.needsOthers
            if losses(agent) > (isExcused && scenario.fault != .start ? 1 : 0) {
                world.fail(
                    "\(agent.who) lost \(losses(agent)) leases, the first would have ended \(Double(end) / 1e6 - Double(ended) / 1e6) s after the fault, whose queue takes \(wait) s"
                )
            }
        }
        let isTooOften =
            acceptedOnAverage > FleetRun.connectionsOfOutage
            || accepted > FleetRun.connectionsOfAgent + 2 * Int((ended - began) / ttl)
        if isTooOften {
            world.fail(
                "etcd accepted \(acceptedOnAverage) connections of an agent for one outage, up to \(accepted)"
            )
        }
    }

    private func losses(_ agent: FleetAgent) -> Int {
        Int(agent.core.counters.leasesLost) - lostBefore[agent.index]
    }

    // MARK: - A picture

    /// From 5 s before the fault until a minute after it.
    func drawCurve() -> [(at: Double, served: Int, queue: Double, accepted: Int)] {
        setUp()
        makeFault()
        var points: [(at: Double, served: Int, queue: Double, accepted: Int)] = []
        while world.now < ended + 60_000_000, world.failure == nil {
            world.run(until: world.now + 500_000)
            let served = world.agents.filter { $0.isServed(since: world.now - 2_000_000) }.count
            let queue = world.members.reduce(0) { $0 + $1.backlog / $1.capacity } / 1e6
            let accepted = zip(world.agents, acceptedBefore).reduce(0) { $0 + $1.0.accepted - $1.1 }
            points.append((Double(world.now) / 1e6 - Double(began) / 1e6, served, queue, accepted))
        }
        return points
    }
}
