// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CCurl
import EtcdProtocol
import MetadataCore

/// One easy handle of libcurl and the call or stream it serves at present; used again for others.
///
/// libcurl keeps an unretained pointer to this object: the transport holds it while the transfer runs. `destroy()` frees
/// the handle; deinit calls nothing of libcurl, for a forked child must not.
final class Transfer {
    /// Reads at most this long in one message, and so bounds what a server can make us allocate.
    static let maximumMessage = 16 << 20

    let easy: UnsafeMutableRawPointer
    private let errorBuffer: UnsafeMutablePointer<CChar>
    private let events: TransportEvents
    /// Made for methods whose answers may be large.
    let readsLargely: Bool

    private(set) var owner = TransferOwner.none
    private(set) var isHeavy = false
    private(set) var headers: StringList?

    // What is still to be sent: frames, and how far the first of them has been.
    private var frames: [Bytes] = []
    private var firstFrame = 0
    private var offset = 0
    /// Bytes that libcurl has taken from them, those that it has not, and how many of these it may take.
    private var handedOut: Int64 = 0
    private(set) var unhanded = 0
    private var allowance = 0
    /// libcurl would have taken more than it was allowed to.
    private var wasCut = false
    /// Room that the headers of its request take.
    private var headerCost = 0
    /// Bytes of a call's request.
    private var length = 0
    /// libcurl was told to wait for more to send.
    private var isPaused = false

    private var deframer = GRPCDeframer(maximumMessage: maximumMessage)
    private var trailers = GRPCTrailers()
    private var reply: Bytes?
    private var defect = Defect.none

    /// Why the rest of the answer is of no interest.
    private enum Defect {
        case none
        case tooLarge(Int)
        /// The answer is not in HTTP/2.
        case wrongProtocol
        /// The answer is HTTP/2, but not gRPC.
        case notGRPC
        case malformed
    }

    private var isDefective: Bool {
        if case .none = defect { return false }
        return true
    }

    /// Found by a callback: the transfer is to be taken from libcurl, which must not be done in one. To end it by
    /// the callback's result instead would make libcurl close the connection, with all other transfers.
    ///
    /// A stream that the server has ended is over too: libcurl 7.88.1 goes on with it for as long as its upload is
    /// paused (`*done` in Curl_readwrite, lib/transfer.c there), and a watch would be silent for ever. So is a call that
    /// was answered before all of it was sent.
    var isOver: Bool { isDefective || (trailers.status != nil && (!isCall || hasUnsent)) }

    /// nil: out of memory.
    init?(events: TransportEvents, readsLargely: Bool) {
        guard let easy = curl_easy_init() else { return nil }
        self.easy = easy
        self.events = events
        self.readsLargely = readsLargely
        errorBuffer = UnsafeMutablePointer<CChar>.allocate(capacity: Int(CURL_ERROR_SIZE))
        errorBuffer.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
        guard setLastingOptions(errorBuffer: errorBuffer) else {
            destroy()
            return nil
        }
    }

    deinit {
        // In a forked child libcurl still has this pointer, but is not called again.
        errorBuffer.deallocate()
    }

    func destroy() {
        curl_easy_cleanup(easy)
    }

    // MARK: Life of a call or a stream

    func begin(_ request: Request, headers: StringList) {
        owner = request.owner
        isHeavy = request.isHeavy
        self.headers = headers
        headers.users += 1
        headerCost = request.headerCost
        if let frame = request.frame {
            frames.append(frame)
            length = frame.count
            unhanded = frame.count
        }
    }

    /// Ready for another owner. The handle must have been removed from its multi handle.
    func end() {
        owner = .none
        clearRequest()
        headers?.release()
        headers = nil
        frames.removeAll()
        firstFrame = 0
        offset = 0
        handedOut = 0
        unhanded = 0
        allowance = 0
        wasCut = false
        length = 0
        isPaused = false
        deframer = GRPCDeframer(maximumMessage: Self.maximumMessage)
        trailers = GRPCTrailers()
        reply = nil
        defect = .none
        errorBuffer[0] = 0
    }

    /// Sends one more frame of a stream. Not to be called inside a callback of libcurl.
    func send(_ frame: Bytes) {
        frames.append(frame)
        unhanded += frame.count
        resume()
    }

    /// Makes libcurl ask again for what is to be sent, if it was told to wait.
    func resume() {
        guard isPaused else { return }
        isPaused = false
        _ = curl_easy_pause(easy, CURLPAUSE_CONT)
    }

    var isCall: Bool { if case .call = owner { true } else { false } }

    /// Some of the request has not left libcurl.
    var hasUnsent: Bool { !frames.isEmpty || uploaded < handedOut }

    var uploaded: Int64 { ccurl_uploaded(easy) }

    /// libcurl waits for more to send and keeps what it has: 7.88.1 asks for more while less than a 32nd of its buffer
    /// is left unsent, and takes 'wait' as true for that too (readwrite_upload in lib/transfer.c there).
    var isStuck: Bool { isPaused && hasUnsent }

    // MARK: Room

