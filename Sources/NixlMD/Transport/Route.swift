// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import EtcdProtocol
import MetadataCore

/// Where the core wants its calls and streams to go: what `.connect` said. One connection of TCP serves it; a second one
/// takes over when the server sends the first away.
final class Route {
    let id: ConnectionID
    let isTLS: Bool
    let url: Bytes
    /// CURLOPT_CONNECT_TO: leads the URL to the address.
    let connectTo: Bytes
    /// For people.
    let name: Text
    let headers: RequestHeaders

    /// Where new requests go; nil: the next one makes it.
    var current: Connection?
    /// The server has sent these away; what was asked on them is still answered.
    var draining: [Connection] = []
    /// Calls that are not on a connection yet, in order. The core bounds their number (`Limits.callsInFlight`).
    var waiting: [Request] = []

    init(
        id: ConnectionID, isTLS: Bool, url: Bytes, connectTo: Bytes, name: Text,
        headers: RequestHeaders
    ) {
        self.id = id
        self.isTLS = isTLS
        self.url = url
        self.connectTo = connectTo
        self.name = name
        self.headers = headers
    }
}
