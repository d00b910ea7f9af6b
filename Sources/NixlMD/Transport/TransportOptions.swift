// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CCurl
import CSystem
import EtcdProtocol

/// How https connections are made. Paths and names are bytes without NUL.
struct TLSOptions {
    /// nil: the authorities that libcurl trusts by default.
    var caFile: Bytes?
    var certFile: Bytes?
    var keyFile: Bytes?
    /// The name to verify instead of the endpoint's host.
    var serverName: Bytes?
    var verify: Bool
}

extension TLSOptions {
    /// With the file that libcurl would use, if it exists, as `caFile`, so that its changes are seen.
    func withDefaultAuthorities() -> TLSOptions {
        guard caFile == nil, let easy = curl_easy_init() else { return self }
        defer { curl_easy_cleanup(easy) }
        guard let path = ccurl_default_ca_file(easy), ccurl_file_stamp(path) != 0 else {
            return self
        }
        var options = self
        options.caFile = Bytes(cString: path)
        return options
    }
}

extension TLSOptions {
    /// The defect of the key file, which libcurl only calls unusable; nil: none is visible.
    var defectOfKey: Text? {
        guard let keyFile, let certFile else { return nil }
        guard var text = Self.content(of: keyFile) else { return nil }
        defer { text.wipe() }
        if text.isEmpty { return "the key file '\(keyFile)' is empty" }
        if text.contains("ENCRYPTED") {
            return "the key in '\(keyFile)' is encrypted: give one without a passphrase"
        }
        guard text.contains("PRIVATE KEY-----") else {
            return "the file '\(keyFile)' holds no private key in PEM"
        }
        guard let certificate = Self.content(of: certFile), certificate.contains("CERTIFICATE-----")
        else { return nil }
        return "the key in '\(keyFile)' is not that of the certificate in '\(certFile)', or damaged"
    }

    private static let contentMax = 64 << 10

    private static func content(of file: Bytes) -> Bytes? {
        var text = Bytes()
        var isRead = false
        text.append(addingCapacity: contentMax) { output in
            output.withUnsafeMutableBufferPointer { room, count in
                let read = file.withCString { csystem_read_file($0, room.baseAddress, contentMax) }
                isRead = read >= 0
                count += max(Int(read), 0)
            }
        }
        return isRead ? text : nil
    }
}

/// One entry of the endpoint list.
struct TransportEndpoint {
    /// A name or an address as it was given, without brackets.
    var host: Bytes
    var port: UInt16
    var tls: Bool
}

extension TransportEndpoint {
    /// The value of ':authority'.
    func authority(serverName: Bytes?) -> Bytes {
        var text = Bytes()
        text.append(bracketed: serverName ?? host)
        text.append(UInt8(ascii: ":"))
        text.append(contentsOf: Text("\(port)").bytes)
        return text
    }

    /// `http://host:port`. `serverName`: stands for the host, so that TLS verifies it instead.
    func url(serverName: Bytes?) -> Bytes {
        (tls ? Bytes("https://") : Bytes("http://")) + authority(serverName: serverName)
    }

    /// The entry of CURLOPT_CONNECT_TO that leads any URL to `address`: libcurl resolves nothing.
    func connectTo(address: Bytes) -> Bytes {
        var entry = Bytes("::")
        entry.append(bracketed: address)
        entry.append(UInt8(ascii: ":"))
        entry.append(contentsOf: Text("\(port)").bytes)
        return entry
    }

    /// For people: the URL, and the address where the URL does not say it.
    func description(address: Bytes) -> Text {
        let name = url(serverName: nil)
        return address == host ? "\(name)" : "\(name) (\(address))"
    }
}

extension [UInt8] {
    /// A host as it stands in a URL: IPv6 addresses in brackets.
    fileprivate mutating func append(bracketed host: Bytes) {
        guard host.contains(":") else { return append(contentsOf: host) }
        append(UInt8(ascii: "["))
        append(contentsOf: host)
        append(UInt8(ascii: "]"))
    }

    /// Calls `body` with these bytes as a C string; they hold no NUL.
    func withCString<Result>(_ body: (UnsafePointer<CChar>) -> Result) -> Result {
        var text = self
        text.append(0)
        return text.withUnsafeBytes { bytes in
            body(bytes.assumingMemoryBound(to: CChar.self).baseAddress.unsafelyUnwrapped)
        }
    }
}
