// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// Gets one label, or waits until it is there.
final class Fetch {
    private enum State {
        case getting
        /// It is there; is its agent?
        case checking(KeyValue)
        case waiting(Watcher)
        case done
    }
    /// The meaning of an answer.
    enum Outcome {
        case found(KeyValue)
        /// Needs another request.
        case unsure
        /// It is not there and is waited for: from the revision after the answer's.
        case awaited
        case failed(Status, Text)
        case malformed(Text)
    }
    let operation: OperationID
    let agent: Bytes
    let label: Bytes
    private let waits: Bool
    private var state = State.getting
    private var restarts = Restarts()
    /// Each beginning is one.
    private(set) var epoch = 0

    init(operation: OperationID, agent: Bytes, label: Bytes, waits: Bool) {
        self.operation = operation
        self.agent = agent
        self.label = label
        self.waits = waits
    }

    /// Whether it still wants an answer to what was asked in this epoch.
    func expects(_ epoch: Int) -> Bool { epoch == self.epoch && isGetting }

    private var isGetting: Bool {
        switch state {
        case .getting, .checking: true
        case .waiting, .done: false
        }
    }

    var isWaiting: Bool {
        if case .waiting = state { true } else { false }
    }

    /// It waits, and its watch lives.
    var isFollowing: Bool {
        if let watcher { watcher.silentSince == nil } else { false }
    }

    var isDone: Bool {
        if case .done = state { true } else { false }
    }

    func key(_ keyspace: Keyspace) -> Bytes {
        keyspace.key(agent: agent, label: label)
    }

    func request(_ keyspace: Keyspace) -> RangeRequest {
        guard case .checking = state else { return RangeRequest(key: key(keyspace)) }
        return RangeRequest(key: keyspace.key(agent: agent), keysOnly: true)
    }

    func answered(_ response: RangeResponse, _ keyspace: Keyspace) -> Outcome {
        assert(isGetting, "nobody asked")
        guard response.canAnswer(request(keyspace)) else {
            return .malformed("keys that were not requested")
        }
        if case .checking(let found) = state {
            if !response.kvs.isEmpty { return .found(found) }
            state = .getting
        } else if let found = response.kvs.first, found.hasValue {
            guard Incarnation.mayOutliveItsProcess(found.lease) else { return .found(found) }
            state = .checking(found)
            return .unsure
        }
        if waits { return .awaited }
        return .failed(
            .notFound, "agent '\(agent)' has published nothing under label '\(label)'")
    }

    /// Its key is watched for it.
    func wait(with watcher: Watcher) {
        assert(isGetting && waits, "it has what it wants")
        state = .waiting(watcher)
    }

    /// Events of its key: what it waits for, if that is among them.
    func changed(_ events: [WatchResponse.Event]) -> KeyValue? {
        guard isWaiting else { return nil }
        for event in events where event.kind == .put && event.kv.hasValue { return event.kv }
        return nil
    }

    /// Returns a watcher to cancel.
    func finish() -> Watcher? {
        let ended = watcher
        state = .done
        return ended
    }

    /// The history is gone (compacted, another store): gets the label again. Returns a watcher to cancel.
    func getAgain() -> Watcher? {
        let ended = watcher
        state = .getting
        epoch += 1
        return ended
    }

    /// Counts one more interruption.
    func isInterruptedTooOften(now: Milliseconds) -> Bool { restarts.isTooMany(now: now) }

    private var watcher: Watcher? {
        if case .waiting(let watcher) = state { watcher } else { nil }
    }
}
