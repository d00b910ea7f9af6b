// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol
import MetadataCore

/// The faults, and how long each lasts.
extension World {
    func makeFault() {
        guard !isHealing else { return }
        let fault = random.pick(scenario.faults)
        let lasts =
            random.oneIn(3)
            ? random.within(5_000_000...25_000_000) : random.within(50_000...5_000_000)
        note("fault \(fault) for \(lasts / 1000) ms")
        // One at a time, with time to recover between them, where promises about single faults are checked.
        let pause =
            scenario.isGentle
            ? lasts + 12_000_000 : random.within(scenario.faultPause / 4...2 * scenario.faultPause)
        agenda.add(.fault, at: now + pause)
        switch fault {
        case .cut, .halfOpen, .holdToServer, .holdToClient, .slowNetwork:
            networkFault(fault, lasts)
        case .memberReplaced, .memberKilled, .memberVanished, .memberFrozen, .memberIsolated,
            .memberLags, .allRestarted, .wiped, .compacted, .tokensForgotten, .timeouts,
            .memberRemoved, .memberAdded, .answersLost, .restored:
            clusterFault(fault, lasts)
        case .noSpace, .forbidden, .passwordChanged: refusal(fault, lasts)
        case .hostStalled, .hostCrashed, .clockJumped: hostFault(fault, lasts)
        case .operatorDeletes, .operatorRevokes, .stockAgent, .namesake, .keyHung:
            operatorFault(fault)
        }
    }

    private func later(_ time: Instant, _ body: @escaping () -> Void) {
        agenda.add(.heal(body), at: now + time)
    }

    /// A lease that is lost until some time after a fault has its reason. Nil: everybody's.
    func excuse(_ host: Int?, _ lasts: Instant) {
        // Single faults of members are no excuse.
        guard !scenario.isGentle else { return }
        let until = now + lasts + 40_000_000
        for index in excuses.indices where host == nil || host == index {
            excuses[index] = max(excuses[index], until)
        }
    }

    // MARK: - Network

    private func networkFault(_ fault: Scenario.Fault, _ lasts: Instant) {
        let place = random.below(hosts.count)
        switch fault {
        case .cut:
            if let connection = hosts[place].connection {
                cut(connection, tellsClient: true, tellsServer: random.oneIn(2))
            }
        case .halfOpen:
            excuse(place, 0)
            if let connection = hosts[place].connection {
                cut(connection, tellsClient: false, tellsServer: random.oneIn(2))
            }
        case .slowNetwork:
            excuse(nil, lasts)
            networkDelay = random.pick([1_000...20_000, 10_000...300_000, 100_000...900_000])
            later(lasts) { [unowned self] in networkDelay = 50...500 }
        default:
            excuse(place, lasts)
            let members =
                random.oneIn(2)
                ? Array(0..<scenario.memberCount) : [random.below(scenario.memberCount)]
            for member in members {
                hold(
                    place, member, toServer: fault == .holdToServer,
                    toClient: fault == .holdToClient)
            }
            later(lasts) { [unowned self] in
                for member in members { release(place, member) }
            }
        }
    }

    // MARK: - Members

    private func clusterFault(_ fault: Scenario.Fault, _ lasts: Instant) {
        let member = random.below(scenario.memberCount)
        switch fault {
        case .memberKilled, .memberVanished:
            excuse(nil, lasts)
            cluster.stop(member, resets: fault == .memberKilled, at: now)
            later(lasts) { [unowned self] in cluster.start(member, at: now) }
        case .memberReplaced:
            excuse(nil, 0)
            cluster.stop(member, resets: true, at: now)
            later(lasts) { [unowned self] in cluster.replace(member, at: now) }
        case .memberRemoved:
            excuse(nil, lasts)
            cluster.remove(member, at: now)
            later(lasts) { [unowned self] in cluster.add(member, at: now) }
        case .memberAdded:
            excuse(nil, lasts)
            cluster.changeUnknownMembers(to: 1, at: now)
            later(lasts) { [unowned self] in cluster.changeUnknownMembers(to: 0, at: now) }
        case .memberFrozen:
            excuse(nil, lasts)
            cluster.freeze(member, at: now)
            later(lasts) { [unowned self] in cluster.thaw(member, at: now) }
        case .memberIsolated:
            excuse(nil, lasts)
            cluster.isolate(member, true, at: now)
            later(lasts) { [unowned self] in cluster.isolate(member, false, at: now) }
        case .memberLags:
            excuse(nil, lasts)
            cluster.members[member].lag = random.within(10_000...3_000_000)
            later(lasts) { [unowned self] in cluster.members[member].lag = 0 }
        case .allRestarted:
            excuse(nil, lasts)
            for member in cluster.members.indices {
                cluster.stop(member, resets: random.oneIn(2), at: now)
                later(random.within(0...lasts)) { [unowned self] in cluster.start(member, at: now) }
            }
        case .wiped:
            // With the same id it can be noticed only by its lower revision, and only by who has known a higher one: not
            // by who was away since before a snapshot was restored with bumped revisions.
            let keepsID =
                cluster.store.revision > cluster.store.restored + 1500 && random.oneIn(2)
            excuse(nil, 0)
            cluster.wipe(keepsID: keepsID, at: now)
            stores.append(cluster.store)
            isSnapshotOfAnother = true
            history.wiped()
        case .restored: saveOrRestore()
        case .answersLost:
            excuse(nil, lasts)
            cluster.breaksOneIn = random.pick([2, 5, 20])
            later(lasts) { [unowned self] in cluster.breaksOneIn = 0 }
        case .timeouts:
            excuse(nil, lasts)
            cluster.timesOutOneIn = random.pick([2, 5, 20])
            later(lasts) { [unowned self] in cluster.timesOutOneIn = 0 }
        case .compacted:
            let back = Int64(random.pick([0, 0, 1, 5, 100]))
            cluster.store.compact(to: max(1, cluster.store.revision - back))
        default:
            // Two new tokens refused one after the other are taken for a refusal of the user.
            guard now >= tokensForgottenAt + 10_000_000 else { return }
            tokensForgottenAt = now
            cluster.forgetTokens()
        }
    }

