// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import EtcdProtocol
import Testing

@testable import NixlMD

private func parse(_ text: String) -> [Endpoint]? {
    try? EndpointList(source: "test").parse(Bytes(text.utf8))
}

private func endpoint(
    _ host: String, _ port: UInt16 = 2379, tls: Bool = false, isAddress: Bool = false
) -> Endpoint {
    Endpoint(host: Bytes(host.utf8), port: port, tls: tls, isAddress: isAddress)
}

private func refusal(_ text: String) -> String {
    do throws(Refusal) {
        _ = try EndpointList(source: "NIXL_ETCD_ENDPOINTS").parse(Bytes(text.utf8))
        return ""
    } catch {
        #expect(error.status == StatusCode.invalidParameter)
        return String(decoding: error.text.bytes, as: UTF8.self)
    }
}

@Suite struct EndpointListTests {
    @Test(arguments: [
        ("host", endpoint("host")),
        ("host:1", endpoint("host", 1)),
        ("http://host:65535", endpoint("host", 65535)),
        ("http://host/", endpoint("host")),
        ("HTTP://Host.Example", endpoint("host.example")),
        ("https://host:2379/", endpoint("host", tls: true)),
        ("127.0.0.1:02379", endpoint("127.0.0.1", isAddress: true)),
        ("[::1]", endpoint("::1", isAddress: true)),
        ("http://[FE80::1]:7", endpoint("fe80::1", 7, isAddress: true)),
        ("etcd_1.my-net", endpoint("etcd_1.my-net")),
        ("etcd.example.", endpoint("etcd.example.")),
        ("10.example", endpoint("10.example")),
    ])
    func entry_isParsed(text: String, expected: Endpoint) {
        #expect(parse(text) == [expected])
        #expect(parse(" ,;\t\(text) ;, \n") == [expected])
    }

    @Test func entries_areSeparatedInOrder() {
        let expected = [endpoint("b"), endpoint("a", 1), endpoint("::1", isAddress: true)]
        #expect(parse("b,a:1;[::1]") == expected)
        #expect(parse(" b , http://a:1/ ;; http://[::1] ,") == expected)
    }

    @Test func duplicates_areDropped() {
        #expect(parse("a, http://A:2379/, a:1") == [endpoint("a"), endpoint("a", 1)])
    }

    @Test(arguments: [
        ("", "holds no endpoint"), (" ,; ", "holds no endpoint"),
        ("ftp://a", "'ftp://a'"), ("://a", "scheme"), ("http://", "host is empty"),
        (":2379", "host is empty"), ("a:", "port ''"), ("a:0", "port '0'"),
        ("a:65536", "port '65536'"), ("a:-1", "port '-1'"), ("a:123456", "port '123456'"),
        ("a:1x", "port '1x'"), ("::1", "brackets"), ("[::1", "not closed"), ("[::1]1", "after"),
        ("[::1%lo]", "IPv6"), ("[127.0.0.1]", "IPv6"), ("[]", "IPv6"), ("a//", "path"),
        ("a/b", "path"), ("a?b", "query"), ("a#b", "fragment"), ("a b", "'a b'"),
        ("h\u{e9}", "host name"), ("300.0.0.1", "IPv4"), ("1.2.3", "IPv4"), ("1", "IPv4"),
        ("http://a,https://b", "https://b"), ("https://a;b", "'b'"),
    ])
    func refuses(text: String, part: String) {
        let told = refusal(text)
        #expect(told.hasPrefix("NIXL_ETCD_ENDPOINTS"))
        #expect(told.contains(part), "\(told)")
    }

    @Test(arguments: [
        "http://user:secret@host:2379", "user:secret@host", "http://u:secret,more@host",
        "http://u:a;secret@host:1", "a:1,http://secret@host",
    ])
    func error_neverShowsAPassword(_ text: String) {
        let told = refusal(text)
        #expect(told.contains("config.user"))
        #expect(!told.contains("secret"))
    }

    @Test(arguments: [
        "http://host:2379/?token=secret", "host?token=secret", "ftp://host/secret", "host:1#secret",
        "http://a:1,https://b:1/secret", "/secret/http://", "h?token=secret://a",
    ])
    func error_neverShowsAPathOrAQuery(_ text: String) {
        #expect(!refusal(text).contains("secret"), "\(refusal(text))")
    }

    @Test func tooManyEntries_areRefused() {
        let many = (1...64).map { "h\($0)" }
        #expect(parse(many.joined(separator: ","))?.count == 64)
        #expect(refusal((many + ["x"]).joined(separator: ",")).contains("NIXL_MD_MAX_ENDPOINTS"))
        // The same one again does not count.
        #expect(parse((many + ["h1"]).joined(separator: ","))?.count == 64)
    }

    @Test func longHost_isRefused() {
        #expect(parse(String(repeating: "a", count: 253))?.count == 1)
        #expect(parse(String(repeating: "a", count: 254)) == nil)
    }
}
