// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CNghttp2
import CSystem
import EtcdProtocol
import MetadataCore

/// HTTP/2 of one connection, without I/O: bytes in, bytes out, and whose they are.
///
/// nghttp2 keeps an unretained pointer to this object until `close()`.
final class HTTP2Session {
    private var session: OpaquePointer?
    private let events: TransportEvents
    private let headers: RequestHeaders
    /// Exchanges that nghttp2 still knows, including ended ones.
    private(set) var exchanges: [Exchange] = []
    var output: OutputQueue
    private var greeting = Greeting()
    /// Streams to be reset, which must not be done inside a callback.
    private var resets: [Int32] = []

    /// Why the connection is of no use any more.
    private(set) var failure: Text?
    /// nghttp2's last complaint about the server.
    private var complaint: Text?
    /// The server, or the transport, wants no new streams here.
    private(set) var isDraining = false
    /// The last stream that the server will process, once it has said so.
    private var lastStream: Int32?
    /// The server has begun to answer a request.
    private(set) var hasAnswered = false
    /// Requests that the server never processed.
    private var refused: [Request] = []

    /// Frames, and bytes in headers, that have come so far.
    private(set) var framesReceived = 0
    private(set) var headerBytesReceived = 0
    /// What `takeSigns` has to tell.
    private var isMidMessage = false
    private var acknowledged: Int32 = 0

    private static let streamWindow: UInt32 = 4 << 20
    private static let connectionWindow: UInt32 = 8 << 20

    /// nil: out of memory.
    init?(events: TransportEvents, headers: RequestHeaders, copiesBodies: Bool) {
        self.events = events
        self.headers = headers
        output = OutputQueue(copiesBodies: copiesBodies)
        let context = Unmanaged.passUnretained(self).toOpaque()
        var handler = HTTP2Handler.all
        session = cnghttp2_session_new(
            &handler, context, Self.streamWindow, Self.connectionWindow)
        if session == nil { return nil }
    }

    /// Frees what nghttp2 has. Nothing more is sent.
    func close() {
        if let session { cnghttp2_session_free(session) }
        session = nil
        exchanges.removeAll()
        output.wipe()
    }

    // MARK: Requests

    /// Queues a request.
    func start(_ request: Request) {
        guard let session else { return }
        let exchange = Exchange(request)
        let pointer = Unmanaged.passUnretained(exchange).toOpaque()
        let stream = headers.with(method: request.method, token: request.token) {
            cnghttp2_request(session, $0.baseAddress, $0.count, pointer)
        }
        guard stream > 0 else {
            return fail("nghttp2 refused a request (\(cnghttp2_error_text(stream)))")
        }
        exchange.stream = stream
        exchanges.append(exchange)
        events.bytesSent += UInt64(request.frame?.count ?? 0)
    }

    func send(_ frame: Bytes, on id: StreamID) {
        guard let session, let exchange = exchange(of: .stream(id)) else { return }
        exchange.send(frame)
        events.bytesSent += UInt64(frame.count)
        if exchange.isWaiting { cnghttp2_resume(session, exchange.stream) }
    }

    /// Asks for a sign of life: an empty SETTINGS frame, which the server must acknowledge. Not PING: etcd answers the fourth
    /// within 5 s with GOAWAY.
    func probe() {
        if let session { cnghttp2_probe(session) }
    }

    /// Whether that was acknowledged, and whether part of a large message has come, since the last call.
    func takeSigns() -> (isAcknowledged: Bool, isMidMessage: Bool) {
        let count = session.map { cnghttp2_acknowledged($0) } ?? acknowledged
        defer {
            acknowledged = count
            isMidMessage = false
        }
        return (count > max(acknowledged, 1), isMidMessage)
    }

    /// The server's SETTINGS have come.
    var hasHeard: Bool { framesReceived > 0 && failure == nil }

    /// Whether it was here.
    func abandon(_ owner: RequestOwner) -> Bool {
        guard let exchange = exchange(of: owner) else { return false }
        exchange.abandon()
        resets.append(exchange.stream)
        sendResets()
        return true
    }

