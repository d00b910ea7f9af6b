// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CSystem
import EtcdProtocol

/// Bytes on their way to the socket: small ones copied, bodies as references to what the core has encoded.
///
/// For TLS everything is copied, and a send that was refused is repeated from the same place with what came behind it:
/// OpenSSL wants the same bytes again, and not fewer.
struct OutputQueue {
    private struct Piece {
        /// nil: a part of `copied`.
        let body: Bytes?
        var start: Int
        var end: Int
    }

    private let copiesBodies: Bool
    private var copied = Bytes()
    private var pieces: [Piece] = []
    private var first = 0
    /// Bytes that wait.
    private(set) var count = 0

    /// Enough for one send; more would wait in front of what is urgent.
    private static let bytesMax = 64 << 10
    private static let piecesMax = 14
    /// Nothing is moved within `copied`, so it must be sent whole from time to time.
    private static let copiedMax = 128 << 10
    /// A body that is shorter is copied: a reference costs more.
    private static let shortBody = 512

    init(copiesBodies: Bool) {
        self.copiesBodies = copiesBodies
    }

    var isEmpty: Bool { count == 0 }
    var isFull: Bool {
        count >= Self.bytesMax || pieces.count >= Self.piecesMax || copied.count >= Self.copiedMax
    }

    mutating func append(copying bytes: UnsafeRawBufferPointer) {
        let start = copied.count
        copied.append(copying: bytes)
        count += bytes.count
        if let last = pieces.indices.last, last >= first, pieces[last].body == nil {
            pieces[last].end = copied.count
        } else {
            pieces.append(Piece(body: nil, start: start, end: copied.count))
        }
    }

    mutating func append(body: Bytes, from start: Int, count: Int) {
        if copiesBodies || count <= Self.shortBody {
            return body.withUnsafeBytes {
                append(copying: UnsafeRawBufferPointer(rebasing: $0[start..<start + count]))
            }
        }
        pieces.append(Piece(body: body, start: start, end: start + count))
        self.count += count
    }

    /// Calls `send` with what waits; it returns how much of it went, or less than 0.
    mutating func send(_ send: (UnsafeBufferPointer<csystem_part>) -> Int64) -> Int64 {
        var parts: InlineArray<16, csystem_part> = .init(
            repeating: csystem_part(bytes: nil, count: 0))
        var used = 0
        for piece in pieces[first...] where used < 16 {
            // The array's elements stay where they are for as long as the queue holds it unchanged.
            parts[used] = Self.part(of: piece.body ?? copied, piece.start, piece.end)
            used += 1
        }
        let span = parts.span
        let sent = span.withUnsafeBufferPointer {
            send(UnsafeBufferPointer(rebasing: $0[0..<used]))
        }
        if sent > 0 { drop(Int(sent)) }
        return sent
    }

    private static func part(of bytes: Bytes, _ start: Int, _ end: Int) -> csystem_part {
        bytes.withUnsafeBytes {
            csystem_part(bytes: $0.baseAddress?.advanced(by: start), count: end - start)
        }
    }

    private mutating func drop(_ sent: Int) {
        count -= sent
        guard count > 0 else { return removeAll() }
        var left = sent
        while left > 0 {
            let taken = min(left, pieces[first].end - pieces[first].start)
            pieces[first].start += taken
            left -= taken
            if pieces[first].start == pieces[first].end {
                pieces[first] = Piece(body: nil, start: 0, end: 0)
                first += 1
            }
        }
    }

    /// All is sent.
    private mutating func removeAll() {
        first = 0
        pieces.empty(keepingRoom: pieces.count <= 8)
        copied.removeAll(keepingCapacity: copied.count <= Self.keptBytes)
    }
    private static let keptBytes = 2048

    /// Overwrites what was copied: it may hold a password or a token.
    mutating func wipe() {
        // Also where it was emptied and kept its room.
        let room = copied.capacity
        copied.removeAll(keepingCapacity: true)
        for _ in 0..<room { copied.append(0) }
        copied.wipe()
        removeAll()
        count = 0
    }
}
