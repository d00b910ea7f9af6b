// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// One watch of etcd, on the one stream that carries all of them.
final class Watcher {
    enum Sink {
        case host(HostWatch)
        case fetch(Fetch)
        case ourselves
    }
    enum State {
        /// Waits for its turn on the stream.
        case wanted
        case creating
        case active
        case canceled
    }
    /// Ours to choose, from 1, never used twice: a refused creation is answered with id 0 or -1.
    fileprivate(set) var id: Int64
    let key: Bytes
    let rangeEnd: Bytes
    let keepsValues: Bool
    let sink: Sink
    var state = State.wanted
    /// The revision from which it goes on: the last complete one plus one.
    var next: Int64
    /// The revision from which it was created, and when that was asked for.
    var createdFrom: Int64 = 0
    fileprivate var askedAt: Milliseconds = 0
    /// Pieces of a message that etcd has sent in several (rpc.proto, WatchCreateRequest.fragment).
    var pieces: [WatchResponse.Event] = []
    var pieceBytes = 0
    /// etcd has refused it, perhaps only because of an old token.
    var wasDenied = false

    init(id: Int64, key: Bytes, rangeEnd: Bytes, from next: Int64, keepsValues: Bool, sink: Sink) {
        self.id = id
        self.key = key
        self.rangeEnd = rangeEnd
        self.next = next
        self.keepsValues = keepsValues
        self.sink = sink
    }

    var isCanceled: Bool {
        if case .canceled = state { true } else { false }
    }
}

/// The Watch stream.
struct WatchStream {
    var id: StreamID?
    var watchers = SortedMap<Watcher>()
    var wanted = Queue<Watcher>()
    /// Creations on their way: etcd answers them in the order of the requests, refusals included.
    var creating = Queue<Watcher>()
    /// When the next of those answers must have come.
    fileprivate var creationDeadline: Milliseconds = 0
    /// Bytes of all the pieces that watchers hold.
    fileprivate var pieceBytes = 0
    var lastID: Int64 = 0
}

extension MetadataCore {
    func startWatcher(
        key: Bytes, rangeEnd: Bytes, from revision: Int64, keepsValues: Bool,
        for sink: Watcher.Sink
    ) -> Watcher {
        watchStream.lastID += 1
        let watcher = Watcher(
            id: watchStream.lastID, key: key, rangeEnd: rangeEnd, from: revision,
            keepsValues: keepsValues, sink: sink)
        watchStream.watchers[UInt64(watcher.id)] = watcher
        watchStream.wanted.append(watcher)
        return watcher
    }

    /// Ends a watcher; nothing of it is told any more.
    func cancel(_ watcher: inout Watcher?) {
        guard let ended = watcher else { return }
        watcher = nil
        if case .active = ended.state, let stream = watchStream.id {
            log(.debug, "watch \(ended.id) of '\(ended.key)' is canceled")
            act(.send(stream, frame: WatchCancelRequest(watchID: ended.id).frame()))
        }
        forget(ended)
    }

    /// For close. A watcher and whom it serves hold each other: they would stay in memory for ever.
    public func releaseWatchers() {
        for watcher in watchStream.watchers.values {
            switch watcher.sink {
            case .host(let watch): watch.state = .ended
            case .fetch(let fetch): fetch.state = .done
            case .ourselves: break
            }
        }
    }

    private func forget(_ watcher: Watcher) {
        watcher.state = .canceled
        dropPieces(of: watcher)
        watchStream.watchers[UInt64(watcher.id)] = nil
    }

    private func dropPieces(of watcher: Watcher) {
        watchStream.pieceBytes -= watcher.pieceBytes
        watcher.pieces = []
        watcher.pieceBytes = 0
    }

    func driveWatchStream() {
        guard isReady, !isReplacingStore, let connection = link.connection else { return }
        while watchStream.creating.count < Limits.creationsInFlight,
            let watcher = watchStream.wanted.popFirst()
        {
            guard case .wanted = watcher.state else { continue }
            let stream = watchStream.id ?? newID()
            if watchStream.id == nil {
                watchStream.id = stream
                log(.debug, "the stream of watches is opened")
                act(.openStream(stream, connection, .watch, token: token))
            }
            watcher.createdFrom = firstRevision(of: watcher)
            watcher.askedAt = now
            if watchStream.creating.isEmpty { expectCreations() }
            let request = WatchCreateRequest(
                key: watcher.key, rangeEnd: watcher.rangeEnd,
                startRevision: watcher.createdFrom, watchID: watcher.id)
            act(.send(stream, frame: request.frame()))
            watcher.state = .creating
            watchStream.creating.append(watcher)
        }
    }

