// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CCurl
import CSystem
import EtcdProtocol
import MetadataCore

/// How much may be moved in the rest of a tick.
struct TransportBudget {
    var read = 1 << 20
    var written = 1 << 20
    var frames = 1000
    var headerBytes = 64 << 10

    var allowsReading: Bool { read > 0 && frames > 0 && headerBytes > 0 }
}

/// One connection of TCP: libcurl makes it, and the session speaks on it.
final class Connection {
    let easy: UnsafeMutableRawPointer
    let session: HTTP2Session
    let route: Route
    private let isTLS: Bool
    private let connectTo: StringList
    private let errorBuffer: UnsafeMutablePointer<CChar>

    /// Once it stands.
    private(set) var socket: Int32?
    /// In a loop over several connections, one may close the others.
    private(set) var isClosed = false
    private var input = InputBuffer()
    /// Bytes wait that epoll does not know of: here, or inside OpenSSL.
    private(set) var mayHaveMore = false
    /// The socket was full; epoll tells when it is not.
    private(set) var isBlocked = false
    /// A tick's budget ended before all was written.
    private var hasMoreToWrite = false
    private var hasReceived = false

    /// nghttp2 is given no more at a time, so that the budget is looked at often; less where frames are small.
    private static let pieceSize = 16 << 10
    private static let smallPieceSize = 4 << 10
    private static let manyFrames = 100

    /// nil: out of memory.
    init?(route: Route, events: TransportEvents) {
        guard let easy = curl_easy_init() else { return nil }
        guard let connectTo = StringList(route.connectTo) else {
            curl_easy_cleanup(easy)
            return nil
        }
        guard
            let session = HTTP2Session(
                events: events, headers: route.headers, copiesBodies: route.isTLS)
        else {
            curl_easy_cleanup(easy)
            connectTo.free()
            return nil
        }
        self.easy = easy
        self.connectTo = connectTo
        self.session = session
        self.route = route
        isTLS = route.isTLS
        errorBuffer = UnsafeMutablePointer<CChar>.allocate(capacity: Int(CURL_ERROR_SIZE))
        errorBuffer.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
    }

    func configure(
        route: Route, tls: TLSOptions, connector: Connector, keepsAuthorities: Bool
    ) -> Bool {
        let options = ConnectOptions(easy: easy)
        let isSet = options.set(
            route: route, connectTo: connectTo, errorBuffer: errorBuffer, connector: connector)
        guard isSet, isTLS else { return isSet }
        return options.setTLS(tls, keepsAuthorities: keepsAuthorities)
    }

    /// Closes it. It must have been removed from the multi handle.
    func destroy() {
        isClosed = true
        socket = nil
        mayHaveMore = false
        curl_easy_cleanup(easy)
        connectTo.free()
        errorBuffer.deallocate()
        session.close()
        input.free()
    }

    // MARK: Its beginning

    /// libcurl has done its part.
    func open(_ connector: Connector) {
        let socket = ccurl_active_socket(easy)
        guard socket != CCURL_SOCKET_BAD else {
            return session.fail("libcurl does not report its socket")
        }
        self.socket = socket
        connector.takeOver(socket)
        guard isTLS else { return }
        // Only after the first receive libcurl tells its TLS connection.
        receive()
        mayHaveMore = true
        if session.failure == nil, !ccurl_is_h2(easy) {
            session.fail("the server does not speak HTTP/2: it did not choose 'h2' by ALPN")
        }
    }

    /// Why libcurl could not connect.
    func failure(_ result: CURLcode, _ connector: Connector, _ tls: TLSOptions) -> Text {
        if connector.socketRefusal != 0 {
            let text = Bytes(cString: csystem_error_text(connector.socketRefusal))
            return "no socket (errno \(connector.socketRefusal)): \(text)"
        }
        if result == CURLE_COULDNT_CONNECT,
            let reason = SystemError.text(Int32(truncatingIfNeeded: ccurl_os_errno(easy)))
        {
            return reason
        }
        if result == CURLE_SSL_CERTPROBLEM, let reason = tls.defectOfKey { return reason }
        return detail(result)
    }

    private func detail(_ result: CURLcode) -> Text {
        let text: Text = "\(UnsafePointer(errorBuffer))"
        return text.isEmpty ? "\(curl_easy_strerror(result))" : text
    }

    // MARK: Reading

    /// Reads what there is, as far as the budget goes.
    func read(_ budget: inout TransportBudget) {
        guard socket != nil else { return }
        mayHaveMore = false
        while session.failure == nil {
            guard budget.allowsReading else {
                mayHaveMore = isTLS || !input.isEmpty
                return
            }
            if input.isEmpty, !receive() { break }
            feed(&budget)
        }
        input.rest()
    }

