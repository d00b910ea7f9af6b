// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

// All that reads bytes from a server: gRPC's framing, headers and trailers, etcd's messages. A trap is a find.

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = FuzzInput(start, count)
    switch input.number(10) {
    case 0: deframe(&input)
    case 1: readHeaders(&input)
    case 2: readRange(&input)
    case 3: read(input.rest(), TxnResponse.decode)
    case 4: read(input.rest(), LeaseGrantResponse.decode)
    case 5: read(input.rest(), LeaseRevokeResponse.decode)
    case 6: read(input.rest(), LeaseKeepAliveResponse.decode)
    case 7: read(input.rest(), LeaseTimeToLiveResponse.decode)
    case 8: read(input.rest(), AuthenticateResponse.decode)
    default: readWatch(&input)
    }
    return 0
}

private func read<Message: EtcdResponse>(
    _ bytes: Bytes, _ decode: (Bytes) throws(WireError) -> Message
) {
    guard let message = try? decode(bytes) else { return }
    if let range = message as? RangeResponse {
        _ = range.canAnswer(RangeRequest(key: Bytes("a"), rangeEnd: Bytes("b"), limit: 3))
    }
}

private func readRange(_ input: inout FuzzInput) {
    let portion = 1 + input.number(3)
    let bytes = input.rest()
    read(bytes, RangeResponse.decode)
    guard var page = try? RangePage.decode(bytes) else { return }
    var keys: [KeyValue] = []
    while page.keysLeft > 0 {
        guard let response = try? page.next(portion) else { return }
        precondition(!response.kvs.isEmpty, "keys are left")
        keys += response.kvs
    }
    guard let whole = try? RangeResponse.decode(bytes) else { return }
    precondition(keys == whole.kvs, "other keys in portions")
}

private func readWatch(_ input: inout FuzzInput) {
    let keepsValues = input.number(2) == 1
    let bytes = input.rest()
    let outline = try? WatchResponse.outline(of: bytes)
    let response = try? WatchResponse.decode(bytes, keepValues: keepsValues)
    if let response {
        precondition(outline?.watchID == response.watchID, "an outline of another message")
        precondition(outline?.hasTooManyEvents == false)
    }
}

/// A stream cut into pieces in two ways has the same messages.
private func deframe(_ input: inout FuzzInput) {
    let pieces = (0..<4).map { _ in input.number(256) + 1 }
    let stream = input.rest()
    precondition(messages(stream, pieces) == messages(stream, [stream.count + 1]))
}

private func messages(_ stream: Bytes, _ pieces: [Int]) -> [Bytes] {
    var deframer = GRPCDeframer(maximumMessage: 1 << 16)
    var found: [Bytes] = []
    var offset = 0
    var next = 0
    while offset < stream.count {
        let end = min(offset + pieces[next % pieces.count], stream.count)
        next += 1
        let piece = Bytes(stream[offset..<end])
        offset = end
        do throws(DeframeError) {
            try deframer.append(piece.span)
        } catch {
            offset = stream.count
        }
        while let message = deframer.next() { found.append(message) }
    }
    return found
}

private func readHeaders(_ input: inout FuzzInput) {
    let names: [StaticString] = [":status", "grpc-status", "grpc-message", "content-type", "x"]
    var trailers = GRPCTrailers()
    while !input.isAtEnd {
        let name = Bytes(names[input.number(names.count)])
        let value = input.take(input.number(64))
        trailers.add(name: name.span, value: value.span)
    }
    if let status = trailers.status {
        let text: Text = "\(status.code): \(status.message)"
        for byte in text.bytes { precondition(byte >= 0x20 && byte != 0x7f, "not a line") }
    }
}
