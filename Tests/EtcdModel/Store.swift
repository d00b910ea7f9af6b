// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// A key and what etcd knows about it (api/mvccpb/kv.proto).
package struct Record: Equatable {
    package var key: [UInt8]
    package var value: [UInt8]
    package var createRevision: Int64
    package var modRevision: Int64
    package var version: Int64
    package var lease: Int64

    func encoded(withValue: Bool = true, withLease: Bool = true) -> [UInt8] {
        var output = WireOutput()
        output.data(1, key)
        output.int(2, createRevision)
        output.int(3, modRevision)
        output.int(4, version)
        if withValue { output.data(5, value) }
        if withLease { output.int(6, lease) }
        return output.bytes
    }
}

/// A change of one key.
package struct Change {
    package let key: [UInt8]
    /// nil: deleted.
    package let record: Record?
    package let previous: Record?
}

/// All changes of one revision.
package struct Commit {
    package let revision: Int64
    package let changes: [Change]
    /// The client that asked for the change; -1: an operator; nil: the server itself (a lease ran
    /// out or was revoked).
    package let author: Int?
    /// Carried out when its client did not wait for it any more.
    package let isLate: Bool
}

func precedes(_ a: [UInt8], _ b: [UInt8]) -> Bool {
    let shorter = min(a.count, b.count)
    var index = 0
    while index < shorter {
        if a[index] != b[index] { return a[index] < b[index] }
        index += 1
    }
    return a.count < b.count
}

/// Whether a key lies in a range as etcd's requests name it.
package func covers(_ key: [UInt8], _ rangeEnd: [UInt8], _ found: [UInt8]) -> Bool {
    rangeEnd.isEmpty ? found == key : !precedes(found, key) && precedes(found, rangeEnd)
}