    /// Where there is a past to tell, one revision earlier than wanted: a deletion at exactly the revision to which etcd
    /// was compacted is told to nobody (https://github.com/etcd-io/etcd/issues/18089, until 3.4.34 and 3.5.16). Begun
    /// before it, the watch is canceled as compacted. What is told twice so is dropped. Not always, because etcd
    /// tells the past only after up to 100 ms.
    private func firstRevision(of watcher: Watcher) -> Int64 {
        counters.revision >= watcher.next ? max(1, watcher.next &- 1) : watcher.next
    }

    /// All watchers are to be created anew on the next connection, where each stopped.
    func watchStreamIsLost() {
        watchStream.id = nil
        watchStream.wanted.removeAll()
        watchStream.creating.removeAll()
        for watcher in watchStream.watchers.values {
            watcher.state = .wanted
            dropPieces(of: watcher)
            watchStream.wanted.append(watcher)
        }
    }

    // MARK: - Creation

    /// An answer must come in the time of a request. What is sent meanwhile shares the way with it.
    private func expectCreations() {
        let transfer = Milliseconds(callBytes / Timing.bytesPerMillisecond)
        watchStream.creationDeadline = now &+ Timing.requestDeadline &+ transfer
    }

    /// Something comes: many creations on a slow connection take their time.
    func creationsProgressed() {
        watchStream.creationDeadline = max(
            watchStream.creationDeadline, now &+ Timing.requestDeadline)
    }

    /// A watch that is never created would be silent for ever.
    func expireCreations() {
        guard mayJudge, let deadline = creationDeadline, now >= deadline else { return }
        endpoints.wasSilent(now: now)
        failConnection("\(currentTarget) left the creation of a watch unanswered for too long")
    }

    var creationDeadline: Milliseconds? {
        guard let oldest = watchStream.creating.first else { return nil }
        return min(watchStream.creationDeadline, oldest.askedAt &+ Timing.requestDeadlineMax)
    }

    // MARK: - Messages

    func watchMessage(_ bytes: Bytes) {
        creationsProgressed()
        let outline = try? WatchResponse.outline(of: bytes)
        let addressee = outline.flatMap { UInt64(exactly: $0.watchID) }
            .flatMap { watchStream.watchers[$0] }
        if let addressee, case .active = addressee.state, outline?.hasTooManyEvents == true {
            interrupt(addressee, "one change is over \(WireLimits.events) keys")
            return
        }
        let keepsValues = addressee?.keepsValues ?? false
        guard
            let response = decoded(
                bytes,
                { (bytes) throws(WireError) in
                    try WatchResponse.decode(bytes, keepValues: keepsValues)
                })
        else { return }
        seen(response.header)
        if response.created {
            created(response)
            return
        }
        guard let watcher = addressee, case .active = watcher.state else { return }
        if response.canceled {
            watcherEnded(watcher, response)
        } else {
            take(response, bytes: bytes.count, for: watcher)
        }
    }

    private func created(_ response: WatchResponse) {
        guard let watcher = watchStream.creating.popFirst(), response.events.isEmpty,
            response.canceled || response.watchID == watcher.id
        else {
            isMalformed("watch \(response.watchID) was not to be created now")
            return
        }
        if watcher.isCanceled {
            // Canceled by us before etcd had told that it exists.
            guard !response.canceled, let stream = watchStream.id else { return }
            act(.send(stream, frame: WatchCancelRequest(watchID: watcher.id).frame()))
            return
        }
        guard !response.canceled else {
            watcherEnded(watcher, response)
            return
        }
        if watcher.createdFrom == watcher.next, response.header.revision >= watcher.next,
            let stream = watchStream.id
        {
            // There is a past after all.
            act(.send(stream, frame: WatchCancelRequest(watchID: watcher.id).frame()))
            createAgain(watcher)
            return
        }
        watcher.state = .active
        watcher.wasDenied = false
        log(
            .debug,
            "watch \(watcher.id) of '\(watcher.key)' begins at revision \(watcher.createdFrom)")
        switch watcher.sink {
        case .host(let watch): contactRegained(watch)
        case .fetch, .ourselves: break
        }
    }

    private func createAgain(_ watcher: Watcher) {
        watchStream.watchers[UInt64(watcher.id)] = nil
        watchStream.lastID += 1
        watcher.id = watchStream.lastID
        watcher.state = .wanted
        watchStream.watchers[UInt64(watcher.id)] = watcher
        watchStream.wanted.append(watcher)
    }

    /// etcd has ended a watch or refused to begin it.
    private func watcherEnded(_ watcher: Watcher, _ response: WatchResponse) {
        if response.compactRevision > 0 {
            forget(watcher)
            wasCompacted(watcher, response.compactRevision)
            return
        }
        let reason = response.cancelReason
        log(.debug, "watch \(watcher.id) of '\(watcher.key)' is ended by etcd: \(reason)")
        guard reason.contains("permission denied"), isBelieved(watcher) else {
            failConnection("\(currentTarget) ended a watch: \(reason)")
            return
        }
        forget(watcher)
        let text: Text = "etcd's roles do not allow to watch '\(watcher.key)': \(reason)"
        switch watcher.sink {
        case .host(let watch): end(watch, .permission, text)
        case .fetch(let fetch): fail(fetch, .permission, text)
        case .ourselves: selfWatchWasRefused(text)
        }
    }

