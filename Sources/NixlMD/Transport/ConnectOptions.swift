// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CCurl
import EtcdProtocol

/// The options of a connection for libcurl.
struct ConnectOptions {
    let easy: UnsafeMutableRawPointer

    /// false: out of memory, or not this libcurl.
    func set(
        route: Route, connectTo: StringList, errorBuffer: UnsafeMutablePointer<CChar>,
        connector: Connector
    ) -> Bool {
        let context = Unmanaged.passUnretained(connector).toOpaque()
        let results = [
            ccurl_set_long(easy, CURLOPT_CONNECT_ONLY, 1),
            // The least: what comes is received into a buffer of our own.
            ccurl_set_long(easy, CURLOPT_BUFFERSIZE, 1024),
            // With 2TLS libcurl would put its own HTTP/2 on the connection.
            ccurl_set_long(easy, CURLOPT_HTTP_VERSION, Int(CCURL_HTTP_VERSION_1_1)),
            ccurl_set_pointer(easy, CURLOPT_ERRORBUFFER, errorBuffer),
            // A library never touches its host's signals.
            ccurl_set_long(easy, CURLOPT_NOSIGNAL, 1),
            ccurl_set_protocols(easy),
            // Nothing of the environment: no proxy, however http_proxy is set.
            ccurl_set_text(easy, CURLOPT_PROXY, ""),
            ccurl_set_text(easy, CURLOPT_NOPROXY, "*"),
            ccurl_set_long(easy, CURLOPT_FOLLOWLOCATION, 0),
            ccurl_set_long(easy, CURLOPT_NETRC, Int(CCURL_NETRC_IGNORED)),
            route.url.withCString { ccurl_set_text(easy, CURLOPT_URL, $0) },
            ccurl_set_list(easy, CURLOPT_CONNECT_TO, connectTo.list),
            ccurl_set_open_socket(easy, onOpenSocket),
            ccurl_set_pointer(easy, CURLOPT_OPENSOCKETDATA, easy),
            ccurl_set_pointer(easy, CURLOPT_PRIVATE, context),
            ccurl_set_close_socket(easy, onCloseSocket),
            ccurl_set_pointer(easy, CURLOPT_CLOSESOCKETDATA, context),
        ]
        for result in results where result != CURLE_OK { return false }
        return true
    }

    /// `keepsAuthorities`: those that libcurl has parsed are still those of the file.
    func setTLS(_ tls: TLSOptions, keepsAuthorities: Bool) -> Bool {
        var results = [
            // 'h2' is offered by `ccurl_set_tls_context` instead.
            ccurl_set_long(easy, CURLOPT_SSL_ENABLE_ALPN, 0),
            ccurl_set_tls_context(easy),
            ccurl_set_long(easy, CURLOPT_SSLVERSION, Int(CCURL_SSLVERSION_TLSv1_2)),
            ccurl_set_long(easy, CURLOPT_SSL_VERIFYPEER, tls.verify ? 1 : 0),
            ccurl_set_long(easy, CURLOPT_SSL_VERIFYHOST, tls.verify ? 2 : 0),
        ]
        if let file = tls.caFile {
            results.append(file.withCString { ccurl_set_text(easy, CURLOPT_CAINFO, $0) })
            // libcurl keeps what it parsed only where there is no directory of authorities.
            results.append(ccurl_set_text(easy, CURLOPT_CAPATH, nil))
            results.append(ccurl_keep_authorities(easy, keepsAuthorities))
        }
        if let file = tls.certFile {
            results.append(file.withCString { ccurl_set_text(easy, CURLOPT_SSLCERT, $0) })
        }
        if let file = tls.keyFile {
            results.append(file.withCString { ccurl_set_text(easy, CURLOPT_SSLKEY, $0) })
            // Without one, OpenSSL asks at the terminal for that of an encrypted key, and waits.
            results.append(ccurl_set_text(easy, CURLOPT_KEYPASSWD, ""))
        }
        for result in results where result != CURLE_OK { return false }
        return true
    }
}
