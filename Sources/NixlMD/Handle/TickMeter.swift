// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
import CSystem

/// What a tick costs, without the callbacks in it.
struct TickMeter {
    private var cpuStart: UInt64
    private var wallStart: UInt64
    private var cpuCallbacks: UInt64 = 0
    private var wallCallbacks: UInt64 = 0

    init() {
        wallStart = csystem_monotonic()
        cpuStart = csystem_thread_cpu()
    }

    /// Runs code of the host.
    mutating func excluding(_ body: () -> Void) {
        let (cpu, wall) = (csystem_thread_cpu(), csystem_monotonic())
        body()
        cpuCallbacks &+= csystem_thread_cpu() &- cpu
        wallCallbacks &+= csystem_monotonic() &- wall
    }

    /// CPU time so far, in nanoseconds.
    var cpu: UInt64 { csystem_thread_cpu() &- cpuStart &- cpuCallbacks }
    /// Time so far, in nanoseconds.
    var wall: UInt64 { csystem_monotonic() &- wallStart &- wallCallbacks }
}