    /// etcd 3.5.1 tells a watch with a stale token 'permission denied' (the token is fixed when the stream opens):
    /// what is refused is tried once more with a new token. All that is being created, so that many which are
    /// not permitted cost one new connection.
    private func isBelieved(_ watcher: Watcher) -> Bool {
        if configuration.user.isEmpty || watcher.wasDenied { return true }
        watcher.wasDenied = true
        watchStream.creating.forEach { $0.wasDenied = true }
        return false
    }

    private func wasCompacted(_ watcher: Watcher, _ revision: Int64) {
        let text: Text =
            "etcd has compacted revision \(watcher.next) away; the oldest is \(revision)"
        log(.info, text)
        beginAnew(watcher, text)
    }

    /// Events, in one piece or several. Several revisions may come in one message; a revision never
    /// comes in two (etcd server/mvcc/watchable_store.go, eventBatch).
    private func take(_ response: WatchResponse, bytes: Int, for watcher: Watcher) {
        if response.fragment || watcher.pieceBytes > 0 {
            watcher.pieceBytes += bytes
            watchStream.pieceBytes += bytes
            guard watchStream.pieceBytes <= Limits.watchBytes else {
                interrupt(watcher, "one change is over \(Limits.watchBytes) bytes")
                return
            }
            guard watcher.pieces.count + response.events.count <= WireLimits.events else {
                interrupt(watcher, "one change is over \(WireLimits.events) keys")
                return
            }
            watcher.pieces.append(contentsOf: response.events)
            guard !response.fragment else { return }
            let events = watcher.pieces
            dropPieces(of: watcher)
            deliver(events, to: watcher, header: response.header)
        } else {
            deliver(response.events, to: watcher, header: response.header)
        }
    }

    private func deliver(
        _ events: [WatchResponse.Event], to watcher: Watcher, header: ResponseHeader
    ) {
        guard let last = events.last else {
            // A progress notification: all up to this revision has been told.
            watcher.next = max(watcher.next, header.revision &+ 1)
            return
        }
        guard areInOrder(events, for: watcher) else {
            isMalformed("events of watch \(watcher.id) are of other keys, or not in order")
            return
        }
        // Some servers send older events than were asked for.
        let from = watcher.next
        let fresh = events.first.map { $0.kv.modRevision >= from } ?? true
        let events = fresh ? events : events.filter { $0.kv.modRevision >= from }
        watcher.next = max(watcher.next, last.kv.modRevision &+ 1)
        guard !events.isEmpty else { return }
        switch watcher.sink {
        case .host(let watch): changed(watch, events)
        case .fetch(let fetch): appeared(fetch, events)
        case .ourselves: ourPresenceChanged(events)
        }
    }

    /// Of what is watched, and of revisions that do not fall.
    private func areInOrder(_ events: [WatchResponse.Event], for watcher: Watcher) -> Bool {
        var last: Int64 = 1
        for event in events {
            guard event.kv.modRevision >= last, event.kv.modRevision < Int64.max,
                event.kv.key.isIn(from: watcher.key, to: watcher.rangeEnd)
            else { return false }
            last = event.kv.modRevision
        }
        return true
    }

    /// A watcher's messages cannot be held: what it misses must be found by listing.
    private func interrupt(_ watcher: Watcher, _ text: Text) {
        var ended: Watcher? = watcher
        cancel(&ended)
        beginAnew(watcher, text)
    }

    /// For whom an ended watcher was: lists what it may have missed.
    private func beginAnew(_ watcher: Watcher, _ text: Text) {
        switch watcher.sink {
        case .host(let watch):
            resync(watch, text, forgetRevisions: false)
            _ = givesUpRestarting(&watch.restarts, text)
        case .fetch(let fetch):
            fetchAgain(fetch)
            _ = givesUpRestarting(&fetch.restarts, text)
        case .ourselves:
            selfWatchWasInterrupted()
            _ = givesUpRestarting(&selfRestarts, text)
        }
    }

    /// A message over the cap on messages names no watcher, and the stream cannot go on behind it: every
    /// watcher finds by listing what it may have missed.
    func watchMessageTooLarge(_ size: Int) {
        let text: Text = "etcd sent a watch message of \(size) bytes"
        log(.warn, text)
        watchStream.id = nil
        watchStream.creating.removeAll()
        for watcher in watchStream.watchers.values { interrupt(watcher, text) }
    }
}
