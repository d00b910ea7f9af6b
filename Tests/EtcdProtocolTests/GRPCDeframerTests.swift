// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

@Suite struct GRPCDeframerTests {
    private func framed(_ message: Bytes) -> Bytes {
        [0] + (0..<4).map { UInt8(truncatingIfNeeded: message.count >> (24 - 8 * $0)) } + message
    }

    private func taken(_ deframer: inout GRPCDeframer) -> [Bytes] {
        var messages: [Bytes] = []
        while let message = deframer.next() { messages.append(message) }
        return messages
    }

    private func failure(_ deframer: inout GRPCDeframer, _ piece: Bytes) -> DeframeError? {
        do throws(DeframeError) {
            try deframer.append(piece.span)
            return nil
        } catch {
            return error
        }
    }

    private let messages: [Bytes] = [
        bytes("one"), [], bytes("a longer one"), [0, 0, 0, 0, 0], [],
        Bytes(repeating: 9, count: 300),
    ]

    @Test func splitAtEachByte() throws {
        let stream = messages.flatMap { framed($0) }
        for split in 0...stream.count {
            var deframer = GRPCDeframer(maximumMessage: 1000)
            try deframer.append(Bytes(stream[..<split]).span)
            let early = taken(&deframer)
            try deframer.append(Bytes(stream[split...]).span)
            #expect(early + taken(&deframer) == messages, "split after \(split) bytes")
            #expect(!deframer.isMidMessage)
        }
    }

    @Test func byteByByte() throws {
        var deframer = GRPCDeframer(maximumMessage: 1000)
        for message in messages {
            let frame = framed(message)
            for (i, byte) in frame.enumerated() {
                #expect(deframer.next() == nil)
                #expect(deframer.isMidMessage == (i > 0))
                try deframer.append([byte].span)
            }
            #expect(!deframer.isMidMessage)
            #expect(deframer.next() == message)
        }
        #expect(deframer.next() == nil)
    }

    @Test func randomPieces() throws {
        var random = SeededRandom(seed: 17)
        for _ in 0..<200 {
            let sent = (0..<20).map { _ in
                Bytes(repeating: UInt8(random.next() & 0xff), count: Int(random.next() % 200))
            }
            let stream = sent.flatMap { framed($0) }
            var deframer = GRPCDeframer(maximumMessage: 200)
            var received: [Bytes] = []
            var offset = 0
            while offset < stream.count {
                let end = min(stream.count, offset + Int(random.next() % 300))
                try deframer.append(Bytes(stream[offset..<end]).span)
                offset = end
                // Not after each piece: some messages wait.
                if random.next() % 2 == 0, let one = deframer.next() { received.append(one) }
            }
            #expect(received + taken(&deframer) == sent)
        }
    }

    @Test func emptyPiece() throws {
        var deframer = GRPCDeframer(maximumMessage: 10)
        try deframer.append(Bytes().span)
        #expect(deframer.next() == nil)
        #expect(!deframer.isMidMessage)
    }

    /// The prefix alone reveals it. Earlier messages are kept, later bytes are not taken.
    @Test func tooLarge() {
        var deframer = GRPCDeframer(maximumMessage: 10)
        #expect(failure(&deframer, framed(Bytes(repeating: 1, count: 10))) == nil)
        #expect(failure(&deframer, framed(bytes("two")) + [0, 0, 0, 0, 11]) == .tooLarge(11))
        #expect(failure(&deframer, framed(bytes("three"))) == .tooLarge(11))
        #expect(taken(&deframer) == [Bytes(repeating: 1, count: 10), bytes("two")])
    }

    @Test func largestLength() {
        var deframer = GRPCDeframer(maximumMessage: 16 << 20)
        #expect(failure(&deframer, hex("00ffffff")) == nil)
        #expect(failure(&deframer, hex("ff")) == .tooLarge(4_294_967_295))
    }

    @Test(arguments: [1, 2, 0x80, 0xff] as [UInt8])
    func compressed(flag: UInt8) {
        var deframer = GRPCDeframer(maximumMessage: 10)
        #expect(failure(&deframer, framed(bytes("one")) + [flag]) == .compressed)
        #expect(failure(&deframer, [0]) == .compressed)
        #expect(taken(&deframer) == [bytes("one")])
    }

    /// The message is handed over in the storage it was collected in: no more than its size.
    @Test(arguments: [1, 1000, 1 << 20, 1 << 20 + 1, 5_000_000])
    func largeMessageInPieces(size: Int) throws {
        let message = Bytes((0..<size).lazy.map { UInt8(truncatingIfNeeded: $0 &* 31) })
        let stream = framed(message)
        var deframer = GRPCDeframer(maximumMessage: 16 << 20)
        var offset = 0
        while offset < stream.count {
            let end = min(stream.count, offset + 16_384)
            try deframer.append(Bytes(stream[offset..<end]).span)
            offset = end
        }
        let first = deframer.next()
        let received = try #require(first)
        #expect(received == message)
        // malloc and the array's header round it up a little.
        #expect(received.capacity <= size + 8192)
    }

    private func reserved(_ deframer: GRPCDeframer) throws -> Int {
        let body = Mirror(reflecting: deframer).children.first { $0.label == "body" }
        return try #require(body?.value as? Bytes).capacity
    }

    /// A prefix that promises 16 MiB is believed for 1 MiB until as much has come, and then for all: the message is
    /// moved once, and then only appended to.
    @Test func prefixOfAHugeLength_allocatesLittle() throws {
        var deframer = GRPCDeframer(maximumMessage: 16 << 20)
        try deframer.append(hex("0001000000 07").span)
        #expect(deframer.isMidMessage)
        #expect((1...(1 << 20 + 8192)).contains(try reserved(deframer)))
        var come = 1
        while come < 5 << 20 {
            try deframer.append(Bytes(repeating: 7, count: 100_000).span)
            come += 100_000
            let least = come <= 1 << 20 ? come : 16 << 20
            let most = come <= 1 << 20 ? 1 << 20 : 16 << 20
            #expect((least...(most + 8192)).contains(try reserved(deframer)))
        }
    }
}
