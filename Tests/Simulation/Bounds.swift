// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import MetadataCore

/// The memory of a core is bounded, whatever happens.
extension SimulatedHost {
    /// Before the host takes its notices: the most that there is.
    func checkQueues() {
        let waiting = core.waiting
        let byteLimit =
            world.scenario.hasLargeBlobs && world.scenario.hasSlowHosts
            ? world.noticeBytes : Int.max / 2
        if waiting.notices + 32 > world.noticeLimit || waiting.noticeBytes > byteLimit / 2 {
            wasFullAt = world.now
        }
        if waiting.notices > world.noticeLimit + 512 { fail("\(waiting.notices) notices wait") }
        // A page of a list and what fetches have got come on top.
        if waiting.noticeBytes > byteLimit + 4 * Scenario.largestMessage {
            fail("notices of \(waiting.noticeBytes) bytes wait")
        }
        if waiting.notices == 0, waiting.noticeBytes != 0 {
            fail("no notice waits, but \(waiting.noticeBytes) bytes of them")
        }
        // Entries of what has ended are dropped when they are the most of a queue.
        let limit = 2 * operations.open.count + 1500
        if waiting.deadlines > limit { fail("\(waiting.deadlines) deadlines are kept") }
        if waiting.work > limit { fail("\(waiting.work) requests wait") }
        if waiting.labels > limit { fail("\(waiting.labels) labels wait") }
        // Each watch and each fetch has one, the agent itself one.
        if waiting.watchers > operations.open.count + notYetTold + 1 {
            fail("\(waiting.watchers) watchers for \(operations.open.count) operations")
        }
    }

    /// When all is quiet.
    func checkNothingWaits() {
        let waiting = core.waiting
        // Without a connection entries of what has ended stay until there is one.
        guard core.counters.isConnected else { return }
        if waiting.others > 0 || (waiting.work > 0 && !watches.isEmpty) {
            fail("something waits for ever: \(waiting)")
        }
        if waiting.watchers > watches.count + 1 {
            fail("\(waiting.watchers) watchers for \(watches.count) watches")
        }
    }

    private var notYetTold: Int { core.pendingNotices }
}
