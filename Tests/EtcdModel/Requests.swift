// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

// Requests as a server reads them; field numbers are those of etcd's api/etcdserverpb/rpc.proto.

package struct RangeQuery {
    var key: [UInt8] = []
    var rangeEnd: [UInt8] = []
    var limit: Int64 = 0
    var revision: Int64 = 0
    var serializable = false
    var keysOnly = false

    init(_ input: WireInput) {
        var input = input
        while let field = input.next() {
            switch field.number {
            case 1: key = field.body.data
            case 2: rangeEnd = field.body.data
            case 3: limit = field.value
            case 4: revision = field.value
            case 7: serializable = field.value != 0
            case 8: keysOnly = field.value != 0
            default: break
            }
        }
    }
}

/// An operation of a transaction.
package indirect enum Operation {
    case range(RangeQuery)
    case put(key: [UInt8], value: [UInt8], lease: Int64)
    case delete(key: [UInt8], rangeEnd: [UInt8])
    case txn(Transaction)

    init?(_ input: WireInput) {
        var input = input
        guard let field = input.next() else { return nil }
        switch field.number {
        case 1:
            self = .range(RangeQuery(field.body))
        case 2:
            var body = field.body
            var (key, value, lease): ([UInt8], [UInt8], Int64) = ([], [], 0)
            while let inner = body.next() {
                switch inner.number {
                case 1: key = inner.body.data
                case 2: value = inner.body.data
                case 3: lease = inner.value
                default: break
                }
            }
            self = .put(key: key, value: value, lease: lease)
        case 3:
            let range = RangeQuery(field.body)
            self = .delete(key: range.key, rangeEnd: range.rangeEnd)
        case 4: self = .txn(Transaction(field.body))
        default: return nil
        }
    }
}

package struct Condition {
    enum Target { case create, mod, lease, value }
    var target = Target.create
    var key: [UInt8] = []
    var rangeEnd: [UInt8] = []
    var number: Int64 = 0
    var value: [UInt8] = []

    func holds(of found: Int64) -> Bool {
        switch result {
        case .equal: found == number
        case .greater: found > number
        case .less: found < number
        case .notEqual: found != number
        }
    }
    enum Result: Int64 { case equal, greater, less, notEqual }
    var result = Result.equal

    init(_ input: WireInput) {
        var input = input
        while let field = input.next() {
            switch field.number {
            case 1: result = Result(rawValue: field.value) ?? .equal
            case 2:
                target = [1: .create, 2: .mod, 3: .value, 4: .lease][field.value] ?? .create
            case 3: key = field.body.data
            case 5, 6, 8: number = field.value
            case 7: value = field.body.data
            case 64: rangeEnd = field.body.data
            default: break
            }
        }
    }
}

package struct Transaction {
    var conditions: [Condition] = []
    var success: [Operation] = []
    var failure: [Operation] = []

    package init(success: [Operation]) { self.success = success }

    init(_ input: WireInput) {
        var input = input
        while let field = input.next() {
            switch field.number {
            case 1: conditions.append(Condition(field.body))
            case 2: if let operation = Operation(field.body) { success.append(operation) }
            case 3: if let operation = Operation(field.body) { failure.append(operation) }
            default: break
            }
        }
    }

    var hasPut: Bool {
        (success + failure).contains { operation in
            switch operation {
            case .put: true
            case .txn(let inner): inner.hasPut
            case .range, .delete: false
            }
        }
    }

    /// Operations, those of inner transactions included.
    var operationCount: Int {
        (success + failure).reduce(0) { sum, operation in
            if case .txn(let inner) = operation { sum + 1 + inner.operationCount } else { sum + 1 }
        }
    }
}

extension EtcdMethod {
    var isWrite: Bool {
        switch self {
        case .txn, .leaseGrant, .leaseRevoke: true
        case .range, .watch, .leaseKeepAlive, .leaseTimeToLive, .authenticate: false
        }
    }
}

/// Messages whose fields 1 and 2 are numbers or strings: leases, Authenticate.
struct Pair {
    var numbers: (Int64, Int64) = (0, 0)
    var strings: ([UInt8], [UInt8]) = ([], [])

    init(_ input: WireInput) {
        var input = input
        while let field = input.next() {
            switch field.number {
            case 1: (numbers.0, strings.0) = (field.value, field.body.data)
            case 2: (numbers.1, strings.1) = (field.value, field.body.data)
            default: break
            }
        }
    }
}

/// How many keys a Range lists: a server's work grows with them.
package func keysListed(_ frame: [UInt8], of store: Store) -> Int {
    let query = RangeQuery(WireInput(frame: frame))
    let count = store.count(query.key, query.rangeEnd)
    return query.limit > 0 ? Swift.min(Int(query.limit), count) : count
}

enum WatchCommand {
    case create(Creation)
    case cancel(id: Int64)

    struct Creation {
        var key: [UInt8] = []
        var rangeEnd: [UInt8] = []
        var start: Int64 = 0
        var id: Int64 = 0
        var fragments = false
    }

    init?(_ input: WireInput) {
        var input = input
        guard let field = input.next() else { return nil }
        var body = field.body
        guard field.number == 1 else {
            self = .cancel(id: body.next()?.value ?? 0)
            return
        }
        var creation = Creation()
        while let inner = body.next() {
            switch inner.number {
            case 1: creation.key = inner.body.data
            case 2: creation.rangeEnd = inner.body.data
            case 3: creation.start = inner.value
            case 7: creation.id = inner.value
            case 8: creation.fragments = inner.value != 0
            default: break
            }
        }
        self = .create(creation)
    }
}
