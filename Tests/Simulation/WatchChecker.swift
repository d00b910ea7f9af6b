// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol
import MetadataCore

/// Compares a watch with etcd's history (the guarantees of etcd's watch,
/// https://etcd.io/docs/v3.5/learning/api_guarantees/: ordered, unique, reliable, atomic,
/// resumable, bookmarkable). After SYNCED every event must be the next one that the history has for
/// it; before, the events together must be the state at the revision of SYNCED.
final class WatchChecker {
    /// A host's knowledge of an agent, if it follows its events.
    private struct Known {
        /// The incarnation in the presence key; 0: present without one.
        var incarnation: UInt64 = 0
        var isPresent = false
        /// The presence key was seen: without one the agent is absent, whatever labels there are.
        var hadPresence = false
        var lastIncarnation: UInt64?
        /// nil: RESTARTED made the known blob void, and no newer one was reported.
        var labels: [Bytes: Bytes?] = [:]
        /// The revision at which each was reported, in the present store.
        var revisions: [Bytes: Int64] = [:]
    }
    struct Expected: Equatable {
        enum Kind { case put, appeared, delete, gone, restarted, returned }
        let kind: Kind
        let revision: Int64
        let agent: Bytes
        var label: Bytes = []
        var blob: Bytes = []
        var incarnation: UInt64 = 0
    }
    unowned let world: World
    let agent: Bytes?
    private let presenceOnly: Bool
    private var known: [Bytes: Known] = [:]
    /// Following: the store, how far its history has been turned into expectations, and the
    /// expectations that are left.
    private(set) var store: Store?
    private var followed: Int64 = 0
    private var expected: [Expected] = []
    private var expectedTold = 0
    /// etcd knows no watch without values, so this one reads the presence key alone.
    private var seesOnlyPresence = false
    private var hasTold = false
    private var isContactLost = false
    private var contactLostAt: Milliseconds = 0
    /// Between RESYNC and SYNCED events are differences.
    private var tellsDifferences = false
    /// The store that the last event with a state was about.
    private(set) var heardFrom: Store?
    let begunAt: Instant
    /// Its beginning, by its host's clock.
    private let begunClock: Milliseconds
    private(set) var syncedAt: Instant
    private(set) var lastRevision: Int64 = 0
    /// Agents present by their labels when the events stopped, and gone in the list that followed.
    /// Only the core knows whether it saw a presence key in between; no event says so.
    private var ambiguous: Set<Bytes> = []

    init(world: World, agent: Bytes?, presenceOnly: Bool, clock: Milliseconds) {
        begunClock = clock
        self.world = world
        self.agent = agent
        self.presenceOnly = presenceOnly
        begunAt = world.now
        syncedAt = world.now
    }

    // MARK: - Events

    func told(_ event: WatchEvent, _ host: SimulatedHost) {
        let told: Expected
        switch event.kind {
        case .put(let agent, let label, let blob):
            told = Expected(
                kind: .put, revision: event.revision, agent: agent, label: label, blob: blob)
        case .appeared(let agent, let incarnation):
            told = Expected(
                kind: .appeared, revision: event.revision, agent: agent, incarnation: incarnation)
        case .delete(let agent, let label):
            told = Expected(kind: .delete, revision: event.revision, agent: agent, label: label)
        case .gone(let agent):
            told = Expected(kind: .gone, revision: event.revision, agent: agent)
        case .restarted(let agent, let incarnation):
            told = Expected(
                kind: .restarted, revision: event.revision, agent: agent, incarnation: incarnation)
        case .returned(let agent, let incarnation):
            told = Expected(
                kind: .returned, revision: event.revision, agent: agent, incarnation: incarnation)
        case .synced:
            synced(event.revision, host)
            return
        case .resync(let text):
            resynced(text, host)
            return
        case .contactLost(let text):
            contactLost(String(decoding: text.bytes, as: UTF8.self), host)
            return
        case .contactRegained:
            contactRegained(host)
            return
        case .ended: return
        }
        hasTold = true
        heardFrom = host.storeOfNotice
        lastRevision = max(lastRevision, told.revision)
        if store != nil, let mismatch = compare(told) { host.fail(mismatch) }
        note(told, host)
    }

