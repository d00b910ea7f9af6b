// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CCurl
import CSystem
import EtcdProtocol
import MetadataCore

/// gRPC over a connection that libcurl makes and nghttp2 speaks on: performs the core's actions and reports what
/// happened.
///
/// Nothing here blocks. A tick begins with `beginTurn`, calls `handle`, `readOn` and `handleTimeout` for what is due,
/// performs actions, sends with `flush`, takes all events, and ends with `updateInterest`.
final class Transport {
    private let endpoints: [TransportEndpoint]
    private let tls: TLSOptions
    private let usesTLS: Bool
    private let epoll: Int32
    private let events = TransportEvents()

    private var connector: Connector
    /// The stamp of the connector's file of trusted authorities; 0: none.
    private var authorities: UInt64 = 0
    /// The first serves requests; a second stands beside it while the first is silent.
    private var routes: [Route] = []
    /// The connections of all routes, in the order in which they were made.
    private var connections: [Connection] = []
    private var budget = TransportBudget()
    private var mayHaveSetUpTLS = false

    /// Calls under way whose answers may be large: each may take 16 MiB before it is whole.
    private static let maximumReads = 4
    private static let maximumDraining = 8
    /// Bytes of messages that may wait before nothing more is read.
    private static let maximumPending = 4 << 20

    /// nil: out of memory or descriptors.
    init?(epoll: Int32, endpoints: [TransportEndpoint], tls: TLSOptions) {
        guard let connector = Connector(epoll: epoll) else { return nil }
        self.connector = connector
        self.epoll = epoll
        self.endpoints = endpoints
        usesTLS = endpoints.contains { $0.tls }
        self.tls = usesTLS ? tls.withDefaultAuthorities() : tls
    }

    // MARK: For the owner's loop

    /// A tick begins: it may move as much as any.
    func beginTurn() { budget = TransportBudget() }

    /// When `handleTimeout` is wanted; nil: never.
    var timeout: Milliseconds? { connector.timeout }

    /// Something waits that epoll does not know of.
    var hasMore: Bool {
        events.count > 0 || connections.contains { $0.mayHaveMore }
    }

    /// More can be read in this tick.
    var mayRead: Bool { budget.allowsReading && events.pendingBytes < Self.maximumPending }

    /// epoll reported `events` on `socket`; one that is not (or no more) ours is ignored. epoll is level-triggered: what
    /// is left unread is reported again.
    func handle(socket: Int32, events: UInt32, now: Milliseconds) {
        guarded {
            if let connection = connections.first(where: { $0.socket == socket }) {
                if events & EpollEvent.write != 0 { connection.isWritable() }
                if events & ~EpollEvent.write != 0 { read(connection, now: now) }
            } else if connector.owns(socket) {
                noteTLSSetup()
                connector.act(on: socket, events: events, now: now)
                collectConnected(now: now)
            }
        }
    }

    /// Reads on where an earlier tick stopped.
    func readOn(now: Milliseconds) {
        guard hasMore else { return }
        guarded {
            for connection in connections where connection.mayHaveMore {
                read(connection, now: now)
            }
        }
    }

    func handleTimeout(now: Milliseconds) {
        guard let due = connector.timeout, due <= now else { return }
        guarded {
            noteTLSSetup()
            connector.expire(now: now)
            collectConnected(now: now)
        }
    }

    /// Sends what there is to send.
    func flush(now: Milliseconds) {
        guard !connections.isEmpty else { return }
        guarded {
            var isDone = false
            while !isDone {
                for connection in connections { write(connection, now: now) }
                isDone = true
                for route in routes where startWaiting(route, now: now) { isDone = false }
            }
        }
    }

    private func write(_ connection: Connection, now: Milliseconds) {
        connection.write(&budget)
        finish(connection, now: now)
    }

    /// Call this at the end of every turn: until then epoll has the old interest.
    func updateInterest() {
        for connection in connections {
            if let socket = connection.socket { connector.want(connection.interest, of: socket) }
        }
        let failure = connector.updateInterest()
        guard failure != 0 else { return }
        for route in routes {
            lose(route, "the system refused to watch the connection (errno \(failure))")
        }
    }

    /// The next event, in order.
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

    private func noteTLSSetup() {
        if usesTLS { mayHaveSetUpTLS = true }
    }

    /// libcurl changes the thread's queue of OpenSSL's errors, which is the host's.
    private func guarded(_ body: () -> Void) {
        guard usesTLS else { return body() }
        let errors = ccurl_errors_take()
        body()
        ccurl_errors_put_back(errors)
    }

