// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// A page of keys without values, held until it is known which agents of it count.
///
/// An agent without a presence key is present while it has a label with a value. Keys alone do not
/// tell that, and the values are not to be moved. So etcd is asked to compare them with nothing.
struct HeldPage {
    let response: RangeResponse
    /// Agents without a presence key that were not asked about yet.
    private(set) var unchecked: [Bytes]
    /// Those that have only empty values.
    private(set) var absent: [Bytes] = []

    /// nil: there is nothing to ask. `open`: the agent that the page before ended with.
    init?(_ response: RangeResponse, after open: Bytes?, _ keyspace: Keyspace) {
        var suspects: [Bytes] = []
        var last = open
        for kv in response.kvs {
            guard let (agent, label) = keyspace.parse(kv.key), agent != last else { continue }
            last = agent
            if !label.isEmpty { suspects.append(agent) }
        }
        guard !suspects.isEmpty else { return nil }
        self.response = response
        unchecked = suspects
    }

    /// One condition for each agent, `most` in one request: transactions in a transaction.
    func question(_ keyspace: Keyspace, _ most: Int) -> TxnRequest {
        let questions = unchecked.prefix(most).map { agent in
            let prefix = keyspace.key(agent: agent)
            let target = Compare.Target.emptyValues(rangeEnd: Keyspace.end(of: prefix))
            // Behind the presence key: it may have come since, and is empty itself.
            let compare = Compare(key: prefix + [0], target: target)
            return RequestOp.txn(TxnRequest(compare: [compare], success: []))
        }
        return TxnRequest(compare: [], success: questions)
    }

    /// Whether the question is answered by this.
    mutating func answer(_ response: TxnResponse, _ most: Int) -> Bool {
        let asked = min(unchecked.count, most)
        guard response.responses.count == asked else { return false }
        for (agent, answer) in zip(unchecked, response.responses) {
            guard case .txn(let isEmpty) = answer else { return false }
            if isEmpty { absent.append(agent) }
        }
        unchecked.removeFirst(asked)
        return true
    }

    /// While its database is full, etcd 3.5.1 refuses every transaction, also one that only reads. What cannot be asked
    /// about counts: to tell an agent that has only empty values as present is the lesser harm.
    mutating func assumePresent() {
        unchecked.removeAll()
    }

    /// The page without the agents that do not count.
    func counted(_ keyspace: Keyspace) -> RangeResponse {
        guard !absent.isEmpty else { return response }
        var counted = response
        // Both are in the order of keys.
        var position = 0
        counted.kvs = response.kvs.filter { kv in
            guard let (agent, _) = keyspace.parse(kv.key) else { return true }
            let key = keyspace.key(agent: agent)
            while position < absent.count, keyspace.key(agent: absent[position]).precedes(key) {
                position += 1
            }
            return position == absent.count || absent[position] != agent
        }
        return counted
    }
}
