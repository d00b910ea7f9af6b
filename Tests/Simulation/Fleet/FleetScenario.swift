// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel

/// What a seed decides about a fleet: how large, how poor its etcd is, and what happens to it.
public struct FleetScenario {
    public enum Fault: String, CaseIterable, Sendable {
        /// All members are stopped for some seconds, and keep their connections.
        case stall
        /// All members are killed, and started after some seconds.
        case restart
        /// Each member in turn.
        case rollingRestart
        /// One member has a tenth of its share of the CPU for half a minute.
        case slowMember
        /// One member is stopped for half a minute, and keeps its connections.
        case stopMember
        /// The network drops every connection; etcd runs.
        case allReconnect
        /// The fleet starts within 0.2 s.
        case start

        var needsOthers: Bool {
            self == .rollingRestart || self == .slowMember || self == .stopMember
        }
        /// etcd's tokens are in the memory of its members.
        var losesTokens: Bool {
            self == .restart || self == .rollingRestart || self == .start
        }
    }
    enum Watches {
        /// One agent in so many watches the whole namespace.
        case namespace(oneIn: Int)
        /// Each agent watches so many others.
        case peers(Int)
    }
    public let seed: UInt64
    public let agents: Int
    public let fault: Fault
    let members: Int
    let ttlSeconds: Int
    let security: UnitCosts.Security
    let authenticates: Bool
    let watches: Watches
    let blobBytes: Int
    /// Of a stall, or until a killed member is started.
    let lasts: Instant
    /// CPU seconds for each second that all members have together when the fault happens.
    private(set) var capacity = 0.0

    /// Until then the fleet starts and etcd has all the CPU that it wants.
    static let capacityOfSetup = 1000.0
    static let betweenRestarts: Instant = 12_000_000
    static let slowness = 10.0

    /// `wealth`: how many times as much CPU as the fleet needs; nil: 1 to 3 times.
    public init(seed: UInt64, agents: Int, fault wanted: Fault? = nil, wealth: Double? = nil) {
        var random = Generator(seed: seed ^ 0x666c_6565_74)
        self.seed = seed
        self.agents = agents
        let drawn = random.pick(Fault.allCases)
        fault = wanted ?? drawn
        let isThree = random.oneIn(2)
        members = isThree || fault.needsOthers ? 3 : 1
        ttlSeconds = random.pick([5, 10, 15, 30, 30])
        security = random.pick([.none, .none, .ecdsa, .ecdsa, .rsa])
        authenticates = random.oneIn(5)
        switch random.below(4) {
        case 0:
            watches = .namespace(oneIn: max(agents / 20, agents <= 200 ? random.pick([1, 5]) : 1))
        default: watches = .peers(random.pick([1, 2, 8]))
        }
        blobBytes = random.pick([1, 4, 4, 64]) * 1024
        lasts = random.pick([2_000_000, 4_000_000, 8_000_000, 8_000_000])
        let drawnWealth = 1 + Double(random.below(1000)) / 500
        capacity = neededCapacity * (wealth ?? drawnWealth)
    }

    /// 2,000 agents after a stall of 8 s, with 10 % of a CPU: the picture of docs/scale.md.
    public init(picture agents: Int) {
        seed = 1
        self.agents = agents
        fault = .stall
        members = 1
        ttlSeconds = 30
        security = .none
        authenticates = false
        watches = .peers(1)
        blobBytes = 4096
        lasts = 8_000_000
        capacity = 0.1 * Double(agents) / 2000
    }

    public var text: String {
        "\(fault) \(lasts / 1000) ms, \(members) members, TTL \(ttlSeconds) s, TLS \(security), users \(authenticates), \(watches), \(blobBytes / 1024) KB, CPU \(capacity)"
    }

    // MARK: - Costs, in CPU seconds

    private var watchesOfOne: Double {
        switch watches {
        case .namespace(let oneIn): 1 / Double(oneIn)
        case .peers(let count): Double(count)
        }
    }

    /// A new connection of one agent, until its renewal is answered and its watches, the self-watch included, run.
    var reconnect: Double {
        let token = authenticates && fault.losesTokens ? UnitCosts.authenticate : 0
        return
            (UnitCosts.connection(security) + token + UnitCosts.hello + UnitCosts.renewal
            + (1 + watchesOfOne) * UnitCosts.watch + 4 * UnitCosts.cancellation) / 1e6
    }

    /// The start of the fleet, with what its watches read and are told.
    var startOfAll: Double {
        let count = Double(agents)
        let written =
            UnitCosts.grant + 2 * UnitCosts.transaction
            + UnitCosts.kilobyteWritten * Double(blobBytes) / 1024
        let one = reconnect + written / 1e6
        var told = 2 * count * UnitCosts.event
        if case .namespace(let oneIn) = watches {
            told *= count / Double(oneIn)
            told += count * count / Double(oneIn) * UnitCosts.keyListed
        }
        return count * one + told / 1e6
    }

    /// A fleet at rest: renewals, and a sign of life each 5 s.
    private var loadAtRest: Double {
        let third = Double(ttlSeconds) / 3
        return Double(agents) * (1.1 * UnitCosts.renewal / third + UnitCosts.hello / 5) / 1e6
    }

    /// The least with which the fleet can live. Connections that are lost must be made again within a third of the TTL.
    private var neededCapacity: Double {
        let third = Double(ttlSeconds) / 3
        let again =
            switch fault {
            case .stall: neededAfterStall
            case .restart, .rollingRestart, .allReconnect: Double(agents) * reconnect
            // The agents of that member, a third, go to the others, which have two thirds.
            case .slowMember, .stopMember: Double(agents) * reconnect / 2
            case .start: startOfAll
            }
        return max(2 * loadAtRest, again / third)
    }

    /// A short stall costs no connection. In a longer one agents look out for another member, or for the same one after a
    /// quarter of the TTL; and after half of it leases run out.
    private var neededAfterStall: Double {
        let seconds = Double(lasts) / 1e6
        let ttl = Double(ttlSeconds)
        if seconds > ttl / 2 { return startOfAll }
        return seconds > (members > 1 ? ttl / 8 : ttl / 4) ? Double(agents) * reconnect : 0
    }
}
