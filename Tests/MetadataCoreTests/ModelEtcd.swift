// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

@testable import EtcdProtocol
@testable import MetadataCore

/// A small model of one etcd member: revisions, history, leases with expiry, transactions, watches,
/// compaction. It reads requests and writes answers as bytes, as the real one does.
final class ModelEtcd {
    struct Lease {
        var ttl: Milliseconds
        var expires: Milliseconds
    }
    struct Watch {
        let key: Bytes
        let rangeEnd: Bytes
        var next: Int64
    }
    var cluster: UInt64 = 0xc1
    var revision: Int64 = 1
    var compacted: Int64 = 0
    var store: [(key: Bytes, kv: KeyValue)] = []
    var history: [WatchResponse.Event] = []
    var leases: [Int64: Lease] = [:]
    /// By stream, then by watch id.
    var watches: [StreamID: [Int64: Watch]] = [:]
    /// What watches are to be sent: taken by the world after each request.
    var outbox: [(StreamID, Bytes)] = []
    /// Largest blob that is accepted.
    var maximumRequest = 1_572_864
    var requests = 0

    // MARK: - Leases

    func expireLeases(_ now: Milliseconds) {
        for id in leases.keys.sorted() where leases[id].map({ $0.expires <= now }) == true {
            revoke(id)
        }
    }

    func revoke(_ id: Int64) {
        guard leases.removeValue(forKey: id) != nil else { return }
        let keys = store.filter { $0.kv.lease == id }.map { $0.key }
        guard !keys.isEmpty else { return }
        revision += 1
        for key in keys { remove(key) }
        publishEvents()
    }

    // MARK: - Keys

    /// The first position whose key does not precede `key`.
    private func position(_ key: Bytes) -> Int {
        var low = 0
        var high = store.count
        while low < high {
            let middle = (low + high) / 2
            if store[middle].key.precedes(key) { low = middle + 1 } else { high = middle }
        }
        return low
    }

    private func index(of key: Bytes) -> Int? {
        let at = position(key)
        return at < store.count && store[at].key == key ? at : nil
    }

    func value(_ key: Bytes) -> KeyValue? {
        index(of: key).map { store[$0].kv }
    }

    private func remove(_ key: Bytes) {
        if let at = index(of: key) { store.remove(at: at) }
        var event = WatchResponse.Event()
        event.kind = .delete
        event.kv.key = key
        event.kv.modRevision = revision
        history.append(event)
    }

    private func insert(_ key: Bytes, _ value: Bytes, lease: Int64) {
        var kv = KeyValue()
        let old = self.value(key)
        kv.key = key
        kv.value = value
        kv.hasValue = !value.isEmpty
        kv.createRevision = old?.createRevision ?? revision
        kv.modRevision = revision
        kv.version = (old?.version ?? 0) + 1
        kv.lease = lease
        if let at = index(of: key) {
            store[at].kv = kv
        } else {
            store.insert((key, kv), at: position(key))
        }
        var event = WatchResponse.Event()
        event.kv = kv
        history.append(event)
    }

    /// Somebody else's doing, in one revision.
    func apply(_ ops: [DecodedOp]) {
        revision += 1
        for op in ops {
            switch op {
            case .put(let key, let value, let lease): insert(key, value, lease: lease)
            case .deleteRange(let key, let end):
                for (found, _) in store where covers(key, end, found) { remove(found) }
            case .emptyValues: break
            }
        }
        publishEvents()
    }

    private func covers(_ key: Bytes, _ end: Bytes, _ found: Bytes) -> Bool {
        end.isEmpty ? found == key : !found.precedes(key) && found.precedes(end)
    }

    // MARK: - Requests

    func answer(_ method: EtcdMethod, _ frame: Bytes, _ now: Milliseconds) -> Reply {
        requests += 1
        guard frame.count - 5 <= maximumRequest else {
            return .failed(GRPCStatus(code: 3, message: Bytes("etcdserver: request is too large")))
        }
        let body = Bytes(frame.dropFirst(5))
        do throws(WireError) {
            switch method {
            case .range: return range(try DecodedRange(body.span))
            case .txn: return transaction(try DecodedTxn(body.span), now)
            case .leaseGrant: return grant(try DecodedPair(body.span), now)
            case .leaseRevoke:
                revoke(try DecodedPair(body.span).numbers[1])
                return .ok(header { _ in })
            case .leaseTimeToLive: return timeToLive(try DecodedPair(body.span), now)
            case .authenticate, .watch, .leaseKeepAlive:
                return .failed(GRPCStatus(code: 12, message: Bytes("unknown")))
            }
        } catch {
            return .failed(GRPCStatus(code: 13, message: Bytes("cannot decode")))
        }
    }

    private func header(_ body: (inout WireWriter) -> Void) -> Bytes {
        WireWriter.message {
            $0.header(cluster: cluster, revision: revision)
            body(&$0)
        }
    }

    private func range(_ request: DecodedRange) -> Reply {
        if request.revision != 0, request.revision < compacted {
            return .failed(
                GRPCStatus(
                    code: 11,
                    message: Bytes("etcdserver: mvcc: required revision has been compacted")))
        }
        let found = store.filter { covers(request.key, request.rangeEnd, $0.key) }
        let page = request.limit > 0 ? Array(found.prefix(Int(request.limit))) : found
        return .ok(
            header {
                for (_, kv) in page { $0.embedded(2, kv.encoded(withValue: !request.keysOnly)) }
                $0.bool(3, page.count < found.count)
                $0.int64(4, Int64(found.count))
            })
    }

