// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import EtcdProtocol
import MetadataCore

/// Where the core wants its calls and streams to go: what `.connect` said. One connection of TCP serves it; a second one
/// takes over when the server sends the first away.
struct Route {
    let id: ConnectionID
    let endpoint: Int
    let isTLS: Bool
    let url: Bytes
    /// CURLOPT_CONNECT_TO: leads the URL to the address.
    let connectTo: Bytes
    /// For people.
    let name: Text
    let headers: RequestHeaders
}