    /// Gives the session what was received.
    private func feed(_ budget: inout TransportBudget) {
        var size = Self.pieceSize
        while !input.isEmpty, budget.allowsReading, session.failure == nil {
            let (frames, headers) = (session.framesReceived, session.headerBytesReceived)
            let taken = input.take(size) { session.receive($0) }
            budget.read -= taken
            budget.frames -= session.framesReceived - frames
            budget.headerBytes -= session.headerBytesReceived - headers
            let isDense = session.framesReceived - frames > Self.manyFrames
            size = isDense ? Self.smallPieceSize : Self.pieceSize
        }
    }

    /// false: nothing came.
    @discardableResult
    private func receive() -> Bool {
        // With plain TCP a short read has emptied the socket, and epoll reports more.
        if !isTLS, input.wasShort {
            input.wasShort = false
            return false
        }
        let count = input.fill { isTLS ? receiveTLS($0) : receivePlain($0) }
        if count > 0 { hasReceived = true }
        return count > 0
    }

    private func receivePlain(_ room: UnsafeMutableRawBufferPointer) -> Int {
        guard let socket else { return 0 }
        let count = csystem_socket_receive(socket, room.baseAddress, room.count)
        if count == 0 {
            session.end()
        } else if count < 0, !csystem_is_again(count) {
            session.fail(broken(SystemError.anyText(Int32(truncatingIfNeeded: -count))))
        }
        return max(Int(count), 0)
    }

    private func receiveTLS(_ room: UnsafeMutableRawBufferPointer) -> Int {
        var count = 0
        let result = curl_easy_recv(easy, room.baseAddress, room.count, &count)
        if result == CURLE_OK, count == 0 {
            session.end()
        } else if result != CURLE_OK, result != CURLE_AGAIN {
            session.fail(broken(detail(result)))
        }
        return result == CURLE_OK ? count : 0
    }

    /// Until a server has answered in HTTP/2 the reason may be that it is another one.
    private func broken(_ reason: Text) -> Text {
        if session.hasAnswered { return reason }
        if isTLS, !hasReceived { return reason }
        return "no HTTP/2 answer (is it etcd's client port, http or https?): \(reason)"
    }

    // MARK: Writing

    /// epoll says that there is room again.
    func isWritable() { isBlocked = false }

    /// Writes what there is, as far as the budget and the socket go.
    func write(_ budget: inout TransportBudget) {
        guard socket != nil, !isBlocked else { return }
        hasMoreToWrite = false
        while session.failure == nil {
            session.produce()
            guard session.failure == nil, !session.output.isEmpty else { return }
            guard budget.written > 0 else {
                hasMoreToWrite = true
                return
            }
            let sent = isTLS ? sendTLS() : sendPlain()
            guard sent > 0 else { return }
            budget.written -= Int(sent)
        }
    }

    private func sendPlain() -> Int64 {
        guard let socket else { return 0 }
        let wanted = session.output.count
        let sent = session.output.send { csystem_socket_send(socket, $0.baseAddress, $0.count) }
        if sent < 0 {
            if csystem_is_again(sent) {
                isBlocked = true
            } else {
                session.fail(broken(SystemError.anyText(Int32(truncatingIfNeeded: -sent))))
            }
        } else if sent < wanted {
            isBlocked = true
        }
        return sent
    }

    private func sendTLS() -> Int64 {
        var result = CURLE_OK
        let sent = session.output.send { parts in
            var count = 0
            guard let part = parts.first else { return 0 }
            result = curl_easy_send(easy, part.bytes, part.count, &count)
            return result == CURLE_OK ? Int64(count) : 0
        }
        if result == CURLE_AGAIN {
            isBlocked = true
        } else if result != CURLE_OK {
            session.fail(broken(detail(result)))
        }
        return sent
    }

    /// The events that epoll should report.
    var interest: UInt32 {
        EpollEvent.read | (isBlocked || hasMoreToWrite ? EpollEvent.write : 0)
    }
}

/// The usual reasons of the system, in few words (Linux errno values).
enum SystemError {
    static func text(_ number: Int32) -> Text? {
        switch number {
        case 101: "network unreachable"
        case 104: "connection reset by the server"
        case 32: "the server closed the connection"
        case 110: "connection timed out"
        case 111: "connection refused"
        case 113: "host unreachable"
        default: nil
        }
    }

    static func anyText(_ number: Int32) -> Text { text(number) ?? "errno \(number)" }
}
