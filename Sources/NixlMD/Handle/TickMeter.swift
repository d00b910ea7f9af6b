// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CSystem

/// What a tick costs, without the callbacks in it. A look at the thread's CPU time is a system call: there is one in a short
/// tick, and more where they matter.
struct TickMeter {
    // What is over of our own part, and where the part under way began.
    private var ownWall: UInt64 = 0
    private var ownCPU: UInt64 = 0
    private var wallStart: UInt64
    private var cpuStart: UInt64

    /// What took no longer is taken to have used the CPU all the time.
    private static let short: UInt64 = 200_000

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
        cpuStart = spent > Self.short ? csystem_thread_cpu() : now &+ spent
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