    private func resynced(_ text: Text, _ host: SimulatedHost) {
        if store == nil, !hasTold { host.fail("RESYNC before anything was told") }
        let reason = String(decoding: text.bytes, as: UTF8.self)
        checkReason(reason, host)
        if heardFrom !== host.storeOfNotice || reason.hasPrefix(Self.mayBeAnother) {
            for name in known.keys { known[name]?.revisions = [:] }
            lastRevision = 0
        }
        heardFrom = host.storeOfNotice
        store = nil
        tellsDifferences = true
    }

    private func contactLost(_ text: String, _ host: SimulatedHost) {
        if isContactLost { host.fail("CONTACT_LOST twice") }
        isContactLost = true
        contactLostAt = host.clock
        // A slow host hears of it when it may be over; and the first answer on a connection may be about a password.
        guard host.appetite > 2, !world.scenario.authenticates else { return }
        // Others may be answered while this watch is silent.
        let isSilent = text.hasPrefix("still listing") || text.hasPrefix("etcd has not begun")
        if isSilent, host.clock >= begunClock + 5000 { return }
        // What a member answers behind its 'no leader' comes on a connection that is given up.
        if text.contains("no leader") { return }
        // Answers of the same tick may have come after it.
        if host.clock < host.earlierAnswer + 1000 {
            host.fail("CONTACT_LOST \(host.clock - host.earlierAnswer) ms after an answer")
        }
    }

    private func contactRegained(_ host: SimulatedHost) {
        if !isContactLost { host.fail("CONTACT_REGAINED without CONTACT_LOST") }
        isContactLost = false
        if host.appetite > 2, host.lastAnswer < contactLostAt {
            host.fail("CONTACT_REGAINED and nothing was answered")
        }
    }

    /// After so long a silence the host must have got CONTACT_LOST.
    func checkContact(_ host: SimulatedHost) {
        if !isContactLost { host.fail("nothing is heard any more and CONTACT_LOST was not told") }
    }

    /// An unchanged state is not reported again.
    private func checkDifference(_ told: Expected, _ state: Known, _ host: SimulatedHost) {
        let isKnown: Bool
        switch told.kind {
        case .put:
            // A snapshot that was restored may hold another value at the same revision.
            isKnown =
                state.revisions[told.label] == told.revision
                && state.labels[told.label] == .some(told.blob)
        case .restarted:
            isKnown = state.isPresent && state.hadPresence && state.incarnation == told.incarnation
        case .delete: isKnown = state.labels[told.label] == nil
        case .appeared, .returned, .gone: isKnown = false
        }
        if isKnown { host.fail("\(text(told)) was told after RESYNC and is no difference") }
    }

    private func note(_ told: Expected, _ host: SimulatedHost) {
        var state = known[told.agent] ?? Known()
        if tellsDifferences { checkDifference(told, state, host) }
        switch told.kind {
        case .appeared, .restarted, .returned:
            if told.kind == .appeared, state.isPresent || state.lastIncarnation != nil {
                host.fail("\(text(told)): it was known already")
            }
            if told.kind == .returned, state.isPresent || state.lastIncarnation != told.incarnation
            {
                host.fail("\(text(told)): last was \(String(describing: state.lastIncarnation))")
            }
            state.isPresent = true
            state.incarnation = told.incarnation
            state.lastIncarnation = told.incarnation
            if told.incarnation != 0 { state.hadPresence = true }
            for label in state.labels.keys { state.labels[label] = .some(nil) }
            state.revisions = [:]
        case .gone:
            if !state.isPresent { host.fail("\(text(told)): it was not present") }
            if store == nil, !state.hadPresence { ambiguous.insert(told.agent) }
            state.isPresent = false
            state.labels = [:]
            state.revisions = [:]
        case .put:
            state.labels[told.label] = told.blob
            state.revisions[told.label] = told.revision
        case .delete:
            state.labels[told.label] = nil
            state.revisions[told.label] = nil
        }
        if !state.isPresent, !state.labels.isEmpty {
            host.fail("\(text(told)): of an agent that is not present")
        }
        known[told.agent] = state
    }

