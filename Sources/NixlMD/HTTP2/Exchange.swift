// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CNghttp2
import EtcdProtocol
import MetadataCore

/// One request and its answer: a call or a stream, on one HTTP/2 stream.
///
/// nghttp2 keeps an unretained pointer to this object until it has reported the end of the HTTP/2 stream; until then the
/// session holds it.
final class Exchange {
    /// The longest message that is read, which bounds what a server can make us allocate.
    static let maximumMessage = 16 << 20
    /// Bytes of its header fields, each with the 32 bytes that HTTP/2 counts for it.
    private static let maximumHeaderBytes = 64 << 10

    /// Its owner is `.none` once nothing more is wanted.
    private(set) var request: Request
    /// The number of the HTTP/2 stream.
    var stream: Int32 = 0
    /// Its end has been reported, or is of no interest.
    private(set) var isConcluded = false

    // Frames to send, and how much of the first one is sent.
    private var frames: [Bytes] = []
    private var firstFrame = 0
    private var offset = 0
    /// nghttp2 knows that there is nothing to send for now.
    private(set) var isWaiting = false

    private var deframer = GRPCDeframer(maximumMessage: maximumMessage)
    private var trailers = GRPCTrailers()
    private var headerBytes = 0
    private var reply: Bytes?
    private var defect = Defect.none

    /// Why the rest of the answer is of no interest.
    private enum Defect {
        case none
        case tooLarge(Int)
        case notGRPC
        case malformed
        case longHeaders
    }

    init(_ request: Request) {
        self.request = request
        if let frame = request.frame { frames.append(frame) }
    }

    private var isCall: Bool { request.frame != nil }

    // MARK: What is sent

    /// Some of the request has not been handed to the connection.
    var hasUnsent: Bool { firstFrame < frames.count }

    /// A small frame joins the one before it, so that many do not become as many HTTP/2 frames.
    func send(_ frame: Bytes) {
        let last = frames.count - 1
        if last > firstFrame || (last == firstFrame && offset == 0),
            frames[last].count + frame.count <= Self.joinedFrames
        {
            frame.withUnsafeBytes { frames[last].append(copying: $0) }
        } else {
            frames.append(frame)
        }
    }
    private static let joinedFrames = 16 << 10

    /// The content of the next DATA frame, at most `room` bytes.
    func nextPart(room: Int) -> cnghttp2_body_part {
        guard hasUnsent, !isConcluded || isCall else {
            isWaiting = true
            return cnghttp2_body_part(length: -1, ends: false)
        }
        isWaiting = false
        let left = frames[firstFrame].count - offset
        let isLast = isCall && firstFrame + 1 == frames.count && left <= room
        return cnghttp2_body_part(length: Int64(min(left, room)), ends: isLast)
    }

    /// Hands out the part that nghttp2 has made a frame of.
    func takePart(_ length: Int, into output: inout OutputQueue) {
        guard hasUnsent else { return }
        let frame = frames[firstFrame]
        output.append(body: frame, from: offset, count: min(length, frame.count - offset))
        offset += length
        guard offset >= frame.count else { return }
        frames[firstFrame] = []
        firstFrame += 1
        offset = 0
        if firstFrame == frames.count {
            frames.empty(keepingRoom: frames.count <= 64)
            firstFrame = 0
        }
    }

    // MARK: What is received

    /// Takes a field of a header block.
    func receive(header name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>) {
        headerBytes += name.count + value.count + 32
        guard !isDefective else { return }
        guard headerBytes <= Self.maximumHeaderBytes else { return give(up: .longHeaders) }
        trailers.add(name: name.span, value: value.span)
    }

    /// Takes a piece of the answer's body. Whether a message is under way that is not whole.
    func receive(body: UnsafeBufferPointer<UInt8>, _ events: TransportEvents) -> Bool {
        guard !isDefective, !isConcluded, !body.isEmpty else { return false }
        guard isGRPC else {
            give(up: .notGRPC)
            return false
        }
        do throws(DeframeError) {
            try deframer.append(body.span)
            takeMessages(events)
        } catch {
            takeMessages(events)
            switch error {
            case .tooLarge(let size): give(up: .tooLarge(size))
            case .compressed: give(up: .malformed)
            }
        }
        return deframer.isMidMessage
    }

    private func takeMessages(_ events: TransportEvents) {
        while let message = deframer.next() {
            switch request.owner {
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
        deframer = GRPCDeframer(maximumMessage: Self.maximumMessage)
        reply = nil
    }

    var isDefective: Bool {
        if case .none = defect { return false }
        return true
    }

    /// The server has begun to answer, so it has seen the request.
    var isAnswered: Bool { headerBytes > 0 }

    // MARK: Its end

    /// Nothing more is wanted of it.
    func abandon() {
        request.owner = .none
        conclude()
    }

    func conclude() {
        isConcluded = true
        reply = nil
        deframer = GRPCDeframer(maximumMessage: Self.maximumMessage)
        // The password must not outlive its use.
        if request.method == .authenticate, !hasUnsent { request.frame?.wipe() }
    }

    enum Outcome {
        case ended(Reply)
        /// The connection is of no use any more.
        case lost(Text)
    }

    /// The outcome of a stream that has ended. `reset`: the error code of its RST_STREAM.
    func outcome(reset: UInt32?) -> Outcome {
        let outcome = plainOutcome(reset: reset)
        // A middle box may refuse a stream, in any way, and serve everything else.
        guard case .stream = request.owner, case .lost(let text) = outcome else { return outcome }
        return .ended(.failed(GRPCStatus(code: GRPCStatus.unavailable, message: text.bytes)))
    }

    private func plainOutcome(reset: UInt32?) -> Outcome {
        switch defect {
        case .none: break
        case .tooLarge(let size): return .ended(.tooLarge(size))
        case .notGRPC: return .lost(notGRPC)
        case .malformed: return .lost("the server sent a message that is not valid gRPC")
        case .longHeaders:
            return .lost("the server sent more than \(Self.maximumHeaderBytes) bytes of headers")
        }
        if let status = trailers.status {
            return .ended(status.code == GRPCStatus.ok ? success() : .failed(status))
        }
        if let reset, reset != CNGHTTP2_NO_ERROR {
            return .lost("the server reset a request (\(cnghttp2_code_name(reset)))")
        }
        guard isGRPC else { return .lost(notGRPC) }
        return .lost("the server's answer ended without a gRPC status")
    }

    /// The headers of the answer are those of a gRPC server (gRPC over HTTP2, "Responses").
    private var isGRPC: Bool { trailers.httpStatus == 200 && trailers.contentTypeIsGRPC }

    private var notGRPC: Text {
        let status = trailers.httpStatus ?? 0
        return "the server's answer is not gRPC, HTTP status \(status) (is it etcd's client port?)"
    }

    private func success() -> Reply {
        guard isCall else { return .ok([]) }
        guard let reply else {
            let text = Bytes("the server answered OK without a message")
            return .failed(GRPCStatus(code: GRPCStatus.internalError, message: text))
        }
        return .ok(reply)
    }
}
