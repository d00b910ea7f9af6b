// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol
import MetadataCore

/// One TCP connection between a host and a member: each direction in order, at its own pace.
final class Connection {
    struct Direction {
        /// Nothing sent later arrives earlier.
        var last: Instant = 0
        /// Packets on their way are kept back: dropped and sent again and again, as TCP does.
        var isHeld = false
        /// Broken: what is still on its way is lost.
        var isBroken = false
    }
    let id: Int
    let host: Int
    let member: Int
    /// The core's name for it.
    let coreID: ConnectionID
    /// There is a server at the other end.
    var isEstablished = false
    /// Which of the world's stores answers on it.
    var store = 0
    var isRefused = false
    /// The client has disconnected.
    var isClosed = false
    var toServer = Direction()
    var toClient = Direction()
    var heldToServer: [ClientPacket] = []
    var heldToClient: [ServerPacket] = []

    init(id: Int, host: Int, member: Int, coreID: ConnectionID) {
        self.id = id
        self.host = host
        self.member = member
        self.coreID = coreID
    }
}

/// Between hosts and members: delays, and what is kept back or lost.
extension World {
    private func delay() -> Instant {
        // One packet in 200 is lost and sent again.
        if random.below(200) == 0 { return random.within(200_000...400_000) }
        return random.within(networkDelay)
    }

    func connect(_ host: SimulatedHost, _ coreID: ConnectionID, member: Int) -> Connection {
        let connection = Connection(
            id: connections.count, host: host.index, member: member, coreID: coreID)
        connections.append(connection)
        recent[host.index][member].append(connection)
        if recent[host.index][member].count > 20 { recent[host.index][member].removeFirst() }
        connection.toServer.isHeld = isHeldToServer[host.index][member]
        connection.toClient.isHeld = isHeldToClient[host.index][member]
        return connection
    }

    /// What TCP_INFO says: nobody acknowledges. A proxy in between, as one connection in four has, acknowledges whatever becomes
    /// of what it takes.
    func isPathDead(_ connection: Connection) -> Bool {
        if connection.id % 4 == 0, connection.isEstablished { return false }
        let (up, down) = (connection.toServer, connection.toClient)
        return up.isHeld || up.isBroken || down.isHeld || down.isBroken
            || !cluster.members[connection.member].isUp
    }

    func send(_ packet: ClientPacket, on connection: Connection) {
        guard !connection.toServer.isBroken, !connection.isRefused else { return }
        guard !connection.toServer.isHeld else {
            connection.heldToServer.append(packet)
            return
        }
        connection.toServer.last = max(connection.toServer.last, now + delay())
        agenda.add(.toServer(connection, packet), at: connection.toServer.last)
    }

    func send(_ packet: ServerPacket, on connection: Connection) {
        guard !connection.toClient.isBroken, !connection.isClosed else { return }
        guard !connection.toClient.isHeld else {
            connection.heldToClient.append(packet)
            return
        }
        connection.toClient.last = max(connection.toClient.last, now + delay())
        agenda.add(.toClient(connection, packet), at: connection.toClient.last)
    }

    func arrived(_ packet: ClientPacket, _ connection: Connection) {
        guard !connection.toServer.isBroken else { return }
        if !connection.isEstablished {
            // A client that has given up before its server was reached leaves nothing there.
            guard !connection.isClosed, !connection.isRefused else { return }
            guard
                cluster.connect(
                    connection.id, to: connection.member, author: hosts[connection.host].author)
            else {
                connection.isRefused = true
                send(.reset, on: connection)
                return
            }
            connection.isEstablished = true
            connection.store = stores.count - 1
        }
        cluster.deliver(packet, on: connection.id, to: connection.member, at: now)
    }

    func arrived(_ packet: ServerPacket, _ connection: Connection) {
        guard !connection.toClient.isBroken, !connection.isClosed else { return }
        hosts[connection.host].hear(packet, on: connection)
    }

    /// Sends the cluster's packets.
    func flushCluster() {
        guard !cluster.outbox.isEmpty else { return }
        let packets = cluster.outbox
        cluster.outbox = []
        for (id, packet) in packets { send(packet, on: connections[id]) }
    }

    // MARK: - Faults

    /// Breaks a connection; each side may notice or not.
    func cut(_ connection: Connection, tellsClient: Bool, tellsServer: Bool) {
        if tellsClient {
            // Packets on their way to the client are lost with the connection, or still arrive
            // before its end.
            if random.oneIn(2) { connection.toClient.isBroken = true }
            let host = hosts[connection.host]
            agenda.add(
                .connectionLost(connection, host.generation),
                at: max(now + delay(), connection.toClient.last))
        } else {
            connection.toClient.isBroken = true
        }
        // Packets that were sent may still be carried out.
        if random.oneIn(2) { connection.toServer.isBroken = true }
        if tellsServer, connection.isEstablished {
            agenda.add(
                .serverNotices(connection), at: max(now + delay(), connection.toServer.last))
        }
    }

    func hold(_ host: Int, _ member: Int, toServer: Bool, toClient: Bool) {
        if toServer { isHeldToServer[host][member] = true }
        if toClient { isHeldToClient[host][member] = true }
        for connection in recent[host][member] {
            if toServer { connection.toServer.isHeld = true }
            if toClient { connection.toClient.isHeld = true }
        }
    }

    func release(_ host: Int, _ member: Int) {
        isHeldToServer[host][member] = false
        isHeldToClient[host][member] = false
        for connection in recent[host][member] {
            connection.toServer.isHeld = false
            connection.toClient.isHeld = false
            let (up, down) = (connection.heldToServer, connection.heldToClient)
            connection.heldToServer = []
            connection.heldToClient = []
            for packet in up { send(packet, on: connection) }
            for packet in down { send(packet, on: connection) }
        }
    }
}