    private func exchange(of owner: RequestOwner) -> Exchange? {
        exchanges.first { $0.request.owner == owner && !$0.isConcluded }
    }

    /// Something is still to be answered.
    var isInUse: Bool { exchanges.contains { !$0.isConcluded } }

    /// No new request goes here.
    func retire() { isDraining = true }

    /// Requests that may go to another connection: the server never saw them, or says that it did nothing about them.
    func takeRefused() -> [Request] {
        guard !refused.isEmpty else { return [] }
        defer { refused.removeAll() }
        return refused
    }

    // MARK: Bytes

    /// Takes what the server has sent.
    func receive(_ bytes: UnsafeRawBufferPointer) {
        guard failure == nil else { return }
        switch greeting.take(bytes) {
        case .incomplete: return
        case .wrong(let text): return fail(text)
        case .right(let held):
            if let held { held.withUnsafeBytes { feed($0) } } else { feed(bytes) }
        }
    }

    private func feed(_ bytes: UnsafeRawBufferPointer) {
        guard let session else { return }
        let start = bytes.assumingMemoryBound(to: UInt8.self).baseAddress
        let result = cnghttp2_receive(session, start, bytes.count)
        sendResets()
        if result != 0 {
            fail(complaint ?? "the server breaks HTTP/2 (\(cnghttp2_error_text(result)))")
        } else {
            noteEnd()
        }
    }

    /// The server has closed the connection.
    func end() {
        guard failure == nil else { return }
        if let text = greeting.textAtEnd { return fail(text) }
        fail("the server closed the connection")
    }

    func fail(_ text: Text) {
        if failure == nil { failure = text }
    }

    /// Fills `output`, until it is full or there is nothing more to send.
    func produce() {
        guard let session, failure == nil else { return }
        while !output.isFull {
            var bytes: UnsafePointer<UInt8>?
            let count = cnghttp2_send(session, &bytes)
            guard count >= 0 else {
                return fail(
                    "nghttp2 gave up (\(cnghttp2_error_text(Int32(truncatingIfNeeded: count))))")
            }
            if count == 0 { break }
            output.append(copying: UnsafeRawBufferPointer(start: bytes, count: Int(count)))
        }
        noteEnd()
    }

    /// nghttp2 says nothing when it has ended a session.
    private func noteEnd() {
        guard let session, output.isEmpty, cnghttp2_is_over(session) else { return }
        if isDraining, !isInUse { return }
        fail(complaint.map { "the server breaks HTTP/2: \($0)" } ?? "the HTTP/2 session has ended")
    }

    private func sendResets() {
        guard let session, !resets.isEmpty else { return }
        for stream in resets { cnghttp2_reset(session, stream, UInt32(CNGHTTP2_CANCEL)) }
        resets.removeAll()
    }

    // MARK: What nghttp2 reports

    fileprivate func frameBegins() { framesReceived += 1 }

    fileprivate func header(
        _ stream: UnsafeMutableRawPointer?, _ name: UnsafeBufferPointer<UInt8>,
        _ value: UnsafeBufferPointer<UInt8>
    ) {
        headerBytesReceived += name.count + value.count + 32
        guard let stream else { return }
        Unmanaged<Exchange>.fromOpaque(stream)._withUnsafeGuaranteedRef {
            $0.receive(header: name, value)
        }
    }

    fileprivate func data(_ exchange: Exchange, _ bytes: UnsafeBufferPointer<UInt8>) {
        events.bytesReceived += UInt64(bytes.count)
        if exchange.receive(body: bytes, events) { isMidMessage = true }
        if exchange.isDefective { conclude(exchange, reset: nil) }
    }

    /// A frame of a stream: the server may have ended its side.
    fileprivate func frame(_ exchange: Exchange, type: Int32, flags: Int32) {
        if type == Int32(CNGHTTP2_HEADERS) { hasAnswered = true }
        if exchange.isDefective || flags & Int32(CNGHTTP2_FLAG_END_STREAM) != 0 {
            conclude(exchange, reset: nil)
        }
    }

