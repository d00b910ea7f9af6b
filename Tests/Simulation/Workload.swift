// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol
import MetadataCore

/// The calls of hosts, each with its own chance; more reads than writes.
extension World {
    func makeCall(_ host: SimulatedHost) {
        guard !host.isOver, !host.isShuttingDown, !isHealing else { return }
        agenda.add(.call(host), at: now + random.within(0...2 * scenario.callPause))
        guard now >= host.stalledUntil else { return }
        if host.name == nil || random.oneIn(2) { read(host) } else { write(host) }
        host.wake(at: now)
    }

    private func write(_ host: SimulatedHost) {
        let label = random.pick(Self.labels)
        switch random.below(40) {
        case 0..<18:
            host.ownership.publish(label, host)
        case 18..<22: host.ownership.unpublish(label, host)
        case 22..<31: host.ownership.startHeartbeat(host)
        case 31: host.ownership.stopHeartbeat(keep: random.oneIn(2), host)
        case 32..<34: host.ownership.invalidate(host)
        case 34:
            guard random.oneIn(4) else { return }
            shutDown(host)
        case 35..<37: cancelSomething(host)
        default:
            // Many at once: they meet in the queue.
            for _ in 0..<random.below(12) { host.ownership.publish(random.pick(Self.labels), host) }
        }
    }

    static let labels: [Bytes] = ["metadata", "a", "b/c", "conn_1"].map { Bytes($0.utf8) }

    private func read(_ host: SimulatedHost) {
        let agent = random.pick(hosts.compactMap { $0.name } + [Bytes("stock")])
        switch random.below(10) {
        case 0..<3:
            let waits = random.oneIn(2)
            host.operations.submit(
                .fetch(agent: agent, label: random.pick(Self.labels), wait: waits),
                timeout: random.within(100...10_000), host)
        case 3: host.operations.submit(.list, timeout: 10_000, host)
        case 4..<7:
            if host.watches.count < 4 {
                startWatch(
                    host, agent: random.oneIn(2) ? agent : nil, presenceOnly: random.oneIn(2))
            }
        case 7: if host.watches.count > 2 { cancelSomething(host) }
        default: break
        }
    }

    func startWatch(_ host: SimulatedHost, agent: Bytes?, presenceOnly: Bool) {
        let id = host.operations.submit(
            .watch(agent: agent, presenceOnly: presenceOnly), timeout: nil, host)
        host.watches.append(
            (
                id,
                WatchChecker(
                    world: self, agent: agent, presenceOnly: presenceOnly, clock: host.clock)
            ))
    }

    private func cancelSomething(_ host: SimulatedHost) {
        guard let id = host.operations.cancelAny(&random) else { return }
        host.core.cancel(id, now: host.clock)
    }

    private func shutDown(_ host: SimulatedHost) {
        host.isShuttingDown = true
        host.operations.isShuttingDown = true
        let drain = random.within(100...8_000)
        host.drainEnd = host.clock + drain
        host.lastLease = host.core.ownLease
        host.hadLease = host.ownership.wantsLease == true
        host.core.shutdown(drain: drain, now: host.clock)
    }
}
