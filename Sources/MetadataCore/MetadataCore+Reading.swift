// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

// The way of fetches and lists: their questions to the connection, answers back to them, ends to the host.

extension MetadataCore {
    // MARK: - Fetch

    func fetch(_ id: OperationID, agent: Bytes, label: Bytes, waits: Bool) {
        let fetch = Fetch(operation: id, agent: agent, label: label, waits: waits)
        operations[id] = .fetch(fetch)
        ask(fetch)
    }

    private func ask(_ fetch: Fetch) {
        work.append(.fetch(fetch, epoch: fetch.epoch))
    }

    func sendFetch(_ fetch: Fetch, epoch: Int) {
        guard fetch.expects(epoch) else { return }
        send(.range(fetch.request(keyspace)), .fetch(fetch, epoch: epoch))
    }

    func fetchAnswered(_ fetch: Fetch, epoch: Int, _ answer: Answer) {
        guard fetch.expects(epoch) else { return }
        switch answer {
        case .message(let bytes):
            guard let response = decoded(bytes, RangeResponse.decode) else { return }
            fetched(fetch, fetch.answered(response, keyspace), response.header)
        case .refused(let failure, let text):
            fail(fetch, failure.status, text)
        case .oversized(let size):
            fail(
                fetch, .tooLarge,
                "the answer of \(size) bytes is over the limit of \(Limits.watchBytes)")
        }
    }

    private func fetched(_ fetch: Fetch, _ outcome: Fetch.Outcome, _ header: ResponseHeader) {
        if case .malformed(let reason) = outcome {
            isMalformed(reason)
            return
        }
        seen(header)
        switch outcome {
        case .found(let found): succeed(fetch, found)
        case .unsure: ask(fetch)
        case .awaited:
            fetch.wait(
                with: watchStream.watch(
                    key: fetch.key(keyspace), end: [], from: header.revision &+ 1,
                    keepsValues: true, for: .operation(fetch.operation), now: now))
        case .failed(let status, let text): fail(fetch, status, text)
        case .malformed: break
        }
    }

    func succeed(_ fetch: Fetch, _ found: KeyValue) {
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
        cancel(fetch.finish())
    }

    func fetchAgain(_ fetch: Fetch) {
        guard !fetch.isDone else { return }
        cancel(fetch.getAgain())
        ask(fetch)
    }

    // MARK: - List

    func list(_ id: OperationID) {
        let job = ListJob(operation: id, keyspace, configuration.portions)
        operations[id] = .list(job)
        ask(job)
    }

    private func ask(_ job: ListJob) {
        work.append(.list(job, epoch: job.epoch))
    }

    func sendList(_ job: ListJob, epoch: Int) {
        guard job.expects(epoch) else { return }
        guard job.goesOn(with: connection.ground?.connection) else {
            listAgain(job)
            return
        }
        send(job.question(keyspace), .list(job, epoch: epoch))
    }

    func listAgain(_ job: ListJob) {
        guard !job.isDone else { return }
        job.restart(keyspace)
        ask(job)
    }

    func listAnswered(_ job: ListJob, epoch: Int, _ answer: Answer) {
        guard job.expects(epoch) else { return }
        switch answer {
        case .message(let bytes) where job.isAskingAboutAgents:
            guard let response = decoded(bytes, TxnResponse.decode) else { return }
            seen(response.header)
            listed(job, job.answered(response, keyspace, &notices.leftOut))
        case .message(let bytes):
            guard let page = decoded(bytes, RangePage.decode) else { return }
            guard job.canTake(page, keyspace) else {
                isMalformed(Text.notThePage)
                return
            }
            seen(page.header)
            listed(job, job.listed(page, keyspace, &notices.leftOut))
        case .refused(.compacted, let text):
            listAgain(job)
            note("a list started again: \(text)")
            _ = givesUp(
                if: job.isRestartedTooOften(now: now), "the revision of the list was compacted")
        case .refused(.noSpace, _) where job.isAskingAboutAgents:
            listed(job, job.assumePresent(keyspace, &notices.leftOut))
        case .refused(let failure, let text):
            end(job, failure.status, text)
        case .oversized(let size):
            guard job.askForLess(than: size) else {
                end(job, .tooLarge, "a key is \(size) bytes")
                return
            }
            ask(job)
        }
    }

    /// Another tick: takes the next keys of its page.
    func listOn(_ job: ListJob) {
        guard job.isUnfinished else { return }
        listed(job, job.listOn(keyspace, &notices.leftOut))
    }

    private func listed(_ job: ListJob, _ outcome: ListJob.Outcome) {
        switch outcome {
        case .more: ask(job)
        case .unfinished: paused.postpone(.list(job))
        case .listed(let completion):
            job.finish()
            complete(completion)
        case .failed(let status, let text): end(job, status, text)
        case .malformed(let reason): isMalformed(reason)
        }
    }

    func end(_ job: ListJob, _ status: Status, _ text: Text) {
        job.finish()
        complete(job.operation, status, text)
    }
}