    /// An operator saves a snapshot, or puts back the one that was saved.
    private func saveOrRestore() {
        guard let saved = snapshot, random.oneIn(2) else {
            snapshot = (cluster.store.snapshot(), stores.count)
            isSnapshotOfAnother = false
            return
        }
        let highest = stores.map { $0.revision }.max() ?? 1
        // Two stores that have nothing in common may have keys of the same revision: who watches cannot notice.
        let keepsID = !random.oneIn(4) && !isSnapshotOfAnother
        // Without a bump and with the same id it can be noticed only by its lower revision.
        let isFarBehind =
            saved.stores == stores.count
            && cluster.store.revision > saved.store.revision + 1500
        let bumps = keepsID ? !isFarBehind || random.oneIn(2) : random.oneIn(2)
        let bump = bumps ? highest - saved.store.revision + 1000 : 0
        note("restored at \(saved.store.revision), bumped by \(bump), same id \(keepsID)")
        excuse(nil, 0)
        cluster.restore(saved.store, bump: bump, keepsID: keepsID, at: now)
        stores.append(cluster.store)
        history.restored(self)
    }

    // MARK: - Refusals

    /// etcd refuses what it has taken until now, until somebody puts it right.
    private func refusal(_ fault: Scenario.Fault, _ lasts: Instant) {
        guard fault == .noSpace || scenario.authenticates else { return }
        // Who may not read does not see that a store was replaced.
        guard fault != .forbidden || !(scenario.allows(.wiped) || scenario.allows(.restored)) else {
            return
        }
        excuse(nil, lasts)
        refusedUntil[fault] = now + lasts + 20_000_000
        switch fault {
        case .noSpace: cluster.isFull = true
        case .forbidden: cluster.isForbidden = true
        default:
            cluster.isPasswordChanged = true
            cluster.forgetTokens()
        }
        later(lasts) { [unowned self] in
            switch fault {
            case .noSpace: cluster.isFull = false
            case .forbidden: cluster.isForbidden = false
            default: cluster.isPasswordChanged = false
            }
        }
    }

    // MARK: - Hosts

    private func hostFault(_ fault: Scenario.Fault, _ lasts: Instant) {
        let place = random.below(hosts.count)
        let host = hosts[place]
        guard !host.isOver else { return }
        switch fault {
        case .hostStalled:
            excuse(place, lasts)
            host.stalledUntil = now + lasts
        case .clockJumped:
            host.clockOffset += lasts
            host.jumped += lasts
            host.excusedUntil = max(host.excusedUntil, host.clock)
            host.wake(at: now)
        default:
            host.die(says: random.oneIn(2))
            died(host, isWithdrawn: false)
            agenda.add(.start(place: place), at: now + random.within(1_000...12_000_000))
        }
    }

    // MARK: - Others

    private func operatorFault(_ fault: Scenario.Fault) {
        switch fault {
        case .operatorDeletes:
            let name = random.pick(hosts.compactMap { $0.name } + [Bytes("stock")])
            let prefix = namespace + Bytes("/") + name + Bytes("/")
            var end = prefix
            end[end.count - 1] += 1
            cluster.operate([.delete(key: prefix, rangeEnd: end)], at: now)
        case .operatorRevokes:
            let leases = cluster.store.leases.keys.sorted()
            guard !leases.isEmpty else { return }
            excuse(nil, 0)
            cluster.revokeLease(random.pick(leases), at: now)
        case .namesake: takeName()
        case .keyHung: hangKey()
        default: actAsStockAgent()
        }
    }

    /// Somebody puts a key of his own onto a lease of a host, whose user may not write it.
    private func hangKey() {
        guard scenario.authenticates else { return }
        let leases = cluster.store.leases.keys.sorted()
        guard !leases.isEmpty else { return }
        excuse(nil, 0)
        let foreign = Bytes("/elsewhere/\(random.below(4))".utf8)
        cluster.operate([.put(key: foreign, value: [], lease: random.pick(leases))], at: now)
    }

    /// A stock agent under a host's name: it puts its keys over what is there, and asks nobody.
    private func takeName() {
        guard let name = random.pick(hosts).name else { return }
        cluster.operate([.put(key: key(name, []), value: [], lease: 0)], at: now)
        for label in Self.labels where random.oneIn(2) {
            let blob = Array("namesake\(random.below(1000))".utf8)
            cluster.operate([.put(key: key(name, label), value: blob, lease: 0)], at: now)
        }
    }

    /// One of the other kind: permanent keys, in revisions of their own, the presence key last or never.
    private func actAsStockAgent() {
        let prefix = namespace + Bytes("/stock/")
        switch random.below(6) {
        case 0: cluster.operate([.put(key: prefix, value: [], lease: 0)], at: now)
        case 1:
            var end = prefix
            end[end.count - 1] += 1
            cluster.operate([.delete(key: prefix, rangeEnd: end)], at: now)
        case 2:
            cluster.operate(
                [.delete(key: prefix + random.pick(Self.labels), rangeEnd: [])], at: now)
        default:
            let blob = Array("stock\(random.below(1000))".utf8)
            cluster.operate(
                [.put(key: prefix + random.pick(Self.labels), value: blob, lease: 0)], at: now)
        }
    }
}
