// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CCurl
import EtcdProtocol
import MetadataCore

/// One multi handle of libcurl: its sockets, its timer, its transfers. It has at most one connection, to one endpoint.
///
/// libcurl keeps an unretained pointer to this object until `destroy()`, which must come before its last reference
/// goes; deinit calls nothing of libcurl, for a forked child must not.
final class CurlMulti {
    private let handle: UnsafeMutableRawPointer
    private let epoll: Int32
    /// libcurl's own socket pair, for `closeAfterFork`; -1: unknown.
    private let wakeup: [Int32]
    private(set) var sockets: [WatchedSocket] = []
    /// When libcurl wants `expire()`; nil: never.
    private(set) var timeout: Milliseconds?
    private var now: Milliseconds = 0

    /// A connection may be opened. Cleared by the first socket: libcurl must never open a second one by itself, since
    /// it would not be spoken to rightly (see `Connection.httpVersion`) and would be one too many.
    var mayOpenSocket = false
    /// epoll is not asked for writability although libcurl wants it.
    var isWriteHeld = false
    /// epoll is asked for writability because there is no room for what waits, whatever libcurl wants.
    var awaitsRoom = false
    /// libcurl wanted a second connection: the first is dead.
    private(set) var wantedSecondSocket = false
    /// Identifies the trusted authorities that libcurl has parsed and keeps for this multi handle.
    var authorities: UInt64 = 0
    /// It has them: a TLS handshake was completed.
    var hasParsedAuthorities = false

    /// libcurl waits until it can write.
    var wantsWrite: Bool { sockets.contains { $0.wanted & EpollEvent.write != 0 } }

    /// Of the connection.
    var socket: Int32? { sockets.first?.descriptor }

    struct WatchedSocket {
        let descriptor: Int32
        /// Events that libcurl wants, and those that epoll has.
        var wanted: UInt32
        var registered: UInt32
    }

    /// nil: out of memory or descriptors.
    init?(epoll: Int32) {
        var ends: [Int32] = [-1, -1]
        guard let handle = ccurl_multi_create(&ends) else { return nil }
        wakeup = ends
        self.handle = handle
        self.epoll = epoll
        let context = Unmanaged.passUnretained(self).toOpaque()
        let results = [
            ccurl_multi_set_long(handle, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX),
            // Its default of 100 makes libcurl open further connections for what exceeds it.
            ccurl_multi_set_long(handle, CURLMOPT_MAX_CONCURRENT_STREAMS, 1000),
            ccurl_multi_set_long(handle, CURLMOPT_MAX_HOST_CONNECTIONS, 1),
            ccurl_multi_set_socket_callback(handle, onSocketInterest),
            ccurl_multi_set_pointer(handle, CURLMOPT_SOCKETDATA, context),
            ccurl_multi_set_timer_callback(handle, onTimer),
            ccurl_multi_set_pointer(handle, CURLMOPT_TIMERDATA, context),
        ]
        for result in results where result != CURLM_OK {
            curl_multi_cleanup(handle)
            return nil
        }
    }

    /// Ends the multi handle and its connection. All transfers must have been removed.
    func destroy() {
        curl_multi_cleanup(handle)
        // libcurl has closed its sockets through `close(socket:)`; should one be left, it must not stay.
        while let socket = sockets.last { close(socket: socket.descriptor) }
        timeout = nil
    }

    // MARK: Transfers

    func add(_ easy: UnsafeMutableRawPointer, now: Milliseconds) -> CURLMcode {
        self.now = now
        return curl_multi_add_handle(handle, easy)
    }

    func remove(_ easy: UnsafeMutableRawPointer) {
        // Fails only for a handle that is not there.
        _ = curl_multi_remove_handle(handle, easy)
    }

    func act(on socket: Int32, events: UInt32, now: Milliseconds) {
        self.now = now
        var mask: Int32 = 0
        // An error is found by reading: told as such, libcurl would report it without its cause.
        if events & (EpollEvent.read | EpollEvent.error | EpollEvent.hangUp) != 0 {
            mask |= CURL_CSELECT_IN
        }
        if events & EpollEvent.write != 0 { mask |= CURL_CSELECT_OUT }
        var running: Int32 = 0
        _ = curl_multi_socket_action(handle, socket, mask, &running)
    }

    /// Makes libcurl look at every transfer of the connection.
    func actOnAll(now: Milliseconds) {
        guard let socket = sockets.first else { return }
        act(on: socket.descriptor, events: EpollEvent.read | EpollEvent.write, now: now)
    }

    /// The time of `timeout` has come.
    func expire(now: Milliseconds) {
        self.now = now
        timeout = nil
        var running: Int32 = 0
        _ = curl_multi_socket_action(handle, curl_socket_t(CCURL_SOCKET_TIMEOUT), 0, &running)
    }

