// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

@Suite struct GRPCTrailersTests {
    private func trailers(_ lines: String...) -> GRPCTrailers {
        var trailers = GRPCTrailers()
        for line in lines {
            // ':status' begins with the separator.
            let name = line.prefix(1) + line.dropFirst().prefix { $0 != ":" }
            let value = line.dropFirst(name.count + 1)
            trailers.add(name: bytes(String(name)).span, value: bytes(String(value)).span)
        }
        return trailers
    }

    @Test func success() {
        let read = trailers(
            ":status:200", "content-type: application/grpc", "", "grpc-status: 0", "grpc-message: ")
        #expect(read.httpStatus == 200)
        #expect(read.contentTypeIsGRPC)
        #expect(read.status == GRPCStatus(code: GRPCStatus.ok, message: []))
    }

    /// As etcd refuses a call: all in the only block of headers.
    @Test func trailersOnly() {
        let read = trailers(
            ":status:200", "content-type: application/grpc", "grpc-status: 3",
            "grpc-message: etcdserver: request is too large")
        #expect(
            read.status
                == GRPCStatus(code: 3, message: bytes("etcdserver: request is too large")))
    }

    @Test func noTrailers_haveNoStatus() {
        let read = trailers()
        #expect(read.httpStatus == nil)
        #expect(read.status == nil)
        #expect(!read.contentTypeIsGRPC)
        #expect(trailers(":status:200", "grpc-message: alone").status == nil)
    }

    @Test func orderAndCaseOfNamesDoNotMatter() {
        let read = trailers(
            "GRPC-MESSAGE:\t gone \t", "Grpc-Status:14", "CONTENT-TYPE: Application/GRPC")
        #expect(read.status == GRPCStatus(code: 14, message: bytes("gone")))
        #expect(read.contentTypeIsGRPC)
    }

    @Test func status_ofALaterBlock_replacesTheEarlier() {
        let read = trailers(
            ":status:103", "content-type: application/grpc", "grpc-status: 5", "grpc-message: x",
            ":status:502")
        #expect(read.httpStatus == 502)
        #expect(read.status == nil)
        #expect(!read.contentTypeIsGRPC)
        #expect(
            trailers("grpc-message: old", ":status:200", "grpc-status: 2").status
                == GRPCStatus(code: 2, message: []))
    }

    @Test(arguments: [
        ("200", 200), ("404", 404), ("", 0), ("20", 0), ("2000", 0), ("abc", 0), ("-12", 0),
        ("99999999999999999999", 0), (" 200", 0),
    ])
    func httpStatus(value: String, status: Int) {
        #expect(trailers(":status:\(value)").httpStatus == status)
    }

    @Test(
        arguments: [
            ("0", 0), ("16", 16), ("007", 7), ("2147483647", .max), ("2147483648", 2),
            ("99999999999999999999", 2), ("", 2), ("-1", 2), ("+1", 2), ("1 2", 2), ("0x1", 2),
            ("a", 2),
        ] as [(String, Int32)])
    func statusNumber(text: String, code: Int32) {
        #expect(trailers("grpc-status: \(text)").status?.code == code)
    }

    @Test(arguments: [
        ("application/grpc", true), ("application/grpc+proto", true),
        ("application/grpc ; a=b", true),
        ("application/grpc-web", false), ("application/grpcx", false), ("application/json", false),
        ("application/grp", false), ("", false),
    ])
    func contentType(value: String, isGRPC: Bool) {
        #expect(trailers("content-type: \(value)").contentTypeIsGRPC == isGRPC)
    }

    @Test(arguments: [
        ("plain: with colon", "plain: with colon"), ("a%20b%3A%25", "a b:%"),
        ("%E4%bd%A0", "\u{4f60}"),
        ("100%", "100%"), ("%4", "%4"), ("%zz%41", "%zzA"), ("%4g", "%4g"), ("%%41", "%A"),
        ("", ""),
    ])
    func message(escaped: String, plain: String) {
        let read = trailers("grpc-status: 2", "grpc-message: \(escaped)")
        #expect(read.status?.message == bytes(plain))
    }

    @Test func messageOfAnyBytes() {
        #expect(
            trailers("grpc-status: 2", "grpc-message: %00%ff").status?.message == [0, 0xff])
    }

    @Test func otherFields_areIgnored() {
        let read = trailers(
            ":status:200", "grpc-statu: 1", "grpc-status-x: 1", "x-grpc-status: 1",
            " grpc-status: 1", ":", "grpc-status : 1")
        #expect(read.status == nil)
        #expect(read.httpStatus == 200)
    }

    @Test func anyBytes() {
        var random = SeededRandom(seed: 3)
        let names = ["", ":status", "grpc-status", "grpc-message", "content-type"]
        var read = GRPCTrailers()
        for _ in 0..<50_000 {
            let name = names.randomElement(using: &random) ?? ""
            let value = (0..<Int(random.next() % 12)).map { _ in
                Bytes("%0 :\r\n9aF/;".utf8).randomElement(using: &random) ?? 0xff
            }
            read.add(name: bytes(name).span, value: value.span)
            #expect((read.status?.code ?? 0) >= 0)
        }
    }
}
