// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// Actions for the shell, in order. Parts of the core only append; requests to each other are return values.
struct Outputs {
    private var actions = Queue<Action>()
    private var lastID: UInt64 = 0
    private let level: LogLevel

    init(logLevel: LogLevel) {
        level = logLevel
    }

    /// For a connection, a request or a stream.
    mutating func newID() -> UInt64 {
        lastID += 1
        return lastID
    }

    mutating func act(_ action: Action) {
        actions.append(action)
    }

    mutating func log(_ level: LogLevel, _ text: @autoclosure () -> Text) {
        if level >= self.level { actions.append(.log(level, text())) }
    }

    mutating func next() -> Action? { actions.popFirst() }
}

/// Callbacks that wait for the host, and how much there may be of them.
struct Notices {
    private var queue = Queue<(Notice, bytes: Int)>()
    /// Bytes of the queued blobs.
    private(set) var bytes = 0
    /// Keys that the host does not receive.
    var leftOut = LeftOut()
    let limit: Int
    private let byteLimit: Int

    init(limit: Int, byteLimit: Int) {
        self.limit = limit
        self.byteLimit = byteLimit
    }

    var count: Int { queue.count }
    var isEmpty: Bool { queue.isEmpty }

    /// Whether so many more are within the limits.
    func haveRoom(for more: Int, bytes moreBytes: Int) -> Bool {
        count + more <= limit && bytes + moreBytes <= byteLimit
    }

    /// Whether a page may be asked for, whose size nobody knows.
    var haveRoomForPage: Bool { count < limit / 2 && bytes < byteLimit / 2 }

    mutating func tell(_ notice: Notice, bytes noticeBytes: Int = 0) {
        queue.append((notice, noticeBytes))
        bytes += noticeBytes
    }

    mutating func tell(_ event: WatchEvent) {
        if case .put(_, _, let blob) = event.kind {
            tell(.event(event), bytes: blob.count)
        } else {
            tell(.event(event), bytes: 0)
        }
    }

    mutating func next() -> Notice? {
        guard let (notice, noticeBytes) = queue.popFirst() else { return nil }
        bytes -= noticeBytes
        assert(bytes >= 0 && (bytes == 0 || !queue.isEmpty), "bytes of notices that were taken")
        return notice
    }
}