    /// nil: it is the expected event.
    private func compare(_ told: Expected) -> String? {
        while expectedTold == expected.count, let store, followed < store.revision { follow(store) }
        guard expectedTold < expected.count else {
            return "\(text(told)) was told and did not happen"
        }
        let next = expected[expectedTold]
        if next != told, ambiguous.remove(next.agent) != nil {
            known[next.agent]?.hadPresence = true
            history[next.agent]?.hadPresence = true
            history[next.agent]?.isPresent = false
            history[next.agent]?.labels = [:]
            expected.removeSubrange(..<expectedTold)
            expected.removeAll { $0.agent == next.agent }
            expectedTold = 0
            return compare(told)
        }
        expectedTold += 1
        return next == told ? nil : "\(text(told)) was told; next is \(text(next))"
    }

    /// All notices have been taken: a revision is reported as a whole.
    func allTaken(_ host: SimulatedHost) {
        if expectedTold < expected.count, expectedTold > 0 {
            host.fail("only part of a revision was told; next is \(text(expected[expectedTold]))")
        }
    }

    // MARK: - Expected events

    private func follow(_ store: Store) {
        expected.removeAll(keepingCapacity: true)
        expectedTold = 0
        followed += 1
        let commit = store.commit(followed)
        for isPresence in [true, false] {
            for change in commit.changes {
                guard let (agent, label) = world.parse(change.key), label.isEmpty == isPresence,
                    self.agent == nil || self.agent == agent
                else { continue }
                if isPresence {
                    presenceChanged(agent, change, commit.revision)
                } else if !seesOnlyPresence {
                    labelChanged(agent, label, change, commit.revision)
                }
            }
        }
    }

    /// The agents by the history, apart from those by the events.
    private var history: [Bytes: Known] = [:]

    private func presenceChanged(_ agent: Bytes, _ change: Change, _ revision: Int64) {
        var state = history[agent] ?? Known()
        if let record = change.record {
            let incarnation = AgentState.incarnation(record)
            if !state.isPresent {
                let kind: Expected.Kind =
                    state.lastIncarnation == nil
                    ? .appeared : state.lastIncarnation == incarnation ? .returned : .restarted
                expect(kind, revision, agent, incarnation)
            } else if state.hadPresence, state.incarnation != incarnation {
                expect(.restarted, revision, agent, incarnation)
            } else if !state.hadPresence {
                presenceWasSeen(agent, incarnation)
            }
            state.isPresent = true
            state.hadPresence = true
            state.incarnation = incarnation
            state.lastIncarnation = incarnation
            if presenceOnly { state.labels = [:] }
        } else if state.isPresent, state.hadPresence {
            state.isPresent = false
            state.labels = [:]
            expect(.gone, revision, agent, 0)
        }
        history[agent] = state
    }

    /// No event: the agent is present already, by its labels. But from here on it is absent without
    /// the key.
    private func presenceWasSeen(_ agent: Bytes, _ incarnation: UInt64) {
        known[agent]?.hadPresence = true
        known[agent]?.incarnation = incarnation
        known[agent]?.lastIncarnation = incarnation
    }

    private func expect(
        _ kind: Expected.Kind, _ revision: Int64, _ agent: Bytes, _ incarnation: UInt64
    ) {
        expected.append(
            Expected(kind: kind, revision: revision, agent: agent, incarnation: incarnation))
    }

    private func labelChanged(
        _ agent: Bytes, _ label: Bytes, _ change: Change, _ revision: Int64
    ) {
        var state = history[agent] ?? Known()
        let isImplied = state.isPresent && !state.hadPresence
        if let record = change.record, !record.value.isEmpty {
            if !state.isPresent {
                // Keys of a name whose presence key is gone wait for the next one.
                guard !state.hadPresence else { return }
                expect(state.lastIncarnation == nil ? .appeared : .restarted, revision, agent, 0)
                state.isPresent = true
                state.incarnation = 0
                state.lastIncarnation = 0
            }
            if !presenceOnly || !state.hadPresence { state.labels[label] = record.value }
            if !presenceOnly {
                expected.append(
                    Expected(
                        kind: .put, revision: revision, agent: agent, label: label,
                        blob: record.value))
            }
        } else if state.isPresent, state.labels[label] != nil {
            state.labels[label] = nil
            if isImplied, state.labels.isEmpty {
                state.isPresent = false
                expect(.gone, revision, agent, 0)
            } else if !presenceOnly {
                expected.append(
                    Expected(kind: .delete, revision: revision, agent: agent, label: label))
            }
        }
        history[agent] = state
    }

