// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// An open operation of the host and what works on it.
enum Operation {
    /// Just submitted, not yet with whoever works on it.
    case starting
    /// A change of this label.
    case change(Bytes)
    /// The heartbeat, or a withdrawal.
    case registration
    case fetch(Fetch)
    case watch(HostWatch)
    case list(ListJob)
}

/// How much waits in a core: for tests, which hold it to its bounds.
package struct Waiting {
    package let notices: Int
    package let noticeBytes: Int
    package let deadlines: Int
    package let work: Int
    package let labels: Int
    package let watchers: Int
    package let calls: Int
    package let others: Int
}

extension MetadataCore {
    package var waiting: Waiting {
        Waiting(
            notices: notices.count, noticeBytes: notices.bytes, deadlines: deadlines.count,
            work: work.count, labels: registration.backlog, watchers: watchStream.count,
            calls: connection.callCount,
            others: sweeps.count + paused.stalledCount)
    }

    /// Completes an operation exactly once; later calls for it do nothing.
    func complete(
        _ operation: OperationID?, _ status: Status, _ text: Text = "", revision: Int64 = 0
    ) {
        guard let operation else { return }
        var completion = Completion(operation: operation, status: status, text: text)
        completion.revision = revision
        complete(completion)
    }

    func complete(_ completion: Completion) {
        guard operations[completion.operation] != nil else { return }
        operations[completion.operation] = nil
        tell(.completed(completion), bytes: completion.blob?.count ?? 0)
    }

    func tell(_ notice: Notice, bytes: Int) {
        notices.tell(notice, bytes: bytes)
    }

    /// Completes what ran into its own time-out.
    func expireOperations() {
        forgetEnded()
        var left = Limits.operationsAtOnce
        while left > 0, let first = deadlines.first {
            guard let operation = operations[first.operation] else {
                deadlines.removeFirst()
                continue
            }
            guard first.at <= now else { return }
            deadlines.removeFirst()
            left -= 1
            expire(first.operation, operation)
        }
    }

    private func expire(_ id: OperationID, _ operation: Operation) {
        switch operation {
        case .change, .registration:
            guard connection.answers, let refusal = registration.lastRefusal else { break }
            // Where a full database was all that stood in its way, that is its end.
            let status: Status = refusal.status == .noSpace ? .noSpace : .timedOut
            let text: Text = "the operation's time-out has passed; etcd refuses: \(refusal.text)"
            end(id, operation, status, text)
            return
        case .starting, .fetch, .watch, .list: break
        }
        end(id, operation, .timedOut, timeoutText(operation))
    }

    private func timeoutText(_ operation: Operation) -> Text {
        let trouble = troubleText
        switch operation {
        case .fetch(let fetch) where fetch.isFollowing:
            // Its agent may have been published under the other spelling.
            otherSpelling?.isWanted = true
            return
                "agent '\(fetch.agent)' published nothing under label '\(fetch.label)' within the fetch's time-out\(trouble)"
        case .list(let job) where job.keys > 0:
            return
                "the operation's time-out has passed, still listing, \(job.keys) keys so far\(trouble)"
        case .starting, .change, .registration, .fetch, .watch, .list:
            return "the operation's time-out has passed without an answer\(trouble)"
        }
    }

    /// Queues keep entries of what has ended until its turn comes, which without a connection it never
    /// does: dropped when they are the most of it.
    private func forgetEnded() {
        let limit = 2 * operations.count + Limits.endedEntries
        if deadlines.count > limit { deadlines.retain { operations[$0] != nil } }
        if work.count > limit { work.removeAll { $0.isEnded } }
    }

    /// Ends an operation from outside: its time has passed, or the host does not want it any more.
    func end(_ id: OperationID, _ operation: Operation, _ status: Status, _ text: Text) {
        switch operation {
        case .starting:
            complete(id, status, text)
        case .change(let label):
            complete(id, status, text)
            abandon(id, label: label)
        case .registration:
            complete(id, status, text)
            abandon(id, label: nil)
        case .fetch(let fetch):
            fail(fetch, status, text)
        case .watch(let watch):
            end(watch, status, text)
        case .list(let job):
            end(job, status, text)
        }
    }
}
