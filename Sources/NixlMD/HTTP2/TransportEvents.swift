// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import EtcdProtocol
import MetadataCore

/// Events of the transport, in order.
final class TransportEvents {
    private var items: [NetworkEvent] = []
    private var head = 0
    /// Bytes in the messages that wait.
    private(set) var pendingBytes = 0

    var bytesSent: UInt64 = 0
    var bytesReceived: UInt64 = 0

    var count: Int { items.count - head }
    /// Bytes of the message in the first; nil: there is none.
    var firstBytes: Int? { head < items.count ? Self.size(items[head]) : nil }

    func append(_ event: NetworkEvent) {
        pendingBytes += Self.size(event)
        items.append(event)
    }

    func answer(_ owner: RequestOwner, _ reply: Reply) {
        switch owner {
        case .none: break
        case .call(let id): append(.reply(id, reply))
        case .stream(let id): append(.streamEnded(id, reply))
        }
    }

    func popFirst() -> NetworkEvent? {
        guard head < items.count else { return nil }
        let event = items[head]
        head += 1
        pendingBytes -= Self.size(event)
        if head == items.count {
            removeAll()
        } else if head >= 1024, head > items.count / 2 {
            items.drop(first: head)
            head = 0
        }
        return event
    }

    func removeAll() {
        // A burst must not keep its memory.
        items.empty(keepingRoom: items.count <= 1024)
        head = 0
        pendingBytes = 0
    }

    /// Drops what is reported about a request of which nothing is wanted any more.
    func removeAll(of owner: RequestOwner) {
        guard count > 0 else { return }
        items.drop(first: head)
        head = 0
        items.drop { event in
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
