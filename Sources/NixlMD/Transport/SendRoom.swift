// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CCurl

/// How much libcurl may be given to send so that the kernel's buffer of the socket is never full.
///
/// libcurl 7.88.1 sends a part of a request twice, or the text of its headers as its body, when the kernel refuses bytes
/// while small frames wait beside them: nghttp2 has taken the bytes already, and libcurl says that none were sent
/// (`h2_session_send` and its callers in lib/http2.c there). The server takes what it gets, and a blob would be stored
/// that nobody has published. So no write of libcurl may meet a full buffer: what can wait is handed out only where
/// there is room, and a reserve is left to what cannot (acknowledgements, window updates, ends of streams).
///
/// Everything is counted as the kernel does (sk_wmem_queued): bytes, and what it needs to keep them.
struct SendRoom {
    /// When it was last looked at.
    private var buffer = Self.unconnected
    /// What is free of it at least: since then it can only have been drained.
    private var free = Int(Self.unconnected.size)

    /// What is counted on before there is a socket.
    private static let unconnected = ccurl_send_buffer(size: 64 << 10, used: 0, is_exact: false)

    /// The kernel keeps a segment in 800 (Linux 6.18) to 1,300 bytes beside its content. Segments of an Ethernet's size
    /// with nothing in common take twice their content; smaller ones are what the reserve is for.
    private static let inflation = 2
    /// For the segments that a transfer's turn begins, and for what libcurl sends of itself meanwhile.
    private static let turn = 4 << 10
    /// What one transfer is given at a time.
    private static let most = 128 << 10
    /// Less is not worth a frame of its own, unless it is all there is.
    private static let least = 2 << 10

    /// What `bytes` that are handed out may take.
    static func cost(_ bytes: Int) -> Int { inflation * bytes + turn }
    /// What a transfer that wants to send `bytes` would take now.
    static func wish(_ bytes: Int) -> Int { cost(min(bytes, most)) }

    // Left to what must not wait behind blobs, and to what cannot wait at all.
    private var bulkReserve: Int { Int(buffer.size) / 4 }
    private var reserve: Int { Int(buffer.size) / 8 }

    /// Whether so much is free, whoever wants it, without another look at the buffer.
    func covers(_ cost: Int) -> Bool { cost <= free - bulkReserve }

    /// Looks at the buffer: one system call. `promised`: the cost of what has been handed out and is not in it yet.
    mutating func measure(_ socket: Int32?, promised: Int) {
        if let socket {
            buffer = ccurl_socket_send_buffer(socket)
        } else {
            buffer = Self.unconnected
        }
        free = Int(buffer.size) - Int(buffer.used) - promised
    }

    /// Whether epoll says that the socket can be written (sk_stream_is_writeable in the kernel). Then less than the bulk
    /// reserve is missing from what is free, so that there is room unless too much is promised.
    private var isWritable: Bool { buffer.size - buffer.used >= buffer.used / 2 }

    /// epoll tells when there is room again. Where the kernel does not tell its numbers, it might say so at once.
    var isAnnounced: Bool { buffer.is_exact && !isWritable }

    /// Room for the headers of a request; false: there is none. `isAlone`: nothing was promised to others, so that
    /// nothing would bring this one back.
    mutating func takeStart(_ cost: Int, isAlone: Bool = false) -> Bool {
        guard cost <= free - reserve || (isAlone && isWritable) else { return false }
        free -= cost
        return true
    }

    /// Room for `wanted` bytes or some of them; the result may be 0.
    mutating func take(_ wanted: Int, isBulk: Bool, isAlone: Bool) -> Int {
        let room = (free - Self.turn - (isBulk ? bulkReserve : reserve)) / Self.inflation
        var given = min(wanted, Self.most, room)
        if given < min(wanted, Self.least) { given = 0 }
        if given == 0, isAlone, isWritable { given = min(wanted, Self.least / 4) }
        if given > 0 { free -= Self.cost(given) }
        return given
    }

    /// Of what was taken, so many bytes were not handed out.
    mutating func giveBack(_ unused: Int) { free += Self.inflation * unused }
}