    /// Bytes that libcurl has and has not sent.
    private var unsent: Int { Int(handedOut - uploaded) }

    /// There is more, and libcurl would ask for it: it has sent what it has, or nearly (curl_upload_refill_watermark in
    /// 7.88.1).
    var takesMore: Bool {
        let buffer = length > BufferSize.small ? BufferSize.large : BufferSize.small
        return unhanded > 0 && unsent < buffer >> 5
    }

    /// Others need not wait for it.
    var isBulk: Bool { isCall && length > Self.bulk && unhanded + unsent > Self.bulk }
    private static let bulk = 4 << 10

    /// Room for what is on its way through libcurl: held by flow control, allowed, or not begun.
    var promised: Int {
        let bytes = unsent + allowance
        return (handedOut == 0 ? headerCost : 0) + (bytes > 0 ? SendRoom.cost(bytes) : 0)
    }

    /// Lets libcurl take so many bytes; true: it would take them at once, if it were asked to send.
    func allow(_ bytes: Int) -> Bool {
        allowance = bytes
        if isPaused {
            resume()
            return false
        }
        defer { wasCut = false }
        return wasCut
    }

    /// Takes back what was allowed and not used.
    func takeAllowance() -> Int {
        defer { allowance = 0 }
        return allowance
    }

    // MARK: Outcome

    enum Outcome {
        case ended(Reply)
        /// The connection is of no use any more.
        case lost(Text)
    }

    /// What the end of the transfer means. A gRPC status that was received wins over libcurl's result: a fast server
    /// may answer and end the stream before libcurl has sent all it wanted.
    ///
    /// libcurl 7.88.1 does not hand out the trailers of a stream that ends while data for another one waits in its
    /// connection ('closed overrides paused', cf_h2_recv in lib/http2.c there), but all that stands before them. A
    /// message there is a success: gRPC servers send the message of a unary call only with status 0. A refusal
    /// is lost there only over TLS, where etcd sends its status in trailers; it counts as a lost connection.
    func outcome(_ result: CURLcode) -> Outcome {
        switch defect {
        case .none: break
        case .tooLarge(let size): return .ended(.tooLarge(size))
        case .wrongProtocol: return .lost(Self.wrongProtocol)
        case .notGRPC: return .lost(notGRPC)
        case .malformed: return .lost("the server sent a message that is not valid gRPC")
        }
        if let status = trailers.status {
            return .ended(status.code == GRPCStatus.ok ? success() : .failed(status))
        }
        if wasRefusedEarly(result) { return .ended(.failed(refusedEarly)) }
        guard result == CURLE_OK else { return .lost(failure(result)) }
        guard isGRPC else { return .lost(notGRPC) }
        if let reply { return .ended(.ok(reply)) }
        return .lost("the server's answer ended without a gRPC status")
    }

    /// The headers of the answer are those of a gRPC server (gRPC over HTTP2, "Responses").
    private var isGRPC: Bool { trailers.httpStatus == 200 && trailers.contentTypeIsGRPC }

    private var notGRPC: Text {
        let status = trailers.httpStatus ?? 0
        return "the server's answer is not gRPC, HTTP status \(status) (is it etcd's client port?)"
    }

    /// libcurl 7.88.1 loses an answer that is followed by RST_STREAM(NO_ERROR) in the same read, and then fails to send
    /// on (CURLE_HTTP2_STREAM, without a text) on a stream that the server has ended (cf_h2_recv in lib/http2.c
    /// there). A server does so when it needs no more of the request (RFC 9113, section 8.1); a gRPC server does when
    /// the length that stands before a message is over its limit.
    private func wasRefusedEarly(_ result: CURLcode) -> Bool {
        guard isCall, result == CURLE_HTTP2_STREAM else { return false }
        return errorBuffer[0] == 0 && trailers.httpStatus == nil
            && length > BufferSize.small && hasUnsent
    }

    /// In grpc-go's words for it.
    private var refusedEarly: GRPCStatus {
        let text: Text = """
            received message larger than max (\(length) bytes; the server's limit is unknown, since libcurl lost its answer)
            """
        return GRPCStatus(code: GRPCStatus.resourceExhausted, message: text.bytes)
    }

    private func success() -> Reply {
        guard isCall else { return .ok([]) }
        guard let reply else {
            let text = Bytes("the server answered OK without a message")
            return .failed(GRPCStatus(code: GRPCStatus.internalError, message: text))
        }
        return .ok(reply)
    }

    private static var wrongProtocol: Text {
        "the server does not speak HTTP/2 (is it etcd's client port?)"
    }

    private func failure(_ result: CURLcode) -> Text {
        if result == CURLE_COULDNT_CONNECT, let reason = Self.systemError(ccurl_os_errno(easy)) {
            return reason
        }
        if result == CURLE_PARTIAL_FILE { return "the server closed the connection" }
        guard !events.hasAnswered, Self.isWrongAnswer(result) else { return detail(result) }
        return "no HTTP/2 answer (is it etcd's client port, http or https?): \(detail(result))"
    }

