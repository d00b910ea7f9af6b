// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CCurl
import CSystem
import EtcdProtocol
import MetadataCore

/// The multi handle in which libcurl makes connections: its timer, and the sockets of all of them. It lives as long as
/// the handle, since a connection ends with it; it also keeps the trusted authorities that libcurl has parsed.
///
/// libcurl keeps an unretained pointer to this object until `destroy()`, which must come before its last reference
/// goes.
final class Connector {
    private let multi: UnsafeMutableRawPointer
    private let epoll: Int32
    private var sockets: [WatchedSocket] = []
    /// When libcurl wants `expire()`; nil: never.
    private(set) var timeout: Milliseconds?
    private var now: Milliseconds = 0
    /// Why the system gave no socket, as an errno; 0: it did.
    private(set) var socketRefusal: Int32 = 0
    /// In a forked child: the epoll set is the parent's.
    private var isForked = false

    private struct WatchedSocket {
        let descriptor: Int32
        /// libcurl's handle for which it was opened.
        let easy: UnsafeMutableRawPointer
        /// Events that are wanted, and those that epoll has.
        var wanted: UInt32
        var registered: UInt32
        /// It is no longer for libcurl to say what is wanted.
        var isOurs: Bool
    }

    /// nil: out of memory or descriptors.
    init?(epoll: Int32) {
        guard let multi = curl_multi_init() else { return nil }
        self.multi = multi
        self.epoll = epoll
        let context = Unmanaged.passUnretained(self).toOpaque()
        let results = [
            ccurl_multi_set_socket_callback(multi, onSocketInterest),
            ccurl_multi_set_pointer(multi, CURLMOPT_SOCKETDATA, context),
            ccurl_multi_set_timer_callback(multi, onTimer),
            ccurl_multi_set_pointer(multi, CURLMOPT_TIMERDATA, context),
        ]
        for result in results where result != CURLM_OK {
            curl_multi_cleanup(multi)
            return nil
        }
        ccurl_close_wakeup_on_exec(multi)
    }

    /// All connections must have been removed.
    func destroy() {
        curl_multi_cleanup(multi)
        timeout = nil
    }

    // MARK: Connections

    /// Begins to connect; `expire()` is due at once.
    func add(_ easy: UnsafeMutableRawPointer, now: Milliseconds) -> CURLMcode {
        self.now = now
        socketRefusal = 0
        return curl_multi_add_handle(multi, easy)
    }

    /// Closes the connection. libcurl closes the socket of one that is still being made without a word
    /// (7.88.1, lib/cf-socket.c, cf_socket_close): so none of its sockets is known any more.
    func remove(_ easy: UnsafeMutableRawPointer) {
        // Fails only for a handle that is not there.
        _ = curl_multi_remove_handle(multi, easy)
        for socket in sockets where socket.easy == easy { forget(socket) }
        sockets.drop { $0.easy == easy }
    }

    func act(on socket: Int32, events: UInt32, now: Milliseconds) {
        self.now = now
        var mask: Int32 = 0
        // Pass an error as readable: libcurl then finds its cause, which it would not report otherwise.
        if events & (EpollEvent.read | EpollEvent.error | EpollEvent.hangUp) != 0 {
            mask |= CURL_CSELECT_IN
        }
        if events & EpollEvent.write != 0 { mask |= CURL_CSELECT_OUT }
        var running: Int32 = 0
        _ = curl_multi_socket_action(multi, socket, mask, &running)
    }

    /// The time of `timeout` has come.
    func expire(now: Milliseconds) {
        self.now = now
        timeout = nil
        var running: Int32 = 0
        _ = curl_multi_socket_action(multi, curl_socket_t(CCURL_SOCKET_TIMEOUT), 0, &running)
    }

    /// The next attempt that has ended, and how.
    func nextEnded() -> (easy: UnsafeMutableRawPointer, result: CURLcode)? {
        var result = CURLE_OK
        guard let easy = ccurl_multi_next_ended(multi, &result) else { return nil }
        return (easy, result)
    }

    // MARK: Sockets

    func owns(_ socket: Int32) -> Bool { sockets.contains { $0.descriptor == socket } }

