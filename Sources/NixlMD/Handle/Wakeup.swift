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
    /// The time of the timer, which may be before the next deadline; nil: not set.
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
            // Reported once, and not again until they are set again: then they need not be read.
            _ = try Self.opened("epoll_ctl", csystem_epoll_add(epoll, timer, true))
            _ = try Self.opened("epoll_ctl", csystem_epoll_add(epoll, signal, true))
        } catch {
            close()
            throw error
        }
    }

    func add(_ descriptor: Int32) throws(Refusal) {
        _ = try Self.opened("epoll_ctl", csystem_epoll_add(epoll, descriptor, false))
    }

    private static func opened(_ what: StaticString, _ result: Int32) throws(Refusal) -> Int32 {
        guard result >= 0 else { throw .system(what, -result) }
        return result
    }

    /// The descriptors that are ready now: one system call. Returns the number of entries.
    func poll(_ ready: UnsafeMutablePointer<csystem_ready>) throws(Refusal) -> Int {
        Int(try Self.opened("epoll_wait", csystem_epoll_poll(epoll, ready, Int32(Self.capacity))))
    }

    /// Whether it is a socket of the transport, whose the rest is.
    func isSocket(_ descriptor: Int32) -> Bool {
        descriptor != timer && descriptor != signal
    }

    /// The time to which the timer is set has passed, whether or not it has fired: one may be late (under libfaketime it
    /// never comes).
    mutating func isOverdue(at now: Milliseconds) -> Bool {
        guard let armedAt, armedAt <= now else { return false }
        hasFired = true
        return true
    }

    /// Notes that the timer has fired: it must be set again, even to the same time.
    mutating func note(ready descriptor: Int32) {
        if descriptor == timer { hasFired = true }
    }
    private var hasFired = false

    /// Sets the timer, if it has fired or would fire too late. A timer that would fire early is reset only sometimes:
    /// it costs one idle tick, while deadlines of answered requests move thousands of times a second.
    mutating func arm(_ deadline: Milliseconds?, now: Milliseconds) throws(Refusal) {
        guard hasFired || Self.isEarlier(deadline, than: armedAt) || mayPutOff(deadline, now)
        else { return }
        // 0 would mean never; the clock has left it behind anyway.
        let (at, overflow) = max(deadline ?? 0, 1).multipliedReportingOverflow(by: 1_000_000)
        let time = deadline == nil || overflow ? 0 : at
        _ = try Self.opened("timerfd_settime", csystem_timer_set(timer, time))
        armedAt = deadline
        hasFired = false
    }

    private mutating func mayPutOff(_ deadline: Milliseconds?, _ now: Milliseconds) -> Bool {
        guard deadline != armedAt else { return false }
        let earned = (now - min(now, earnedAt)) / Self.putOffPause
        if earned > 0 {
            putOffs = min(putOffs + Int(clamping: earned), Self.putOffsMax)
            earnedAt = now
        }
        guard putOffs > 0 else { return false }
        putOffs -= 1
        return true
    }
    private var putOffs = putOffsMax
    private var earnedAt: Milliseconds = 0
    /// So many at once, and one more for each time that passes: enough for a host at rest, whose every renewal has two.
    private static let putOffsMax = 4
    private static let putOffPause: Milliseconds = 100

    private static func isEarlier(_ a: Milliseconds?, than b: Milliseconds?) -> Bool {
        guard let a else { return false }
        guard let b else { return true }
        return a < b
    }

    func close() {
        for descriptor in [signal, timer, epoll] where descriptor >= 0 {
            csystem_close(descriptor)
        }
    }
}