    private func holds(_ compare: DecodedCompare) -> Bool {
        let kv = value(compare.key) ?? KeyValue()
        switch compare.target {
        case 1: return kv.createRevision == compare.number
        case 2: return kv.modRevision == compare.number
        case 4: return kv.lease == compare.number
        default: return false
        }
    }

    private func transaction(_ txn: DecodedTxn, _ now: Milliseconds) -> Reply {
        let succeeds = txn.compare.allSatisfy(holds)
        if succeeds {
            for case .put(_, _, let lease) in txn.success where lease != 0 && leases[lease] == nil {
                return .failed(
                    GRPCStatus(code: 5, message: Bytes("etcdserver: requested lease not found")))
            }
            let isRead = txn.success.contains { if case .emptyValues = $0 { true } else { false } }
            if !isRead { apply(txn.success) }
        }
        return .ok(
            header {
                $0.bool(2, succeeds)
                for case .emptyValues(let key, let end) in txn.success {
                    let found = store.filter { covers(key, end, $0.key) }
                    let isEmpty = !found.isEmpty && found.allSatisfy { !$0.kv.hasValue }
                    // ResponseOp.response_txn with its `succeeded`.
                    let answer = WireWriter.message { $0.bool(2, isEmpty) }
                    $0.embedded(
                        3,
                        WireWriter.message {
                            $0.message(4, size: answer.count)
                            if isEmpty { $0.bool(2, true) }
                        })
                }
            })
    }

    private func grant(_ request: DecodedPair, _ now: Milliseconds) -> Reply {
        let id = request.numbers[2]
        guard leases[id] == nil else {
            return .failed(
                GRPCStatus(code: 9, message: Bytes("etcdserver: lease already exists")))
        }
        let ttl = Milliseconds(max(2, request.numbers[1])) * 1000
        leases[id] = Lease(ttl: ttl, expires: now + ttl)
        return .ok(
            header {
                $0.int64(2, id)
                $0.int64(3, Int64(ttl / 1000))
            })
    }

    private func timeToLive(_ request: DecodedPair, _ now: Milliseconds) -> Reply {
        let lease = leases[request.numbers[1]]
        return .ok(
            header {
                $0.int64(2, request.numbers[1])
                $0.int64(3, lease.map { Int64(($0.expires - now) / 1000) } ?? -1)
            })
    }

    // MARK: - Streams

    func keepAlive(_ frame: Bytes, _ now: Milliseconds) -> Bytes {
        let id = (try? DecodedPair(Bytes(frame.dropFirst(5)).span).numbers[1]) ?? 0
        let ttl = leases[id]?.ttl ?? 0
        leases[id]?.expires = now + ttl
        return header {
            $0.int64(2, id)
            $0.int64(3, Int64(ttl / 1000))
        }
    }

    func watch(_ stream: StreamID, _ frame: Bytes) {
        guard case .some(let request) = try? DecodedWatch(Bytes(frame.dropFirst(5)).span) else {
            return
        }
        switch request {
        case .cancel(let id):
            watches[stream]?[id] = nil
            outbox.append(
                (
                    stream,
                    header {
                        $0.int64(2, id)
                        $0.bool(4, true)
                    }
                ))
        case .create(let key, let rangeEnd, let start, let id):
            outbox.append(
                (
                    stream,
                    header {
                        $0.int64(2, id)
                        $0.bool(3, true)
                    }
                ))
            guard start == 0 || start > compacted else {
                outbox.append(
                    (
                        stream,
                        header {
                            $0.int64(2, id)
                            $0.bool(4, true)
                            $0.int64(5, compacted)
                        }
                    ))
                return
            }
            watches[stream, default: [:]][id] = Watch(
                key: key, rangeEnd: rangeEnd, next: start == 0 ? revision + 1 : start)
            publishEvents()
        }
    }

    private func publishEvents() {
        for stream in watches.keys.sorted() {
            for id in (watches[stream] ?? [:]).keys.sorted() {
                guard let watch = watches[stream]?[id] else { continue }
                let start = history.lastIndex { $0.kv.modRevision < watch.next }.map { $0 + 1 } ?? 0
                let events = history[start...].filter {
                    covers(watch.key, watch.rangeEnd, $0.kv.key)
                }
                watches[stream]?[id]?.next = revision + 1
                guard !events.isEmpty else { continue }
                outbox.append((stream, message(id, events)))
            }
        }
    }

    private func message(_ id: Int64, _ events: [WatchResponse.Event]) -> Bytes {
        header {
            $0.int64(2, id)
            for event in events {
                let body = WireWriter.message {
                    $0.int64(1, event.kind == .delete ? 1 : 0)
                    $0.embedded(2, event.kv.encoded())
                }
                $0.embedded(11, body)
            }
        }
    }

    func compact(to revision: Int64) {
        compacted = revision
        history.removeAll { $0.kv.modRevision <= revision }
    }

    /// A wiped store under the same cluster id.
    func wipe() {
        store = []
        history = []
        leases = [:]
        revision = 1
        compacted = 0
    }
}
