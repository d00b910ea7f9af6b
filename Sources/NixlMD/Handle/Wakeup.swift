// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CSystem
import EtcdProtocol
import MetadataCore

/// The efd: an epoll set with the sockets of the transport, a timer for the next deadline and an eventfd for all else, so that
/// it is readable exactly when a tick has something to do.
struct Wakeup {
    let epoll: Int32
    let signal: Int32
    private let timer: Int32
    /// What the timer is set to; nil: to nothing.
    private(set) var armedAt: Milliseconds?

    static let capacity = 16

    init() throws(Refusal) {
        epoll = try Self.opened("epoll_create1", csystem_epoll_open())
        let timer = csystem_timer_open()
        let signal = csystem_signal_open()
        self.timer = timer
        self.signal = signal
        do throws(Refusal) {
            _ = try Self.opened("timerfd_create", timer)
            _ = try Self.opened("eventfd", signal)
            try add(timer)
            try add(signal)
        } catch {
            close()
            throw error
        }
    }

    func add(_ descriptor: Int32) throws(Refusal) {
        _ = try Self.opened("epoll_ctl", csystem_epoll_add(epoll, descriptor))
    }

    private static func opened(_ what: StaticString, _ result: Int32) throws(Refusal) -> Int32 {
        guard result >= 0 else { throw .system(what, -result) }
        return result
    }

    /// What is ready now: one system call. The result is the number of entries filled.
    func poll(_ ready: UnsafeMutablePointer<csystem_ready>) throws(Refusal) -> Int {
        Int(try Self.opened("epoll_wait", csystem_epoll_poll(epoll, ready, Int32(Self.capacity))))
    }

    /// Whether it is a socket of the transport, whose the rest is.
    func isSocket(_ descriptor: Int32) -> Bool {
        descriptor != timer && descriptor != signal
    }

    /// Notes that the timer has fired, so that it is readable until it is set again.
    mutating func note(ready descriptor: Int32) {
        if descriptor == timer { hasFired = true }
    }
    private var hasFired = false

    /// Sets the timer, if it is set to another time or has fired.
    mutating func arm(_ deadline: Milliseconds?) throws(Refusal) {
        guard hasFired || deadline != armedAt else { return }
        // 0 would mean never; the clock has left it behind anyway.
        let (at, overflow) = max(deadline ?? 0, 1).multipliedReportingOverflow(by: 1_000_000)
        let time = deadline == nil || overflow ? 0 : at
        _ = try Self.opened("timerfd_settime", csystem_timer_set(timer, time))
        armedAt = deadline
        hasFired = false
    }

    func close() {
        for descriptor in [signal, timer, epoll] where descriptor >= 0 {
            csystem_close(descriptor)
        }
    }
}
