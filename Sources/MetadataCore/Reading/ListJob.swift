// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// Lists who is present, page by page at one pinned revision.
final class ListJob {
    /// The meaning of an answer.
    enum Outcome {
        /// There is more to ask.
        case more
        /// The rest of the page comes in another tick.
        case unfinished
        case listed(Completion)
        case failed(Status, Text)
        case malformed(Text)
    }
    let operation: OperationID
    private let portions: CoreConfiguration.Portions
    private var cursor: Bytes
    private var revision: Int64 = 0
    /// The number of keys in one page.
    private var limit: Int64
    /// How many were read.
    private(set) var keys = 0
    /// In the order of keys.
    private var agents: [PresentAgent] = []
    private var held: HeldPage?
    /// The current page, as far as it is not listed yet.
    private var page: RangePage?
    private var isInOrder = true
    /// On which it was begun.
    private var connection: ConnectionID?
    private var restarts = Restarts()
    private(set) var isDone = false
    /// Each beginning is one.
    private(set) var epoch = 0

    init(operation: OperationID, _ keyspace: Keyspace, _ portions: CoreConfiguration.Portions) {
        self.operation = operation
        self.portions = portions
        limit = portions.pageKeys
        cursor = keyspace.root
    }

    func restart(_ keyspace: Keyspace) {
        cursor = keyspace.root
        revision = 0
        keys = 0
        agents = []
        held = nil
        page = nil
        isInOrder = true
        epoch += 1
    }

    /// Whether it still wants an answer to what was asked in this epoch.
    func expects(_ epoch: Int) -> Bool { epoch == self.epoch && !isDone }

    func finish() {
        isDone = true
        page = nil
    }

    /// Counts one more.
    func isRestartedTooOften(now: Milliseconds) -> Bool { restarts.isTooMany(now: now) }

    // MARK: - Questions

    /// Whether it can go on with this connection: another one may show another store, of which a snapshot was restored.
    func goesOn(with connection: ConnectionID?) -> Bool {
        if revision == 0 { self.connection = connection }
        return self.connection == connection
    }

    /// The next; its answer is one of a transaction while `isAskingAboutAgents`.
    func question(_ keyspace: Keyspace) -> CallBody {
        assert(!isDone, "nothing is left to ask")
        if let held { return .txn(held.question) }
        return .range(request(keyspace))
    }

    var isAskingAboutAgents: Bool { held != nil }

    private func request(_ keyspace: Keyspace) -> RangeRequest {
        RangeRequest(
            key: cursor, rangeEnd: Keyspace.end(of: keyspace.root), limit: limit,
            revision: revision, keysOnly: true)
    }

    /// The last answer was too large. False: one key alone is.
    func askForLess(than size: Int) -> Bool {
        held?.askForLess()
        guard held == nil else { return true }
        guard limit > 1 else { return false }
        PageSize.shrink(&limit, from: size)
        return true
    }

    // MARK: - Answers

    func canTake(_ page: RangePage, _ keyspace: Keyspace) -> Bool {
        page.canAnswer(request(keyspace))
    }

    /// Part of a page is not listed yet, and nothing is asked about it.
    var isUnfinished: Bool { !isDone && held == nil && page != nil }

    func listed(
        _ page: RangePage, _ keyspace: Keyspace, _ leftOut: inout LeftOut
    ) -> Outcome {
        assert(!isDone && held == nil && self.page == nil, "no page was asked for")
        PageSize.adapt(&limit, to: page.size, most: portions.pageKeysMax)
        self.page = page
        return listOn(keyspace, &leftOut)
    }

    /// The next keys of the page.
    func listOn(_ keyspace: Keyspace, _ leftOut: inout LeftOut) -> Outcome {
        guard
            let response = RangePage.next(
                of: &page, portions.keysAtOnce, from: cursor, to: Keyspace.end(of: keyspace.root))
        else { return .malformed(Text.notThePage) }
        if let held = HeldPage(
            response, after: agents.last?.name, at: revision, portion: portions.batchOperations,
            keyspace)
        {
            self.held = held
            if revision == 0 { revision = response.header.revision }
            return takeHeld(keyspace, &leftOut)
        }
        return take(response, lastKey: response.kvs.last?.key, keyspace, &leftOut)
    }

    func answered(
        _ response: TxnResponse, _ keyspace: Keyspace, _ leftOut: inout LeftOut
    ) -> Outcome {
        var held = self.held
        // Not copied.
        self.held = nil
        guard held?.answer(response) == true else {
            return .malformed("not the answers to a transaction")
        }
        self.held = held
        return takeHeld(keyspace, &leftOut)
    }

    /// Counts unknown agents as present.
    func assumePresent(_ keyspace: Keyspace, _ leftOut: inout LeftOut) -> Outcome {
        held?.assumePresent()
        return takeHeld(keyspace, &leftOut)
    }

    private func takeHeld(_ keyspace: Keyspace, _ leftOut: inout LeftOut) -> Outcome {
        guard let held, held.isKnown else { return .more }
        self.held = nil
        let lastKey = held.response.kvs.last?.key
        return take(held.counted, lastKey: lastKey, keyspace, &leftOut)
    }

    private func take(
        _ response: RangeResponse, lastKey: Bytes?, _ keyspace: Keyspace,
        _ leftOut: inout LeftOut
    ) -> Outcome {
        if revision == 0 { revision = response.header.revision }
        keys += response.kvs.count
        for kv in response.kvs {
            guard let (agent, label) = leftOut.tellable(kv.key, keyspace) else { continue }
            // Keys are in another order than names: "a-b/" precedes "a/".
            if let last = agents.last, agent.precedes(last.name) { isInOrder = false }
            if label.isEmpty {
                agents.append(
                    PresentAgent(
                        name: agent, incarnation: Incarnation.of(kv), revision: kv.modRevision,
                        lease: kv.lease))
            } else if agents.last?.name != agent {
                agents.append(
                    PresentAgent(
                        name: agent, incarnation: 0, revision: kv.modRevision, lease: 0))
            }
        }
        guard response.more, let last = lastKey else { return .listed(completion) }
        guard keys < Limits.listKeys else {
            return .failed(.limit, "the namespace holds more than \(Limits.listKeys) keys")
        }
        cursor = last + [0]
        return page == nil ? .more : .unfinished
    }

    private var completion: Completion {
        var completion = Completion(operation: operation, status: .success)
        completion.revision = revision
        var sorted = agents
        if !isInOrder { sorted.heapSort { $0.name.precedes($1.name) } }
        completion.agents = sorted
        return completion
    }
}