    // MARK: Actions

    /// Performs an action of the core; `.resolve` and `.log` are not the transport's.
    func perform(_ action: Action, now: Milliseconds) {
        switch action {
        case .connect(let id, let endpoint, let address):
            guarded { connect(id, endpoint: endpoint, address: address, now: now) }
        case .disconnect(let id):
            guard let route = route(id) else { return }
            guarded { drop(route) }
            // The core ignores what comes of requests that it has given up.
            if routes.isEmpty { events.removeAll() }
        case .probe(let id):
            route(id)?.current?.session.probe()
        case .examine(let id):
            guard let connection = route(id)?.current else { return }
            let socket = connector.socket(of: connection.easy)
            events.append(.path(id, isDead: csystem_is_path_dead(socket)))
        case .call(let id, let connection, let method, let frame, let token):
            begin(
                Request(owner: .call(id), method: method, frame: frame, token: token),
                on: connection, now: now)
        case .openStream(let id, let connection, let method, let token):
            begin(
                Request(owner: .stream(id), method: method, frame: nil, token: token),
                on: connection, now: now)
        case .send(let id, let frame):
            for connection in connections { connection.session.send(frame, on: id) }
        case .abandonCall(let id):
            abandon(.call(id))
        case .closeStream(let id):
            abandon(.stream(id))
        case .resolve, .log:
            break
        }
    }

    private func route(_ id: ConnectionID) -> Route? { routes.first { $0.id == id } }

    private func connect(
        _ id: ConnectionID, endpoint index: Int, address: Bytes, now: Milliseconds
    ) {
        guard endpoints.indices.contains(index) else {
            return events.append(.connectionLost(id, "there is no endpoint \(index)"))
        }
        let endpoint = endpoints[index]
        let name = endpoint.description(address: address)
        // Anything else would make libcurl start a resolver, which may block when it is stopped.
        guard address.withCString({ ccurl_is_address($0) }) else {
            return events.append(.connectionLost(id, "\(name): not a numeric address"))
        }
        let serverName = endpoint.tls ? tls.serverName : nil
        let route = Route(
            id: id, isTLS: endpoint.tls, url: endpoint.url(serverName: serverName),
            connectTo: endpoint.connectTo(address: address), name: name,
            headers: RequestHeaders(
                authority: endpoint.authority(serverName: serverName), isTLS: endpoint.tls))
        routes.append(route)
        _ = connectionForNew(route, now: now)
    }

    private func begin(_ request: Request, on id: ConnectionID, now: Milliseconds) {
        // The loss of a connection has answered its requests.
        guard let route = route(id) else { return }
        guard RequestHeaders.isHeaderValue(request.token) else {
            let text = Bytes("the token that etcd gave cannot be sent as a header")
            return events.answer(
                request.owner,
                .failed(GRPCStatus(code: GRPCStatus.unauthenticated, message: text)))
        }
        // Small requests and streams do not queue.
        guard request.takesTurns else { return start(request, route, now: now) }
        route.waiting.append(request)
        startWaiting(route, now: now)
    }

    /// Starts what waited and need not any more. Whether anything was.
    @discardableResult
    private func startWaiting(_ route: Route, now: Milliseconds) -> Bool {
        guard !route.waiting.isEmpty else { return false }
        var reads = 0
        var isUploading = false
        for exchange in route.current?.session.exchanges ?? [] {
            if exchange.request.readsLargely, !exchange.isConcluded { reads += 1 }
            if exchange.request.isLargeUpload, exchange.hasUnsent { isUploading = true }
        }
        var started = false
        var i = 0
        while i < route.waiting.count {
            let request = route.waiting[i]
            let isUpload = request.isLargeUpload
            if (isUpload && isUploading) || (request.readsLargely && reads >= Self.maximumReads) {
                i += 1
                continue
            }
            route.waiting.remove(at: i)
            if isUpload { isUploading = true }
            if request.readsLargely { reads += 1 }
            start(request, route, now: now)
            started = true
        }
        return started
    }

    private func start(_ request: Request, _ route: Route, now: Milliseconds) {
        guard let connection = connectionForNew(route, now: now) else { return }
        connection.session.start(request)
    }

    private func abandon(_ owner: RequestOwner) {
        for route in routes { route.waiting.drop { $0.owner == owner } }
        for connection in connections where connection.session.abandon(owner) { break }
        events.removeAll(of: owner)
    }

    // MARK: Connections

