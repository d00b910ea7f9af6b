// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdProtocol

/// One watch of etcd, on the one stream that carries all of them. Its user keeps it only to cancel it.
final class Watcher {
    /// Its user.
    enum Sink {
        case operation(OperationID)
        /// Changes of this agent's presence key by others.
        case registration
    }
    fileprivate enum State {
        /// Waits for its turn on the stream.
        case wanted
        case creating
        case active
        case canceled
    }
    /// Ours to choose, from 1, never used twice: a refused creation is answered with id 0 or -1.
    fileprivate(set) var id: Int64
    /// The id from the server: `id`, or a proxy's own.
    fileprivate var given: Int64 = 0
    fileprivate let key: Bytes
    fileprivate let rangeEnd: Bytes
    fileprivate let keepsValues: Bool
    fileprivate let sink: Sink
    fileprivate var state = State.wanted
    /// The revision from which it goes on: the last complete one plus one.
    fileprivate(set) var next: Int64
    /// The revision from which it was created, and when that was asked for.
    fileprivate var createdFrom: Int64 = 0
    fileprivate var askedAt: Milliseconds = 0
    /// The begin of its silence; nil while it lives.
    fileprivate(set) var silentSince: Milliseconds?
    /// Pieces of a message that etcd has sent in several (rpc.proto, WatchCreateRequest.fragment).
    fileprivate var pieces: [WatchResponse.Event] = []
    fileprivate var pieceBytes = 0
    /// etcd has refused it, perhaps only because of an old token.
    fileprivate var wasDenied = false

    fileprivate init(
        id: Int64, key: Bytes, end: Bytes, from next: Int64, keepsValues: Bool, sink: Sink,
        now: Milliseconds
    ) {
        self.id = id
        silentSince = now
        self.key = key
        self.rangeEnd = end
        self.next = next
        self.keepsValues = keepsValues
        self.sink = sink
    }

    fileprivate var isActive: Bool {
        if case .active = state { true } else { false }
    }

    fileprivate var isCanceled: Bool {
        if case .canceled = state { true } else { false }
    }
}

/// The Watch stream and all watches of etcd on it: created where each stopped, as often as the connection changes.
struct WatchStream {
    /// The meaning of a message.
    enum Outcome {
        case nothing
        /// etcd has begun it: there is contact.
        case began(Watcher.Sink)
        /// In order, each once.
        case changed(Watcher.Sink, [WatchResponse.Event])
        /// Its watcher is gone; read the keys to find missed changes.
        case interrupted(Watcher.Sink, Text)
        /// Its watcher is gone: etcd's roles do not allow it.
        case refused(Watcher.Sink, Text)
        case malformed(Text)
        /// The connection is of no use: what etcd says about the end of a watch.
        case ended(Text)
        /// Perhaps only because the token is too old: to be tried with another.
        case denied(Text)
    }
    /// The receiver of a message; nil: it no longer exists.
    struct Addressee {
        fileprivate let watcher: Watcher?
        fileprivate let hasTooManyEvents: Bool
        /// How many there are to decode.
        let events: Int
        var keepsValues: Bool { watcher?.keepsValues ?? false }
    }
    /// The owner of the watch ids on a stream.
    private enum Numbering {
        /// etcd takes the ids that we ask for.
        case ours
        /// A proxy gives its own (etcd server/proxy/grpcproxy/watch.go). It may confirm creations out of order, so only one
        /// is in flight.
        case theirs
    }
    private struct Opened {
        let id: StreamID
        /// nil: no watch has begun. The first creation goes alone, since its answer shows the numbering.
        var numbering: Numbering?
        var aliveSince: Milliseconds = 0
    }
    private var opened: Opened?
    /// The earliest time to open it.
    private var notBefore: Milliseconds = 0
    /// Failures of streams that did not live for long.
    private var failures: UInt64 = 0
    private var watchers = SortedMap<Watcher>()
    private var wanted = Queue<Watcher>()
    /// Creations on their way: etcd answers them in the order of the requests, refusals included.
    private var creating = Queue<Watcher>()
    /// When the next of those answers must have come.
    private var nextAnswer: Milliseconds = 0
    /// Bytes of all the pieces that watchers hold.
    private var pieceBytes = 0
    private var lastID: Int64 = 0
    /// With a token that may be too old.
    private let isAuthenticated: Bool

    init(isAuthenticated: Bool) {
        self.isAuthenticated = isAuthenticated
    }

    private var id: StreamID? { opened?.id }
    private var numbersAreOurs: Bool { opened?.numbering == .ours }
    /// A proxy is in between. It may lose events (https://github.com/etcd-io/etcd/issues/10650, 12819).
    var numbersAreTheirs: Bool { opened?.numbering == .theirs }