    /// The connection on it stands: from now on `want` says what is wanted.
    func takeOver(_ socket: Int32) {
        guard let i = index(of: socket) else { return }
        sockets[i].isOurs = true
        sockets[i].wanted = EpollEvent.read
    }

    func want(_ events: UInt32, of socket: Int32) {
        guard let i = index(of: socket) else { return }
        sockets[i].wanted = events
    }

    /// Less than 0: there is none yet.
    func socket(of easy: UnsafeMutableRawPointer) -> Int32 {
        sockets.first { $0.easy == easy }?.descriptor ?? -1
    }

    private func index(of socket: Int32) -> Int? {
        sockets.firstIndex { $0.descriptor == socket }
    }

    /// Gives epoll what is wanted, in one go. The errno of the first failure; 0: none.
    func updateInterest() -> Int32 {
        var failure: Int32 = 0
        for i in sockets.indices where sockets[i].wanted != sockets[i].registered {
            guard sockets[i].wanted != 0 else {
                forget(sockets[i])
                sockets[i].registered = 0
                continue
            }
            let result = ccurl_epoll_change(
                epoll, sockets[i].descriptor, sockets[i].registered, sockets[i].wanted)
            if result == 0 {
                sockets[i].registered = sockets[i].wanted
            } else {
                failure = result
            }
        }
        return failure
    }

    fileprivate func open(
        _ address: UnsafePointer<curl_sockaddr>, for easy: UnsafeMutableRawPointer
    ) -> Int32 {
        let socket = ccurl_socket_open(address)
        guard socket >= 0 else {
            socketRefusal = -socket
            return Int32(CCURL_SOCKET_BAD)
        }
        // An earlier socket with that number is closed.
        sockets.drop { $0.descriptor == socket }
        sockets.append(
            WatchedSocket(
                descriptor: socket, easy: easy, wanted: 0, registered: 0, isOurs: false))
        return socket
    }

    fileprivate func close(socket: Int32) {
        if let i = index(of: socket) {
            forget(sockets[i])
            sockets.remove(at: i)
        }
        ccurl_socket_close(socket)
    }

    /// close(2) alone does not take a socket out of epoll while a forked child still holds it. Fails where it is closed.
    private func forget(_ socket: WatchedSocket) {
        guard socket.registered != 0, !isForked else { return }
        _ = ccurl_epoll_change(epoll, socket.descriptor, socket.registered, 0)
    }

    fileprivate func setInterest(of socket: Int32, _ what: Int32) {
        guard let i = index(of: socket), !sockets[i].isOurs else { return }
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

    /// In a forked child, before anything is removed: what libcurl says at the end of a TLS connection must not reach
    /// the parent's peer.
    func sever() {
        isForked = true
        for socket in sockets { csystem_socket_sever(socket.descriptor) }
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

private func connector(_ context: UnsafeMutableRawPointer) -> Connector {
    Unmanaged<Connector>.fromOpaque(context).takeUnretainedValue()
}

/// CURLMOPT_SOCKETFUNCTION: only notes what is wanted.
private let onSocketInterest: curl_socket_callback = { _, socket, what, context, _ in
    guard let context else { return 0 }
    connector(context).setInterest(of: socket, what)
    return 0
}

/// CURLMOPT_TIMERFUNCTION.
private let onTimer: curl_multi_timer_callback = { _, delay, context in
    guard let context else { return 0 }
    connector(context).setTimer(delay)
    return 0
}

/// CURLOPT_OPENSOCKETFUNCTION; its data is the handle, whose private pointer is the connector.
let onOpenSocket: curl_opensocket_callback = { easy, _, address in
    guard let easy, let context = ccurl_private(easy), let address else {
        return Int32(CCURL_SOCKET_BAD)
    }
    return connector(context).open(address, for: easy)
}

/// CURLOPT_CLOSESOCKETFUNCTION; libcurl keeps it with the connection, which ends before the multi handle.
let onCloseSocket: curl_closesocket_callback = { context, socket in
    guard let context else { return 0 }
    connector(context).close(socket: socket)
    return 0
}
