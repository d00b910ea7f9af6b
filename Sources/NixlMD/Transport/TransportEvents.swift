// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import EtcdProtocol
import MetadataCore

/// What the transfers report, apart from the transport so that callbacks of libcurl touch nothing else.
final class TransportEvents {
    private var items: [NetworkEvent] = []
    private var head = 0
    /// Bytes in the messages that wait.
    private(set) var pendingBytes = 0

    var bytesSent: UInt64 = 0
    var bytesReceived: UInt64 = 0
    /// The server of the current connection has answered something in HTTP/2.
    var hasAnswered = false
    /// Grows with everything that comes.
    var received: UInt64 = 0
    /// A part of a message has come.
    var hasProgressed = false
    /// A transfer is over, although libcurl does not say so.
    var hasOver = false

    var count: Int { items.count - head }
    /// Bytes of the message in the first; nil: there is none.
    var firstBytes: Int? { head < items.count ? Self.size(items[head]) : nil }

    /// Nothing of the one before is told of the next.
    func beginConnection() {
        hasAnswered = false
        hasProgressed = false
        hasOver = false
    }

    func append(_ event: NetworkEvent) {
        pendingBytes += Self.size(event)
        items.append(event)
    }

    func popFirst() -> NetworkEvent? {
        guard head < items.count else { return nil }
        let event = items[head]
        head += 1
        pendingBytes -= Self.size(event)
        if head == items.count {
            removeAll()
        } else if head >= 1024, head > items.count / 2 {
            items.removeFirst(head)
            head = 0
        }
        return event
    }

    func removeAll() {
        // A burst must not keep its memory for ever.
        items.removeAll(keepingCapacity: items.count <= 1024)
        head = 0
        pendingBytes = 0
    }

    /// Drops what is told about a transfer of which nothing is wanted any more.
    func removeAll(of owner: TransferOwner) {
        guard count > 0 else { return }
        items.removeFirst(head)
        head = 0
        items.removeAll { event in
            switch (event, owner) {
            case (.reply(let id, _), .call(let call)): id == call
            case (.message(let id, _), .stream(let stream)): id == stream
            case (.streamEnded(let id, _), .stream(let stream)): id == stream
            default: false
            }
        }
        pendingBytes = 0
        for event in items { pendingBytes += Self.size(event) }
    }

    private static func size(_ event: NetworkEvent) -> Int {
        switch event {
        case .message(_, let message): message.count
        case .reply(_, .ok(let message)): message.count
        default: 0
        }
    }
}
