// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol

/// A cluster of one member or three, and clients of it that speak with the library's own codec.
final class Client {
    let cluster: Cluster
    private(set) var now: Instant = 1_000_000
    private var lastID: UInt64 = 0
    private(set) var connection = 0
    private var isOpen = false
    /// Replies by call, what came on streams, and how streams have ended.
    private var replies: [UInt64: Outcome] = [:]
    private(set) var messages: [UInt64: [Bytes]] = [:]
    private(set) var ends: [UInt64: Outcome] = [:]
    private(set) var resets = 0
    var token: Bytes = []

    init(
        members: Int = 1, seed: UInt64 = 1, _ change: (inout Cluster.Settings) -> Void = { _ in }
    ) {
        var settings = Cluster.Settings()
        settings.applyDelay = 0
        settings.slack = 0
        change(&settings)
        cluster = Cluster(members: members, settings: settings, seed: seed)
        cluster.advance(to: now)
    }

    func advance(by time: Instant) {
        let end = now + time
        while now < end {
            now = min(end, max(now + 1, cluster.nextTime))
            cluster.advance(to: now)
        }
        collect()
    }

    /// In one step, over any length of time.
    func jump(by time: Instant) {
        now += time
        cluster.advance(to: now)
        collect()
    }

    private func collect() {
        for (_, packet) in cluster.outbox {
            switch packet {
            case .reply(let call, let outcome): replies[call] = outcome
            case .message(let stream, let bytes): messages[stream, default: []].append(bytes)
            case .streamEnded(let stream, let outcome): ends[stream] = outcome
            case .settings, .acknowledgement: break
            case .reset:
                isOpen = false
                resets += 1
            }
        }
        cluster.outbox = []
    }

    private func deliver(_ packet: ClientPacket, _ member: Int) {
        if !isOpen {
            connection += 1
            isOpen = cluster.connect(connection, to: member, author: 7)
        }
        cluster.deliver(packet, on: connection, to: member, at: now)
        cluster.advance(to: now)
        collect()
    }

    // MARK: - Requests

    /// nil: there is no answer.
    func send(_ method: EtcdMethod, _ message: some WireMessage, member: Int = 0) -> Outcome? {
        lastID += 1
        deliver(.call(lastID, method, frame: message.frame(), token: token), member)
        return replies.removeValue(forKey: lastID)
    }

    func reply(to call: UInt64) -> Outcome? { replies[call] }

    func openStream(_ method: EtcdMethod) -> UInt64 {
        lastID += 1
        deliver(.openStream(lastID, method, token: token), 0)
        return lastID
    }

    func send(_ message: some WireMessage, on stream: UInt64) {
        deliver(.send(stream, frame: message.frame()), 0)
    }

    func disconnect() {
        deliver(.goodbye, 0)
        isOpen = false
    }

    @discardableResult
    func put(_ key: StaticString, _ value: StaticString = "v", lease: Int64 = 0) -> Outcome? {
        txn([.put(PutRequest(key: Bytes(key), value: Bytes(value), lease: lease))])
    }

    func txn(_ success: [RequestOp], compare: [Compare] = []) -> Outcome? {
        send(.txn, TxnRequest(compare: compare, success: success))
    }

    @discardableResult
    func grant(_ id: Int64, ttl: Int64 = 10) -> Outcome? {
        send(.leaseGrant, LeaseGrantRequest(ttl: ttl, id: id))
    }

    @discardableResult
    func revoke(_ id: Int64) -> Outcome? { send(.leaseRevoke, LeaseRevokeRequest(id: id)) }

    func timeToLive(_ id: Int64, member: Int = 0) throws -> LeaseTimeToLiveResponse {
        try LeaseTimeToLiveResponse.decode(
            send(.leaseTimeToLive, LeaseTimeToLiveRequest(id: id), member: member).body)
    }

    func range(_ request: RangeRequest) throws -> RangeResponse {
        try RangeResponse.decode(send(.range, request).body)
    }

    func get(_ key: StaticString) throws -> KeyValue? {
        try range(RangeRequest(key: Bytes(key))).kvs.first
    }
}

extension Outcome? {
    var body: Bytes {
        if case .ok(let bytes) = self { return bytes }
        return []
    }

    /// 'ok', 'none', or what etcd says and its code.
    var text: String {
        switch self {
        case nil: "none"
        case .ok: "ok"
        case .failed(let code, let text): "\(code) \(text)"
        }
    }
}
