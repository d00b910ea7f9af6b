// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CCurl
import EtcdProtocol
import MetadataCore

/// gRPC over libcurl: performs the core's actions on at most one TCP connection and tells what happened.
///
/// Nothing here blocks. The owner calls `handle` and `handleTimeout` when they are due, takes all events, and ends its
/// turn with `updateInterest`. A new transfer is only begun by `handleTimeout`: libcurl asks for one at once, so look
/// at `timeout` again after performing actions.
final class Transport {
    private let epoll: Int32
    private let endpoints: [TransportEndpoint]
    private let tls: TLSOptions
    private let events = TransportEvents()
    private let headers: RequestHeaders

    private(set) var connection: Connection?
    /// By endpoint; kept after an https connection, since libcurl keeps the parsed authorities in it.
    private var multis: [CurlMulti?]
    private(set) var active: [Transfer] = []
    private var idle: [Transfer] = []
    /// Calls that are not given to libcurl yet: heavy ones, and those for which there is no room.
    private var waiting: [Request] = []
    private(set) var lacksRoomToStart = false
    var room = SendRoom()
    var mustDivideRoom = false
    /// There is room for more of what libcurl has sent a part of.
    var hasMoreToSend = false
    private var nudge = Nudge()
    /// Times in a row that the socket could be written and nothing was.
    private var fruitlessWrites = 0
    private var mayHaveSetUpTLS = false

    /// Heavy calls that libcurl has at a time.
    private static let maximumHeavy = 4
    private static let maximumFruitlessWrites = 2
    /// How often the pause is doubled, from 1 ms on.
    private static let maximumHolds = 6
    /// How often a large request is given more room at a time, after the first.
    private static let maximumRounds = 2
    /// Idle transfers of each kind that are kept.
    private static let maximumIdle = 16
    /// Bytes of messages that may wait before nothing more is read. libcurl adds at most what it reads in one call:
    /// at most its flow-control window, and what is not whole yet stays with the transfer (`maximumMessage`).
    private static let maximumPending = 4 << 20

    /// nil: out of memory.
    init?(epoll: Int32, endpoints: [TransportEndpoint], tls: TLSOptions) {
        guard let headers = RequestHeaders() else { return nil }
        self.epoll = epoll
        self.endpoints = endpoints
        self.tls = endpoints.contains { $0.tls } ? tls.withDefaultAuthorities() : tls
        self.headers = headers
        multis = [CurlMulti?](repeating: nil, count: endpoints.count)
    }

    // MARK: For the owner's loop

    /// When `handleTimeout` is wanted; nil: never.
    var timeout: Milliseconds? {
        guard let timeout = connection?.multi.timeout else { return nudge.due }
        return min(timeout, nudge.due ?? timeout)
    }

    /// epoll reported `events` on `socket`; one that is not (or no more) ours is ignored. Reads nothing while too much
    /// waits to be taken; epoll is level-triggered and reports it again.
    func handle(socket: Int32, events: UInt32, now: Milliseconds) {
        guard let multi = connection?.multi,
            multi.sockets.contains(where: { $0.descriptor == socket })
        else { return }
        guard self.events.pendingBytes < Self.maximumPending else { return }
        if multi.awaitsRoom {
            if events == EpollEvent.write, !multi.wantsWrite {
                return finish(hasReceived: false, now: now)
            }
            mustDivideRoom = true
        }
        if mustDivideRoom { divideRoom() }
        noteTLSSetup()
        let (receivedBefore, sentBefore) = (self.events.received, uploaded)
        multi.isWriteHeld = false
        multi.act(on: socket, events: events, now: now)
        let hasReceived = self.events.received != receivedBefore
        let isFruitless = events == EpollEvent.write && !hasReceived && uploaded == sentBefore
        fruitlessWrites = isFruitless ? fruitlessWrites + 1 : 0
        finish(hasReceived: hasReceived, now: now)
        if fruitlessWrites > Self.maximumFruitlessWrites { holdWrites(now: now) }
    }

    /// libcurl sometimes asks for a writable socket while flow control lets it send nothing; without a pause, longer each
    /// time, the loop would spin until the server opens the window (10,000 turns in 0.4 s, seen with 8.23).
    private func holdWrites(now: Milliseconds) {
        // Lost a moment ago: a nudge would be due for ever, with nothing to look at.
        guard let connection else { return }
        connection.multi.isWriteHeld = true
        let times = min(fruitlessWrites - Self.maximumFruitlessWrites, Self.maximumHolds)
        let due = now &+ 1 << Milliseconds(times - 1)
        nudge.due = min(nudge.due ?? due, due)
    }

