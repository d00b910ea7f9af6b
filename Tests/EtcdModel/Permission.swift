// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// A role allows the keys from `first` up to and excluding `second`, and no others.
package struct Role {
    package typealias KeyRange = (key: [UInt8], rangeEnd: [UInt8])
    package var read: [KeyRange]
    package var write: [KeyRange]

    package init(read: [KeyRange], write: [KeyRange]) {
        self.read = read
        self.write = write
    }
}

/// Permission to read and to write (server/auth/range_perm_cache.go). A range is allowed if one of the role's holds all
/// of it; etcd would take two that meet, too.
extension Cluster {
    func mayRead(_ key: [UInt8], _ rangeEnd: [UInt8]) -> Bool {
        isAllowed(key, rangeEnd, role?.read)
    }

    func mayWrite(_ key: [UInt8], _ rangeEnd: [UInt8]) -> Bool {
        isAllowed(key, rangeEnd, role?.write)
    }

    private func isAllowed(
        _ key: [UInt8], _ rangeEnd: [UInt8], _ ranges: [Role.KeyRange]?
    ) -> Bool {
        guard !isForbidden else { return false }
        guard let ranges else { return true }
        return ranges.contains { allowed in
            guard covers(allowed.key, allowed.rangeEnd, key) else { return false }
            return rangeEnd.isEmpty
                || (!allowed.rangeEnd.isEmpty && !precedes(allowed.rangeEnd, rangeEnd))
        }
    }

    /// All keys of a lease: to revoke it, and with some versions to renew it and to put another key onto it
    /// (server/etcdserver/apply/auth.go, checkLeasePutsKeys).
    func mayWriteAll(of lease: Int64) -> Bool {
        guard isForbidden || role != nil else { return true }
        return store.records.allSatisfy { $0.lease != lease || mayWrite($0.key, []) }
    }

    func mayAsk(_ method: EtcdMethod, _ input: WireInput) -> Bool {
        guard isForbidden || role != nil else { return true }
        switch method {
        case .range:
            let query = RangeQuery(input)
            return mayRead(query.key, query.rangeEnd)
        case .txn: return mayCarryOut(Transaction(input))
        default: return true
        }
    }

    /// Both branches count, and what is compared (server/etcdserver/apply/auth.go, CheckTxnAuth).
    private func mayCarryOut(_ transaction: Transaction) -> Bool {
        guard transaction.conditions.allSatisfy({ mayRead($0.key, $0.rangeEnd) }) else {
            return false
        }
        return (transaction.success + transaction.failure).allSatisfy { operation in
            switch operation {
            case .range(let query): mayRead(query.key, query.rangeEnd)
            case .put(let key, _, let lease):
                mayWrite(key, [])
                    && (lease == 0 || !settings.checksLeasesOfPuts || mayWriteAll(of: lease))
            case .delete(let key, let rangeEnd): mayWrite(key, rangeEnd)
            case .txn(let inner): mayCarryOut(inner)
            }
        }
    }
}
