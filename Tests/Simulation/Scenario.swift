// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import MetadataCore

/// A world as its seed decides before the first step: how large it is and what may go wrong.
struct Scenario {
    enum Fault: CaseIterable {
        case cut, halfOpen, holdToServer, holdToClient, slowNetwork
        case memberReplaced, memberKilled, memberVanished, memberFrozen, memberIsolated, memberLags,
            allRestarted
        case wiped, compacted, tokensForgotten, timeouts
        case memberRemoved, memberAdded
        case noSpace, forbidden, passwordChanged
        case hostStalled, hostCrashed, clockJumped
        case operatorDeletes, operatorRevokes, stockAgent, namesake
        case answersLost, restored, keyHung

        /// Not drawn with the others, so that the worlds that were there before it stay as they were.
        var isDrawnApart: Bool {
            self == .namesake || self == .answersLost || self == .restored || self == .keyHung
        }
    }

    /// Further behaviour of etcd (Cluster.Settings), and accidents: each in one world of so many.
    enum Chance {
        static let leavesOutLeasesOfKeys = 3
        static let checksRenewals = 3
        static let checksLeasesOfPuts = 3
        static let writesWithoutSpace = 3
        static let refusesAllWithoutSpace = 4
        static let tellsLeasesWithoutQuorum = 4
        static let answersLost = 4
        static let restored = 4
        static let keyHung = 3
        static let newcomersStall = 2
    }
    let memberCount: Int
    let hostCount: Int
    let nameCount: Int
    let faults: [Fault]
    /// One fault at a time, of one member or one host only, so that promises about those can be checked.
    let isGentle: Bool
    /// Several hosts may use one name.
    let sharesNames: Bool
    /// A process may stand still between the removal of another's presence key and the claim.
    let newcomersStall: Bool
    /// Some of those do not take a name that another has.
    let hasRefusals: Bool
    let authenticates: Bool
    let usesHostNames: Bool
    let hasSlowHosts: Bool
    let hasObservers: Bool
    /// Blobs of several KiB, some over etcd's limit; and messages over the transport's.
    let hasLargeBlobs: Bool
    /// Mean times between two faults, and between two calls of a host.
    let faultPause: Instant
    let callPause: Instant
    let settings: Cluster.Settings
    let portions: CoreConfiguration.Portions

    static let largestRequest = 2500
    /// A transport that takes no larger message, in a world of large blobs.
    static let largestMessage = 16_384
    private static let ofThree: [Fault] = [.memberReplaced, .memberRemoved, .memberAdded]

    /// Nothing goes wrong: then no operation may fail and nothing may be lost.
    var isCalm: Bool { faults.isEmpty }

    init(seed: UInt64) {
        var random = Generator(seed: seed ^ 0x5ce_4a51_0000)
        memberCount = random.oneIn(3) ? 1 : 3
        hostCount = random.oneIn(24) ? 10 + random.below(14) : 2 + random.below(6)
        nameCount = 1 + random.below(4)
        let kind = random.below(16)
        isGentle = kind == 1 || kind == 2
        let probability = 1 + random.below(5)
        let isThree = memberCount == 3
        let gentle: [Fault] = [
            .cut, .compacted, .clockJumped, .tokensForgotten, .hostCrashed,
        ]
        if kind == 0 {
            faults = []
        } else if isGentle {
            let ofMembers: [Fault] = [.memberKilled, .memberVanished, .memberFrozen, .memberLags]
            faults = (gentle + (isThree ? ofMembers : [])).filter { _ in !random.oneIn(3) }
        } else {
            let drawn = Fault.allCases.filter {
                !$0.isDrawnApart && random.below(5) < probability
                    && (isThree || !Self.ofThree.contains($0))
            }
            // Drawn apart, so that the other worlds, those of `Regression.all` among them, stay as they were without it.
            var apart = Generator(seed: seed ^ 0x6e61_6d65_0bbb)
            let hasNamesake = apart.oneIn(3) && !drawn.contains(.wiped)
            faults = drawn + (hasNamesake ? [.namesake] : []) + Self.thrownFaults(seed, hasNamesake)
        }
        hasLargeBlobs = random.oneIn(6)
        // After a wipe, permanent keys do not show which of two processes put them back.
        sharesNames =
            kind > 2 && random.oneIn(2) && !faults.contains(.wiped) && !faults.contains(.restored)
        newcomersStall = sharesNames && Self.isThrown(seed, 10, Chance.newcomersStall)
        hasRefusals = sharesNames && random.oneIn(3)
        authenticates = random.oneIn(4)
        usesHostNames = random.oneIn(4)
        hasSlowHosts = kind > 2 && random.oneIn(4)
        hasObservers = random.oneIn(2)
        faultPause = random.within(500_000...8_000_000)
        callPause = random.within(50_000...1_000_000)
        var settings = Cluster.Settings()
        if authenticates { settings.credentials = (Array("root".utf8), Array("secret".utf8)) }
        if hasLargeBlobs { settings.maximumRequest = Self.largestRequest }
        settings.tellsOlder = random.oneIn(4)
        settings.fragments = random.oneIn(2)
        settings.applyDelay = random.pick([100, 500, 5_000])
        Self.throwSwitches(seed, &settings)
        self.settings = settings
        var portions = CoreConfiguration.Portions()
        if random.oneIn(2) {
            // A host that ticks every 100 ms gets ten portions a second: with many agents they must be larger, so that
            // a list ends within the shortest time-out.
            portions.pageKeys = Int64(1 + random.below(5) + hostCount / 8)
            portions.pageKeysMax = portions.pageKeys * 4
            portions.keysAtOnce = Int(portions.pageKeys)
            portions.pageValues = 1
            portions.batchOperations = 1 + random.below(3) + hostCount / 8
        }
        self.portions = portions
    }

    /// Each with a number of its own, so that one more changes no other world.
    private static func isThrown(_ seed: UInt64, _ number: UInt64, _ oneIn: Int) -> Bool {
        var generator = Generator(seed: seed ^ 0x7468_726f_0000 ^ number << 48)
        return oneIn > 0 && generator.oneIn(oneIn)
    }

    private static func throwSwitches(_ seed: UInt64, _ settings: inout Cluster.Settings) {
        settings.leavesOutLeasesOfKeys = isThrown(seed, 1, Chance.leavesOutLeasesOfKeys)
        settings.checksRenewals = isThrown(seed, 2, Chance.checksRenewals)
        settings.checksLeasesOfPuts = isThrown(seed, 3, Chance.checksLeasesOfPuts)
        settings.writesWithoutSpaceOneIn = isThrown(seed, 4, Chance.writesWithoutSpace) ? 4 : 0
        // No etcd does both: 3.5.0 to 3.5.6 the one, 3.7 the other.
        settings.refusesAllWithoutSpace =
            !settings.leavesOutLeasesOfKeys && isThrown(seed, 5, Chance.refusesAllWithoutSpace)
        settings.tellsLeasesWithoutQuorum = isThrown(seed, 6, Chance.tellsLeasesWithoutQuorum)
    }

    private static func thrownFaults(_ seed: UInt64, _ hasNamesake: Bool) -> [Fault] {
        var faults: [Fault] = []
        if isThrown(seed, 7, Chance.answersLost) { faults.append(.answersLost) }
        // As of a store that was wiped.
        if isThrown(seed, 8, Chance.restored), !hasNamesake { faults.append(.restored) }
        if isThrown(seed, 9, Chance.keyHung) { faults.append(.keyHung) }
        return faults
    }

    func allows(_ fault: Fault) -> Bool { faults.contains(fault) }
}
