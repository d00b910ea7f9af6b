// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

@testable import EtcdProtocol
@testable import MetadataCore

/// A small model of one etcd member: revisions, history, leases with expiry, transactions, watches,
/// compaction. A request is refused where etcd refuses it. It reads requests and writes answers as bytes, as the real one does.
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
    /// The key is the stream, then the watch id.
    var watches: [StreamID: [Int64: Watch]] = [:]
    /// Messages of watches. The world takes them after each request.
    var outbox: [(StreamID, Bytes)] = []
    /// Largest blob that is accepted.
    var maximumRequest = 1_572_864
    /// Answers keys-only reads without the lease, as 3.7.0 does
    /// (https://github.com/etcd-io/etcd/issues/22209).
    var hidesLeases = false
    var requests = 0

    // MARK: - Leases

    func expireLeases(_ now: Milliseconds) {
        for id in leases.keys.sorted() where leases[id].map({ $0.expires <= now }) == true {
            revoke(id)
        }
    }

    /// Whether there was one.
    @discardableResult
    func revoke(_ id: Int64) -> Bool {
        guard leases.removeValue(forKey: id) != nil else { return false }
        let keys = keys(on: id)
        guard !keys.isEmpty else { return true }
        revision += 1
        for key in keys { remove(key) }
        publishEvents()
        return true
    }

    func isEmpty(_ lease: Int64) -> Bool { keys(on: lease).isEmpty }

    private func keys(on lease: Int64) -> [Bytes] {
        store.filter { $0.kv.lease == lease }.map { $0.key }
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

    /// Somebody else's doing, in one revision, if it changes anything.
    func apply(_ ops: [DecodedOp]) {
        let changes = ops.contains {
            switch $0 {
            case .put: true
            case .deleteRange(let key, let end): store.contains { covers(key, end, $0.key) }
            case .range, .question: false
            }
        }
        guard changes else { return }
        revision += 1
        for op in ops {
            switch op {
            case .put(let key, let value, let lease): insert(key, value, lease: lease)
            case .deleteRange(let key, let end):
                for (found, _) in store where covers(key, end, found) { remove(found) }
            case .range, .question: break
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
                guard revoke(try DecodedPair(body.span).numbers[1]) else { return noLease }
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

    func token(_ token: Bytes) -> Bytes { header { $0.bytes(2, token) } }

    private func range(_ request: DecodedRange) -> Reply {
        if request.revision != 0, request.revision < compacted {
            return .failed(
                GRPCStatus(
                    code: 11,
                    message: Bytes("etcdserver: mvcc: required revision has been compacted")))
        }
        return .ok(found(request))
    }

    private func found(_ request: DecodedRange) -> Bytes {
        // One key of many is found at once.
        let found =
            request.rangeEnd.isEmpty
            ? index(of: request.key).map { [store[$0]] } ?? []
            : store.filter { covers(request.key, request.rangeEnd, $0.key) }
        let page = request.limit > 0 ? Array(found.prefix(Int(request.limit))) : found
        return header {
            let hidesLease = request.keysOnly && hidesLeases
            for (_, kv) in page {
                $0.embedded(
                    2, kv.encoded(withValue: !request.keysOnly, withLease: !hidesLease))
            }
            $0.bool(3, page.count < found.count)
            $0.int64(4, Int64(found.count))
        }
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
        let ops = succeeds ? txn.success : txn.failure
        for case .put(_, _, let lease) in ops where lease != 0 && leases[lease] == nil {
            return noLease
        }
        apply(ops)
        return .ok(
            header {
                $0.bool(2, succeeds)
                for op in ops { $0.embedded(3, answer(to: op)) }
            })
    }

    /// A ResponseOp.
    private func answer(to op: DecodedOp) -> Bytes {
        switch op {
        case .range(let request): WireWriter.message { $0.embedded(1, found(request)) }
        case .put: WireWriter.message { $0.embedded(2, header { _ in }) }
        case .deleteRange: WireWriter.message { $0.embedded(3, header { _ in }) }
        case .question(let compares): answer(to: compares)
        }
    }

    /// ResponseOp.response_txn with its `succeeded`.
    private func answer(to compares: [DecodedCompare]) -> Bytes {
        let isTrue = compares.allSatisfy { compare in
            let found = store.filter { covers(compare.key, compare.rangeEnd, $0.key) }
            // A range without keys compares like a key that does not exist.
            if found.isEmpty { return compare.target != 3 && compare.holds(0) }
            return found.allSatisfy { (_, kv) in
                switch compare.target {
                case 1: compare.holds(kv.createRevision)
                case 2: compare.holds(kv.modRevision)
                case 3: !kv.hasValue
                default: compare.holds(kv.lease)
                }
            }
        }
        let answer = WireWriter.message { $0.bool(2, isTrue) }
        return WireWriter.message {
            $0.message(4, size: answer.count)
            if isTrue { $0.bool(2, true) }
        }
    }

    private var noLease: Reply {
        .failed(GRPCStatus(code: 5, message: Bytes("etcdserver: requested lease not found")))
    }

    private func grant(_ request: DecodedPair, _ now: Milliseconds) -> Reply {
        let id = request.numbers[2]
        guard leases[id] == nil else {
            return .failed(
                GRPCStatus(code: 9, message: Bytes("etcdserver: lease already exists")))
        }
        guard request.numbers[1] <= 9_000_000_000 else {
            return .failed(GRPCStatus(code: 11, message: Bytes("etcdserver: too large lease TTL")))
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
        let id = request.numbers[1]
        let lease = leases[id]
        return .ok(
            header {
                $0.int64(2, id)
                $0.int64(3, lease.map { Int64(($0.expires - now) / 1000) } ?? -1)
                guard let lease else { return }
                $0.int64(4, Int64(lease.ttl / 1000))
                guard request.numbers[2] != 0 else { return }
                for key in keys(on: id) { $0.bytes(5, key) }
            })
    }

    // MARK: - Streams

    func keepAlive(_ frame: Bytes, _ now: Milliseconds) -> Bytes {
        let id = DecodedPair.lease(frame)
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
