// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

@testable import EtcdModel
@testable import MetadataCore

/// The simulator's etcd as one member that answers at once, on one connection that never breaks: the
/// world of a test decides which requests and messages arrive. Tests read and change its store.
final class ModelEtcd {
    struct Lease {
        var ttl: Milliseconds
        var expires: Milliseconds
    }
    typealias Operation = EtcdModel.Operation
    private let model: Cluster
    /// Messages of watches. The world takes them after each request.
    var outbox: [(StreamID, Bytes)] = []
    private(set) var requests = 0
    private var replies: [UInt64: Outcome] = [:]
    private var renewals: [Bytes] = []
    private var watches: Set<StreamID> = []
    private static let connection = 1
    private static let renewalStream = UInt64.max

    init() {
        var settings = Cluster.Settings()
        settings.slack = 0
        settings.applyDelay = 0
        settings.isPrompt = true
        settings.tellsProgress = false
        model = Cluster(members: 1, settings: settings)
        _ = model.connect(Self.connection, to: 0, author: 0)
        deliver(.openStream(Self.renewalStream, .leaseKeepAlive, token: []))
    }

    /// Answers keys-only reads without the lease, as 3.7.0 does (https://github.com/etcd-io/etcd/issues/22209).
    var hidesLeases: Bool {
        get { model.settings.leavesOutLeasesOfKeys }
        set { model.settings.leavesOutLeasesOfKeys = newValue }
    }
    /// The largest request that is accepted, in bytes.
    var maximumRequest: Int {
        get { model.settings.maximumRequest }
        set { model.settings.maximumRequest = newValue }
    }
    var cluster: UInt64 {
        get { model.clusterID }
        set { model.clusterID = newValue }
    }

    // MARK: - The store

    var revision: Int64 { model.store.revision }
    var store: [Record] { model.store.records }
    /// The changes since the store began, or was restored.
    var history: [Change] {
        model.store.commits.filter { $0.revision > model.store.restored }.flatMap { $0.changes }
    }
    var leases: [Int64: Lease] {
        model.knownLeases.mapValues {
            Lease(ttl: Milliseconds($0.ttl * 1000), expires: Milliseconds($0.expiry / 1000))
        }
    }

    func value(_ key: Bytes) -> Record? { model.store[key] }

    func isEmpty(_ lease: Int64) -> Bool { !store.contains { $0.lease == lease } }

    /// Somebody else's changes, in one revision.
    func apply(_ operations: [Operation]) {
        if model.store.apply(operations, author: -1) { model.revisionCommitted() }
        pump()
    }

    func grant(_ id: Int64, seconds: Int64) {
        model.store.grant(id, ttl: seconds, author: -1)
        model.expiries[id] = model.now + Instant(seconds) * 1_000_000
    }

    func revoke(_ id: Int64) {
        model.expiries[id] = nil
        if model.store.revoke(id) { model.revisionCommitted() }
        pump()
    }

    func compact(to revision: Int64) { model.store.compact(to: revision) }

    /// A wiped store under the same cluster id.
    func wipe() { replace(by: Store()) }

    /// Saves the store, to be restored later with the same revision or a higher one.
    func snapshot() -> (_ revision: Int64?) -> Void {
        let saved = model.store.snapshot()
        return { [self] revision in
            replace(
                by: Store(restoring: saved, bump: (revision ?? saved.revision) - saved.revision))
        }
    }

    private func replace(by store: Store) {
        model.store = store
        model.members[0].applied = store.revision
        model.members[0].applying = []
        // Every lease has its full TTL again.
        model.expiries = store.leases.mapValues { model.now + Instant($0) * 1_000_000 }
    }

    // MARK: - Requests

    private func deliver(_ packet: ClientPacket) {
        model.deliver(packet, on: Self.connection, to: 0, at: model.now)
        pump()
    }

    private func pump(until time: Instant? = nil) {
        model.advance(to: time ?? model.now)
        for (_, packet) in model.outbox {
            switch packet {
            case .reply(let call, let outcome): replies[call] = outcome
            case .message(Self.renewalStream, let bytes): renewals.append(bytes)
            case .message(let stream, let bytes): outbox.append((stream, bytes))
            case .streamEnded, .settings, .acknowledgement, .reset: break
            }
        }
        model.outbox = []
    }

    /// Time passes: leases expire.
    func advance(to now: Milliseconds) { pump(until: Instant(now) * 1000) }

    func answer(_ method: EtcdMethod, _ frame: Bytes, _ now: Milliseconds) -> Reply {
        advance(to: now)
        requests += 1
        deliver(.call(UInt64(requests), method, frame: frame, token: []))
        switch replies.removeValue(forKey: UInt64(requests)) {
        case .ok(let bytes): return .ok(bytes)
        case .failed(let code, let text):
            return .failed(GRPCStatus(code: code, message: Bytes(text)))
        case nil: return .failed(GRPCStatus(code: 13, message: Bytes("no answer")))
        }
    }

    /// The lease of a request about one lease.
    static func lease(in frame: Bytes) -> Int64 { Pair(WireInput(frame: frame)).numbers.0 }

    /// The answer to Authenticate.
    func token(_ token: Bytes) -> Bytes {
        var output = model.header(revision)
        output.data(2, token)
        return output.bytes
    }

    // MARK: - Streams

    func keepAlive(_ frame: Bytes, _ now: Milliseconds) -> Bytes {
        advance(to: now)
        deliver(.send(Self.renewalStream, frame: frame))
        return renewals.popLast() ?? []
    }

    func watch(_ stream: StreamID, _ frame: Bytes) {
        if watches.insert(stream).inserted { deliver(.openStream(stream, .watch, token: [])) }
        deliver(.send(stream, frame: frame))
    }

    func close(_ stream: StreamID) {
        if watches.remove(stream) != nil { deliver(.closeStream(stream)) }
    }
}