    fileprivate func closed(_ exchange: Exchange, code: UInt32) {
        if !exchange.isConcluded {
            let isUnprocessed =
                code == CNGHTTP2_REFUSED_STREAM
                || (lastStream.map { exchange.stream > $0 } ?? false)
            if isUnprocessed, !exchange.isAnswered {
                refused.append(exchange.request)
                exchange.conclude()
            } else {
                conclude(exchange, reset: code)
            }
        }
        exchanges.drop { $0 === exchange }
    }

    fileprivate func goaway(last: Int32, code: UInt32, text: Bytes) {
        isDraining = true
        lastStream = last
        if code != CNGHTTP2_NO_ERROR {
            complaint = "it sent GOAWAY, \(cnghttp2_code_name(code)) '\(text)'"
        }
    }

    fileprivate func complain(_ text: Bytes) { complaint = "\(text)" }

    /// Reports the end of an exchange; the HTTP/2 stream may still have to be reset.
    private func conclude(_ exchange: Exchange, reset: UInt32?) {
        guard !exchange.isConcluded else { return }
        switch exchange.outcome(reset: reset) {
        case .ended(let reply): events.answer(exchange.request.owner, reply)
        case .lost(let text): fail(text)
        }
        let isOpen = exchange.hasUnsent || exchange.request.frame == nil || exchange.isDefective
        exchange.conclude()
        if isOpen, reset == nil { resets.append(exchange.stream) }
    }

    fileprivate func sendBody(_ exchange: Exchange, _ head: UnsafeRawBufferPointer, _ length: Int)
        -> Bool
    {
        guard !output.isFull else { return false }
        output.append(copying: head)
        exchange.takePart(length, into: &output)
        return true
    }
}

// MARK: - Callbacks

/// The callbacks of nghttp2, for all sessions.
private enum HTTP2Handler {
    static var all: cnghttp2_handler {
        cnghttp2_handler(
            frame_begins: { context in with(session: context) { $0.frameBegins() } },
            frame_received: { context, stream, type, flags in
                guard let exchange = exchange(stream) else { return }
                with(session: context) { $0.frame(exchange, type: type, flags: flags) }
            },
            header: { context, stream, name, nameLength, value, valueLength in
                with(session: context) {
                    $0.header(
                        stream, UnsafeBufferPointer(start: name, count: nameLength),
                        UnsafeBufferPointer(start: value, count: valueLength))
                }
            },
            data: { context, stream, bytes, count in
                guard let exchange = exchange(stream) else { return }
                session(context)?.data(exchange, UnsafeBufferPointer(start: bytes, count: count))
            },
            stream_closed: { context, stream, code in
                guard let exchange = exchange(stream) else { return }
                session(context)?.closed(exchange, code: code)
            },
            goaway: { context, last, code, text, count in
                let text = UnsafeRawBufferPointer(start: text, count: count)
                session(context)?.goaway(last: last, code: code, text: Bytes(copying: text))
            },
            failed: { context, text, count in
                let text = UnsafeRawBufferPointer(start: text, count: count)
                session(context)?.complain(Bytes(copying: text))
            },
            body: { stream, room in
                exchange(stream)?.nextPart(room: room)
                    ?? cnghttp2_body_part(length: -1, ends: false)
            },
            send_body: { context, stream, head, length in
                guard let exchange = exchange(stream) else { return true }
                let head = UnsafeRawBufferPointer(start: head, count: headSize)
                return session(context)?.sendBody(exchange, head, length) ?? true
            })
    }
}

private let headSize = 9

private func session(_ context: UnsafeMutableRawPointer?) -> HTTP2Session? {
    context.map { Unmanaged<HTTP2Session>.fromOpaque($0).takeUnretainedValue() }
}

/// Without a retain and a release: nghttp2 calls while somebody else holds the session.
@inline(__always)
private func with(session context: UnsafeMutableRawPointer?, _ body: (HTTP2Session) -> Void) {
    guard let context else { return }
    Unmanaged<HTTP2Session>.fromOpaque(context)._withUnsafeGuaranteedRef { body($0) }
}

private func exchange(_ stream: UnsafeMutableRawPointer?) -> Exchange? {
    stream.map { Unmanaged<Exchange>.fromOpaque($0).takeUnretainedValue() }
}
