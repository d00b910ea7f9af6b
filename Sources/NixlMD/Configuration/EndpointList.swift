// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CNixlMD
import CSystem
import EtcdProtocol

/// One entry of the endpoint list.
struct Endpoint: Equatable {
    /// A name or an address, in lower case and without brackets.
    var host: Bytes
    var port: UInt16
    var tls: Bool
    /// The host is an address and needs no resolver.
    var isAddress: Bool

    static let defaultPort: UInt16 = 2379

    /// For people: `host:port`.
    var name: Bytes {
        let text: Text =
            host.contains(UInt8(ascii: ":")) ? "[\(host)]:\(port)" : "\(host):\(port)"
        return text.bytes
    }

    var forTransport: TransportEndpoint { TransportEndpoint(host: host, port: port, tls: tls) }
}

/// Reads a list of endpoints as stock NIXL takes it: entries separated by ',' or ';', `host:port` with or without a scheme.
struct EndpointList {
    /// Where the list comes from, for people.
    let source: StaticString

    func parse(_ text: Bytes) throws(Refusal) -> [Endpoint] {
        // A password may hold a separator, so that parts of it would be taken, and shown, as entries.
        guard !text.contains(UInt8(ascii: "@")) else {
            throw .invalid(
                "\(source) holds '@': user and password do not belong here: set config.user and config.password"
            )
        }
        var endpoints: [Endpoint] = []
        for part in text.split(whereSeparator: {
            $0 == UInt8(ascii: ",") || $0 == UInt8(ascii: ";")
        }) {
            let entry = Self.trimmed(part)
            guard !entry.isEmpty else { continue }
            let endpoint = try endpoint(entry)
            if let first = endpoints.first, first.tls != endpoint.tls {
                throw .invalid(
                    "\(source) mixes http:// and https:// ('\(shown(entry))' differs from the first entry): either all are https or none"
                )
            }
            guard !endpoints.contains(endpoint) else { continue }
            guard endpoints.count < NIXL_MD_MAX_ENDPOINTS else {
                throw .invalid(
                    "\(source) has more than \(NIXL_MD_MAX_ENDPOINTS) endpoints, the limit NIXL_MD_MAX_ENDPOINTS"
                )
            }
            endpoints.append(endpoint)
        }
        guard !endpoints.isEmpty else {
            throw .invalid("\(source) holds no endpoint: give at least one, like 127.0.0.1:2379")
        }
        return endpoints
    }

    private func endpoint(_ entry: Bytes) throws(Refusal) -> Endpoint {
        var rest = entry
        let tls = try takeScheme(&rest, of: entry)
        if rest.last == UInt8(ascii: "/") { rest.removeLast() }
        for separator in [UInt8(ascii: "/"), UInt8(ascii: "?"), UInt8(ascii: "#")]
        where rest.contains(separator) {
            throw refusal(entry, "an endpoint has no path, query or fragment: leave it out")
        }
        let (host, port, isBracketed) = try split(rest, of: entry)
        let isAddress = try checkHost(host, isBracketed: isBracketed, of: entry)
        return Endpoint(host: host, port: port, tls: tls, isAddress: isAddress)
    }

    /// Whether the scheme is https; none means http.
    private func takeScheme(_ rest: inout Bytes, of entry: Bytes) throws(Refusal) -> Bool {
        let mark = Bytes("://")
        guard let start = rest.indices.first(where: { rest[$0...].starts(with: mark) }) else {
            return false
        }
        let scheme = rest[..<start].map(Self.lowercased)
        rest.removeSubrange(...(start + 2))
        if scheme == Bytes("http") { return false }
        if scheme == Bytes("https") { return true }
        throw refusal(entry, "its scheme is neither http:// nor https://")
    }

