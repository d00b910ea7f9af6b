// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import MetadataCore

/// As much of etcd as the requests of a registration need: keys, revisions, leases, transactions.
struct SmallStore: Hashable {
    struct Record: Hashable {
        let key: Bytes
        var value: Bytes
        var lease: Int64
        var created: Int64
        var modified: Int64
    }
    var records: [Record] = []
    var revision: Int64 = 1
    var leases: [Int64] = []
    /// When the presence key was last put or removed.
    var presenceEvent: Int64 = 0
    let presence: Bytes

    init(presence: Bytes) { self.presence = presence }

    subscript(key: Bytes) -> Record? { records.first { $0.key == key } }

    mutating func forEachRevision(_ body: (inout Int64) -> Void) {
        body(&revision)
        body(&presenceEvent)
        for at in records.indices {
            body(&records[at].created)
            body(&records[at].modified)
        }
    }

    // MARK: - Changes

    mutating func put(_ key: Bytes, _ value: Bytes, lease: Int64, at revision: Int64) {
        if key == presence { presenceEvent = revision }
        if let at = records.firstIndex(where: { $0.key == key }) {
            records[at].value = value
            records[at].lease = lease
            records[at].modified = revision
        } else {
            let at = records.firstIndex { key.precedes($0.key) } ?? records.count
            records.insert(
                Record(key: key, value: value, lease: lease, created: revision, modified: revision),
                at: at)
        }
    }

    private mutating func remove(at revision: Int64, where isRemoved: (Record) -> Bool) {
        if records.contains(where: { $0.key == presence && isRemoved($0) }) {
            presenceEvent = revision
        }
        records.removeAll(where: isRemoved)
    }

    /// An operator removes keys.
    mutating func removeAll(butLabels: Bool) {
        revision += 1
        remove(at: revision) { [presence] in !butLabels || $0.key == presence }
    }

    mutating func stockPuts() {
        revision += 1
        put(presence, [], lease: 0, at: revision)
    }

    /// The presence key as it is, or a mark on no lease.
    mutating func peerPuts(mark: Bool) {
        revision += 1
        if mark {
            put(presence + [0], [], lease: 0, at: revision)
        } else if let found = self[presence] {
            put(presence, [], lease: found.lease, at: revision)
        }
    }

    mutating func end(_ lease: Int64) {
        leases.removeAll { $0 == lease }
        guard records.contains(where: { $0.lease == lease }) else { return }
        revision += 1
        remove(at: revision) { $0.lease == lease }
    }

    // MARK: - Requests

    mutating func execute(_ body: CallBody) -> RegistrationAnswer {
        switch body {
        case .range(let request): return .range(range(request))
        case .txn(let request): return transaction(request)
        case .grant(let request):
            if leases.contains(request.id) {
                return .refused(.leaseExists, "lease already exists")
            }
            leases.append(request.id)
            leases.sort()
            var response = LeaseGrantResponse()
            response.header = header
            response.id = request.id
            response.ttl = request.ttl
            return .grant(response)
        case .revoke(let request):
            guard leases.contains(request.id) else { return .refused(.leaseNotFound, "not found") }
            end(request.id)
            var response = LeaseRevokeResponse()
            response.header = header
            return .revoke(response)
        case .timeToLive(let request):
            var response = LeaseTimeToLiveResponse()
            response.header = header
            response.id = request.id
            let isThere = leases.contains(request.id)
            response.ttl = isThere ? 100 : -1
            response.grantedTTL = isThere ? (request.id & 1 == 1 ? 9_000_000_000 : 100) : 0
            response.keyCount = records.count { $0.lease == request.id }
            return .timeToLive(response)
        case .authenticate: return .refused(.other, "")
        }
    }

    private var header: ResponseHeader {
        var header = ResponseHeader()
        header.revision = revision
        return header
    }

    private func range(_ request: RangeRequest) -> RangeResponse {
        var response = RangeResponse()
        response.header = header
        for record in records where record.key.isIn(from: request.key, to: request.rangeEnd) {
            var kv = KeyValue()
            kv.key = record.key
            kv.createRevision = record.created
            kv.modRevision = record.modified
            kv.lease = record.lease
            kv.hasValue = !record.value.isEmpty
            if !request.keysOnly { kv.value = record.value }
            response.kvs.append(kv)
        }
        return response
    }

    private func holds(_ compare: Compare) -> Bool {
        let record = self[compare.key]
        switch compare.target {
        case .createRevision(let revision): return (record?.created ?? 0) == revision
        case .modRevision(let revision): return (record?.modified ?? 0) == revision
        case .lease(let lease): return (record?.lease ?? 0) == lease
        default: return false
        }
    }

    private mutating func transaction(_ request: TxnRequest) -> RegistrationAnswer {
        var response = TxnResponse()
        response.succeeded = request.compare.allSatisfy(holds)
        let operations = response.succeeded ? request.success : request.failure
        for case .put(let put) in operations where put.lease != 0 && !leases.contains(put.lease) {
            return .refused(.leaseNotFound, "requested lease not found")
        }
        let next = revision + 1
        let before = records
        for operation in operations {
            switch operation {
            case .put(let put):
                self.put(put.key, put.value, lease: put.lease, at: next)
                revision = next
                response.responses.append(.put)
            case .deleteRange(let range):
                remove(at: next) { $0.key.isIn(from: range.key, to: range.rangeEnd) }
                if records != before { revision = next }
                response.responses.append(.deleteRange(deleted: 0))
            case .range(let range): response.responses.append(.range(self.range(range)))
            case .txn: break
            }
        }
        response.header = header
        return .txn(response)
    }
}
