// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel

/// One etcd of a fleet's cluster: all work waits in one queue, which is served with a share of a CPU. Work that has
/// arrived is done even if its client has hung up. A stopped process still has its connections accepted by the kernel,
/// and what is sent before etcd accepts joins the end of the queue when it does.
final class FleetMember {
    enum State { case up, stopped, dead }
    enum Work {
        case accept
        case request(ClientPacket)
        /// The acknowledgement of a SETTINGS frame.
        case settings
        case event(ServerPacket)
    }
    struct Job {
        let connection: FleetConnection
        let work: Work
        /// CPU microseconds.
        let cost: Double
    }
    let index: Int
    /// CPU seconds for each second.
    var capacity: Double
    private(set) var state = State.up
    private var queue: [Job] = []
    private var taken = 0
    private(set) var isBusy = false
    /// Counts its deaths: work of an earlier life is not finished.
    private(set) var life = 0
    /// Connections that the kernel has accepted and etcd has not.
    var unaccepted = 0
    /// CPU microseconds of the work in the queue, and of what waits for an accept.
    private(set) var backlog = 0.0

    /// net.core.somaxconn: beyond it the kernel drops a SYN.
    static let acceptQueue = 4096

    init(index: Int, capacity: Double) {
        self.index = index
        self.capacity = capacity
    }

    func change(to state: State) {
        self.state = state
        guard state == .dead else { return }
        life += 1
        queue = []
        taken = 0
        isBusy = false
        unaccepted = 0
        backlog = 0
    }

    func add(_ job: Job) {
        queue.append(job)
        backlog += job.cost
    }

    /// Work that waits for its connection to be accepted.
    func expect(_ cost: Double) { backlog += cost }
    func expected(_ cost: Double) { backlog -= cost }

    /// The next job and how long it takes.
    func begin() -> (job: Job, lasts: Instant)? {
        guard !isBusy, state == .up, taken < queue.count else { return nil }
        let job = queue[taken]
        taken += 1
        if taken > 1024, taken > queue.count / 2 {
            queue.removeFirst(taken)
            taken = 0
        }
        isBusy = true
        return (job, Instant(max(1, job.cost / capacity)))
    }

    func end(_ job: Job) {
        isBusy = false
        backlog -= job.cost
    }
}
