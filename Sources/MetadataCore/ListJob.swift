// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// Lists who is present, page by page at one pinned revision.
final class ListJob {
    let operation: OperationID
    var cursor: Bytes
    var revision: Int64 = 0
    var keys = 0
    /// In the order of keys.
    var agents: [PresentAgent] = []
    var isDone = false
    var held: HeldPage?
    var restarts = Restarts()

    init(operation: OperationID, cursor: Bytes) {
        self.operation = operation
        self.cursor = cursor
    }

    func restart(_ cursor: Bytes) {
        self.cursor = cursor
        revision = 0
        keys = 0
        agents = []
        held = nil
    }
}

extension MetadataCore {
    func list(_ id: OperationID) {
        let job = ListJob(operation: id, cursor: keyspace.root)
        operations[id] = .list(job)
        work.append(.list(job))
    }

    func sendList(_ job: ListJob) {
        guard !job.isDone else { return }
        if let held = job.held {
            send(.txn(held.question(keyspace, configuration.portions.batchOperations)), .list(job))
            return
        }
        send(.range(request(of: job)), .list(job))
    }

    private func request(of job: ListJob) -> RangeRequest {
        RangeRequest(
            key: job.cursor, rangeEnd: Keyspace.end(of: keyspace.root),
            limit: configuration.portions.pageKeys,
            revision: job.revision, keysOnly: true)
    }

    func listUnanswered(_ job: ListJob) {
        work.append(.list(job))
    }

    func listAnswered(_ job: ListJob, _ answer: Answer) {
        guard !job.isDone else { return }
        switch answer {
        case .message(let bytes):
            if let held = job.held {
                answered(held, bytes, job)
            } else {
                listed(bytes, job)
            }
        case .refused(.compacted, _):
            job.restart(keyspace.root)
            // With the connection it is asked for again.
            guard !givesUpRestarting(&job.restarts, "what is listed is compacted") else { return }
            work.append(.list(job))
        case .refused(.noSpace, _) where job.held != nil:
            job.held?.assumePresent()
            takeHeld(job)
        case .refused(let failure, let text):
            job.isDone = true
            complete(job.operation, failure.status, text)
        case .oversized(let size):
            job.isDone = true
            complete(job.operation, .tooLarge, "a page of keys is \(size) bytes")
        }
    }

    private func listed(_ bytes: Bytes, _ job: ListJob) {
        guard let response = decoded(bytes, RangeResponse.decode) else { return }
        guard response.canAnswer(request(of: job)) else {
            isMalformed("not the page of keys that was asked for")
            return
        }
        seen(response.header)
        if let held = HeldPage(response, after: job.agents.last?.name, keyspace) {
            job.held = held
            if job.revision == 0 { job.revision = response.header.revision }
            work.append(.list(job))
        } else {
            take(response, lastKey: response.kvs.last?.key, job)
        }
    }

    private func answered(_ held: HeldPage, _ bytes: Bytes, _ job: ListJob) {
        guard let response = decoded(bytes, TxnResponse.decode) else { return }
        seen(response.header)
        var held = held
        guard held.answer(response, configuration.portions.batchOperations) else {
            isMalformed("not the answers to a transaction")
            return
        }
        job.held = held
        takeHeld(job)
    }

    private func takeHeld(_ job: ListJob) {
        guard let held = job.held else { return }
        guard held.unchecked.isEmpty else {
            work.append(.list(job))
            return
        }
        job.held = nil
        take(held.counted(keyspace), lastKey: held.response.kvs.last?.key, job)
    }

    private func take(_ response: RangeResponse, lastKey: Bytes?, _ job: ListJob) {
        if job.revision == 0 { job.revision = response.header.revision }
        job.keys += response.kvs.count
        for kv in response.kvs {
            guard let (agent, label) = keyspace.parse(kv.key) else { continue }
            if label.isEmpty {
                job.agents.append(
                    PresentAgent(
                        name: agent, incarnation: Incarnation.of(kv), revision: kv.modRevision))
            } else if job.agents.last?.name != agent {
                job.agents.append(
                    PresentAgent(name: agent, incarnation: 0, revision: kv.modRevision))
            }
        }
        guard response.more, let last = lastKey else {
            finish(job)
            return
        }
        guard job.keys < Limits.listKeys else {
            job.isDone = true
            complete(
                job.operation, .limit, "the namespace holds more than \(Limits.listKeys) keys")
            return
        }
        job.cursor = last + [0]
        work.append(.list(job))
    }

    private func finish(_ job: ListJob) {
        job.isDone = true
        var completion = Completion(operation: job.operation, status: .success)
        completion.revision = job.revision
        // Keys are in another order than names: "a-b/" precedes "a/".
        completion.agents = job.agents.sorted { $0.name.precedes($1.name) }
        complete(completion)
    }
}
