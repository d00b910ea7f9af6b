// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0

import EtcdModel
import EtcdProtocol

/// Who put each presence key, over the whole run: no name changes hands more often than somebody had a reason
/// to take it.
final class NameHistory {
    private var followed: Int64 = 1
    private var owners: [Bytes: Int] = [:]
    private var takes: [Int: Int] = [:]
    /// Who has had each name.
    private var holders: [Bytes: Set<Int>] = [:]
    /// Processes after which another has had the name.
    private(set) var replaced: Set<Int> = []
    /// How often others removed the presence key of a process.
    private(set) var removed: [Int: Int] = [:]
    /// After the last Put of a process another has had its name, or has removed its key where no lease could have done so.
    private var isInterrupted: Set<Int> = []
    /// The revision at which a process has put its key in spite of that.
    private(set) var resumed: [Int: Int64] = [:]
    /// When a process last could not know what had become of a transaction, or had one under way as a stock agent took its name;
    /// and when it last put its presence key.
    var doubts: [Int: Int64] = [:]
    private var puts: [Int: Int64] = [:]
    /// Those that were told not to take what another has.
    var refusing: Set<Int> = []

    func wiped() {
        followed = 1
        owners = [:]
        isInterrupted = []
        resumed = [:]
        doubts = [:]
        puts = [:]
    }

    /// It was told.
    func knowsInterruption(_ author: Int) { isInterrupted.remove(author) }

    func follow(_ world: World) {
        let store = world.cluster.store
        while followed < store.revision {
            followed += 1
            let commit = store.commit(followed)
            world.note(commit)
            guard let author = commit.author else { continue }
            for change in commit.changes {
                guard let (agent, label) = world.parse(change.key), label.isEmpty else { continue }
                let before = change.previous.flatMap { store.commit($0.modRevision).author }
                if let previous = change.previous, refusing.contains(author), before != author,
                    !mayBeTakenForItsOwn(previous, store, followed - 1),
                    !mayBeItsMove(previous, author, store)
                {
                    world.fail("process \(author) took a name although it was told not to")
                }
                guard change.record != nil else {
                    // A stock agent's was put over that of the process with which the key began.
                    let began = change.previous.flatMap { store.commit($0.createRevision).author }
                    for holder in Set([before, began].compactMap(\.self)) where holder != author {
                        removed[holder, default: 0] += 1
                    }
                    keyWasRemoved(of: before, by: author, change)
                    continue
                }
                for holder in holders[agent] ?? [] where holder != author {
                    replaced.insert(holder)
                    // A permanent one may pass for the other's own.
                    if change.record?.lease != 0 { isInterrupted.insert(holder) }
                }
                if isInterrupted.remove(author) != nil, !commit.isLate {
                    resumed[author] = commit.revision
                }
                holders[agent, default: []].insert(author)
                puts[author] = commit.revision
                if author == Cluster.outsider,
                    let host = world.hosts.first(where: { $0.author == before }),
                    host.hasOpenTransaction
                {
                    doubts[host.author] = commit.revision
                }
                if owners[agent] != author { takes[author, default: 0] += 1 }
                owners[agent] = author
            }
        }
    }

    private func keyWasRemoved(of owner: Int?, by author: Int, _ change: Change) {
        guard let owner else { return }
        if owner == author {
            isInterrupted.remove(owner)
        } else if change.previous?.lease == 0 {
            isInterrupted.insert(owner)
        }
    }

    /// A permanent key under which nothing has been written yet, which came while its own Put was under way.
    private func mayBeTakenForItsOwn(_ record: Record, _ store: Store, _ revision: Int64) -> Bool {
        guard record.lease == 0 else { return false }
        var end = record.key
        end[end.count - 1] += 1
        return store.range(record.key, end, at: revision)
            .allSatisfy { $0.modRevision <= record.modRevision }
    }

    /// A stock agent has put its key over one of the process, whose own last Put was perhaps never answered, or not yet: that may
    /// have been this one.
    private func mayBeItsMove(_ record: Record, _ author: Int, _ store: Store) -> Bool {
        record.lease == 0 && store.commit(record.modRevision).author == Cluster.outsider
            && store.commit(record.createRevision).author == author
            && doubts[author] ?? 0 >= puts[author] ?? .max
    }

    /// A stock agent that takes a name removes nothing, and whoever had it has no business with the name any more: what hangs
    /// on a lease goes with it.
    func isLeft(_ record: Record, of dead: Dead, _ store: Store) -> Bool {
        holders[dead.name]?.contains(Cluster.outsider) == true
            && (record.lease == 0 || store.leases[record.lease] != nil)
    }

    /// Of a process whose notices have all been taken. A claim whose answer was lost, with its connection or by a refusal that
    /// says nothing about what was done, is made again; what was lost is put back before it is known whether another came
    /// and went.
    func check(_ host: SimulatedHost) {
        let count = takes[host.author] ?? 0
        let ledger = host.ownership
        let reasons =
            ledger.licences + ledger.losses + host.timesInDoubt + host.world.stores.count - 1
        if count > reasons {
            host.fail("it took its name \(count) times with \(reasons) reasons")
        }
    }
}
