// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// One label of this agent: what the store holds under it as far as we know, and what it is to hold.
final class LabelRecord {
    struct Change {
        enum Content {
            case blob(Bytes)
            case removal

            var count: Int {
                switch self {
                case .blob(let blob): blob.count
                case .removal: 0
                }
            }
        }
        /// Whom to tell; nil when that operation has ended and the change must be finished all the same.
        var operation: OperationID?
        let content: Content
    }
    enum Write {
        case none
        /// On its way; its outcome is not known.
        case inFlight(Change)
        /// Was sent, the answer was lost: to be sent again.
        case unknown(Change)
    }
    let label: Bytes
    /// What the store holds under our hold; nil: nothing.
    var confirmed: Bytes?
    /// The revision of the key as far as we know; 0: it is not there. Every write is bound to it, so that one that is
    /// carried out late cannot undo a newer one.
    var revision: Int64 = 0
    /// The revisions of the presence key under which the last write was sent, and under which one that was sent where
    /// nothing was is still to be answered: that may be carried out whenever nothing is there again. So a removal
    /// under that hold leaves an empty value, which is as good as none.
    var sentUnder: Int64 = 0
    var lateUnder: Int64 = 0

    var needsTombstone: Bool { lateUnder != 0 && lateUnder == sentUnder }

    /// No answer came to what was sent.
    func noteUnanswered() {
        if revision == 0 { lateUnder = sentUnder }
    }

    var write = Write.none
    /// Of unknown outcome, sent before the one in `write`: what may stand there if that is refused.
    var displaced: Change?
    /// What is to be written after that; a newer one replaces it.
    var next: Change?
    /// Of the request that wrote it last.
    var requestBytes = 0
    /// It stands in the queue of labels to write.
    var isQueued = false

    init(label: Bytes) {
        self.label = label
    }

    /// What a batch is to write: what was sent last, whether or not it was answered, never what stood there before.
    var intent: Change.Content? {
        switch write {
        case .inFlight(let change), .unknown(let change): change.content
        case .none: confirmed.map { .blob($0) }
        }
    }

    var isInFlight: Bool {
        if case .inFlight = write { true } else { false }
    }

    var isBusy: Bool {
        if case .none = write { next != nil } else { true }
    }
}

extension MetadataCore {
    func publish(_ id: OperationID, label: Bytes, blob: Bytes) {
        if case .superseded = ownership {
            complete(id, .superseded, supersededText)
            return
        }
        guard labels[label] != nil || labels.count < Limits.labels else {
            complete(
                id, .limit, "\(labels.count) labels are published; the limit is \(Limits.labels)")
            return
        }
        let record = labels[label] ?? LabelRecord(label: label)
        labels[label] = record
        operations[id] = .publish(record)
        change(record, LabelRecord.Change(operation: id, content: .blob(blob)))
    }

    func unpublish(_ id: OperationID, label: Bytes) {
        if case .superseded = ownership {
            complete(id, .superseded, supersededText)
            return
        }
        guard let record = labels[label], record.isBusy || record.confirmed?.isEmpty == false
        else {
            complete(id, .notFound, "label '\(label)' has not been published by this handle")
            return
        }
        operations[id] = .unpublish(record)
        change(record, LabelRecord.Change(operation: id, content: .removal))
        if case .none = record.write, record.confirmed == nil {
            // It was never sent; taking it out of the queue was all there was to do.
            record.next = nil
            dropIfEmpty(record)
            complete(id, .success)
        }
    }

    private func change(_ record: LabelRecord, _ change: LabelRecord.Change) {
        let replaced = record.next
        record.next = change
        if !record.isInFlight { enqueue(record) }
        complete(replaced?.operation, .replaced, replacedText(record))
    }

    /// Once, however often the label is changed before it can be written.
    private func enqueue(_ record: LabelRecord) {
        guard !record.isQueued else { return }
        record.isQueued = true
        labelQueue.append(record)
    }

    private func replacedText(_ record: LabelRecord) -> Text {
        "a newer change of label '\(record.label)' took its place"
    }

    /// The operation has ended. What was never sent is forgotten, what was sent is finished.
    func abandonChange(of record: LabelRecord, operation: OperationID) {
        if record.next?.operation == operation { record.next = nil }
        switch record.write {
        case .inFlight(var change) where change.operation == operation:
            change.operation = nil
            record.write = .inFlight(change)
        case .unknown(var change) where change.operation == operation:
            change.operation = nil
            record.write = .unknown(change)
        case .none, .inFlight, .unknown:
            break
        }
        dropIfEmpty(record)
    }

    private func dropIfEmpty(_ record: LabelRecord) {
        guard !record.isBusy, record.confirmed == nil, labels[record.label] === record else {
            return
        }
        labels[record.label] = nil
    }