    /// Where a new request goes; nil: the route is lost.
    private func connectionForNew(_ route: Route, now: Milliseconds) -> Connection? {
        if let current = route.current {
            guard current.session.isDraining else { return current }
            route.current = nil
            route.draining.append(current)
            guard route.draining.count <= Self.maximumDraining else {
                lose(route, "the server sends every connection away")
                return nil
            }
        }
        let keepsAuthorities = checkAuthorities(isTLS: route.isTLS)
        guard let connection = Connection(route: route, events: events) else {
            lose(route, "out of memory")
            return nil
        }
        guard
            connection.configure(
                route: route, tls: tls, connector: connector, keepsAuthorities: keepsAuthorities),
            connector.add(connection.easy, now: now) == CURLM_OK
        else {
            guarded { connection.destroy() }
            lose(route, "libcurl is out of memory, or lacks a feature")
            return nil
        }
        route.current = connection
        connections.append(connection)
        return connection
    }

    /// Whether the authorities that the connector keeps are those of the file. If not, and nothing else needs it, there
    /// is a new connector.
    private func checkAuthorities(isTLS: Bool) -> Bool {
        guard isTLS, let file = tls.caFile else { return true }
        let stamp = file.withCString { ccurl_file_stamp($0) }
        if stamp == authorities { return true }
        if authorities != 0 {
            guard connections.isEmpty, let fresh = Connector(epoll: epoll) else { return false }
            guarded { connector.destroy() }
            connector = fresh
        }
        authorities = stamp
        return true
    }

    private func collectConnected(now: Milliseconds) {
        while let (easy, result) = connector.nextEnded() {
            guard let connection = connections.first(where: { $0.easy == easy }) else { continue }
            if result == CURLE_OK {
                connection.open(connector)
                read(connection, now: now)
            } else {
                lose(connection.route, connection.failure(result, connector, tls))
            }
        }
    }

    private func read(_ connection: Connection, now: Milliseconds) {
        let (left, count) = (budget.read, events.count)
        if events.pendingBytes < Self.maximumPending { connection.read(&budget) }
        let signs = connection.session.takeSigns()
        // Each answer is a sign of life itself.
        if signs.isMidMessage || signs.isAcknowledged
            || (budget.read < left && events.count == count && connection.session.hasHeard)
        {
            events.append(
                .heard(
                    connection.route.id, acknowledges: signs.isAcknowledged,
                    isMidMessage: signs.isMidMessage))
        }
        finish(connection, now: now)
    }

    /// Draws conclusions from what a connection has read or written.
    private func finish(_ connection: Connection, now: Milliseconds) {
        guard !connection.isClosed else { return }
        let (session, route) = (connection.session, connection.route)
        repeatRefused(session, route)
        if let failure = session.failure {
            guard session.isDraining, !session.isInUse else { return lose(route, failure) }
            remove(connection)
        } else if session.isDraining {
            // A server that sends away whoever comes is not asked again and again.
            if !session.hasAnswered { return lose(route, "the server closes the connection") }
            if !session.isInUse { remove(connection) }
        }
        startWaiting(route, now: now)
    }

    /// Repeats unprocessed requests on another connection, once.
    private func repeatRefused(_ session: HTTP2Session, _ route: Route) {
        for var request in session.takeRefused() {
            if session.hasAnswered, !request.isRepeated, case .call = request.owner {
                session.retire()
                request.isRepeated = true
                route.waiting.append(request)
            } else {
                events.answer(request.owner, .unprocessed)
            }
        }
    }

    // MARK: Ends

    private func remove(_ connection: Connection) {
        let route = connection.route
        if route.current === connection { route.current = nil }
        route.draining.drop { $0 === connection }
        connections.drop { $0 === connection }
        connector.remove(connection.easy)
        connection.destroy()
    }

    /// The route is of no use any more: tears it down and says so.
    private func lose(_ route: Route, _ reason: Text) {
        guarded { drop(route) }
        events.append(.connectionLost(route.id, "\(route.name): \(reason)"))
    }

    /// Closes its connections, now.
    private func drop(_ route: Route) {
        for connection in connections where connection.route === route { remove(connection) }
        route.waiting.removeAll()
        routes.drop { $0 === route }
    }

    /// Frees everything; never blocks. Nothing may be called afterwards.
    func close() {
        guarded {
            for route in routes { drop(route) }
            connector.destroy()
        }
        events.removeAll()
    }

    /// In a forked child: the same, and the parent's connections stay as they are.
    func closeAfterFork() {
        connector.sever()
        close()
    }
}