    /// Bytes of requests that libcurl has sent, of the calls and streams that are open.
    private var uploaded: Int64 {
        var sum: Int64 = 0
        for transfer in active { sum &+= transfer.uploaded }
        return sum
    }

    func handleTimeout(now: Milliseconds) {
        guard let multi = connection?.multi else { return }
        let before = events.received
        if mustDivideRoom { divideRoom() }
        if let due = multi.timeout, due <= now {
            noteTLSSetup()
            let sentBefore = multi.isWriteHeld ? uploaded : 0
            multi.expire(now: now)
            if multi.isWriteHeld, uploaded != sentBefore {
                multi.isWriteHeld = false
                fruitlessWrites = 0
            }
        }
        if let due = nudge.due, due <= now {
            nudge.due = nil
            multi.isWriteHeld = false
            for transfer in active where transfer.isStuck { transfer.resume() }
            multi.actOnAll(now: now)
        }
        finish(hasReceived: events.received != before, now: now)
    }

    private func finish(hasReceived: Bool, now: Milliseconds) {
        takeStock(now: now)
        // A host that ticks at intervals would have to wait for the next.
        var left = Self.maximumRounds
        while hasMoreToSend, left > 0, let multi = connection?.multi {
            left -= 1
            multi.actOnAll(now: now)
            takeStock(now: now)
        }
        nudge.update(
            mayHaveMore: (hasReceived && active.count > 1) || hasMoreToSend,
            mayHaveStalled: mayHaveStalled, now: now)
    }

    private func takeStock(now: Milliseconds) {
        collectEnded()
        startWaiting(now: now)
        divideRoom()
    }

    /// See `Nudge`.
    private var mayHaveStalled: Bool {
        guard let multi = connection?.multi, events.hasAnswered else { return false }
        let wantsWrite = multi.wantsWrite
        return active.contains { $0.isCall || $0.isStuck || (!wantsWrite && $0.hasUnsent) }
    }

    /// To be called at the end of every turn: until then epoll has the interest of the last one.
    func updateInterest() {
        if mustDivideRoom { divideRoom() }
        guard let multi = connection?.multi else { return }
        let failure = multi.updateInterest()
        if failure != 0 { lose("the system refused to watch the connection (errno \(failure))") }
    }

    /// What happened, in order.
    func nextEvent() -> NetworkEvent? { events.popFirst() }
    var pendingEvents: Int { events.count }
    /// Bytes of the message in the next event; nil: there is none.
    var nextEventBytes: Int? { events.firstBytes }

    var bytesSent: UInt64 { events.bytesSent }
    var bytesReceived: UInt64 { events.bytesReceived }

    /// Whether libcurl may have parsed trusted authorities since the last call, which takes tens of milliseconds.
    func takeTLSSetup() -> Bool {
        defer { mayHaveSetUpTLS = false }
        return mayHaveSetUpTLS
    }

    /// libcurl parses them somewhere between the TCP connection and the first answer.
    private func noteTLSSetup() {
        guard let connection, connection.isTLS, !connection.multi.hasParsedAuthorities else {
            return
        }
        if events.hasAnswered {
            connection.multi.hasParsedAuthorities = true
        } else {
            mayHaveSetUpTLS = true
        }
    }

    // MARK: Actions

    /// Performs an action of the core; `.resolve` and `.log` are not the transport's.
    func perform(_ action: Action, now: Milliseconds) {
        switch action {
        case .connect(let id, let endpoint, let address):
            connect(id, endpoint: endpoint, address: address)
        case .disconnect(let id):
            guard connection?.id == id else { return }
            dropConnection()
            events.removeAll()
        case .call(let id, let connection, let method, let frame, let token):
            begin(
                Request(owner: .call(id), method: method, frame: frame, token: token),
                on: connection, now: now)
        case .openStream(let id, let connection, let method, let token):
            begin(
                Request(owner: .stream(id), method: method, frame: nil, token: token),
                on: connection, now: now)
        case .send(let id, let frame):
            active.first { $0.owner == .stream(id) }?.send(frame)
            mustDivideRoom = true
        case .abandonCall(let id):
            abandon(.call(id), now: now)
        case .closeStream(let id):
            abandon(.stream(id), now: now)
        case .resolve, .log:
            break
        }
    }