    func dropEmptyLabels() {
        labels.removeAll { !$0.isBusy && $0.confirmed == nil }
    }

    /// Whether any label waits to be written.
    var hasChanges: Bool {
        while let record = labelQueue.first {
            if record.isBusy, !record.isInFlight { return true }
            record.isQueued = false
            _ = labelQueue.popFirst()
        }
        return false
    }

    /// Writes what waits, as far as the connection takes it; the name is ours.
    func writeLabels(_ hold: Hold) {
        while hasFreeCall, let record = labelQueue.popFirst() {
            record.isQueued = false
            let change: LabelRecord.Change
            switch record.write {
            case .inFlight:
                continue
            case .unknown(let earlier):
                record.displaced = LabelRecord.Change(operation: nil, content: earlier.content)
                if let next = record.next {
                    complete(earlier.operation, .replaced, replacedText(record))
                    record.next = nil
                    change = next
                } else {
                    change = earlier
                }
            case .none:
                guard let next = record.next else { continue }
                record.next = nil
                change = next
            }
            record.write = .inFlight(change)
            labelsInFlight += 1
            record.sentUnder = hold.modRevision
            record.requestBytes = send(
                .txn(labelTransaction(record, change.content, hold)), .label(record))
        }
    }

    private func labelTransaction(
        _ record: LabelRecord, _ content: LabelRecord.Change.Content, _ hold: Hold
    ) -> TxnRequest {
        TxnRequest(
            compare: guardOf(hold) + [isUnchanged(record)],
            success: [operation(record, content, hold.lease)])
    }

    private func operation(
        _ record: LabelRecord, _ content: LabelRecord.Change.Content, _ lease: Int64
    ) -> RequestOp {
        let key = keyspace.key(agent: ownName, label: record.label)
        switch content {
        case .blob(let blob):
            return .put(PutRequest(key: key, value: blob, lease: lease))
        case .removal where record.needsTombstone:
            return .put(PutRequest(key: key, value: [], lease: lease))
        case .removal:
            return .deleteRange(DeleteRangeRequest(key: key))
        }
    }

    func labelUnanswered(_ record: LabelRecord) {
        record.noteUnanswered()
        writeAgain(record)
    }

    private func writeAgain(_ record: LabelRecord) {
        guard case .inFlight(let change) = record.write else { return }
        labelsInFlight -= 1
        record.write = .unknown(change)
        enqueue(record)
    }

    func labelAnswered(_ record: LabelRecord, _ answer: Answer) {
        guard case .inFlight(let change) = record.write else { return }
        switch answer {
        case .message(let bytes):
            guard let response = decoded(bytes, TxnResponse.decode) else { return }
            seen(response.header)
            guard response.succeeded else {
                writeAgain(record)
                guardFailed()
                return
            }
            labelsInFlight -= 1
            wrote(record, change, revision: response.header.revision)
        case .refused(.leaseNotFound, let text):
            writeAgain(record)
            if case .owned(let hold) = ownership {
                leaseIsUnknown(hold.lease, "etcd does not know the lease any more (\(text))")
            }
        case .refused(let failure, let text):
            labelsInFlight -= 1
            failed(record, change, failure.status, explain(failure, text, change, record))
        case .oversized(let size):
            labelsInFlight -= 1
            failed(record, change, .backend, "etcd answered a write with \(size) bytes")
        }
    }

    private func wrote(_ record: LabelRecord, _ change: LabelRecord.Change, revision: Int64) {
        record.write = .none
        record.displaced = nil
        switch change.content {
        case .blob(let blob):
            record.confirmed = blob
            record.revision = revision
        case .removal:
            // An empty value goes on like a blob, to wherever the others are moved.
            record.confirmed = record.needsTombstone ? [] : nil
            record.revision = record.needsTombstone ? revision : 0
        }
        if record.next != nil { enqueue(record) }
        dropIfEmpty(record)
        complete(change.operation, .success, revision: revision)
    }

    private func failed(
        _ record: LabelRecord, _ change: LabelRecord.Change, _ status: Status, _ text: Text
    ) {
        record.write = record.displaced.map { .unknown($0) } ?? .none
        record.displaced = nil
        // What may stand there all the same is not sent again, but goes on with the others to wherever they are moved.
        if record.next != nil { enqueue(record) }
        dropIfEmpty(record)
        complete(change.operation, status, "label '\(record.label)': \(text)")
    }

