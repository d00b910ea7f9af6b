// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

/// Why the rest of a gRPC answer cannot be read.
public enum DeframeError: Error, Equatable {
    /// The size, as the prefix states it.
    case tooLarge(Int)
    /// We offer no compression, so a server must not use it; or the flag has no meaning at all.
    case compressed
}

/// Cuts the body of a gRPC answer into its messages (gRPC over HTTP2, 'Length-Prefixed-Message': one byte for
/// compression, four of length in network order, the message).
public struct GRPCDeframer: Sendable {
    private static let prefixSize = 5
    /// Of a message longer than twice this, no more is allocated before as much has come, so that a prefix that lies costs
    /// little. Then room is made for all at once: growing step by step would copy 8 MiB in one of the steps.
    private static let firstReserve = 1 << 20

    private let maximumMessage: Int
    /// Bytes taken of the prefix in hand; all of them while the message behind it comes.
    private var prefixTaken = 0
    private var length: UInt32 = 0
    private var body = Bytes()
    private var ready: [Bytes] = []
    private var firstReady = 0
    private var failure: DeframeError?

    public init(maximumMessage: Int) {
        self.maximumMessage = maximumMessage
    }

    /// Part of a message is here, and the rest is not.
    public var isMidMessage: Bool { prefixTaken > 0 }

    /// Takes the next piece of the body. After an error nothing more is taken; the messages before it can
    /// still be had from `next`.
    public mutating func append(_ piece: Span<UInt8>) throws(DeframeError) {
        if let failure { throw failure }
        do throws(DeframeError) {
            try take(piece)
        } catch {
            failure = error
            throw error
        }
    }

    /// The next message that is whole.
    public mutating func next() -> Bytes? {
        guard firstReady < ready.count else { return nil }
        var message = Bytes()
        swap(&message, &ready[firstReady])
        firstReady += 1
        if firstReady == ready.count {
            ready.empty(keepingRoom: ready.count <= 64)
            firstReady = 0
        }
        return message
    }

    private mutating func take(_ piece: Span<UInt8>) throws(DeframeError) {
        var offset = 0
        while offset < piece.count {
            if prefixTaken < Self.prefixSize {
                try takePrefix(byte: piece[offset])
                offset += 1
            } else {
                let count = min(missing, piece.count - offset)
                reserve(for: count)
                piece.extracting(offset..<(offset + count)).withUnsafeBytes {
                    body.append(copying: $0)
                }
                offset += count
            }
            if prefixTaken == Self.prefixSize, missing == 0 { finish() }
        }
    }

    private mutating func takePrefix(byte: UInt8) throws(DeframeError) {
        prefixTaken += 1
        if prefixTaken == 1 {
            guard byte == 0 else { throw .compressed }
            return
        }
        // After four bytes nothing is left of the length before.
        length = length << 8 | UInt32(byte)
        if prefixTaken == Self.prefixSize, size > maximumMessage { throw .tooLarge(size) }
    }

    private var size: Int { Int(clamping: length) }

    private var missing: Int { size - body.count }

    private mutating func reserve(for count: Int) {
        let needed = body.count + count
        guard needed > body.capacity else { return }
        var roomier = Bytes()
        let isLong = size > 2 * Self.firstReserve && needed <= Self.firstReserve
        roomier.reserveCapacity(isLong ? Self.firstReserve : size)
        body.withUnsafeBytes { roomier.append(copying: $0) }
        body = roomier
    }

    private mutating func finish() {
        var message = Bytes()
        swap(&message, &body)
        ready.append(message)
        prefixTaken = 0
    }
}
