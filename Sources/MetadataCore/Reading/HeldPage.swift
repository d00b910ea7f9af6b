// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// A page of keys without values, held until it is known which agents of it count, and as which process.
///
/// An agent without a presence key is present while it has a label with a value and without a lease. Keys alone do not
/// show whether there is a value. To avoid reading values, the library asks etcd to compare them with nothing. etcd
/// 3.7.0 and 3.7.1 leave the lease out of such a page (https://github.com/etcd-io/etcd/issues/22209). A page with any
/// lease has all of them. For a page with none, each presence key is read with its value, which is empty.
struct HeldPage {
    private enum Question: Int {
        /// The presence key at this place of the page, or the first label of an agent without one: as it was.
        case key
        /// Questions about an agent without a presence key, whose first label is at this place: is every label empty,
        /// is every label on a lease, and is every label unchanged since the page was read?
        case areEmpty, areLeased, areUnchanged
    }
    private let keyspace: Keyspace
    private(set) var response: RangeResponse
    /// At which the page was read.
    private let revision: Int64
    /// Place and question as one number.
    private var questions: [Int] = []
    private var answered = 0
    /// Questions in one request; fewer after answers that were too large.
    private var portion: Int
    /// The places of the first keys of agents that do not count.
    private var absent: [Int] = []

    /// nil: there is nothing to ask. `open`: the agent that the page before ended with. `revision`: 0 for the first page.
    init?(
        _ response: RangeResponse, after open: Bytes?, at revision: Int64, portion: Int,
        _ keyspace: Keyspace
    ) {
        self.keyspace = keyspace
        self.response = response
        self.revision = revision == 0 ? response.header.revision : revision
        self.portion = max(portion, 1)
        let showsLeases = response.kvs.contains { $0.lease != 0 }
        var last = open
        var first = 0
        for (at, kv) in response.kvs.enumerated() {
            guard !keyspace.isTooLong(kv.key), let (agent, label) = keyspace.parse(kv.key)
            else { continue }
            if agent == last {
                // One of its labels hangs on a lease, another does not.
                guard absent.last == first, kv.lease == 0 else { continue }
                absent.removeLast()
                ask(.areEmpty, first)
                continue
            }
            last = agent
            first = at
            if label.isEmpty {
                if !showsLeases { ask(.key, at) }
            } else if kv.lease != 0 {
                // A label on a lease whose agent has no presence key: its process has gone, or is just starting.
                absent.append(at)
            } else {
                ask(.areEmpty, at)
                guard !showsLeases else { continue }
                ask(.areLeased, at)
                ask(.areUnchanged, at)
            }
        }
        guard !questions.isEmpty || !absent.isEmpty else { return nil }
    }

    private mutating func ask(_ question: Question, _ at: Int) {
        questions.append(at << 2 | question.rawValue)
    }

    var isKnown: Bool { answered == questions.count }

    // MARK: - Questions

    private var asked: Int { min(portion, questions.count - answered) }

    /// Several in one request: reads and transactions in a transaction.
    var question: TxnRequest {
        var operations: [RequestOp] = []
        for question in questions[answered..<answered + asked] {
            operations.append(operation(question))
        }
        return TxnRequest(compare: [], success: operations)
    }

    private func operation(_ question: Int) -> RequestOp {
        let at = question >> 2
        guard let kind = Question(rawValue: question & 3), kind != .key else {
            return .range(RangeRequest(key: response.kvs[at].key, revision: revision))
        }
        let prefix = prefix(at)
        let end = Keyspace.end(of: prefix)
        // Behind the presence key: it may have come since, and is empty itself.
        func every(_ target: Compare.Target, _ relation: Compare.Relation) -> Compare {
            Compare(key: prefix + [0], target: target, relation, rangeEnd: end)
        }
        let compare =
            switch kind {
            case .areEmpty: every(.value, .equal)
            case .areLeased: every(.lease(0), .notEqual)
            // There is one: a range without keys is as unchanged as any.
            default: every(.createRevision(0), .notEqual)
            }
        return .txn(
            TxnRequest(
                compare: [compare, every(.modRevision(revision &+ 1), .less)], success: []))
    }

    /// That all keys of the agent have whose key is at this place.
    private func prefix(_ at: Int) -> Bytes {
        let key = response.kvs[at].key
        return Bytes(key.dropLast(keyspace.parse(key)?.label.count ?? 0))
    }

    // MARK: - Answers

    /// Whether the questions are answered by this.
    mutating func answer(_ response: TxnResponse) -> Bool {
        let end = answered + asked
        guard response.responses.count == end - answered else { return false }
        for answer in response.responses {
            guard take(answer, questions[answered]) else { return false }
            answered += 1
        }
        return answered == end
    }

    private mutating func take(_ answer: ResponseOp, _ question: Int) -> Bool {
        let at = question >> 2
        switch answer {
        case .range(let range):
            let page = response.kvs[at]
            // As a reading of that revision must show it.
            guard question & 3 == 0, range.kvs.count == 1, let kv = range.kvs.first,
                kv.key == page.key, kv.modRevision == page.modRevision
            else { return false }
            if keyspace.isPresence(kv.key) {
                response.kvs[at].lease = kv.lease
            } else if kv.lease != 0 || !kv.hasValue {
                absent.append(at)
            }
        case .txn(let isTrue):
            guard let kind = Question(rawValue: question & 3), kind != .key else { return false }
            if kind != .areUnchanged {
                if isTrue { absent.append(at) }
            } else if !isTrue {
                ask(.key, at)
            }
        default: return false
        }
        return true
    }

    /// The last answer was too large: somebody has put a large value under a presence key. Such a key alone counts as one
    /// without a lease.
    mutating func askForLess() {
        if asked > 1 { portion = asked / 2 } else { answered += asked }
    }

    /// While its database is full, etcd 3.5.1 refuses every transaction, also one that only reads. Count unknown agents
    /// as present: reporting an agent with only empty values is the smaller error.
    mutating func assumePresent() {
        answered = questions.count
    }

    /// The page, in which the keys of agents that do not count are nobody's.
    var counted: RangeResponse {
        var counted = response
        for first in absent {
            let prefix = prefix(first)
            var at = first
            while at < counted.kvs.count, response.kvs[at].key.hasPrefix(prefix) {
                // Count the keys that are left out.
                if !keyspace.isTooLong(response.kvs[at].key) { counted.kvs[at].key = [] }
                at += 1
            }
        }
        return counted
    }
}