    /// 'too large' with both sizes. etcd names its limit only when gRPC's own check refused the
    /// message ('larger than max (X vs. Y)'); else it is --max-request-bytes, 1.5 MiB by default.
    private func explain(
        _ failure: Failure, _ text: Text, _ change: LabelRecord.Change, _ record: LabelRecord
    ) -> Text {
        guard case .tooLarge = failure, case .blob(let blob) = change.content else { return text }
        return
            "a blob of \(blob.count) bytes, with its key and its guard a request of \(record.requestBytes), is over etcd's request limit (\(text); etcd's --max-request-bytes is 1572864 by default)"
    }

    /// One label alone is refused in a batch: it must not keep the others.
    func isTooLarge(_ record: LabelRecord, _ text: Text) {
        if case .unknown(let change) = record.write {
            // What stood there before stays.
            failed(record, change, .tooLarge, explain(.tooLarge, text, change, record))
        } else {
            // etcd's limit was lowered, or the guard has grown by the few bytes that were left.
            log(.error, "label '\(record.label)' cannot be written again, publish less: \(text)")
            record.confirmed = nil
            dropIfEmpty(record)
        }
    }

    /// Ends all changes that wait or whose outcome is not known, and forgets what was confirmed.
    func dropLabels(_ status: Status, _ text: Text) {
        let records = labels.values
        labels.removeAll()
        labelQueue.removeAll()
        for record in records {
            var operations = [record.next?.operation]
            record.next = nil
            switch record.write {
            case .none: break
            case .inFlight(let change):
                labelsInFlight -= 1
                operations.insert(change.operation, at: 0)
            case .unknown(let change):
                operations.insert(change.operation, at: 0)
            }
            record.write = .none
            record.displaced = nil
            record.confirmed = nil
            for operation in operations { complete(operation, status, text) }
        }
    }

    /// Ends changes that wait for the name; what is confirmed stays.
    func failChanges(_ status: Status, _ text: Text) {
        for record in labels.values {
            if case .unknown(let change) = record.write {
                record.write = .none
                complete(change.operation, status, text)
            }
        }
        failQueuedChanges(status, text)
    }

    /// Ends those that were never sent, as what must come before them is refused.
    func failQueuedChanges(_ status: Status, _ text: Text) {
        for record in labels.values {
            guard let next = record.next else { continue }
            record.next = nil
            complete(next.operation, status, text)
        }
        dropEmptyLabels()
    }

    /// The store holds none of our keys any more, and we made it so: only what came after that is left to do.
    func labelsWereWithdrawn() {
        for record in labels.values {
            record.confirmed = nil
            record.revision = 0
            record.displaced = nil
            if case .unknown(let change) = record.write {
                record.write = .none
                complete(change.operation, .replaced, "everything was withdrawn after it")
            }
            // To remove what is gone would take the name once more.
            if let next = record.next, case .removal = next.content {
                record.next = nil
                complete(next.operation, .success)
            }
        }
        dropEmptyLabels()
    }

    /// The next confirmed labels after `last`, as many as one transaction takes, to be written again
    /// under a new hold. Named by label, not by position: the host may publish others meanwhile.
    func nextBatch(after last: Bytes?, beside others: Int = 0) -> [LabelRecord] {
        var index = 0
        if let last {
            index = labels.position(last)
            if index < labels.count, labels.keys[index] == last { index += 1 }
        }
        var batch: [LabelRecord] = []
        var bytes = 0
        while index < labels.count, batch.count + others < configuration.portions.batchOperations {
            let record = labels.values[index]
            index += 1
            guard let content = record.intent else { continue }
            bytes += content.count + record.label.count + ownName.count + keyspace.root.count
            guard (batch.isEmpty && others == 0) || bytes <= batchBytes else { break }
            batch.append(record)
        }
        return batch
    }

    func batchTransaction(
        _ batch: [LabelRecord], _ hold: Hold, onto lease: Int64
    ) -> TxnRequest {
        var operations: [RequestOp] = []
        for record in batch {
            guard let content = record.intent else { continue }
            record.sentUnder = hold.modRevision
            operations.append(operation(record, content, lease))
        }
        return TxnRequest(compare: guardOf(hold) + batch.map(isUnchanged), success: operations)
    }

    private func isUnchanged(_ record: LabelRecord) -> Compare {
        let key = keyspace.key(agent: ownName, label: record.label)
        return Compare(key: key, target: .modRevision(record.revision))
    }

    func wrote(_ batch: [LabelRecord], at revision: Int64) {
        for record in batch {
            if case .unknown(let change) = record.write {
                wrote(record, change, revision: revision)
            } else {
                record.revision = revision
            }
        }
    }

    /// All our keys were read: what is under each label, by its revision.
    func learnRevisions(_ response: RangeResponse) {
        for record in labels.values { record.revision = 0 }
        for kv in response.kvs {
            guard let (_, label) = keyspace.parse(kv.key) else { continue }
            labels[label]?.revision = kv.modRevision
        }
    }
}