    /// The next transfer that has ended, and how.
    func nextEnded() -> (easy: UnsafeMutableRawPointer, result: CURLcode)? {
        var result = CURLE_OK
        guard let easy = ccurl_multi_next_ended(handle, &result) else { return nil }
        return (easy, result)
    }

    // MARK: Sockets

    func beginConnection() {
        mayOpenSocket = true
        wantedSecondSocket = false
        awaitsRoom = false
    }

    /// Gives epoll what libcurl wants, in one go: libcurl removes and adds the socket for every transfer.
    /// The errno of the first failure; 0: none.
    func updateInterest() -> Int32 {
        var failure: Int32 = 0
        for i in sockets.indices {
            var wanted = sockets[i].wanted
            // Reading goes on, so that a socket in use stays registered.
            if isWriteHeld, wanted & EpollEvent.read != 0 { wanted &= ~EpollEvent.write }
            if awaitsRoom, wanted != 0 { wanted |= EpollEvent.write }
            if wanted == sockets[i].registered { continue }
            let result = ccurl_epoll_change(
                epoll, sockets[i].descriptor, sockets[i].registered, wanted)
            if result == 0 {
                sockets[i].registered = wanted
            } else {
                failure = result
            }
        }
        return failure
    }

    fileprivate func open(_ address: UnsafePointer<curl_sockaddr>) -> Int32 {
        guard mayOpenSocket else {
            wantedSecondSocket = true
            return Int32(CCURL_SOCKET_BAD)
        }
        let socket = ccurl_socket_open(address)
        if socket >= 0 {
            mayOpenSocket = false
            sockets.append(WatchedSocket(descriptor: socket, wanted: 0, registered: 0))
        }
        return socket
    }

    fileprivate func close(socket: Int32) {
        if let i = sockets.firstIndex(where: { $0.descriptor == socket }) {
            // close(2) alone does not take it out of epoll while a forked child still holds it.
            if sockets[i].registered != 0 {
                _ = ccurl_epoll_change(epoll, socket, sockets[i].registered, 0)
            }
            sockets.remove(at: i)
        }
        ccurl_socket_close(socket)
    }

    fileprivate func setInterest(of socket: Int32, _ what: Int32) {
        guard let i = sockets.firstIndex(where: { $0.descriptor == socket }) else { return }
        switch what {
        case CURL_POLL_IN: sockets[i].wanted = EpollEvent.read
        case CURL_POLL_OUT: sockets[i].wanted = EpollEvent.write
        case CURL_POLL_INOUT: sockets[i].wanted = EpollEvent.read | EpollEvent.write
        default: sockets[i].wanted = 0
        }
    }

    fileprivate func setTimer(_ delay: Int) {
        guard let delay = UInt64(exactly: delay) else {
            timeout = nil
            return
        }
        let (at, overflow) = now.addingReportingOverflow(delay)
        timeout = overflow ? nil : at
    }

    /// In a forked child: closes this process's copies of the sockets and calls nothing of libcurl.
    func closeAfterFork() {
        for socket in sockets { ccurl_socket_close(socket.descriptor) }
        sockets = []
        for end in wakeup where end >= 0 { ccurl_socket_close(end) }
    }
}

/// The bits of `struct epoll_event`.
enum EpollEvent {
    static let read: UInt32 = 0x1
    static let write: UInt32 = 0x4
    static let error: UInt32 = 0x8
    static let hangUp: UInt32 = 0x10
}

// MARK: - Callbacks of libcurl

private func multi(_ context: UnsafeMutableRawPointer) -> CurlMulti {
    Unmanaged<CurlMulti>.fromOpaque(context).takeUnretainedValue()
}

/// CURLMOPT_SOCKETFUNCTION: only notes what is wanted.
private let onSocketInterest: curl_socket_callback = { _, socket, what, context, _ in
    guard let context else { return 0 }
    multi(context).setInterest(of: socket, what)
    return 0
}

/// CURLMOPT_TIMERFUNCTION.
private let onTimer: curl_multi_timer_callback = { _, delay, context in
    guard let context else { return 0 }
    multi(context).setTimer(delay)
    return 0
}

/// CURLOPT_OPENSOCKETFUNCTION; its context is the multi handle.
let onOpenSocket: curl_opensocket_callback = { context, _, address in
    guard let context, let address else { return Int32(CCURL_SOCKET_BAD) }
    return multi(context).open(address)
}

/// CURLOPT_CLOSESOCKETFUNCTION; likewise. libcurl keeps it with the connection, which ends before the multi handle.
let onCloseSocket: curl_closesocket_callback = { context, socket in
    guard let context else { return 0 }
    multi(context).close(socket: socket)
    return 0
}