    var isOpen: Bool { id != nil }
    /// A watcher waits for its creation.
    var hasWanted: Bool { !wanted.isEmpty }
    var stream: StreamID? { id }
    var count: Int { watchers.count }

    func isIt(_ stream: StreamID) -> Bool { stream == id }

    // MARK: - Wishes

    mutating func watch(
        key: Bytes, end: Bytes, from revision: Int64, keepsValues: Bool, for sink: Watcher.Sink,
        now: Milliseconds
    ) -> Watcher {
        assert(revision > 0, "a watch from revision 0 begins now, whenever that is")
        lastID += 1
        let watcher = Watcher(
            id: lastID, key: key, end: end, from: revision, keepsValues: keepsValues, sink: sink,
            now: now)
        watchers[UInt64(watcher.id)] = watcher
        wanted.append(watcher)
        return watcher
    }

    /// Ends a watcher; it delivers nothing more.
    mutating func cancel(_ watcher: Watcher, _ out: inout Outputs) {
        if watcher.isActive, let stream = id {
            out.log(.debug, "watch \(watcher.id) of '\(watcher.key)' is canceled")
            out.act(.send(stream, frame: WatchCancelRequest(watchID: watcher.given).frame()))
        }
        forget(watcher)
    }

    private mutating func forget(_ watcher: Watcher) {
        watcher.state = .canceled
        dropPieces(of: watcher)
        watchers[UInt64(watcher.id)] = nil
    }

    private mutating func dropPieces(of watcher: Watcher) {
        pieceBytes -= watcher.pieceBytes
        watcher.pieces = []
        watcher.pieceBytes = 0
        assert(pieceBytes >= 0, "pieces that nobody holds")
    }

    // MARK: - The connection

    /// Asks for what is wanted.
    mutating func drive(on ground: Connection.Ground, now: Milliseconds, _ out: inout Outputs) {
        guard now >= notBefore else { return }
        forgetFailures(now: now)
        let room = numbersAreOurs ? Limits.creationsInFlight : 1
        while creating.count < room, let watcher = wanted.popFirst() {
            guard case .wanted = watcher.state else { continue }
            let stream = id ?? out.newID()
            if id == nil {
                opened = Opened(id: stream)
                out.log(.debug, "the stream of watches is opened")
                out.act(.openStream(stream, ground.connection, .watch, token: ground.token))
            }
            watcher.createdFrom = firstRevision(of: watcher, newest: ground.revision)
            watcher.askedAt = now
            if creating.isEmpty {
                // Concurrent requests share the connection.
                nextAnswer = now &+ patience &+ ground.transfer
            }
            let request = WatchCreateRequest(
                key: watcher.key, rangeEnd: watcher.rangeEnd, startRevision: watcher.createdFrom,
                watchID: watcher.id)
            out.act(.send(stream, frame: request.frame()))
            watcher.state = .creating
            creating.append(watcher)
        }
    }

    /// One revision earlier than needed if there is history: etcd reports no deletion at exactly the compacted revision
    /// (https://github.com/etcd-io/etcd/issues/18089, until 3.4.34 and 3.5.16). A watch that starts before it is
    /// canceled as compacted. Duplicates are dropped. Not always, because etcd delivers past events only after up to
    /// 100 ms.
    private func firstRevision(of watcher: Watcher, newest: Int64) -> Int64 {
        newest >= watcher.next ? max(1, watcher.next &- 1) : watcher.next
    }

    /// The deadline of a creation. It doubles, because a slow server answers in the end.
    private var patience: Milliseconds {
        min(Timing.watchSilence << min(failures, 8), Timing.creationMax)
    }

    /// The connection is gone: create all watchers again on the next one, each where it stopped.
    mutating func lost(now: Milliseconds) {
        close(until: 0, now: now)
    }

    /// The stream failed on a live connection. True: change the connection. False: open the stream again after a pause.
    mutating func failed(isSilence: Bool, now: Milliseconds, _ out: inout Outputs) -> Bool {
        forgetFailures(now: now)
        failures += 1
        if let id { out.act(.closeStream(id)) }
        let pause = min(Timing.retryPause << min(failures, 8), Timing.watchPauseMax)
        close(until: now &+ pause, now: now)
        // Another member may not refuse. Silence may be slowness, so it gets more time here.
        return failures % Limits.failuresPerConnection == (isSilence ? 0 : 1)
    }

    /// A stream that lived for a while clears the count.
    private mutating func forgetFailures(now: Milliseconds) {
        guard let opened, opened.numbering != nil else { return }
        if now &- opened.aliveSince >= Timing.watchSilence { failures = 0 }
    }

