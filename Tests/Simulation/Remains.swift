// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol

/// A process that is no more, and what it may leave behind.
struct Dead {
    let name: Bytes
    let author: Int
    let who: String
    /// Its shutdown had done everything in its time.
    let isWithdrawn: Bool
    /// Its last one before the shutdown. Earlier ones end when their time is over, if stopping timed out.
    let lease: Int64
    /// All its keys hung on a lease (when the shutdown began).
    let hadLease: Bool
}

/// The remains of a shutdown and of a death.
extension World {
    func died(_ host: SimulatedHost, isWithdrawn: Bool) {
        guard let name = host.name else { return }
        let one = Dead(
            name: name, author: host.author, who: host.who, isWithdrawn: isWithdrawn,
            lease: host.lastLease,
            hadLease: isWithdrawn ? host.hadLease : host.ownership.wantsLease == true)
        dead.append(one)
        checkRemains(one)
    }

    /// At once after a shutdown, else when the leases have run out: nothing of it is left.
    func checkRemains(_ dead: Dead) {
        let store = cluster.store
        let leases = store.leases.keys.filter { store.grantors[$0] == dead.author }
        if dead.isWithdrawn, dead.hadLease, leases.contains(dead.lease),
            cluster.isAlive(dead.lease), !store.lateLeases.contains(dead.lease),
            !store.restoredLeases.contains(dead.lease), !holdsForeignKey(dead.lease)
        {
            fail("\(dead.who) was shut down in its time and left lease \(dead.lease)")
        }
        if let last = leases.map({ cluster.end(of: $0) }).max() {
            // Without a leader no lease ends.
            agenda.add(.remains(dead), at: max(last, now + 1_000_000))
            if !dead.isWithdrawn { return }
        }
        guard dead.isWithdrawn || dead.hadLease else { return }
        let prefix = key(dead.name, [])
        var end = prefix
        end[end.count - 1] += 1
        for record in store.range(prefix, end, at: store.revision)
        where author(of: record) == dead.author && !mayHaveComeLate(record)
            && record.modRevision > store.restored
        {
            let key = String(decoding: record.key, as: UTF8.self)
            fail("\(dead.who) is gone and left \(key) on lease \(record.lease)")
        }
    }

    /// Then its owner may not revoke it.
    private func holdsForeignKey(_ lease: Int64) -> Bool {
        cluster.store.records.contains { $0.lease == lease && !$0.key.starts(with: namespace) }
    }

    /// The same of any lease of a process.
    func holdsForeignKey(of author: Int) -> Bool {
        cluster.store.grantors.contains { $0.value == author && holdsForeignKey($0.key) }
    }

    /// A claim whose answer was lost may be carried out as long as its lease is there.
    func mayHaveComeLate(_ record: Record) -> Bool {
        cluster.store.commit(record.modRevision).isLate && holdsForeignKey(record.lease)
    }
}