    /// Host and port of `host`, `host:port`, `[address]` or `[address]:port`.
    private func split(
        _ text: Bytes, of entry: Bytes
    ) throws(Refusal) -> (host: Bytes, port: UInt16, isBracketed: Bool) {
        let colon = UInt8(ascii: ":")
        if text.first == UInt8(ascii: "[") {
            guard let end = text.firstIndex(of: UInt8(ascii: "]")) else {
                throw refusal(entry, "its bracket is not closed")
            }
            let host = text[1..<end].map(Self.lowercased)
            let rest = text[(end + 1)...]
            guard !rest.isEmpty else { return (host, Endpoint.defaultPort, true) }
            guard rest.first == colon else {
                throw refusal(entry, "after the bracket only ':' and a port may follow")
            }
            return (host, try port(Bytes(rest.dropFirst()), of: entry), true)
        }
        guard let first = text.firstIndex(of: colon) else {
            return (text.map(Self.lowercased), Endpoint.defaultPort, false)
        }
        guard !text[(first + 1)...].contains(colon) else {
            throw refusal(entry, "an IPv6 address stands in brackets, like [::1]:2379")
        }
        let host = text[..<first].map(Self.lowercased)
        return (host, try port(Bytes(text[(first + 1)...]), of: entry), false)
    }

    private func port(_ digits: Bytes, of entry: Bytes) throws(Refusal) -> UInt16 {
        var port = 0
        // More digits than a port has would overflow in the end.
        var isNumber = (1...5).contains(digits.count)
        for digit in digits where isNumber {
            isNumber = (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit)
            port = port * 10 + (Int(digit) - Int(UInt8(ascii: "0")))
        }
        guard isNumber, port > 0, let port = UInt16(exactly: port) else {
            throw refusal(entry, "its port '\(digits, limit: 20)' is not a number from 1 to 65535")
        }
        return port
    }

    /// Whether the host is an address.
    private func checkHost(
        _ host: Bytes, isBracketed: Bool, of entry: Bytes
    ) throws(Refusal) -> Bool {
        if isBracketed {
            // A NUL would hide what follows it. Zones (%eth0) are not in the address either.
            guard !host.contains(0), host.asCString({ csystem_is_ipv6($0) }) else {
                throw refusal(entry, "there is no IPv6 address in its brackets")
            }
            return true
        }
        guard let last = host.last else { throw refusal(entry, "its host is empty") }
        guard Self.isName(host) else {
            throw refusal(entry, "its host is neither a host name nor an address")
        }
        if host.asCString({ csystem_is_ipv4($0) }) { return true }
        // No top-level domain ends in a digit (RFC 3696, section 2), so this was meant to be an address.
        guard !Self.isNumeric(host), last != UInt8(ascii: "-") else {
            throw refusal(entry, "its host is neither a host name nor an IPv4 address")
        }
        return false
    }

    /// RFC 1123, section 2.1, and the underscore, which container networks use.
    private static func isName(_ host: Bytes) -> Bool {
        guard (1...253).contains(host.count) else { return false }
        return host.allSatisfy { byte in
            switch lowercased(byte) {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
                true
            default: false
            }
        }
    }

    /// Whether it is a host name or an address.
    static func isHost(_ text: Bytes) -> Bool {
        isName(text) || (!text.contains(0) && text.asCString { csystem_is_ipv6($0) })
    }

    private static func isNumeric(_ host: Bytes) -> Bool {
        host.allSatisfy {
            $0 == UInt8(ascii: ".") || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
        }
    }

    private func refusal(_ entry: Bytes, _ why: Text) -> Refusal {
        .invalid("\(source): endpoint '\(shown(entry))': \(why)")
    }

    /// An entry without a path and a query: a token may be in them.
    private func shown(_ entry: Bytes) -> Bytes {
        let isSeparator = { (byte: UInt8) in
            byte == UInt8(ascii: "/") || byte == UInt8(ascii: "?") || byte == UInt8(ascii: "#")
        }
        // A scheme has none of them.
        let mark = entry.firstIndex { $0 == UInt8(ascii: ":") || isSeparator($0) }
        let start = mark.map { entry[$0...].starts(with: Bytes("://")) ? $0 + 3 : 0 } ?? 0
        let end = entry[start...].firstIndex(where: isSeparator)
        guard let end, end + 1 < entry.count else { return entry }
        return entry[...end] + Bytes("...")
    }

    private static func trimmed(_ part: ArraySlice<UInt8>) -> Bytes {
        let isSpace = { (byte: UInt8) in byte == 0x20 || (0x09...0x0d).contains(byte) }
        var part = part
        while let first = part.first, isSpace(first) { part.removeFirst() }
        while let last = part.last, isSpace(last) { part.removeLast() }
        return Bytes(part)
    }

    private static func lowercased(_ byte: UInt8) -> UInt8 {
        (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte + 32 : byte
    }
}