    private mutating func close(until: Milliseconds, now: Milliseconds) {
        opened = nil
        notBefore = until
        wanted.removeAll()
        creating.removeAll()
        for watcher in watchers.values {
            if watcher.isActive { watcher.silentSince = now }
            watcher.state = .wanted
            dropPieces(of: watcher)
            wanted.append(watcher)
        }
        assert(pieceBytes == 0, "pieces that nobody holds")
    }

    /// Something comes: many creations on a slow connection take their time.
    mutating func progressed(now: Milliseconds) {
        nextAnswer = max(nextAnswer, now &+ patience)
    }

    /// Gives the creation on its way more time. False: it had all that there is.
    mutating func prolongCreation(now: Milliseconds) -> Bool {
        progressed(now: now)
        return creationDeadline.map { now < $0 } ?? false
    }

    /// When a creation must have been answered; nil: none is under way. A watch that is never created would stay
    /// silent.
    var creationDeadline: Milliseconds? {
        guard let oldest = creating.first else { return nil }
        return min(nextAnswer, oldest.askedAt &+ Timing.slowRequestMax)
    }

    /// Since when the oldest creation is unanswered; `.max`: none.
    var creationSince: Milliseconds { creating.first?.askedAt ?? .max }

    /// When to open the stream again; nil: it is open, or need not wait.
    var retryAt: Milliseconds? {
        opened == nil && notBefore > 0 && !wanted.isEmpty ? notBefore : nil
    }

    // MARK: - Messages

    /// Finds the receiver before the message is decoded.
    mutating func addressee(of bytes: Bytes) -> Addressee {
        let outline = try? WatchResponse.outline(of: bytes)
        let watcher = watcher(given: outline?.watchID ?? -1)
        return Addressee(
            watcher: watcher, hasTooManyEvents: outline?.hasTooManyEvents ?? false,
            events: outline?.events ?? 0)
    }

    private func watcher(given id: Int64) -> Watcher? {
        guard numbersAreTheirs else { return UInt64(exactly: id).flatMap { watchers[$0] } }
        // No index: proxies are rare.
        var found: Watcher?
        watchers.forEach { if $0.isActive, $0.given == id { found = $0 } }
        return found
    }

    /// A message that is not even to be decoded; nil: it is.
    mutating func interruptIfTooMany(
        _ addressee: Addressee, _ out: inout Outputs
    ) -> Outcome? {
        guard let watcher = addressee.watcher, watcher.isActive, addressee.hasTooManyEvents
        else { return nil }
        return interrupt(watcher, "one change is over \(WireLimits.events) keys", &out)
    }

    mutating func take(
        _ response: WatchResponse, bytes: Int, for addressee: Addressee, now: Milliseconds,
        _ out: inout Outputs
    ) -> Outcome {
        if response.created { return created(response, now: now, &out) }
        guard let watcher = addressee.watcher, watcher.isActive else { return .nothing }
        if response.canceled { return ended(watcher, response, &out) }
        return take(response, bytes: bytes, for: watcher, &out)
    }

    private mutating func created(
        _ response: WatchResponse, now: Milliseconds, _ out: inout Outputs
    ) -> Outcome {
        guard let watcher = creating.popFirst(), response.events.isEmpty, let stream = id
        else { return notCreated(response) }
        if response.canceled {
            // By us, before etcd confirmed it, or by etcd.
            return watcher.isCanceled ? .nothing : ended(watcher, response, &out)
        }
        if opened?.numbering == nil {
            let numbering: Numbering = response.watchID == watcher.id ? .ours : .theirs
            opened = Opened(id: stream, numbering: numbering, aliveSince: now)
        }
        guard isPossible(response.watchID, for: watcher) else { return notCreated(response) }
        watcher.given = response.watchID
        if watcher.isCanceled {
            out.act(.send(stream, frame: WatchCancelRequest(watchID: watcher.given).frame()))
            return .nothing
        }
        // A proxy confirms with the revision that we asked for, whatever the store's is.
        if numbersAreOurs, watcher.createdFrom == watcher.next,
            response.header.revision >= watcher.next
        {
            // There is a past after all.
            out.act(.send(stream, frame: WatchCancelRequest(watchID: watcher.given).frame()))
            createAgain(watcher)
            return .nothing
        }
        watcher.state = .active
        watcher.silentSince = nil
        watcher.wasDenied = false
        out.log(
            .debug,
            "watch \(watcher.id) of '\(watcher.key)' begins at revision \(watcher.createdFrom)")
        return .began(watcher.sink)
    }

    private func notCreated(_ response: WatchResponse) -> Outcome {
        .malformed("watch \(response.watchID) was not to be created now")
    }

