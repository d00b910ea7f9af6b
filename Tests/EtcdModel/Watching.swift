// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

// Watches: what a member tells on its streams.

extension Cluster {
    func watchCommand(
        _ frame: [UInt8], _ stream: ServerStream, _ connection: ServerConnection, _ member: Member
    ) {
        switch WatchCommand(WireInput(frame: frame)) {
        case .create(let creation): create(creation, stream, connection, member)
        case .cancel(let id):
            guard stream.watchers.contains(where: { $0.id == id }) else { return }
            stream.watchers.removeAll { $0.id == id }
            send(connection, .message(stream.id, canceled(id, member)))
        case nil: end(stream.id, of: connection, .damaged)
        }
    }

    private func canceled(_ id: Int64, _ member: Member, compacted: Int64 = 0) -> [UInt8] {
        var output = header(member.applied)
        output.int(2, id)
        output.bool(4, true)
        output.int(5, compacted)
        return output.bytes
    }

    private func create(
        _ creation: WatchCommand.Creation, _ stream: ServerStream,
        _ connection: ServerConnection, _ member: Member
    ) {
        var output = header(member.applied)
        let isPermitted = mayRead(creation.key, creation.rangeEnd)
        guard stream.tokenIsGood, isPermitted,
            !stream.watchers.contains(where: { $0.id == creation.id })
        else {
            // Refused with an id that is not the one asked for: -1 (3.5) or 0 (3.4).
            output.int(2, random.oneIn(2) ? -1 : 0)
            output.bool(3, true)
            output.bool(4, true)
            output.data(
                6,
                Array(
                    (stream.tokenIsGood && isPermitted
                        ? "duplicate watch ID" : "permission denied").utf8))
            send(connection, .message(stream.id, output.bytes))
            return
        }
        output.int(2, creation.id)
        output.bool(3, true)
        send(connection, .message(stream.id, output.bytes))
        let isSynced = creation.start == 0 || creation.start > member.applied
        let first = creation.start == 0 ? member.applied + 1 : creation.start
        stream.watchers.append(
            ServerWatcher(
                id: creation.id, key: creation.key, rangeEnd: creation.rangeEnd,
                fragments: creation.fragments, first: first, next: first, isSynced: isSynced))
        if !isSynced {
            member.syncAt =
                member.syncAt ?? (settings.isPrompt ? now : now + random.within(0...100_000))
        }
    }

    /// Sends a revision that was applied to the watchers that are up to date.
    func tellWatchers(_ member: Member, _ revision: Int64) {
        let commit = store.commit(revision)
        for connection in member.connections {
            for stream in connection.streams where stream.isOpen {
                for index in stream.watchers.indices {
                    let watcher = stream.watchers[index]
                    // A watcher of a future revision gets nothing before it.
                    guard watcher.isSynced, watcher.next <= revision else { continue }
                    stream.watchers[index].next = revision + 1
                    let events = commit.changes.filter {
                        covers(watcher.key, watcher.rangeEnd, $0.key)
                    }
                    guard !events.isEmpty else { continue }
                    tell(events.map { (revision, $0) }, watcher, stream, connection, revision)
                }
            }
        }
    }

    /// After a snapshot a member knows the newest state, but not the revisions that led to it.
    func watchersFellBehind(_ member: Member) {
        for connection in member.connections {
            for stream in connection.streams {
                for index in stream.watchers.indices
                where stream.watchers[index].next <= member.applied {
                    stream.watchers[index].isSynced = false
                }
            }
        }
        member.syncAt = member.syncAt ?? now + 100_000
    }

    /// Sends watchers that began in the past the revisions that they missed, many in one message.
    func syncWatchers(_ member: Member) {
        member.syncAt = nil
        for connection in member.connections {
            for stream in connection.streams where stream.isOpen {
                for index in stream.watchers.indices where !stream.watchers[index].isSynced {
                    sync(&stream.watchers[index], stream, connection, member)
                }
                stream.watchers.removeAll { $0.next < 0 }
            }
        }
    }

    private func sync(
        _ watcher: inout ServerWatcher, _ stream: ServerStream, _ connection: ServerConnection,
        _ member: Member
    ) {
        guard watcher.next >= store.compacted else {
            send(
                connection,
                .message(stream.id, canceled(watcher.id, member, compacted: store.compacted)))
            watcher.next = -1
            return
        }
        var first = watcher.next
        if settings.tellsOlder, first > max(2, store.compacted + 3) { first -= 2 }
        var last = member.applied
        if last - first > 3, !settings.isPrompt, random.oneIn(4) {
            // A bounded number of revisions at a time.
            last = first + (last - first) / 2
            member.syncAt = now + 10_000
        } else {
            watcher.isSynced = true
        }
        var events: [(Int64, Change)] = []
        for revision in max(2, first)...max(2, last) where revision <= store.revision {
            for change in store.commit(revision).changes
            where covers(watcher.key, watcher.rangeEnd, change.key) {
                // A watcher that continues after a partial message may lose the rest as well; no
                // client can notice.
                let isForgotten =
                    settings.forgetsCompactedDeletions && change.record == nil
                    && revision <= store.compacted && revision <= watcher.first
                if !isForgotten { events.append((revision, change)) }
            }
        }
        watcher.next = last + 1
        if !events.isEmpty { tell(events, watcher, stream, connection, member.applied) }
    }

    private func tell(
        _ events: [(Int64, Change)], _ watcher: ServerWatcher, _ stream: ServerStream,
        _ connection: ServerConnection, _ revision: Int64
    ) {
        var rest = events[...]
        while !rest.isEmpty {
            let isSplit =
                settings.fragments && watcher.fragments && rest.count > 1 && random.oneIn(2)
            let count = isSplit ? 1 + random.below(rest.count - 1) : rest.count
            var output = header(revision)
            output.int(2, watcher.id)
            output.bool(7, count < rest.count)
            for (revision, change) in rest.prefix(count) {
                output.message(11, encoded(change, revision))
            }
            rest = rest.dropFirst(count)
            send(connection, .message(stream.id, output.bytes))
        }
    }

    private func encoded(_ change: Change, _ revision: Int64) -> [UInt8] {
        var event = WireOutput()
        if let record = change.record {
            event.message(2, record.encoded())
        } else {
            event.int(1, 1)
            var kv = WireOutput()
            kv.data(1, change.key)
            kv.int(3, revision)
            event.message(2, kv.bytes)
        }
        return event.bytes
    }

    /// An empty message says that every event up to its revision was sent.
    func tellProgress(_ member: Member) {
        guard settings.tellsProgress, now >= member.progressAt else { return }
        member.progressAt = now + random.within(1_000_000...20_000_000)
        for connection in member.connections {
            for stream in connection.streams where stream.isOpen {
                for watcher in stream.watchers where watcher.isSynced {
                    var output = header(member.applied)
                    output.int(2, watcher.id)
                    send(connection, .message(stream.id, output.bytes))
                }
            }
        }
    }
}