    private func connect(_ id: ConnectionID, endpoint index: Int, address: Bytes) {
        dropConnection()
        events.removeAll()
        waiting.removeAll()
        guard endpoints.indices.contains(index) else {
            return events.append(.connectionLost(id, "there is no endpoint \(index)"))
        }
        let endpoint = endpoints[index]
        let name = endpoint.description(address: address)
        // Anything else would make libcurl start a resolver, which may block when it is stopped.
        guard address.withCString({ ccurl_is_address($0) }) else {
            return events.append(.connectionLost(id, "\(name): not a numeric address"))
        }
        guard let connectTo = StringList([endpoint.connectTo(address: address)]) else {
            return events.append(.connectionLost(id, "\(name): out of memory"))
        }
        guard let multi = multi(of: index) else {
            connectTo.free()
            return events.append(.connectionLost(id, "\(name): out of memory or descriptors"))
        }
        multi.beginConnection()
        room = SendRoom()
        fruitlessWrites = 0
        events.beginConnection()
        connection = Connection(
            id: id, endpoint: index, isTLS: endpoint.tls,
            url: endpoint.url(serverName: endpoint.tls ? tls.serverName : nil), name: name,
            connectTo: connectTo, multi: multi)
    }

    /// The multi handle of an endpoint. A changed file of authorities needs a new one.
    private func multi(of endpoint: Int) -> CurlMulti? {
        var authorities: UInt64 = 0
        if endpoints[endpoint].tls, let file = tls.caFile {
            authorities = file.withCString { ccurl_file_stamp($0) }
        }
        if let multi = multis[endpoint] {
            if multi.authorities == authorities { return multi }
            destroyMulti(of: endpoint)
        }
        let multi = CurlMulti(epoll: epoll)
        multi?.authorities = authorities
        multis[endpoint] = multi
        return multi
    }

    private func destroyMulti(of endpoint: Int) {
        multis[endpoint]?.destroy()
        multis[endpoint] = nil
    }

    // MARK: Transfers

    private func begin(_ request: Request, on id: ConnectionID, now: Milliseconds) {
        // What was asked of a connection that is lost has been answered by that.
        guard connection?.id == id else { return }
        if case .stream = request.owner {
            // There are two or three, and what is to be sent on them may follow at once.
            _ = room.takeStart(request.headerCost)
            start(request, now: now)
        } else {
            waiting.append(request)
            startWaiting(now: now)
        }
    }

    /// One call of libcurl moves as much as it can for each transfer, so the number of those that may move much bounds
    /// how long it takes. They share one connection, and would not be faster side by side.
    private func startWaiting(now: Milliseconds) {
        lacksRoomToStart = false
        guard !waiting.isEmpty else { return }
        var heavy = 0
        for transfer in active where transfer.isHeavy { heavy += 1 }
        var i = 0
        while connection != nil, i < waiting.count {
            if waiting[i].isHeavy, heavy >= Self.maximumHeavy {
                i += 1
                continue
            }
            guard takeRoomToStart(waiting[i]) else {
                lacksRoomToStart = true
                mustDivideRoom = true
                return
            }
            let request = waiting.remove(at: i)
            if request.isHeavy { heavy += 1 }
            start(request, now: now)
        }
    }

    private func start(_ request: Request, now: Milliseconds) {
        guard let connection else { return }
        guard let list = headers.list(token: request.token) else {
            let text = Bytes("the token that etcd gave cannot be sent as a header")
            return answer(
                request.owner,
                .failed(GRPCStatus(code: GRPCStatus.unauthenticated, message: text)))
        }
        guard let transfer = takeTransfer(readsLargely: request.readsLargely) else {
            return lose("libcurl has no memory, or lacks what is needed")
        }
        transfer.begin(request, headers: list)
        let isReady =
            transfer.setSockets(of: connection.multi)
            && transfer.setRequest(
                url: connection.url, method: request.method, connectTo: connection.connectTo,
                length: request.frame?.count, httpVersion: connection.httpVersion)
        guard isReady, connection.multi.add(transfer.easy, now: now) == CURLM_OK else {
            putAway(transfer)
            return lose("libcurl refused a request")
        }
        active.append(transfer)
        mustDivideRoom = true
        self.connection?.isStarted = true
    }

    private func answer(_ owner: TransferOwner, _ reply: Reply) {
        switch owner {
        case .none: break
        case .call(let id): events.append(.reply(id, reply))
        case .stream(let id): events.append(.streamEnded(id, reply))
        }
    }

    private func abandon(_ owner: TransferOwner, now: Milliseconds) {
        if let i = waiting.firstIndex(where: { $0.owner == owner }) {
            waiting.remove(at: i)
            return
        }
        guard let transfer = active.first(where: { $0.owner == owner }) else {
            return events.removeAll(of: owner)
        }
        if case .stream = owner { events.removeAll(of: owner) }
        remove(transfer)
        // Before the first answer nobody knows what became of the connection, and a further transfer
        // would have to know: the next one opens its own.
        if !events.hasAnswered, active.isEmpty, let connection { restart(connection) }
        startWaiting(now: now)
    }

