// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CCurl
import EtcdProtocol
import MetadataCore

/// The one connection that the transport may have, from `.connect` until it is dropped or lost. libcurl opens it
/// with the first transfer.
struct Connection {
    let id: ConnectionID
    let endpoint: Int
    let isTLS: Bool
    /// What every URL begins with.
    let url: Bytes
    /// For people.
    let name: Text
    /// CURLOPT_CONNECT_TO of all its transfers.
    let connectTo: StringList
    let multi: CurlMulti
    /// A transfer has been given to libcurl, so that it is opening a connection or has one.
    var isStarted = false

    /// CURLOPT_HTTP_VERSION of its next transfer. In cleartext only the one that opens the connection may be marked
    /// 'prior knowledge': libcurl 7.88.1 sends the preface of HTTP/2 again for every further one.
    var httpVersion: Int {
        if isTLS { return CURL_HTTP_VERSION_2TLS }
        return isStarted ? CURL_HTTP_VERSION_2_0 : CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE
    }
}
