// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CCurl
import CNixlMD
import EtcdProtocol

extension Transfer {
    /// Sizes of libcurl's buffers, which it allocates for each transfer. Large ones make moving 1 MiB much cheaper;
    /// most calls and the LeaseKeepAlive stream move less than small ones hold.
    enum BufferSize {
        static let small = 16 << 10
        static let large = 256 << 10
    }

    /// The options that no request changes. false: out of memory, or not this libcurl.
    func setLastingOptions(errorBuffer: UnsafeMutablePointer<CChar>) -> Bool {
        let context = Unmanaged.passUnretained(self).toOpaque()
        let results = [
            ccurl_set_pointer(easy, CURLOPT_PRIVATE, context),
            ccurl_set_pointer(easy, CURLOPT_ERRORBUFFER, errorBuffer),
            // A library never touches its host's signals.
            ccurl_set_long(easy, CURLOPT_NOSIGNAL, 1),
            ccurl_set_protocols(easy),
            // Nothing of the environment: no proxy, however http_proxy is set.
            ccurl_set_text(easy, CURLOPT_PROXY, ""),
            ccurl_set_text(easy, CURLOPT_NOPROXY, "*"),
            ccurl_set_long(easy, CURLOPT_FOLLOWLOCATION, 0),
            ccurl_set_long(easy, CURLOPT_NETRC, Int(CURL_NETRC_IGNORED.rawValue)),
            ccurl_set_long(easy, CURLOPT_PIPEWAIT, 1),
            // By default libcurl drops a connection that was idle for 118 s.
            ccurl_set_long(easy, CURLOPT_MAXAGE_CONN, Int(Int32.max)),
            Self.userAgent.withCString { ccurl_set_text(easy, CURLOPT_USERAGENT, $0) },
            ccurl_set_long(easy, CURLOPT_POST, 1),
            ccurl_set_data_callback(easy, CURLOPT_READFUNCTION, onRead),
            ccurl_set_pointer(easy, CURLOPT_READDATA, context),
            ccurl_set_data_callback(easy, CURLOPT_HEADERFUNCTION, onHeader),
            ccurl_set_pointer(easy, CURLOPT_HEADERDATA, context),
            ccurl_set_data_callback(easy, CURLOPT_WRITEFUNCTION, onBody),
            ccurl_set_pointer(easy, CURLOPT_WRITEDATA, context),
            ccurl_set_open_socket(easy, onOpenSocket),
            ccurl_set_close_socket(easy, onCloseSocket),
            // Cannot be changed while libcurl has the buffer, which 7.88.1 keeps beyond the transfer.
            ccurl_set_long(
                easy, CURLOPT_BUFFERSIZE,
                readsLargely ? BufferSize.large : BufferSize.small),
        ]
        for result in results where result != CURLE_OK { return false }
        return true
    }

    private static var userAgent: Bytes {
        Text("nixl_md/\(NIXL_MD_VERSION_MAJOR).\(NIXL_MD_VERSION_MINOR).\(NIXL_MD_VERSION_PATCH)")
            .bytes
    }

    /// The options of a request; `length` nil: a stream.
    func setRequest(
        url: Bytes, method: EtcdMethod, connectTo: StringList, length: Int?, httpVersion: Int
    ) -> Bool {
        let upload = (length ?? 0) > BufferSize.small ? BufferSize.large : BufferSize.small
        let results = [
            (url + Bytes(method.path)).withCString { ccurl_set_text(easy, CURLOPT_URL, $0) },
            ccurl_set_list(easy, CURLOPT_CONNECT_TO, connectTo.list),
            ccurl_set_list(easy, CURLOPT_HTTPHEADER, headers?.list),
            ccurl_set_long(easy, CURLOPT_HTTP_VERSION, httpVersion),
            // With its length, a unary request ends with its last DATA frame; without, in a frame that libcurl sends
            // later, and a fast server ends the stream before.
            ccurl_set_size(easy, CURLOPT_POSTFIELDSIZE_LARGE, Int64(length ?? -1)),
            ccurl_set_long(easy, CURLOPT_UPLOAD_BUFFERSIZE, upload),
            ccurl_set_long(easy, CURLOPT_FORBID_REUSE, 0),
        ]
        for result in results where result != CURLE_OK { return false }
        return true
    }

    /// Lets go of what the request needed.
    func clearRequest() {
        _ = ccurl_set_list(easy, CURLOPT_HTTPHEADER, nil)
        _ = ccurl_set_list(easy, CURLOPT_CONNECT_TO, nil)
        // Frees the upload buffer too.
        _ = ccurl_set_long(easy, CURLOPT_UPLOAD_BUFFERSIZE, BufferSize.small)
    }

    /// The sockets of the connection belong to `multi`.
    func setSockets(of multi: CurlMulti) -> Bool {
        let context = Unmanaged.passUnretained(multi).toOpaque()
        return ccurl_set_pointer(easy, CURLOPT_OPENSOCKETDATA, context) == CURLE_OK
            && ccurl_set_pointer(easy, CURLOPT_CLOSESOCKETDATA, context) == CURLE_OK
    }

    /// The connection is to be closed when its last transfer is removed.
    func forbidReuse() {
        _ = ccurl_set_long(easy, CURLOPT_FORBID_REUSE, 1)
    }

    func setTLS(_ tls: TLSOptions) -> Bool {
        var results = [
            ccurl_set_long(easy, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2),
            ccurl_set_long(easy, CURLOPT_SSL_VERIFYPEER, tls.verify ? 1 : 0),
            ccurl_set_long(easy, CURLOPT_SSL_VERIFYHOST, tls.verify ? 2 : 0),
        ]
        if let file = tls.caFile {
            results.append(file.withCString { ccurl_set_text(easy, CURLOPT_CAINFO, $0) })
            // libcurl keeps what it parsed only where there is no directory of authorities.
            results.append(ccurl_set_text(easy, CURLOPT_CAPATH, nil))
            results.append(ccurl_keep_authorities(easy))
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
