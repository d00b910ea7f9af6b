// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol
import MetadataCore

/// A TCP connection of an agent. The client sends requests when it is open: after the SYN's answer, or after the TLS
/// handshake, for which etcd must have accepted.
final class FleetConnection {
    let id: Int
    unowned let agent: FleetAgent
    unowned let member: FleetMember
    /// The core's name for it.
    let coreID: ConnectionID
    /// The kernel of the other machine knows it.
    var isEstablished = false
    var isAccepted = false
    /// The client may send.
    var isOpen = false
    var isClosed = false
    /// Not sent yet.
    var unsent: [FleetMember.Work] = []
    /// Sent, and waiting for etcd to accept.
    var waiting: [FleetMember.Job] = []
    /// Requests that are not answered, and when they were sent.
    var owed: [UInt64: Instant] = [:]
    private var renewals: StreamID?
    private var watches: Set<StreamID> = []

    init(id: Int, agent: FleetAgent, member: FleetMember, coreID: ConnectionID) {
        self.id = id
        self.agent = agent
        self.member = member
        self.coreID = coreID
    }

    func has(_ stream: StreamID) -> Bool { isOfRenewals(stream) || isOfWatches(stream) }
    func isOfRenewals(_ stream: StreamID) -> Bool { stream == renewals }
    func isOfWatches(_ stream: StreamID) -> Bool { watches.contains(stream) }

    func open(_ stream: StreamID, _ method: EtcdMethod) {
        if method == .watch { watches.insert(stream) } else { renewals = stream }
    }

    /// A renewal was sent. What a watch is sent needs no answer by a certain time.
    func asks(_ stream: StreamID, at time: Instant) {
        if isOfRenewals(stream), owed[stream] == nil { owed[stream] = time }
    }

    func answered(_ stream: StreamID) { owed[stream] = nil }

    func owesNothing(since time: Instant) -> Bool { owed.values.allSatisfy { $0 >= time } }
}
