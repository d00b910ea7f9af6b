// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol
import Testing

/// Bytes that are not what they should be: an error each time, never a trap.
@Suite struct DamagedMessageTests {
    @Test(arguments: Sample.all)
    func cutAtEachByte(sample: Sample) {
        let bytes = sample.bytes
        for length in 0..<bytes.count {
            let error = failure { () throws(WireError) in
                try sample.answer.decode(Bytes(bytes.prefix(length)))
            }
            let expected = sample.boundaries.contains(length) ? nil : WireError.truncated
            #expect(error == expected, "cut after \(length) bytes")
        }
    }

    /// A cut inside a message that is itself a field, whose own length is made to fit.
    @Test func cutInsideAnEmbeddedMessage() {
        let kv = hex("0a016b100218922120052a0576616c756530b4a4b4deb9f7dea669")
        let ends: Set<Int> = [0, 3, 5, 8, 10, 17, 27]
        for length in 0..<kv.count {
            let cut = Bytes(kv.prefix(length))
            let event = [0x12, UInt8(length)] + cut
            let range = failure { () throws(WireError) in
                try RangeResponse.decode([0x12, UInt8(length)] + cut)
            }
            let watch = failure { () throws(WireError) in
                try WatchResponse.decode([0x5a, UInt8(event.count)] + event, keepValues: false)
            }
            let expected = ends.contains(length) ? nil : WireError.truncated
            #expect(range == expected, "cut after \(length) bytes")
            #expect(watch == expected, "cut after \(length) bytes")
        }
    }

    @Test(arguments: Answer.allCases)
    func damagedField(answer: Answer) {
        let cases: [(String, WireError)] = [
            // Eleven bytes; ten of which the last has more than the one bit that is left.
            ("a006 8080808080808080808000", .overlong),
            ("a006 80808080808080808002", .overlong),
            ("80808080808080808080", .overlong),
            ("a006 80", .truncated),
            // Lengths up to 2^64 - 1, and one byte more than there is.
            ("0a ffffffffffffffffff01", .truncated),
            ("0a ffffffffffffffff7f", .truncated),
            ("0a 8080808080808080807f", .overlong),
            ("0a 02 10", .truncated),
            ("f206 ffffffff0f 00", .truncated),
            ("f106 00000000000000", .truncated),
            ("f506 000000", .truncated),
            // Groups, wire types that do not exist, field number 0, a header that is a number.
            ("0b", .wrongType), ("0c", .wrongType), ("0e", .wrongType), ("0f", .wrongType),
            ("00 00", .wrongType), ("02 00", .wrongType), ("08 01", .wrongType),
        ]
        for (text, expected) in cases {
            let error = failure { () throws(WireError) in try answer.decode(hex(text)) }
            #expect(error == expected, "\(text)")
        }
    }

    /// A varint that is longer than necessary is still valid.
    @Test func paddedNumber() throws {
        #expect(try LeaseKeepAliveResponse.decode(hex("10 85808080808080808000")).id == 5)
        #expect(try LeaseKeepAliveResponse.decode(hex("9080808000 05")).id == 5)
    }

    /// Only the outcome of a nested transaction is read, nothing inside it: no recursion.
    @Test func deepNesting() throws {
        var nested = Bytes()
        for _ in 0..<20_000 {
            nested =
                [0x22, 0x80 | UInt8(nested.count & 0x7f), 0x80 | UInt8(nested.count >> 7 & 0x7f)]
                + [UInt8(nested.count >> 14 & 0x7f)] + nested
        }
        let expected: [ResponseOp] = [.txn(succeeded: false)]
        let size = nested.count
        let length = [0x80 | UInt8(size & 0x7f), 0x80 | UInt8(size >> 7 & 0x7f), UInt8(size >> 14)]
        #expect(try TxnResponse.decode([0x1a] + length + nested).responses == expected)
    }

    /// Each message 20,000 times with a few bytes changed, put in or taken out, as itself and taken for another.
    /// The seed is part of the test: a failure comes again.
    @Test(arguments: Sample.all)
    func damagedMessages_neverTrap(sample: Sample) {
        var random = SeededRandom(seed: UInt64(sample.bytes.count))
        let original = sample.bytes
        var refused = 0
        for _ in 0..<20_000 {
            let mutated = Self.mutated(original, &random)
            let other = Answer.allCases.randomElement(using: &random) ?? .watch
            if check(mutated, as: sample.answer) { refused += 1 }
            _ = check(mutated, as: other)
        }
        // Neither all nor none: the mutations reach both the errors and what lies behind them.
        #expect(refused > 1_000 && refused < 19_900, "\(refused)")
    }

    /// Whether it was refused.
    private func check(_ bytes: Bytes, as answer: Answer) -> Bool {
        do throws(WireError) {
            let size = try answer.decode(bytes)
            guard size > bytes.count else { return false }
            Issue.record("\(size) bytes came out of \(bytes)")
            return false
        } catch {
            return true
        }
    }

    private static let telling: Bytes = [0, 1, 2, 7, 0x0a, 0x12, 0x7f, 0x80, 0xff]

    private static func mutated(_ original: Bytes, _ random: inout SeededRandom) -> Bytes {
        var bytes = original
        for _ in 0..<Int.random(in: 1...4, using: &random) where !bytes.isEmpty {
            let at = Int.random(in: 0..<bytes.count, using: &random)
            switch random.next() % 6 {
            case 0: bytes[at] ^= 1 << UInt8(random.next() % 8)
            case 1: bytes[at] = UInt8(truncatingIfNeeded: random.next())
            case 2: bytes[at] = telling.randomElement(using: &random) ?? 0
            case 3: bytes.remove(at: at)
            case 4: bytes.insert(UInt8(truncatingIfNeeded: random.next()), at: at)
            default: bytes.insert(contentsOf: bytes[at...].prefix(16), at: at)
            }
        }
        return bytes
    }
}
