// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import MetadataCore

// The HTTP/2 session against a server that sends any bytes, split anywhere: raw ones, and frames with anything in them. A
// trap is a find, and so is a request that is answered twice, or after it was abandoned, and output without end.

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = FuzzInput(start, count)
    let client = AnyClient(&input)
    var steps = 0
    while !input.isAtEnd, steps < 1000 {
        client.step(&input)
        steps += 1
    }
    client.end()
    return 0
}

private final class AnyClient {
    private let events = TransportEvents()
    private let session: HTTP2Session
    /// Owners that may still be answered.
    private var open: [RequestOwner] = []
    private var nextID: UInt64 = 1
    /// Bytes from the server that the session has not read yet.
    private var pending = Bytes()

    init(_ input: inout FuzzInput) {
        let headers = RequestHeaders(authority: Bytes("localhost:2379"), isTLS: false)
        let copies = input.number(2) == 1
        guard let made = HTTP2Session(events: events, headers: headers, copiesBodies: copies) else {
            fatalError("out of memory")
        }
        session = made
        begin(.range, size: 20)
        if input.number(4) > 0 { pending = Self.frame(4, 0, 0, []) }
    }

    private func begin(_ method: EtcdMethod, size: Int?) {
        guard open.count < 64 else { return }
        let owner: RequestOwner = size == nil ? .stream(nextID) : .call(nextID)
        nextID += 1
        open.append(owner)
        session.start(
            Request(
                owner: owner, method: method,
                frame: size.map { [UInt8](repeating: 1, count: $0 + 5) }, token: []))
    }

    func step(_ input: inout FuzzInput) {
        switch input.number(16) {
        case 0: begin(.range, size: input.number(100))
        case 1: begin(.txn, size: input.number(16) << 13)
        case 2: begin(.watch, size: nil)
        case 3:
            for case .stream(let id) in open { session.send(input.take(input.number(20)), on: id) }
        case 4:
            guard !open.isEmpty else { return }
            let owner = open.remove(at: input.number(min(open.count, 200)))
            _ = session.abandon(owner)
            events.removeAll(of: owner)
        case 5: write(input.number(256) << 8)
        case 6: pending += input.take(input.number(64))
        case 7: session.retire()
        case 8, 9, 10: deliver(input.number(256))
        case 11:
            pending += Self.frame(7, 0, 0, [0, 0, 0, input.byte(), 0, 0, 0, input.byte()])
        default: pending += frame(&input)
        }
        check()
    }

    // MARK: The server

    private static func frame(_ kind: UInt8, _ flags: UInt8, _ stream: UInt8, _ payload: Bytes)
        -> Bytes
    {
        let size = payload.count
        return [
            UInt8(truncatingIfNeeded: size >> 16), UInt8(truncatingIfNeeded: size >> 8),
            UInt8(truncatingIfNeeded: size), kind, flags, 0, 0, 0, stream,
        ] + payload
    }

    private func frame(_ input: inout FuzzInput) -> Bytes {
        let stream = UInt8(input.number(12))
        switch input.number(6) {
        case 0: return Self.frame(1, 4, stream, headers(ends: false, &input))
        case 1: return Self.frame(1, 5, stream, headers(ends: true, &input))
        case 2:
            let body = input.take(input.number(40))
            let prefix: Bytes = [0, 0, 0, 0, UInt8(body.count)]
            return Self.frame(0, UInt8(input.number(2)), stream, prefix + body)
        case 3: return Self.frame(3, 0, stream, [0, 0, 0, UInt8(input.number(14))])
        default:
            return Self.frame(
                UInt8(input.number(12)), input.byte(), stream, input.take(input.number(40)))
        }
    }

    /// Literals that no table remembers.
    private func headers(ends: Bool, _ input: inout FuzzInput) -> Bytes {
        var block: Bytes = ends && input.number(2) == 0 ? [] : [0x88]
        func add(_ name: StaticString, _ value: Bytes) {
            let name = Bytes(name)
            block += [0, UInt8(name.count)] + name + [UInt8(value.count)] + value
        }
        if input.number(8) > 0 { add("content-type", Bytes("application/grpc")) }
        if ends {
            add("grpc-status", [UInt8(ascii: "0") + UInt8(input.number(10))])
            add("grpc-message", input.take(input.number(20)))
        }
        return block
    }

    private func deliver(_ count: Int) {
        let count = min(count, pending.count)
        let piece = Bytes(pending[0..<count])
        pending.removeFirst(count)
        piece.withUnsafeBytes { session.receive($0) }
    }

    /// A socket that takes at most so much.
    private func write(_ most: Int) {
        var left = most
        while left > 0 {
            session.produce()
            guard session.failure == nil, !session.output.isEmpty else { return }
            let sent = session.output.send { parts in
                var sum = 0
                for part in parts {
                    precondition(part.bytes != nil && part.count > 0, "a part of nothing")
                    sum += part.count
                }
                return Int64(min(sum, left))
            }
            precondition(sent > 0, "nothing is sent")
            left -= Int(sent)
        }
    }

    // MARK: What must hold

    private func check() {
        while let event = events.popFirst() {
            switch event {
            case .reply(let id, _): close(.call(id))
            case .streamEnded(let id, _): close(.stream(id))
            case .message(let id, let message):
                precondition(open.contains(.stream(id)), "a message of a stream that has ended")
                precondition(message.count <= Exchange.maximumMessage, "a message that is too long")
            default: fatalError("an event that is not the session's")
            }
        }
        for request in session.takeRefused() { close(request.owner) }
        precondition(events.pendingBytes == 0, "bytes of no event")
        precondition(session.exchanges.count < 1000, "exchanges pile up")
    }

    private func close(_ owner: RequestOwner) {
        guard let i = open.firstIndex(of: owner) else { fatalError("answered twice or unasked") }
        open.remove(at: i)
    }

    func end() {
        deliver(pending.count)
        check()
        for _ in 0..<64 { write(1 << 20) }
        session.end()
        check()
        session.close()
    }
}