    /// Whether the server may give this id.
    private func isPossible(_ given: Int64, for watcher: Watcher) -> Bool {
        if numbersAreOurs { return given == watcher.id }
        return given >= 0 && self.watcher(given: given) == nil
    }

    private mutating func createAgain(_ watcher: Watcher) {
        watchers[UInt64(watcher.id)] = nil
        lastID += 1
        watcher.id = lastID
        watcher.state = .wanted
        watchers[UInt64(watcher.id)] = watcher
        wanted.append(watcher)
    }

    /// etcd has ended a watch or refused to begin it.
    private mutating func ended(
        _ watcher: Watcher, _ response: WatchResponse, _ out: inout Outputs
    ) -> Outcome {
        if response.compactRevision > 0 {
            forget(watcher)
            let text: Text =
                "etcd has compacted revision \(watcher.next) away; the oldest is \(response.compactRevision)"
            out.log(.info, text)
            return .interrupted(watcher.sink, text)
        }
        let reason = response.cancelReason
        out.log(.debug, "watch \(watcher.id) of '\(watcher.key)' is ended by etcd: \(reason)")
        guard reason.contains("permission denied") else { return .ended("\(reason)") }
        guard isBelieved(watcher) else { return .denied("\(reason)") }
        forget(watcher)
        return .refused(
            watcher.sink, "etcd's roles do not allow to watch '\(watcher.key)': \(reason)")
    }

    /// etcd 3.5.1 tells a watch with a stale token 'permission denied' (the token is fixed when the stream opens):
    /// what is refused is tried once more with a new token. All that is being created, so that many which are
    /// not permitted cost one new connection.
    private func isBelieved(_ watcher: Watcher) -> Bool {
        if !isAuthenticated || watcher.wasDenied { return true }
        watcher.wasDenied = true
        creating.forEach { $0.wasDenied = true }
        return false
    }

    /// Events, in one piece or several. Several revisions may come in one message; a revision never
    /// comes in two (etcd server/mvcc/watchable_store.go, eventBatch).
    private mutating func take(
        _ response: WatchResponse, bytes: Int, for watcher: Watcher, _ out: inout Outputs
    ) -> Outcome {
        guard response.fragment || watcher.pieceBytes > 0 else {
            return deliver(response.events, to: watcher, header: response.header)
        }
        watcher.pieceBytes += bytes
        pieceBytes += bytes
        guard pieceBytes <= Limits.watchBytes else {
            return interrupt(watcher, "one change is over \(Limits.watchBytes) bytes", &out)
        }
        guard watcher.pieces.count + response.events.count <= WireLimits.events else {
            return interrupt(watcher, "one change is over \(WireLimits.events) keys", &out)
        }
        watcher.pieces.append(contentsOf: response.events)
        guard !response.fragment else { return .nothing }
        let events = watcher.pieces
        dropPieces(of: watcher)
        return deliver(events, to: watcher, header: response.header)
    }

    private func deliver(
        _ events: [WatchResponse.Event], to watcher: Watcher, header: ResponseHeader
    ) -> Outcome {
        guard let last = events.last else {
            // A progress notification: all events up to this revision have arrived.
            watcher.next = max(watcher.next, header.revision &+ 1)
            return .nothing
        }
        guard areInOrder(events, for: watcher) else {
            return .malformed("events of watch \(watcher.id) are of other keys, or not in order")
        }
        // A message's header has the store's revision at that time (etcd server/etcdserver/api/v3rpc/watch.go, sendLoop).
        guard last.kv.modRevision <= header.revision else {
            return .malformed("an event of watch \(watcher.id) is newer than its message")
        }
        // Some servers send older events than were asked for.
        let from = watcher.next
        let fresh = events.first.map { $0.kv.modRevision >= from } ?? true
        let events = fresh ? events : events.filter { $0.kv.modRevision >= from }
        watcher.next = max(watcher.next, last.kv.modRevision &+ 1)
        return events.isEmpty ? .nothing : .changed(watcher.sink, events)
    }

    /// The events are of watched keys, and their revisions do not fall.
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
    private mutating func interrupt(
        _ watcher: Watcher, _ text: Text, _ out: inout Outputs
    ) -> Outcome {
        cancel(watcher, &out)
        return .interrupted(watcher.sink, text)
    }

    /// A message over the cap on messages names no watcher, and the stream cannot go on behind it: all watchers are gone,
    /// and who had one finds by listing what it may have missed.
    mutating func interruptAll() -> [Watcher.Sink] {
        opened = nil
        creating.removeAll()
        return watchers.values.map { watcher in
            forget(watcher)
            return watcher.sink
        }
    }
}