    /// What libcurl's versions make of a server that answers the preface of HTTP/2 with something else, or not at all.
    private static func isWrongAnswer(_ result: CURLcode) -> Bool {
        switch result {
        case CURLE_HTTP2, CURLE_HTTP2_STREAM, CURLE_UNSUPPORTED_PROTOCOL, CURLE_WEIRD_SERVER_REPLY,
            CURLE_GOT_NOTHING, CURLE_SEND_ERROR, CURLE_RECV_ERROR:
            true
        default: false
        }
    }

    private func detail(_ result: CURLcode) -> Text {
        let text: Text = "\(UnsafePointer(errorBuffer))"
        return text.isEmpty ? "\(curl_easy_strerror(result))" : text
    }

    /// The usual reasons of a failed connect, shorter than libcurl's words (Linux errno values).
    private static func systemError(_ number: Int) -> Text? {
        switch number {
        case 101: "network unreachable"
        case 110: "connection timed out"
        case 111: "connection refused"
        case 113: "host unreachable"
        default: nil
        }
    }
}

// MARK: - What libcurl's callbacks do

extension Transfer {
    /// Copies what is to be sent next into `room`; what libcurl's read callback has to return.
    fileprivate func read(into room: UnsafeMutableRawBufferPointer) -> Int {
        var filled = 0
        let most = min(room.count, allowance)
        while filled < most, firstFrame < frames.count {
            let frame = frames[firstFrame]
            let length = min(most - filled, frame.count - offset)
            frame.withUnsafeBytes { bytes in
                let target = UnsafeMutableRawBufferPointer(rebasing: room[filled..<filled + length])
                target.copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + length]))
            }
            filled += length
            offset += length
            if offset == frame.count { dropFirstFrame() }
        }
        events.bytesSent += UInt64(filled)
        handedOut += Int64(filled)
        unhanded -= filled
        allowance -= filled
        wasCut = filled < room.count && unhanded > 0
        if filled > 0 { return filled }
        guard unhanded > 0 || !isCall else { return 0 }
        isPaused = true
        if isOver { events.hasOver = true }
        return Int(CCURL_READ_PAUSE)
    }

    private func dropFirstFrame() {
        frames[firstFrame] = []
        firstFrame += 1
        offset = 0
        if firstFrame == frames.count {
            frames.removeAll(keepingCapacity: frames.count <= 64)
            firstFrame = 0
        }
    }

    /// Takes a line of a header or a trailer.
    fileprivate func receive(line: UnsafeBufferPointer<UInt8>) {
        events.received += 1
        guard !isDefective else { return }
        if line.starts(with: Self.httpPrefix), !line.starts(with: Self.http2Prefix) {
            return give(up: .wrongProtocol)
        }
        events.hasAnswered = true
        trailers.add(line: line.span)
        if isOver { events.hasOver = true }
    }

    private static var httpPrefix: Bytes { Bytes("HTTP/") }
    private static var http2Prefix: Bytes { Bytes("HTTP/2") }

    /// Takes a piece of the answer's body.
    fileprivate func receive(body: UnsafeBufferPointer<UInt8>) {
        events.received += 1
        events.bytesReceived += UInt64(body.count)
        guard !isDefective, !body.isEmpty else { return }
        guard isGRPC else { return give(up: .notGRPC) }
        do throws(DeframeError) {
            try deframer.append(body.span)
            takeMessages()
        } catch {
            takeMessages()
            switch error {
            case .tooLarge(let size): give(up: .tooLarge(size))
            case .compressed: give(up: .malformed)
            }
        }
        if deframer.isMidMessage { events.hasProgressed = true }
    }

    private func takeMessages() {
        while let message = deframer.next() {
            switch owner {
            case .none: break
            case .call:
                guard reply == nil else { return give(up: .malformed) }
                reply = message
            case .stream(let id): events.append(.message(id, message))
            }
        }
    }

    private func give(up defect: Defect) {
        self.defect = defect
        events.hasOver = true
        deframer = GRPCDeframer(maximumMessage: Self.maximumMessage)
    }
}

private func transfer(_ context: UnsafeMutableRawPointer) -> Transfer {
    Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue()
}

/// CURLOPT_READFUNCTION.
let onRead: ccurl_data_callback = { data, size, count, context in
    guard let data, let context else { return Int(CCURL_READ_ABORT) }
    return transfer(context).read(
        into: UnsafeMutableRawBufferPointer(start: data, count: size &* count))
}

/// CURLOPT_HEADERFUNCTION: one whole line, trailers included.
let onHeader: ccurl_data_callback = { data, size, count, context in
    guard let data, let context else { return 0 }
    let length = size &* count
    let line = UnsafeRawBufferPointer(start: data, count: length)
    transfer(context).receive(line: line.assumingMemoryBound(to: UInt8.self))
    return length
}

/// CURLOPT_WRITEFUNCTION.
let onBody: ccurl_data_callback = { data, size, count, context in
    guard let data, let context else { return 0 }
    let length = size &* count
    let body = UnsafeRawBufferPointer(start: data, count: length)
    transfer(context).receive(body: body.assumingMemoryBound(to: UInt8.self))
    return length
}