    // MARK: - States

    private func synced(_ revision: Int64, _ host: SimulatedHost) {
        if store != nil { host.fail("SYNCED twice") }
        hasTold = true
        let store = host.storeOfNotice
        guard revision <= store.revision else {
            host.fail("SYNCED at \(revision), which is still to come")
            return
        }
        if let difference = difference(store, at: revision) {
            host.fail("what was told before SYNCED is not the state at \(revision): \(difference)")
        }
        begin(store, at: revision)
    }

    private func begin(_ store: Store, at revision: Int64) {
        self.store = store
        heardFrom = store
        tellsDifferences = false
        syncedAt = world.now
        lastRevision = revision
        followed = revision
        expected = []
        expectedTold = 0
        let states = AgentState.all(world, store, at: revision, agent: agent)
        for (name, state) in states {
            if let incarnation = state.incarnation { presenceWasSeen(name, incarnation) }
        }
        history = known
        for name in history.keys { history[name]?.labels = [:] }
        for (name, state) in states where history[name]?.isPresent == true {
            let isImplied = history[name]?.hadPresence == false
            if !presenceOnly || isImplied {
                history[name]?.labels = state.labels.mapValues { $0.value }
            }
        }
        let hasImplied = history.values.contains { $0.isPresent && !$0.hadPresence }
        seesOnlyPresence = agent != nil && presenceOnly && !hasImplied
    }

    /// nil: the events match the store.
    private func difference(_ store: Store, at revision: Int64) -> String? {
        var states: [Bytes: AgentState] = [:]
        for (name, state) in AgentState.all(world, store, at: revision, agent: agent) {
            states[name] = state
        }
        for name in Set(states.keys).union(known.keys).sorted(by: {
            $0.lexicographicallyPrecedes($1)
        }) {
            let told = known[name] ?? Known()
            let state = states[name] ?? AgentState()
            let isPresent =
                state.incarnation != nil || (!state.labels.isEmpty && !told.hadPresence)
            let who = Self.string(name)
            if isPresent, !told.isPresent, ambiguous.contains(name) || told.lastIncarnation == 0 {
                // It may have had a presence key for a while after the last event.
                known[name]?.hadPresence = true
                continue
            }
            guard told.isPresent == isPresent else {
                return "\(who): told present \(told.isPresent), is \(isPresent)"
            }
            if let incarnation = state.incarnation, told.incarnation != incarnation,
                told.hadPresence
            {
                return "\(who): told incarnation \(told.incarnation), is \(incarnation)"
            }
            guard !presenceOnly, isPresent else { continue }
            for label in Set(told.labels.keys).union(state.labels.keys) {
                // Void since RESTARTED: either way is right.
                if case .some(.none) = told.labels[label] { continue }
                if told.labels[label] != state.labels[label].map({ $0.value }) {
                    let was = told.labels[label].flatMap { $0 }.map(Self.string) ?? "nothing"
                    let isNow = state.labels[label].map { Self.string($0.value) } ?? "nothing"
                    return "\(who): label \(Self.string(label)): told \(was), is \(isNow)"
                }
            }
        }
        return nil
    }

    /// The world has settled: every event has been delivered.
    func checkSettled(_ host: SimulatedHost) {
        if isContactLost { host.fail("CONTACT_LOST was the last word although all is well") }
        guard let store else {
            host.fail("a watch is not SYNCED although all is well")
            return
        }
        guard store === world.cluster.store else {
            host.fail("a watch follows a store that is not there any more")
            return
        }
        while expectedTold == expected.count, followed < store.revision { follow(store) }
        if expectedTold < expected.count, !ambiguous.contains(expected[expectedTold].agent) {
            host.fail("\(text(expected[expectedTold])) was never told")
        }
        if !seesOnlyPresence, let difference = difference(store, at: store.revision) {
            host.fail("what was told is not what is there: \(difference)")
        }
    }

    private func text(_ event: Expected) -> String {
        "\(event.kind) \(Self.string(event.agent)) \(Self.string(event.label)) \(Self.string(event.blob)) \(event.incarnation) at revision \(event.revision)"
    }

    private static func string(_ bytes: Bytes) -> String { String(decoding: bytes, as: UTF8.self) }
}
