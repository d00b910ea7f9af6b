// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import CNixlMD
import EtcdProtocol

// The list of endpoints, as it comes from a configuration or the environment. A trap is a find, and so is a list that is read
// otherwise when it is written again, and a text that shows what may be a secret.

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = FuzzInput(start, count)
    let text = input.number(2) == 0 ? input.rest() : nearlyRight(&input)
    let list = EndpointList(source: "fuzz")
    do throws(Refusal) {
        let endpoints = try list.parse(text)
        check(endpoints, list)
    } catch {
        check(error.text)
    }
    return 0
}

/// Pieces of lists that are right.
private func nearlyRight(_ input: inout FuzzInput) -> Bytes {
    let pieces: [StaticString] = [
        "http://", "https://", "HTTPS://", "://", "127.0.0.1", "[::1]", "[", "]", "::", "localhost",
        "etcd-0.etcd", "a_b", ":", ":2379", ":0", ":65536", ":99999999999999999999", ",", ";", " ",
        "/", "?token=SECRET", "#", "u:SECRET@", "/SECRET/", "256.1.1.1", "1.2.3", "-", ".",
    ]
    var text = Bytes()
    while !input.isAtEnd, text.count < 100_000 {
        let kind = input.number(pieces.count + 2)
        if kind < pieces.count {
            text += Bytes(pieces[kind])
        } else {
            text += input.take(input.number(300))
        }
    }
    return text
}

private func check(_ endpoints: [Endpoint], _ list: EndpointList) {
    precondition(!endpoints.isEmpty && endpoints.count <= Int(NIXL_MD_MAX_ENDPOINTS))
    var again = Bytes()
    for endpoint in endpoints {
        precondition(!endpoint.host.isEmpty && endpoint.port > 0)
        precondition(!endpoint.host.contains(0), "a NUL hides what follows it")
        let isIPv6 = endpoint.host.contains(UInt8(ascii: ":"))
        let host = isIPv6 ? Bytes("[") + endpoint.host + Bytes("]") : endpoint.host
        // Not its name, which is for people and has a limit.
        again += Bytes(endpoint.tls ? "https://" : "http://") + host
        again += Bytes(":") + Bytes(String(endpoint.port).utf8) + Bytes(",")
    }
    guard let read = try? list.parse(again) else { fatalError("a list that is refused as written") }
    precondition(read == endpoints, "a list that is read otherwise")
}

private func check(_ refusal: Text) {
    let shown = refusal.bytes
    for byte in shown { precondition(byte >= 0x20 && byte != 0x7f, "not a line") }
    for secret: StaticString in ["?token=SECRET", "/SECRET/", "SECRET@"] {
        precondition(
            !shown.indices.contains { shown[$0...].starts(with: Bytes(secret)) },
            "a secret is shown")
    }
}
