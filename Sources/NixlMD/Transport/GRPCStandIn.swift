// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
// Stands in until EtcdProtocol has these types.
import EtcdProtocol

struct GRPCTrailers {
    private(set) var status: GRPCStatus?
    private(set) var httpStatus: Int?
    private(set) var contentTypeIsGRPC = false
    init() {}
    mutating func add(line: Span<UInt8>) {
        var bytes: Bytes = []
        for i in line.indices { bytes.append(line[i]) }
        while let l = bytes.last, l == 13 || l == 10 || l == 32 { bytes.removeLast() }
        if bytes.hasPrefix(Bytes("HTTP/")) {
            guard let sp = bytes.firstIndex(of: 32) else { return }
            var n = 0
            for b in bytes[(sp + 1)...].prefix(3) { n = n * 10 + Int(b) - 48 }
            httpStatus = n
        } else if bytes.hasPrefix(Bytes("grpc-status: ")) {
            var n: Int32 = 0
            for b in bytes[13...].prefix(4) { n = n * 10 + Int32(b) - 48 }
            status = GRPCStatus(code: n, message: status?.message ?? [])
        } else if bytes.hasPrefix(Bytes("grpc-message: ")) {
            status?.message = Bytes(bytes[14...])
        } else if bytes.hasPrefix(Bytes("content-type: application/grpc")) {
            contentTypeIsGRPC = true
        }
    }
}
enum DeframeError: Error { case tooLarge(Int), compressed }
struct GRPCDeframer {
    var buffer: Bytes = []
    var ready: [Bytes] = []
    let maximum: Int
    init(maximumMessage: Int) { maximum = maximumMessage }
    mutating func append(_ bytes: Span<UInt8>) throws(DeframeError) {
        bytes.withUnsafeBufferPointer { buffer.append(contentsOf: $0) }
        var head = 0
        while buffer.count - head >= 5 {
            if buffer[head] != 0 { throw .compressed }
            var n = 0
            for i in 1...4 { n = n << 8 | Int(buffer[head + i]) }
            if n > maximum { throw .tooLarge(n) }
            guard buffer.count - head >= 5 + n else { break }
            ready.append(Bytes(buffer[(head + 5)..<(head + 5 + n)]))
            head += 5 + n
        }
        buffer.removeFirst(head)
    }
    mutating func next() -> Bytes? { ready.isEmpty ? nil : ready.removeFirst() }
    var isMidMessage: Bool { !buffer.isEmpty }
}
