// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// A member carries out a request: the answer comes from the replicated store.
extension Cluster {
    func header(_ revision: Int64) -> WireOutput {
        var inner = WireOutput()
        inner.int(1, Int64(bitPattern: clusterID))
        inner.int(3, revision)
        var output = WireOutput()
        output.message(1, inner.bytes)
        return output
    }

    // MARK: - Reads

    func range(_ query: RangeQuery, seenBy member: Member) -> Outcome {
        let newest = member.applied
        if query.revision != 0, query.revision < store.compacted { return .compacted }
        if query.revision > newest { return .futureRevision }
        let at = query.revision == 0 ? newest : query.revision
        var output = header(newest)
        write(
            store.range(query.key, query.rangeEnd, at: at), limit: query.limit,
            keysOnly: query.keysOnly, to: &output)
        return .ok(output.bytes)
    }

    private func write(
        _ found: [Record], limit: Int64, keysOnly: Bool, to output: inout WireOutput
    ) {
        let count = limit > 0 ? min(Int(limit), found.count) : found.count
        for record in found[..<count] {
            output.message(
                2,
                record.encoded(
                    withValue: !keysOnly,
                    withLease: !(keysOnly && settings.leavesOutLeasesOfKeys)))
        }
        output.bool(3, count < found.count)
        output.int(4, Int64(found.count))
    }

    // MARK: - Transactions

    private func holds(_ condition: Condition) -> Bool {
        guard condition.rangeEnd.isEmpty else {
            // etcd: of a range each key must satisfy it, and one without keys is like a key that is not there
            // (server/etcdserver/apply.go, applyCompare).
            let found = store.range(condition.key, condition.rangeEnd, at: store.revision)
            if found.isEmpty { return condition.target != .value && condition.holds(of: 0) }
            return found.allSatisfy { holds(condition, $0) }
        }
        guard let record = store[condition.key] else {
            // A key that is not there compares by value with nothing.
            return condition.target != .value && condition.holds(of: 0)
        }
        return holds(condition, record)
    }

    private func holds(_ condition: Condition, _ record: Record) -> Bool {
        switch condition.target {
        case .create: condition.holds(of: record.createRevision)
        case .mod: condition.holds(of: record.modRevision)
        case .lease: condition.holds(of: record.lease)
        case .value: (record.value == condition.value) == (condition.result == .equal)
        }
    }

    /// A transaction whose conditions have been looked at.
    private struct Branch {
        let isTaken: Bool
        let operations: [Operation]
        /// The nested transactions, in the order of the operations.
        let inner: [Branch]

        /// All operations, with those of nested transactions.
        var all: [Operation] { operations + inner.flatMap { $0.all } }
    }

    private func branch(_ transaction: Transaction) -> Branch {
        let isTaken = transaction.conditions.allSatisfy(holds)
        let operations = isTaken ? transaction.success : transaction.failure
        let inner = operations.compactMap { operation -> Branch? in
            if case .txn(let inner) = operation { branch(inner) } else { nil }
        }
        return Branch(isTaken: isTaken, operations: operations, inner: inner)
    }

    func transaction(_ transaction: Transaction, author: Int?) -> Outcome {
        if transaction.operationCount > 128 || transaction.conditions.count > 128 {
            return .tooManyOperations
        }
        let branch = branch(transaction)
        let operations = branch.all
        for case .put(_, _, let lease) in operations where lease != 0 {
            if store.leases[lease] == nil { return .leaseNotFound }
        }
        if hasDuplicates(operations) { return .duplicateKey }
        for case .range(let query) in operations where query.revision != 0 {
            if query.revision > store.revision { return .futureRevision }
            if query.revision < store.compacted { return .compacted }
        }
        if store.apply(operations, author: author) { revisionCommitted() }
        var output = header(store.revision)
        write(branch, to: &output)
        return .ok(output.bytes)
    }

    private func hasDuplicates(_ operations: [Operation]) -> Bool {
        var puts: [[UInt8]] = []
        for case .put(let key, _, _) in operations {
            if puts.contains(key) { return true }
            puts.append(key)
        }
        for case .delete(let key, let rangeEnd) in operations {
            if puts.contains(where: { covers(key, rangeEnd, $0) }) { return true }
        }
        return false
    }

    private func write(_ branch: Branch, to output: inout WireOutput) {
        output.bool(2, branch.isTaken)
        var inner = branch.inner[...]
        for operation in branch.operations {
            var answer = WireOutput()
            switch operation {
            case .range(let query):
                var found = header(store.revision)
                let at = query.revision == 0 ? store.revision : query.revision
                write(
                    store.range(query.key, query.rangeEnd, at: at), limit: query.limit,
                    keysOnly: query.keysOnly, to: &found)
                answer.message(1, found.bytes)
            case .put: answer.message(2, header(store.revision).bytes)
            case .delete: answer.message(3, header(store.revision).bytes)
            case .txn:
                guard let nested = inner.popFirst() else { continue }
                var body = header(store.revision)
                write(nested, to: &body)
                answer.message(4, body.bytes)
            }
            output.message(3, answer.bytes)
        }
    }
}
