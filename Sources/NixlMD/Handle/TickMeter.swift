// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CSystem

/// The cost of a tick, without its callbacks. Reading the thread's CPU time is a system call: a short tick makes one, a
/// long one more.
struct TickMeter {
    // Time of our own parts so far, and the start of the current part.
    private var ownWall: UInt64 = 0
    private var ownCPU: UInt64 = 0
    private var wallStart: UInt64
    private var cpuStart: UInt64

    /// A shorter part of a tick, and a shorter part of the host, counts as CPU time in full.
    private static let short: UInt64 = 1_000_000
    private static let shortOfHost: UInt64 = 200_000

    init() {
        wallStart = csystem_monotonic()
        cpuStart = csystem_thread_cpu()
    }

    /// Runs code of the host.
    mutating func excluding(_ body: () -> Void) {
        let begin = csystem_monotonic()
        let (own, now) = part(until: begin)
        ownWall &+= begin &- wallStart
        ownCPU &+= own
        body()
        wallStart = csystem_monotonic()
        let spent = wallStart &- begin
        cpuStart = spent > Self.shortOfHost ? csystem_thread_cpu() : now &+ spent
    }

    /// CPU time of the part under way, and the thread's.
    private func part(until now: UInt64) -> (own: UInt64, cpu: UInt64) {
        let passed = now &- wallStart
        guard passed > Self.short else { return (passed, cpuStart &+ passed) }
        let cpu = csystem_thread_cpu()
        // The start may be an estimate, which is never too small.
        return (cpu &- min(cpuStart, cpu), cpu)
    }

    /// CPU time so far, in nanoseconds.
    var cpu: UInt64 { ownCPU &+ part(until: csystem_monotonic()).own }
    /// Time so far, in nanoseconds.
    var wall: UInt64 { ownWall &+ csystem_monotonic() &- wallStart }

    /// More CPU time has passed than this.
    func hasTaken(_ limit: UInt64) -> Bool { wall > limit && cpu > limit }
}