    private func restart(_ connection: Connection) {
        destroyMulti(of: connection.endpoint)
        self.connection = nil
        let (id, endpoint) = (connection.id, connection.endpoint)
        guard let multi = multi(of: endpoint) else {
            connection.connectTo.free()
            waiting.removeAll()
            return events.append(
                .connectionLost(id, "\(connection.name): out of memory or descriptors"))
        }
        multi.beginConnection()
        room = SendRoom()
        self.connection = Connection(
            id: id, endpoint: endpoint, isTLS: connection.isTLS, url: connection.url,
            name: connection.name, connectTo: connection.connectTo, multi: multi)
    }

    private func takeTransfer(readsLargely: Bool) -> Transfer? {
        if let i = idle.lastIndex(where: { $0.readsLargely == readsLargely }) {
            return idle.remove(at: i)
        }
        guard let transfer = Transfer(events: events, readsLargely: readsLargely) else {
            return nil
        }
        if endpoints.contains(where: { $0.tls }), !transfer.setTLS(tls) {
            transfer.destroy()
            return nil
        }
        return transfer
    }

    /// Takes a transfer from libcurl.
    private func remove(_ transfer: Transfer) {
        active.removeAll { $0 === transfer }
        mustDivideRoom = true
        connection?.multi.remove(transfer.easy)
        putAway(transfer)
    }

    private func putAway(_ transfer: Transfer) {
        transfer.end()
        var alike = 0
        for other in idle where other.readsLargely == transfer.readsLargely { alike += 1 }
        if alike < Self.maximumIdle {
            idle.append(transfer)
        } else {
            transfer.destroy()
        }
    }

    // MARK: Ends

    /// Tells of the transfers that have ended. One that failed takes the connection with it, but only after those that
    /// were answered together with it.
    private func collectEnded() {
        guard let connection else { return }
        if events.hasProgressed {
            events.hasProgressed = false
            events.append(.progress(connection.id))
        }
        var loss: Text?
        while let (easy, result) = connection.multi.nextEnded() {
            guard let transfer = active.first(where: { $0.easy == easy }) else { continue }
            loss = end(transfer, result) ?? loss
        }
        if events.hasOver {
            events.hasOver = false
            for transfer in active where transfer.isOver {
                loss = end(transfer, CURLE_OK) ?? loss
            }
        }
        if connection.multi.wantedSecondSocket { loss = loss ?? "the server closed the connection" }
        if let loss { lose(loss) }
    }

    /// Why the connection is of no use any more; nil: it still is.
    private func end(_ transfer: Transfer, _ result: CURLcode) -> Text? {
        var loss: Text?
        switch transfer.outcome(result) {
        case .ended(let reply):
            answer(transfer.owner, reply)
            // libcurl opens no further stream on a connection after any error but this one (MSTATE_PERFORMING in
            // lib/multi.c): new calls would wait for ever.
            if result != CURLE_OK, result != CURLE_HTTP2_STREAM {
                loss = "libcurl gave the connection up (\(curl_easy_strerror(result)))"
            }
        case .lost(let text): loss = text
        }
        remove(transfer)
        return loss
    }

    /// The connection is of no use any more: tears it down and says so.
    private func lose(_ reason: Text) {
        guard let connection else { return }
        dropConnection()
        events.append(.connectionLost(connection.id, "\(connection.name): \(reason)"))
    }

    /// Removes all transfers and closes the connection, now.
    private func dropConnection() {
        guard let connection else { return }
        if connection.isTLS {
            for transfer in active { transfer.forbidReuse() }
        }
        while let transfer = active.last { remove(transfer) }
        self.connection = nil
        waiting.removeAll()
        lacksRoomToStart = false
        nudge = Nudge()
        fruitlessWrites = 0
        connection.connectTo.free()
        // libcurl closes a connection with its last transfer where reuse is forbidden. One that was idle, or whose
        // closing libcurl draws out, is closed with its multi handle.
        if !connection.isTLS || !connection.multi.sockets.isEmpty {
            destroyMulti(of: connection.endpoint)
        }
    }

    /// Frees everything; never blocks. Nothing may be called afterwards.
    func close() {
        dropConnection()
        for i in multis.indices { destroyMulti(of: i) }
        for transfer in idle { transfer.destroy() }
        idle.removeAll()
        headers.free()
        events.removeAll()
    }

    /// In a forked child: closes this process's copies of the sockets. No libcurl call, which could speak on the
    /// parent's connection, and no epoll_ctl, since the epoll is shared; what libcurl has allocated stays.
    func closeAfterFork() {
        for multi in multis { multi?.closeAfterFork() }
    }
}
