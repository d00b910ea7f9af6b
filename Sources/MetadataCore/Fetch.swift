// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// Gets one label, or waits until it is there.
final class Fetch {
    enum State {
        case getting
        case waiting(Watcher)
        case done
    }
    let operation: OperationID
    let agent: Bytes
    let label: Bytes
    let waits: Bool
    var state = State.getting
    var restarts = Restarts()

    init(operation: OperationID, agent: Bytes, label: Bytes, waits: Bool) {
        self.operation = operation
        self.agent = agent
        self.label = label
        self.waits = waits
    }
}

extension MetadataCore {
    func fetch(_ id: OperationID, agent: Bytes, label: Bytes, waits: Bool) {
        let fetch = Fetch(operation: id, agent: agent, label: label, waits: waits)
        operations[id] = .fetch(fetch)
        work.append(.fetch(fetch))
    }

    func sendFetch(_ fetch: Fetch) {
        guard case .getting = fetch.state else { return }
        send(.range(request(of: fetch)), .fetch(fetch))
    }

    private func request(of fetch: Fetch) -> RangeRequest {
        RangeRequest(key: keyspace.key(agent: fetch.agent, label: fetch.label))
    }

    func fetchUnanswered(_ fetch: Fetch) {
        work.append(.fetch(fetch))
    }

    func fetchAnswered(_ fetch: Fetch, _ answer: Answer) {
        guard case .getting = fetch.state else { return }
        switch answer {
        case .message(let bytes):
            guard let response = decoded(bytes, RangeResponse.decode) else { return }
            guard response.canAnswer(request(of: fetch)) else {
                isMalformed("keys that were not asked for")
                return
            }
            seen(response.header)
            if let found = response.kvs.first, found.hasValue {
                succeed(fetch, found)
            } else if fetch.waits {
                let key = keyspace.key(agent: fetch.agent, label: fetch.label)
                fetch.state = .waiting(
                    startWatcher(
                        key: key, rangeEnd: [], from: response.header.revision &+ 1,
                        keepsValues: true, for: .fetch(fetch)))
            } else {
                fail(
                    fetch, .notFound,
                    "agent '\(fetch.agent)' has published nothing under label '\(fetch.label)'")
            }
        case .refused(let failure, let text):
            fail(fetch, failure.status, text)
        case .oversized(let size):
            fail(
                fetch, .tooLarge,
                "the answer of \(size) bytes is over the limit of \(Limits.watchBytes)")
        }
    }

    /// The label that a fetch waits for has changed.
    func appeared(_ fetch: Fetch, _ events: [WatchResponse.Event]) {
        for event in events where event.kind == .put && event.kv.hasValue {
            succeed(fetch, event.kv)
            return
        }
    }

    private func succeed(_ fetch: Fetch, _ found: KeyValue) {
        finish(fetch)
        var completion = Completion(operation: fetch.operation, status: .success)
        completion.revision = found.modRevision
        completion.blob = found.value
        complete(completion)
    }

    func fail(_ fetch: Fetch, _ status: Status, _ text: Text) {
        finish(fetch)
        complete(fetch.operation, status, text)
    }

    func finish(_ fetch: Fetch) {
        if case .waiting(let watcher) = fetch.state {
            var ended: Watcher? = watcher
            cancel(&ended)
        }
        fetch.state = .done
    }

    /// What it waited behind is gone (compacted, another store): get anew.
    func fetchAgain(_ fetch: Fetch) {
        guard case .waiting(let watcher) = fetch.state else { return }
        var ended: Watcher? = watcher
        cancel(&ended)
        fetch.state = .getting
        work.append(.fetch(fetch))
    }
}