/// The replicated state: keys with their history, and which leases there are. It never forgets;
/// what compaction took away is only not served any more.
package final class Store {
    package private(set) var revision: Int64 = 1
    package private(set) var compacted: Int64 = 0
    /// In the order of keys.
    package private(set) var records: [Record] = []
    /// Revision r at index r - 2: a store begins with revision 1.
    package private(set) var commits: [Commit] = []
    /// Leases and their TTL in seconds.
    package private(set) var leases: [Int64: Int64] = [:]

    /// The client that asked for each lease, ended ones included.
    package private(set) var grantors: [Int64: Int] = [:]
    /// Nobody waited for them any more when they were made, nor has anybody heard of them since.
    package private(set) var lateLeases: Set<Int64> = []
    /// The client has given up the request that is being carried out.
    var isLate = false
    /// All up to here came with a snapshot; 0: the store began empty.
    package private(set) var restored: Int64 = 0
    package private(set) var restoredLeases: Set<Int64> = []

    package init() {}

    /// No lease takes the key away while anybody remembers it.
    package func isPermanent(_ record: Record) -> Bool {
        record.lease == 0 || leases[record.lease] ?? 0 >= 1_000_000_000
    }

    /// All of it, as an operator saves it.
    package func snapshot() -> Store {
        let copy = Store()
        copy.revision = revision
        copy.compacted = compacted
        copy.records = records
        copy.commits = commits
        copy.leases = leases
        copy.grantors = grantors
        copy.lateLeases = lateLeases
        copy.restored = restored
        copy.restoredLeases = restoredLeases
        return copy
    }

    /// A store that begins with what a snapshot has. `bump`: `etcdutl snapshot restore --bump-revision
    /// --mark-compacted` (etcdutl/snapshot/v3_snapshot.go, modifyLatestRevision): the revision is so much higher, the
    /// keys keep theirs, and the new one counts as compacted.
    package convenience init(restoring snapshot: Store, bump: Int64) {
        self.init()
        revision = snapshot.revision + bump
        restored = revision
        compacted = bump > 0 ? revision : snapshot.compacted
        records = snapshot.records
        commits = snapshot.commits
        for skipped in snapshot.revision..<revision {
            commits.append(Commit(revision: skipped + 1, changes: [], author: nil, isLate: false))
        }
        leases = snapshot.leases
        grantors = snapshot.grantors
        lateLeases = snapshot.lateLeases
        restoredLeases = Set(leases.keys)
    }

    private func position(_ key: [UInt8]) -> Int {
        var low = 0
        var high = records.count
        while low < high {
            let middle = (low + high) / 2
            if precedes(records[middle].key, key) { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// How many keys there are in a range now.
    func count(_ key: [UInt8], _ rangeEnd: [UInt8]) -> Int {
        rangeEnd.isEmpty ? 1 : max(0, position(rangeEnd) - position(key))
    }

    package subscript(key: [UInt8]) -> Record? {
        let at = position(key)
        return at < records.count && records[at].key == key ? records[at] : nil
    }

    package func commit(_ revision: Int64) -> Commit { commits[Int(revision) - 2] }

    /// A record as it was at a revision.
    package func record(_ key: [UInt8], at revision: Int64) -> Record? {
        for commit in commits[max(0, Int(revision) - 1)...] {
            for change in commit.changes where change.key == key { return change.previous }
        }
        return self[key]
    }

    /// The records of a range as they were at a revision.
    package func range(_ key: [UInt8], _ rangeEnd: [UInt8], at revision: Int64) -> [Record] {
        guard !rangeEnd.isEmpty || revision < self.revision else {
            return self[key].map { [$0] } ?? []
        }
        var found: [Record] = []
        var index = position(key)
        while index < records.count, covers(key, rangeEnd, records[index].key) {
            found.append(records[index])
            index += 1
        }
        guard revision < self.revision else { return found }
        // Backwards from now; the earliest change after the revision knows what was before it.
        var earlier: [[UInt8]: Record?] = [:]
        for commit in commits[max(0, Int(revision) - 1)...].reversed() {
            for change in commit.changes where covers(key, rangeEnd, change.key) {
                earlier[change.key] = .some(change.previous)
            }
        }
        found.removeAll { earlier[$0.key] != nil }
        found += earlier.values.compactMap { $0 }
        return found.sorted { precedes($0.key, $1.key) }
    }

    // MARK: - Changes

    /// Applies operations in one revision; no revision if nothing changed.
    @discardableResult
    package func apply(_ operations: [Operation], author: Int?) -> Bool {
        let next = revision + 1
        var changes: [Change] = []
        for operation in operations {
            switch operation {
            case .range, .txn: break
            case .put(let key, let value, let lease):
                changes.append(put(key, value, lease, next))
            case .delete(let key, let rangeEnd):
                changes += remove(range(key, rangeEnd, at: revision).map { $0.key })
            }
        }
        return commit(changes, author)
    }

    private func commit(_ changes: [Change], _ author: Int?) -> Bool {
        guard !changes.isEmpty else { return false }
        revision += 1
        commits.append(
            Commit(
                revision: revision, changes: changes, author: author,
                isLate: isLate && author != nil))
        return true
    }

    private func put(_ key: [UInt8], _ value: [UInt8], _ lease: Int64, _ next: Int64) -> Change {
        let at = position(key)
        let old = at < records.count && records[at].key == key ? records[at] : nil
        let record = Record(
            key: key, value: value, createRevision: old?.createRevision ?? next,
            modRevision: next, version: (old?.version ?? 0) + 1, lease: lease)
        if old == nil { records.insert(record, at: at) } else { records[at] = record }
        return Change(key: key, record: record, previous: old)
    }

    private func remove(_ keys: [[UInt8]]) -> [Change] {
        keys.compactMap { key in
            let at = position(key)
            guard at < records.count, records[at].key == key else { return nil }
            return Change(key: key, record: nil, previous: records.remove(at: at))
        }
    }

    // MARK: - Leases and compaction

    func grant(_ id: Int64, ttl: Int64, author: Int) {
        leases[id] = ttl
        grantors[id] = author
        if isLate { lateLeases.insert(id) }
    }

    /// Its client has heard of a lease.
    func tellsLease(_ id: Int64) {
        if !isLate { lateLeases.remove(id) }
    }

    /// All keys of a lease go in one revision.
    @discardableResult
    func revoke(_ id: Int64) -> Bool {
        guard leases.removeValue(forKey: id) != nil else { return false }
        return commit(remove(records.filter { $0.lease == id }.map { $0.key }), nil)
    }

    package func compact(to revision: Int64) {
        compacted = min(max(compacted, revision), self.revision)
    }
}
